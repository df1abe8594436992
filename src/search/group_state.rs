//! What a group's committed offset and map say about a position of a source or
//! delay topic.

use crate::engine::map::{self, Map, Mark, Unusable};
use crate::model::named_enum::named_enum;
use crate::model::position::{NextOffset, Offset, TopicId};
use crate::model::time::UnixMillis;

named_enum! {
    /// What became of a record at a position.
    pub enum PlaceState {
        /// Delivered, skipped, or moved: then its copy is in another topic.
        Finished = "finished",
        /// Reserved: an attempt may have been started. After a crash the record moves on.
        InProgress = "in_progress",
        /// Not finished, and no attempt was started from here.
        Waiting = "waiting",
        /// The committed state belongs to an earlier topic of this name.
        Unknown = "unknown",
    }
}

/// The committed state of a group in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupState {
    /// `None` where the group has committed nothing.
    committed: Option<(NextOffset, Result<Map, Unusable>)>,
}

impl GroupState {
    /// Reads what was committed: the offset and its metadata.
    #[must_use]
    pub fn read(committed: Option<(NextOffset, &str)>, topic_id: Option<&TopicId>) -> Self {
        let committed =
            committed.map(|(base, metadata)| (base, map::decode(metadata, base, topic_id)));
        Self { committed }
    }

    /// Returns the state of a record.
    #[must_use]
    pub fn state(&self, offset: Offset) -> PlaceState {
        let Some((base, map)) = &self.committed else {
            return PlaceState::Waiting;
        };
        match map {
            Err(Unusable::OtherTopic) => PlaceState::Unknown,
            _ if base.is_past(offset) => PlaceState::Finished,
            // Written by another program, or by an operator who set the offset.
            Err(Unusable::Unreadable(_)) => PlaceState::Waiting,
            Ok(map) if !map.end.is_past(offset) => PlaceState::Waiting,
            Ok(map) => {
                let listed = map.unfinished.binary_search_by_key(&offset, |(at, _)| *at);
                match listed.map(|index| map.unfinished[index].1) {
                    Ok(Mark::Reserved) => PlaceState::InProgress,
                    Ok(Mark::Unreserved) => PlaceState::Waiting,
                    Err(_) => PlaceState::Finished,
                }
            }
        }
    }

    /// Returns since when maps of this partition exist. They do not tell what
    /// happened before. Returns `None` where there is no map now.
    #[must_use]
    pub fn maps_since(&self) -> Option<UnixMillis> {
        let (_, map) = self.committed.as_ref()?;
        map.as_ref().ok().map(|map| map.maps_since.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::map::MapsSince;

    #[test]
    fn each_offset_has_the_state_that_the_map_says() {
        let maps_since = MapsSince {
            at: UnixMillis(7),
            end: NextOffset(0),
        };
        let unfinished = [(Offset(10), Mark::Reserved), (Offset(12), Mark::Unreserved)];
        let id = TopicId("a".to_owned());
        let (base, end) = (NextOffset(10), NextOffset(14));
        let text = map::encode(base, end, Some(&id), maps_since, unfinished.into_iter());
        let read =
            |text, id: &str| GroupState::read(Some((base, text)), Some(&TopicId(id.to_owned())));
        let states = |state: &GroupState| [9, 10, 11, 12, 13, 14].map(|at| state.state(Offset(at)));
        use PlaceState::{Finished, InProgress, Unknown, Waiting};
        let state = read(&text, "a");
        assert_eq!(
            states(&state),
            [Finished, InProgress, Finished, Waiting, Finished, Waiting]
        );
        assert_eq!(state.maps_since(), Some(UnixMillis(7)));
        assert_eq!(states(&read(&text, "b")), [Unknown; 6]);
        let plain = read("", "a");
        assert_eq!(plain.state(Offset(9)), Finished);
        assert_eq!(plain.state(Offset(10)), Waiting);
        assert_eq!(plain.maps_since(), None);
        assert_eq!(GroupState::read(None, None).state(Offset(9)), Waiting);
    }
}
