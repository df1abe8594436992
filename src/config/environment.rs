//! The environment of the process: unknown variables, the host name, files.
//! clap reads the variables of the settings (see [`super::setting`]). Never
//! interprets a value.

use super::mistake::Warning;
use std::io::{BufRead as _, Read};
use std::path::Path;

/// The prefix of all variables of settings.
pub const PREFIX: &str = "RINGBACK_";

/// Warns of each variable with the prefix that belongs to no setting.
///
/// These are no mistakes: Kubernetes injects such variables for a service that
/// is called `ringback`.
#[must_use]
pub fn unknown_variables(settings: &[String]) -> Vec<Warning> {
    let present = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    unknown(present, settings)
}

fn unknown(present: impl Iterator<Item = String>, settings: &[String]) -> Vec<Warning> {
    let mut names: Vec<String> = present
        .filter(|name| name.starts_with(PREFIX) && !settings.contains(name))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| {
            let nearest = settings.iter().min_by_key(|k| edit_distance(name, k));
            let nearest = nearest.map(|n| format!("; the nearest is {n}"));
            Warning(format!(
                "the environment variable {name} belongs to no setting{}",
                nearest.unwrap_or_default()
            ))
        })
        .collect()
}

/// Returns how many letters to insert, remove or replace (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Returns the host name. In a container this is the container's name.
pub(super) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Reads a file of at most `bytes_max` bytes. An error says what failed and why.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let cannot = |why: std::io::Error| format!("cannot read '{}': {why}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!(
            "'{}' is larger than {bytes_max} bytes, the maximum",
            path.display()
        ));
    }
    Ok(bytes)
}

/// Calls `each` with the number and the bytes of each line of a file, without its end.
///
/// # Errors
/// The file cannot be read, or `each` refuses a line.
pub fn read_lines(
    path: &Path,
    mut each: impl FnMut(usize, &[u8]) -> Result<(), String>,
) -> Result<(), String> {
    let cannot = |why: std::io::Error| format!("cannot read '{}': {why}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    for (number, line) in (1..).zip(std::io::BufReader::new(file).split(b'\n')) {
        let line = line.map_err(cannot)?;
        each(number, line.strip_suffix(b"\r").unwrap_or(&line))?;
    }
    Ok(())
}

/// Returns the user and the host of this process, as `user@host`.
#[must_use]
pub fn operator() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].map(std::env::var);
    let user = user.into_iter().flatten().find(|user| !user.is_empty());
    let user = user.unwrap_or_else(|| "unknown".to_owned());
    let host = host_name().unwrap_or_else(|| "unknown".to_owned());
    let short = |text: String| text.chars().take(40).collect::<String>();
    format!("{}@{}", short(user), short(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_a_warning_that_names_the_nearest_setting() {
        let settings = ["RINGBACK_TOPIC", "RINGBACK_TIMEOUT", "RINGBACK_DELAYS"].map(str::to_owned);
        let present = [
            "RINGBACK_TIMEOUTS",
            "PATH",
            "RINGBACK_DELAYS",
            "RINGBACK_DELAY",
        ];
        let warnings = unknown(present.into_iter().map(str::to_owned), &settings);
        let texts: Vec<&str> = warnings.iter().map(|w| w.0.as_str()).collect();
        assert_eq!(
            texts,
            [
                "the environment variable RINGBACK_DELAY belongs to no setting; the nearest is RINGBACK_DELAYS",
                "the environment variable RINGBACK_TIMEOUTS belongs to no setting; the nearest is RINGBACK_TIMEOUT",
            ]
        );
    }

    #[test]
    fn the_edit_distance_counts_letters() {
        for (a, b, distance) in [
            ("", "", 0),
            ("a", "", 1),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(a, b), distance, "{a} {b}");
        }
    }
}
