//! The process's surroundings: environment variables, the host's name, files.
//! Variables that belong to a setting are read by clap through
//! [`super::args`]; here are those that belong to none.

use super::mistake::Warning;
use std::io::Read;
use std::path::Path;

/// All variables of ours begin with this.
pub const PREFIX: &str = "RINGBACK_";

/// Warns of every variable that begins as ours do and belongs to no setting.
///
/// They are no mistakes, because Kubernetes injects some of its own for a
/// service that is called `ringback`.
#[must_use]
pub fn unknown_variables(known: &[String]) -> Vec<Warning> {
    let present = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    unknown(present, known)
}

fn unknown(present: impl Iterator<Item = String>, known: &[String]) -> Vec<Warning> {
    let mut names: Vec<String> = present
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name))
        .collect();
    names.sort();
    names
        .iter()
        .map(|name| {
            let nearest = known.iter().min_by_key(|k| edit_distance(name, k));
            let nearest = nearest.map(|n| format!("; the nearest is {n}"));
            Warning(format!(
                "the environment variable {name} belongs to no setting{}",
                nearest.unwrap_or_default()
            ))
        })
        .collect()
}

/// How many letters must be inserted, removed or replaced (Levenshtein).
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

/// The host's name, which in a container is the container's.
pub(super) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .ok()?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Reads a file of at most `bytes_max` bytes.
///
/// Errors: what was tried, and why it failed.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let cannot = |why: std::io::Error| format!("cannot read '{}': {why}", path.display());
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!(
            "'{}' is larger than {bytes_max} bytes, the most that is read",
            path.display()
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_variable_is_a_warning_that_names_the_nearest_setting() {
        let known = ["RINGBACK_TOPIC", "RINGBACK_TIMEOUT", "RINGBACK_DELAYS"].map(str::to_owned);
        let present = [
            "RINGBACK_TIMEOUTS",
            "PATH",
            "RINGBACK_DELAYS",
            "RINGBACK_DELAY",
        ];
        let warnings = unknown(present.into_iter().map(str::to_owned), &known);
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
