//! What transactions of ours may have left open in Kafka, as far as this process
//! knows. Decides nothing. See `clearing` for how it comes about and is ended.

use crate::model::position::{NextOffset, Partition, Topic};
use std::collections::{BTreeMap, BTreeSet};

/// What may be open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Open {
    /// Nothing.
    Nothing,
    /// The group's offsets: they were asked for, and whether they were taken is
    /// not known.
    Offsets,
    /// The group's offsets, and records in these topics.
    All(BTreeSet<Topic>),
}

/// What the last transactions left, through all lives.
pub struct Leftover {
    /// What one that was not committed may have left open.
    pub open: Open,
    /// Where the one that was committed last put the offsets of its partitions.
    pub moved: BTreeMap<Partition, NextOffset>,
}

impl Default for Leftover {
    /// Of a process that has just started: its predecessor may have died in the
    /// middle of a transaction.
    fn default() -> Self {
        Self {
            open: Open::Offsets,
            moved: BTreeMap::new(),
        }
    }
}

impl Leftover {
    /// Whether the last move's offsets are certainly not committed yet, although
    /// it was: what is committed now lies before them. Nothing of ours and of no
    /// other replica puts them back.
    #[must_use]
    pub fn is_unfinished(&self, committed: &BTreeMap<Partition, NextOffset>) -> bool {
        self.moved
            .iter()
            .any(|(partition, moved)| committed.get(partition).is_some_and(|now| now < moved))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_unfinished_only_where_what_is_committed_lies_before_its_offsets() {
        let at = |number, next| {
            let topic = Topic::Source;
            (Partition { topic, number }, NextOffset(next))
        };
        let leftover = Leftover {
            moved: BTreeMap::from([at(0, 5), at(1, 7)]),
            ..Leftover::default()
        };
        for (committed, unfinished) in [
            (vec![at(0, 5), at(1, 7)], false),
            (vec![at(0, 5), at(1, 6)], true),
            (vec![at(0, 9), at(1, 8)], false),
            (vec![at(1, 6)], true),
            (vec![at(2, 0)], false),
            (Vec::new(), false),
        ] {
            let committed = BTreeMap::from_iter(committed);
            assert_eq!(
                leftover.is_unfinished(&committed),
                unfinished,
                "{committed:?}"
            );
        }
    }

    #[test]
    fn a_process_that_starts_takes_its_predecessors_offsets_for_open() {
        let leftover = Leftover::default();
        assert_eq!(leftover.open, Open::Offsets);
        assert!(!leftover.is_unfinished(&BTreeMap::new()));
    }
}
