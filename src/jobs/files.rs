//! Files that name the records of a job: one id a line, or the export of dead
//! letters. Reads no file itself. Pure.
//!
//! Memory: some 100 bytes for each line. The values of an export are not kept.

use super::selection::FileMark;
use crate::model::call::RecordId;
use crate::search::export_line::ExportLine;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a file selects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Entries {
    /// There is no file.
    #[default]
    None,
    Ids(BTreeSet<String>),
    /// Partition and offset of dead letters, with the id of the record there.
    Positions(BTreeMap<(i32, i64), Option<String>>),
}

impl Entries {
    /// Adds a line of a file of ids. Empty lines are skipped.
    ///
    /// # Errors
    /// The line is no id; the error names the line.
    pub fn add_id(&mut self, number: usize, line: &[u8]) -> Result<(), String> {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(line).ok();
        let id = text.and_then(RecordId::new).ok_or_else(|| {
            let max = RecordId::LEN_MAX;
            format!("line {number} is not an id: 1 to {max} visible ASCII characters")
        })?;
        if !matches!(self, Self::Ids(_)) {
            *self = Self::Ids(BTreeSet::new());
        }
        if let Self::Ids(ids) = self {
            ids.insert(id.as_str().to_owned());
        }
        Ok(())
    }

    /// Adds a line of an export of this dead-letter topic. Empty lines are skipped.
    ///
    /// # Errors
    /// The line is no dead letter of the topic; the error names the line.
    pub fn add_export(&mut self, topic: &str, number: usize, line: &[u8]) -> Result<(), String> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let refused = |why: &str| Err(format!("line {number} {why}"));
        // The record itself is read from Kafka.
        let Some(ExportLine { place, id, .. }) = ExportLine::read(line) else {
            return refused("is not a line of `ringback dead-letter export`");
        };
        if *place.topic != *topic {
            let other = &place.topic;
            return refused(&format!("is of the topic '{other}', not of '{topic}'"));
        }
        if !matches!(self, Self::Positions(_)) {
            *self = Self::Positions(BTreeMap::new());
        }
        if let Self::Positions(positions) = self {
            positions.insert((place.partition, place.offset.0), id);
        }
        Ok(())
    }

    /// Returns the mark of the file. It does not depend on the order of the lines.
    #[must_use]
    pub fn mark(&self) -> Option<FileMark> {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut add = |text: String| hash.update(text.as_bytes());
        let entries = match self {
            Self::None => return None,
            Self::Ids(ids) => {
                ids.iter().for_each(|id| add(format!("{id}\n")));
                ids.len()
            }
            Self::Positions(positions) => {
                let all = positions.keys();
                all.for_each(|(partition, offset)| add(format!("{partition}/{offset}\n")));
                positions.len()
            }
        };
        let digest = hash.finish();
        let hash = digest.as_ref()[..8]
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a String takes any text");
                text
            });
        let entries = u64::try_from(entries).unwrap_or(u64::MAX);
        Some(FileMark { hash, entries })
    }

    /// Returns where the positions of a partition start, and the place after the last
    /// one. `None` where the file names no position of it.
    #[must_use]
    pub fn bounds(&self, partition: i32) -> Option<(i64, i64)> {
        let Self::Positions(positions) = self else {
            return None;
        };
        let mut all = positions.range((partition, i64::MIN)..=(partition, i64::MAX));
        let ((_, first), _) = all.next()?;
        let last = all.next_back().map_or(*first, |((_, last), _)| *last);
        Some((*first, last.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lines_and_a_broken_line_is_named() {
        let mut entries = Entries::default();
        for (number, line) in [(1, " a-1 "), (2, ""), (3, "b"), (4, "a-1")] {
            entries.add_id(number, line.as_bytes()).expect("an id");
        }
        assert_eq!(entries.mark().map(|mark| mark.entries), Some(2));
        for broken in ["two words", "ä", "\u{1}"] {
            let why = entries.add_id(7, broken.as_bytes()).expect_err(broken);
            assert!(why.starts_with("line 7 "), "{why}");
            assert!(!why.contains(broken), "a broken line may be personal data");
        }
    }

    #[test]
    fn an_export_names_positions_and_a_broken_line_is_named() {
        let mut entries = Entries::default();
        let line = r#"{"ringback":{"position":"t.dead-letter/1/7","id":"a"},"record":{"x":1}}"#;
        let mut add =
            |number, line: &str| entries.add_export("t.dead-letter", number, line.as_bytes());
        add(1, line).expect("a line");
        add(2, r#"{"ringback":{"position":"t.dead-letter/1/3"}}"#).expect("a line");
        for broken in [
            "{",
            "[]",
            r#"{"position":"t.dead-letter/1/7"}"#,
            r#"{"ringback":{"position":"x"}}"#,
            r#"{"ringback":{"position":"t/1/7"}}"#,
        ] {
            let why = add(9, broken).expect_err(broken);
            assert!(why.starts_with("line 9 "), "{why}");
        }
        assert_eq!((entries.bounds(1), entries.bounds(0)), (Some((3, 8)), None));
        let mark = entries.mark().expect("a file");
        assert_eq!((mark.entries, mark.hash.len()), (2, 16));
    }
}
