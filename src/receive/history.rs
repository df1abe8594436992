//! Counts callbacks, and remembers which records arrived before, by
//! `webhook-id`. Pure.
//!
//! Limit: the last 100,000 records. Their ids have at most 256 bytes, so they
//! take some 60 MB. An older record counts as new.

use std::collections::{HashMap, VecDeque};

const RECORDS_MAX: usize = 100_000;

/// The callbacks until now.
#[derive(Default)]
pub struct CallbackHistory {
    records: HashMap<String, Sightings>,
    order: VecDeque<String>,
    callbacks: u64,
    repeats: u64,
    verified: u64,
}

/// The callbacks of one record.
#[derive(Clone, Copy, Default)]
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
        let sightings = self.records.entry(id.clone()).or_default();
        sightings.times += 1;
        let sightings = *sightings;
        if sightings.times > 1 {
            self.repeats += 1;
        } else {
            self.order.push_back(id);
        }
        if self.order.len() > RECORDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        Some(sightings)
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
    fn the_oldest_is_forgotten_at_the_limit() {
        let mut history = CallbackHistory::default();
        for n in 0..=RECORDS_MAX {
            history.arrive(Some(&n.to_string()), false);
        }
        let sizes = (history.records.len(), history.order.len());
        assert_eq!(sizes, (RECORDS_MAX, RECORDS_MAX));
        let mut times = |id| history.arrive(Some(id), false).map(|found| found.times);
        assert_eq!((times("0"), times("100000")), (Some(1), Some(2)));
    }
}
