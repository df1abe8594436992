//! The one place where the checkers meet the engine's codec of commit metadata.

use ringback::engine::offsets::{self, Began, Mark};
use ringback::model::message::Snapshot;
use ringback::model::position::{NextOffset, Offset, TopicId};
use ringback::model::time::UnixMillis;
use std::collections::BTreeMap;

/// What a snapshot says of its partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// The smallest unfinished offset, or the end.
    pub base: NextOffset,
    /// Below it, what is not listed is finished.
    pub end: NextOffset,
    /// Since when there are maps of this partition.
    pub began: Began,
    /// What is unfinished, and whether it is reserved.
    pub unfinished: BTreeMap<Offset, bool>,
}

impl Map {
    /// Nothing is finished from here on.
    pub fn at(base: NextOffset) -> Self {
        Self {
            base,
            end: base,
            began: Began {
                at: UnixMillis(0),
                end: base,
            },
            unfinished: BTreeMap::new(),
        }
    }

    /// Whether the record at this offset is finished by this map.
    pub fn is_finished(&self, offset: Offset) -> bool {
        self.end.is_past(offset) && !self.unfinished.contains_key(&offset)
    }
}

/// Reads a snapshot. Errors: why it cannot be read.
pub fn decode(snapshot: &Snapshot, topic_id: Option<&TopicId>) -> Result<Map, &'static str> {
    let map = offsets::decode(&snapshot.metadata, snapshot.base, topic_id)
        .map_err(offsets::Unusable::why)?;
    Ok(Map {
        base: snapshot.base,
        end: map.end,
        began: map.began,
        unfinished: map
            .unfinished
            .into_iter()
            .map(|(offset, mark)| (offset, mark == Mark::Reserved))
            .collect(),
    })
}

/// The metadata of a map.
pub fn encode(map: &Map, topic_id: Option<&TopicId>) -> String {
    let marks = map.unfinished.iter().map(|(offset, reserved)| {
        let mark = if *reserved {
            Mark::Reserved
        } else {
            Mark::Open
        };
        (*offset, mark)
    });
    offsets::encode(map.base, map.end, topic_id, map.began, marks)
}
