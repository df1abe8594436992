//! Counts skipped records for a log line an hour. A wrong tenants file skips records
//! for good, so the log says it. Never writes the line itself. Pure: the time is an
//! argument. Runs on the runner's thread.

use crate::model::time::UnixMillis;
use std::time::Duration;

/// Time from the first skip to its line.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// Time between two lines.
const EACH: Duration = Duration::from_secs(3600);

/// The records since the last line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SkipShare {
    pub skipped: u64,
    /// The ends of all residences, skipped ones too.
    pub disposed: u64,
}

impl SkipShare {
    /// Returns the share of skipped records in percent, rounded up.
    pub fn percent(self) -> u64 {
        (self.skipped * 100).div_ceil(self.disposed.max(1))
    }
}

/// Counts records, and says when a line is due.
#[derive(Default)]
pub(super) struct SkipCounts {
    share: SkipShare,
    first_skip_at: Option<UnixMillis>,
    line_at: Option<UnixMillis>,
}

impl SkipCounts {
    /// Counts a record that was not skipped.
    pub fn disposed(&mut self) {
        self.share.disposed += 1;
    }

    /// Counts a skipped record.
    pub fn skipped(&mut self, now: UnixMillis) {
        self.share.disposed += 1;
        self.share.skipped += 1;
        self.first_skip_at.get_or_insert(now);
    }

    /// Returns the counts, if a line is due now.
    pub fn line(&mut self, now: UnixMillis) -> Option<SkipShare> {
        let first = self.first_skip_at?;
        let has_waited = now.since(first) >= FIRST_AFTER;
        let is_due = self.line_at.is_none_or(|last| now.since(last) >= EACH);
        if !(has_waited && is_due) {
            return None;
        }
        let share = self.share;
        *self = Self {
            line_at: Some(now),
            ..Self::default()
        };
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> UnixMillis {
        UnixMillis(seconds * 1_000)
    }

    #[test]
    fn skips_have_a_line_soon_and_then_one_an_hour() {
        let mut counts = SkipCounts::default();
        counts.disposed();
        assert_eq!(counts.line(at(100)), None);
        counts.skipped(at(100));
        counts.skipped(at(101));
        assert_eq!(counts.line(at(109)), None);
        let share = SkipShare {
            skipped: 2,
            disposed: 3,
        };
        assert_eq!(counts.line(at(110)), Some(share));
        assert_eq!(share.percent(), 67);
        assert_eq!(counts.line(at(3_710)), None, "nothing was skipped since");
        counts.skipped(at(3_000));
        assert_eq!(counts.line(at(3_709)), None);
        assert_eq!(counts.line(at(3_710)).map(|share| share.skipped), Some(1));
    }
}
