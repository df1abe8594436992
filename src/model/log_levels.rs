//! Which log lines are written: `info`, or `info,hyper=debug`. A level without a
//! target applies to ringback. Plain values; any thread may use them.

use super::named_enum::named_enum;
use std::fmt;
use std::str::FromStr;

named_enum! {
    /// The minimum level of a log line.
    pub enum LogLevel {
        Off = "off",
        Error = "error",
        Warn = "warn",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

/// The level of ringback's lines, and those of other targets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLevels {
    pub own: LogLevel,
    /// Modules, each with a level. A module includes those below it.
    pub targets: Vec<(String, LogLevel)>,
}

impl FromStr for LogLevels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut levels = Self {
            own: LogLevel::Info,
            targets: Vec::new(),
        };
        for part in text.split(',').map(str::trim) {
            let (target, level) = match part.split_once('=') {
                Some((target, level)) if is_target(target) => (Some(target), level),
                Some(_) => return Err(wrong(text)),
                None => (None, part),
            };
            let level = LogLevel::from_name(level).ok_or_else(|| wrong(text))?;
            match target {
                Some(target) => levels.targets.push((target.to_owned(), level)),
                None => levels.own = level,
            }
        }
        Ok(levels)
    }
}

/// Returns whether this is the path of a Rust module.
fn is_target(text: &str) -> bool {
    let mut bytes = text.bytes();
    !text.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
}

fn wrong(text: &str) -> String {
    let levels = LogLevel::ALL.map(LogLevel::name).join(", ");
    format!(
        "'{text}' is not a log level: write one of {levels}, and for other modules MODULE=LEVEL, \
         separated by commas"
    )
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.own.name())?;
        for (target, level) in &self.targets {
            write!(f, ",{target}={}", level.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_our_own_and_others_are_named() {
        #[track_caller]
        fn check(text: &str, own: LogLevel, shown: &str) {
            let levels: LogLevels = text.parse().expect(text);
            assert_eq!((levels.own, levels.to_string().as_str()), (own, shown));
        }
        check("info", LogLevel::Info, "info");
        check("off", LogLevel::Off, "off");
        check("hyper=debug", LogLevel::Info, "info,hyper=debug");
        check(
            " hyper_util=trace, debug,h2::codec=off",
            LogLevel::Debug,
            "debug,hyper_util=trace,h2::codec=off",
        );
    }

    #[test]
    fn a_malformed_text_is_refused_with_itself() {
        for text in [
            "",
            "loud",
            "=info",
            "ringback=",
            "ringback=loud",
            "info,,warn",
            "a b=info",
            "INFO",
        ] {
            let error = text.parse::<LogLevels>().expect_err(text);
            assert!(error.contains(&format!("'{text}'")), "{error}");
        }
    }
}
