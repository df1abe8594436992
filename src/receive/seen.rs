//! Which records have been seen before, by `webhook-id`. Pure.
//!
//! Limit: the last 100,000 records, whose ids have 256 bytes at most, so
//! some 60 MB; older ones count as new.

use std::collections::{HashMap, VecDeque};

const RECORDS_MAX: usize = 100_000;

/// What is known of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// How often it has come, this time counted.
    pub times: u64,
    /// Whether it was answered 2xx before.
    pub answered: bool,
}

/// The records seen.
#[derive(Default)]
pub struct Seen {
    records: HashMap<String, Known>,
    order: VecDeque<String>,
    /// How many arrivals had an id that was known.
    pub repeats: u64,
}

impl Seen {
    /// A record arrives.
    pub fn arrive(&mut self, id: &str) -> Known {
        if let Some(known) = self.records.get_mut(id) {
            known.times += 1;
            self.repeats += 1;
            return *known;
        }
        if self.order.len() == RECORDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
        let known = Known {
            times: 1,
            answered: false,
        };
        self.order.push_back(id.to_owned());
        self.records.insert(id.to_owned(), known);
        known
    }

    /// A record is answered 2xx.
    pub fn answered(&mut self, id: &str) {
        if let Some(known) = self.records.get_mut(id) {
            known.answered = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_are_counted_and_success_is_remembered() {
        let known = |times, answered| Known { times, answered };
        let mut seen = Seen::default();
        assert_eq!(seen.arrive("a"), known(1, false));
        assert_eq!(seen.arrive("b"), known(1, false));
        assert_eq!(seen.arrive("a"), known(2, false));
        seen.answered("a");
        assert_eq!(seen.arrive("a"), known(3, true));
        assert_eq!(seen.repeats, 2);
    }

    #[test]
    fn the_oldest_is_forgotten_at_the_limit() {
        let mut seen = Seen::default();
        for n in 0..=RECORDS_MAX {
            seen.arrive(&n.to_string());
        }
        assert_eq!(
            (seen.records.len(), seen.order.len()),
            (RECORDS_MAX, RECORDS_MAX)
        );
        assert_eq!(seen.arrive("0").times, 1);
        assert_eq!(seen.arrive("100000").times, 2);
    }
}
