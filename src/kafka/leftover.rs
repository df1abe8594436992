//! What transactions of ours may have left open in Kafka, as far as this process
//! knows. See `clearing` for how it comes about and is ended.

use crate::model::position::Topic;
use std::collections::BTreeSet;

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
