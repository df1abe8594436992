//! The selection of a job: which records it copies, as the job's state holds it.
//! Pure.

use crate::model::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// The most characters of a selection's JSON. The metadata of an offset has at most
/// 4,096, and the counts need some 400 of them.
pub const CHARACTERS_MAX: usize = 3_000;

/// A file that names the records of a job.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileMark {
    /// The start of the SHA-256 of what the file selects, as hexadecimal digits.
    pub hash: String,
    /// Selected ids or positions.
    pub entries: u64,
}

/// Which records a job copies: those that satisfy every list and bound that is set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JobSelection {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Epoch ms, included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
    /// Epoch ms, not included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileMark>,
}

impl JobSelection {
    /// Returns whether no record satisfies both selections, as far as the selections
    /// alone tell it.
    #[must_use]
    pub fn is_disjoint(&self, other: &Self) -> bool {
        fn differ<T: PartialEq>(a: &[T], b: &[T]) -> bool {
            !a.is_empty() && !b.is_empty() && !a.iter().any(|item| b.contains(item))
        }
        let before = |until: Option<i64>, since: Option<i64>| {
            until
                .zip(since)
                .is_some_and(|(until, since)| until <= since)
        };
        differ(&self.tenants, &other.tenants)
            || differ(&self.ids, &other.ids)
            || differ(&self.reasons, &other.reasons)
            || differ(&self.errors, &other.errors)
            || differ(&self.statuses, &other.statuses)
            || differ(&self.origins, &other.origins)
            || before(self.until, other.since)
            || before(other.until, self.since)
    }

    /// Checks that the selection fits into the job's state.
    ///
    /// # Errors
    /// It is too long; the error says what to do.
    pub fn check_length(&self) -> Result<(), String> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let length = text.encode_utf16().count();
        match length <= CHARACTERS_MAX {
            true => Ok(()),
            false => Err(format!(
                "the selection has {length} characters, at most {CHARACTERS_MAX} are allowed: \
                 put ids into a file, or start several jobs"
            )),
        }
    }

    /// Returns the selection for people, with times written by `time`.
    #[must_use]
    pub fn describe(&self, time: impl Fn(UnixMillis) -> String) -> String {
        let mut parts = Vec::new();
        let mut list = |name: &str, items: Vec<String>| match items.len() {
            0 => {}
            1..=3 => parts.push(format!("{name} {}", items.join(","))),
            count => parts.push(format!("{count} {name}s")),
        };
        list("tenant", self.tenants.clone());
        list("id", self.ids.clone());
        list("reason", self.reasons.clone());
        list("error", self.errors.clone());
        list("origin", self.origins.clone());
        let statuses = self.statuses.iter().map(u16::to_string);
        list("status", statuses.collect());
        if let Some(since) = self.since {
            parts.push(format!("since {}", time(UnixMillis(since))));
        }
        if let Some(until) = self.until {
            parts.push(format!("until {}", time(UnixMillis(until))));
        }
        if let Some(file) = &self.file {
            parts.push(format!("{} of a file", file.entries));
        }
        match parts.is_empty() {
            true => "all records".to_owned(),
            false => parts.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn selections_are_disjoint_only_where_one_bound_excludes_all() {
        let all = JobSelection::default();
        let tenant = |names: &[&str]| JobSelection {
            tenants: texts(names),
            ..JobSelection::default()
        };
        let time = |since, until| JobSelection {
            since,
            until,
            ..JobSelection::default()
        };
        let id = |ids: &[&str]| JobSelection {
            ids: texts(ids),
            ..JobSelection::default()
        };
        for (a, b, disjoint) in [
            (&all, &all, false),
            (&tenant(&["a"]), &all, false),
            (&tenant(&["a", "b"]), &tenant(&["b"]), false),
            (&tenant(&["a"]), &tenant(&["b"]), true),
            (&tenant(&["a"]), &id(&["1"]), false),
            (&id(&["1"]), &id(&["2"]), true),
            (&time(Some(5), None), &time(None, Some(5)), true),
            (&time(Some(5), None), &time(None, Some(6)), false),
            (&time(Some(5), Some(7)), &time(Some(7), Some(9)), true),
        ] {
            assert_eq!(a.is_disjoint(b), disjoint, "{a:?} {b:?}");
            assert_eq!(b.is_disjoint(a), disjoint, "{b:?} {a:?}");
        }
    }

    #[test]
    fn a_selection_that_is_too_long_is_refused() {
        let ids = (0..400).map(|n| format!("id-{n:08}")).collect();
        let long = JobSelection {
            ids,
            ..JobSelection::default()
        };
        assert!(long.check_length().is_err());
        assert!(JobSelection::default().check_length().is_ok());
    }

    #[test]
    fn a_selection_is_described_in_words() {
        let selection = JobSelection {
            tenants: texts(&["a", "b"]),
            since: Some(1),
            ..JobSelection::default()
        };
        let text = selection.describe(|at| at.to_string());
        assert_eq!(text, "tenant a,b, since 1");
        assert_eq!(
            JobSelection::default().describe(|_| String::new()),
            "all records"
        );
    }
}
