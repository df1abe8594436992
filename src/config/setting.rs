//! A setting as one row: flag, variable, default, help text, reader and the
//! values that it refuses. Names no setting. clap only collects the texts, so
//! that all mistakes are reported at once. Runs on the main thread.

use super::mistake::Mistakes;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::Path;

/// One setting.
pub struct Setting<T: 'static> {
    /// Without the two hyphens.
    pub flag: &'static str,
    /// `RINGBACK_` and the flag in capitals.
    pub variable: &'static str,
    /// The placeholder of the value in the help.
    pub value_name: &'static str,
    /// The default as it could be typed. A description, where code finds it.
    pub default: &'static str,
    /// With unit and allowed range.
    pub help: &'static str,
    pub read: ValueReader<T>,
    /// Returns the value for the log, without secrets.
    pub show: fn(&T) -> String,
    /// Wrong values, each with a part of the message that it gets.
    pub refused: &'static [(&'static str, &'static str)],
}

/// How a setting's text is read. An error names the value and what is allowed.
pub enum ValueReader<T> {
    Text(fn(&str) -> Result<T, String>),
    /// The flag alone means `on`.
    Switch(fn(&str) -> Result<T, String>),
    /// A path need not be UTF-8.
    Path(fn(&Path) -> Result<T, String>),
    /// Repeatable: all texts are read together, by a function of its own.
    Lines,
}

/// A setting of any type.
pub trait Row: Sync {
    fn flag(&self) -> &'static str;
    fn refused(&self) -> &'static [(&'static str, &'static str)];
    /// Returns the flag for clap, which refuses no value of it.
    fn arg(&self) -> Arg;
}

impl<T> Row for Setting<T> {
    fn flag(&self) -> &'static str {
        self.flag
    }

    fn refused(&self) -> &'static [(&'static str, &'static str)] {
        self.refused
    }

    fn arg(&self) -> Arg {
        let action = match self.read {
            ValueReader::Lines => ArgAction::Append,
            _ => ArgAction::Set,
        };
        let arg = Arg::new(self.flag)
            .long(self.flag)
            .env(self.variable)
            .hide_env_values(true)
            .value_name(self.value_name)
            .help(format!("{} [default: {}]", self.help, self.default))
            .value_parser(value_parser!(OsString))
            .allow_negative_numbers(self.value_name == "COUNT")
            .action(action);
        match self.read {
            ValueReader::Switch(_) => arg
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("on"),
            _ => arg,
        }
    }
}

/// A heading of the help, with the settings under it.
pub type Section = (&'static str, &'static [&'static dyn Row]);

/// The settings of one command.
pub trait Group {
    const SECTIONS: &[Section];

    /// Returns all settings of the group.
    fn rows() -> impl Iterator<Item = &'static dyn Row> {
        Self::SECTIONS
            .iter()
            .flat_map(|(_, rows)| rows.iter().copied())
    }
}

/// The settings of a command as they were typed.
pub struct SettingArgs<G> {
    typed: Typed,
    group: PhantomData<G>,
}

impl<G> Deref for SettingArgs<G> {
    type Target = Typed;

    fn deref(&self) -> &Typed {
        &self.typed
    }
}

impl<G: Group> Args for SettingArgs<G> {
    fn augment_args(command: Command) -> Command {
        G::SECTIONS
            .iter()
            .fold(command, |command, (heading, rows)| {
                command.args(rows.iter().map(|row| row.arg().help_heading(*heading)))
            })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<G: Group> FromArgMatches for SettingArgs<G> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = G::rows().filter_map(|row| {
            let flag = row.flag();
            let texts = matches.get_many::<OsString>(flag)?;
            Some((flag, texts.cloned().collect()))
        });
        Ok(Self {
            typed: Typed(typed.collect()),
            group: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The texts of the settings that have one, by flag. No `Debug`: `--kafka` may
/// hold secrets.
#[derive(Clone, Default)]
pub struct Typed(BTreeMap<&'static str, Vec<OsString>>);

impl Typed {
    /// Types one more setting.
    #[must_use]
    pub fn with<T>(mut self, setting: &Setting<T>, text: &str) -> Self {
        self.0.insert(setting.flag, vec![text.into()]);
        self
    }

    /// Returns all texts of a repeatable setting.
    pub fn all<T>(&self, setting: &Setting<T>) -> &[OsString] {
        self.0.get(setting.flag).map_or(&[], Vec::as_slice)
    }

    /// Returns a setting's text, if it was typed.
    pub fn get<T>(&self, setting: &Setting<T>) -> Option<&OsStr> {
        self.all(setting).last().map(OsString::as_os_str)
    }
}

/// Reads typed settings, and collects the mistakes and the effective values.
pub(super) struct Reader<'a> {
    pub typed: &'a Typed,
    pub mistakes: Mistakes,
    /// Flag and value of each setting, in the order of reading.
    pub effective: Vec<(&'static str, String)>,
}

impl<'a> Reader<'a> {
    /// Returns a reader of these texts.
    pub fn new(typed: &'a Typed) -> Self {
        Self {
            typed,
            mistakes: Mistakes::default(),
            effective: Vec::new(),
        }
    }

    /// Reads a setting, or its default. None after a mistake.
    pub fn take<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let value = self.take_hidden(setting)?;
        self.show(setting, &value);
        Some(value)
    }

    /// Reads an optional setting. None after a mistake, and for an empty text:
    /// compose files and charts write an absent value so.
    pub fn take_optional<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let text = self.typed.get(setting).unwrap_or_default();
        if text.as_encoded_bytes().trim_ascii().is_empty() {
            self.effective
                .push((setting.flag, setting.default.to_owned()));
            return None;
        }
        self.take(setting)
    }

    /// Reads a setting as [`Reader::take`] does, but does not show its value.
    pub fn take_hidden<T>(&mut self, setting: &Setting<T>) -> Option<T> {
        let default = OsStr::new(setting.default);
        let text = self.typed.get(setting).unwrap_or(default);
        let read = match setting.read {
            ValueReader::Text(read) | ValueReader::Switch(read) => {
                text.to_str().ok_or_else(not_utf8).and_then(read)
            }
            ValueReader::Path(read) => read(Path::new(text)),
            ValueReader::Lines => Err("is read as a list".to_owned()),
        };
        self.mistakes.take(&name(setting), read)
    }

    /// Adds a value to the effective ones.
    pub fn show<T>(&mut self, setting: &Setting<T>, value: &T) {
        self.effective.push((setting.flag, (setting.show)(value)));
    }

    /// Adds a mistake where a rule across settings does not hold.
    pub fn check<T>(&mut self, setting: &Setting<T>, rule: Result<(), String>) {
        self.mistakes.take(&name(setting), rule);
    }
}

/// Returns the flag as mistakes name it.
pub fn name<T>(setting: &Setting<T>) -> String {
    format!("--{}", setting.flag)
}

/// Returns the message about a text that is not UTF-8.
pub fn not_utf8() -> String {
    "not UTF-8 text".to_owned()
}
