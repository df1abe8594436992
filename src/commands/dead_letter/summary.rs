//! `ringback dead-letter summary`: counts by tenant, reason, class of the last error
//! and hour.

use super::each_selected;
use crate::cli::output::OutputFormat;
use crate::commands::reading::output::{MISSING, Output};
use crate::exit::Exit;
use crate::kafka::scan::ScanError;
use crate::kafka::settings::KafkaSettings;
use crate::model::named_enum::named_enum;
use crate::model::time::UnixMillis;
use crate::search::{Filter, FoundRecord};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const HOUR_MS: i64 = 3_600_000;

named_enum! {
    /// What dead letters are counted by.
    enum By {
        Tenant = "tenant",
        Reason = "reason",
        Error = "error",
        Hour = "hour",
    }
}

#[derive(Serialize)]
struct CountJson<'a> {
    by: &'static str,
    value: &'a str,
    count: u64,
}

/// Counts the selected dead letters.
pub fn run(settings: &KafkaSettings, filter: Filter, output: Output) -> Result<Exit, ScanError> {
    let mut counts = LetterCounts::default();
    let exit = each_selected(settings, filter, |found, _| {
        counts.add(&found);
        ControlFlow::Continue(())
    })?;
    counts.print(output);
    Ok(exit)
}

#[derive(Default)]
struct LetterCounts {
    total: u64,
    by: [BTreeMap<String, u64>; By::ALL.len()],
}

impl LetterCounts {
    fn add(&mut self, found: &FoundRecord) {
        self.total += 1;
        for by in By::ALL {
            let value = value(by, found).unwrap_or_else(|| MISSING.to_owned());
            *self.by[by as usize].entry(value).or_default() += 1;
        }
    }

    fn print(&self, mut output: Output) {
        if output.format() == OutputFormat::Table {
            output.line(format!("{} dead letters", self.total));
        }
        for by in By::ALL {
            if output.format() == OutputFormat::Table && self.total > 0 {
                output.line(format!("\nby {}", by.name()));
            }
            for (value, count) in self.sorted(by) {
                match output.format() {
                    OutputFormat::Table => output.safe_line(&format!("{count:>10}  {value}")),
                    OutputFormat::Json => output.json(&CountJson {
                        by: by.name(),
                        value,
                        count,
                    }),
                }
            }
        }
    }

    /// Returns hours in their order, and all else by its count.
    fn sorted(&self, by: By) -> Vec<(&str, u64)> {
        let all = self.by[by as usize].iter();
        let mut all: Vec<(&str, u64)> = all.map(|(value, n)| (value.as_str(), *n)).collect();
        if by != By::Hour {
            all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        }
        all
    }
}

fn value(by: By, found: &FoundRecord) -> Option<String> {
    match by {
        By::Tenant => found.tenant().map(ToString::to_string),
        By::Reason => found.marks.reason.map(|reason| reason.name().to_owned()),
        By::Error => found.marks.error.map(|error| error.name().to_owned()),
        By::Hour => {
            let ms = found.timestamp.0;
            Some(UnixMillis(ms - ms.rem_euclid(HOUR_MS)).rfc3339())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::Topic;

    #[test]
    fn each_dead_letter_counts_once_in_each_group() {
        let mut counts = LetterCounts::default();
        for (ms, tenant) in [(0, "a"), (3_599_999, "b"), (3_600_000, "b")] {
            let place = "t.dead-letter/0/1".parse().expect("a position");
            let value = format!(r#"{{"id":"1","tenantId":"{tenant}"}}"#);
            let value = Some(value.as_bytes());
            let at = UnixMillis(ms);
            counts.add(&FoundRecord::read(place, Topic::DeadLetter, at, value, &[]));
        }
        assert_eq!(counts.total, 3);
        assert_eq!(counts.sorted(By::Tenant), [("b", 2), ("a", 1)]);
        assert_eq!(counts.sorted(By::Reason), [("-", 3)]);
        assert_eq!(counts.sorted(By::Error), [("-", 3)]);
        let hours = [
            ("1970-01-01T00:00:00.000Z", 2),
            ("1970-01-01T01:00:00.000Z", 1),
        ];
        assert_eq!(counts.sorted(By::Hour), hours);
    }
}
