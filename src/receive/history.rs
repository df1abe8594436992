//! Counts callbacks, and remembers which records arrived before, by
//! `webhook-id`. Pure.
//!
//! Limit: 100,000 records. Their ids have at most 256 bytes, so they take some
//! 60 MB. At the limit all are forgotten.

use std::collections::HashMap;

const RECORDS_MAX: usize = 100_000;

/// The callbacks until now.
#[derive(Default)]
pub struct CallbackHistory {
    records: HashMap<String, Sightings>,
    callbacks: u64,
    repeats: u64,
    verified: u64,
}

/// The callbacks of one record.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Sightings {
    /// Number of callbacks, this one included.
    pub times: u64,
    /// An earlier callback was answered 2xx.
    pub answered: bool,
}

impl CallbackHistory {
    /// Counts a callback. Returns the callbacks of its record, if it has an id.
    pub fn arrive(&mut self, id: Option<&str>, is_verified: bool) -> Option<Sightings> {
        self.callbacks += 1;
        self.verified += u64::from(is_verified);
        let id = id?.to_owned();
        if self.records.len() == RECORDS_MAX && !self.records.contains_key(&id) {
            self.records.clear();
        }
        let sightings = self.records.entry(id).or_default();
        sightings.times += 1;
        self.repeats += u64::from(sightings.times > 1);
        Some(*sightings)
    }

    /// Remembers that a record is answered 2xx.
    pub fn answered(&mut self, id: &str) {
        if let Some(sightings) = self.records.get_mut(id) {
            sightings.answered = true;
        }
    }

    /// Returns the closing line.
    #[must_use]
    pub fn closing(&self) -> String {
        let (callbacks, repeats, verified) = (self.callbacks, self.repeats, self.verified);
        format!("{callbacks} callbacks, {repeats} of them seen before, {verified} verified")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_success_is_remembered() {
        let mut history = CallbackHistory::default();
        let mut arrive = |id: Option<&str>, answered: Option<&str>| {
            answered.into_iter().for_each(|id| history.answered(id));
            let found = history.arrive(id, true);
            found.map(|sightings| (sightings.times, sightings.answered))
        };
        assert_eq!(arrive(Some("a"), None), Some((1, false)));
        assert_eq!(arrive(Some("b"), None), Some((1, false)));
        assert_eq!(arrive(Some("a"), None), Some((2, false)));
        assert_eq!(arrive(None, None), None);
        assert_eq!(arrive(Some("a"), Some("a")), Some((3, true)));
        let closing = "5 callbacks, 2 of them seen before, 5 verified";
        assert_eq!(history.closing(), closing);
    }

    #[test]
    fn all_is_forgotten_at_the_limit() {
        let mut history = CallbackHistory::default();
        for n in 0..=RECORDS_MAX {
            history.arrive(Some(&n.to_string()), false);
        }
        assert_eq!(history.records.len(), 1);
        let mut times = |id| history.arrive(Some(id), false).map(|found| found.times);
        assert_eq!((times("0"), times("100000")), (Some(1), Some(2)));
    }
}
