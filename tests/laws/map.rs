//! The map of a commit's metadata, as the checkers see it. Only this file uses
//! the engine's codec.

use ringback::engine::map::{self, MapsSince, Mark};
use ringback::model::message::Snapshot;
use ringback::model::position::{NextOffset, Offset, TopicId};
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, HashSet};

/// The contents of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Map {
    /// The smallest unfinished offset, or the end.
    pub base: NextOffset,
    /// A record before it that is not listed is finished.
    pub end: NextOffset,
    /// When the offset maps of this partition start.
    pub maps_since: MapsSince,
    /// The unfinished offsets, and whether each is reserved.
    pub unfinished: BTreeMap<Offset, bool>,
}

impl Map {
    /// Returns a map without a finished record from `base` on.
    pub fn at(base: NextOffset) -> Self {
        Self {
            base,
            end: base,
            maps_since: MapsSince {
                at: UnixMillis(0),
                end: base,
            },
            unfinished: BTreeMap::new(),
        }
    }

    /// Returns whether the map says that the record at this offset is finished.
    pub fn is_finished(&self, offset: Offset) -> bool {
        self.end.is_past(offset) && !self.unfinished.contains_key(&offset)
    }

    /// Returns the reserved offsets.
    pub fn reserved(&self) -> HashSet<Offset> {
        let reserved = self.unfinished.iter().filter(|(_, reserved)| **reserved);
        reserved.map(|(offset, _)| *offset).collect()
    }
}

/// Reads a snapshot, or returns why it is unreadable.
pub fn decode(snapshot: &Snapshot, topic_id: Option<&TopicId>) -> Result<Map, &'static str> {
    let map =
        map::decode(&snapshot.metadata, snapshot.base, topic_id).map_err(map::Unusable::why)?;
    Ok(Map {
        base: snapshot.base,
        end: map.end,
        maps_since: map.maps_since,
        unfinished: map
            .unfinished
            .into_iter()
            .map(|(offset, mark)| (offset, mark == Mark::Reserved))
            .collect(),
    })
}

/// Returns the metadata of a map.
pub fn encode(map: &Map, topic_id: Option<&TopicId>) -> String {
    let marks = map.unfinished.iter().map(|(offset, reserved)| {
        let mark = if *reserved {
            Mark::Reserved
        } else {
            Mark::Unreserved
        };
        (*offset, mark)
    });
    map::encode(map.base, map.end, topic_id, map.maps_since, marks)
}
