//! The assigned partitions: active ones, and idle ones that nothing is to be done
//! for. A turn looks at the active ones only, so that 1,200 idle partitions cost
//! nothing. An event for an idle partition makes it active. So does the time at which
//! its next delayed record is due. Runs on the runner's thread.

use super::partition::{HeadWait, PartitionPhase, PartitionState};
use crate::model::position::Partition;
use crate::model::time::UnixMillis;
use std::collections::{BTreeMap, BTreeSet};

/// The assigned partitions.
#[derive(Default)]
pub struct Partitions {
    active: BTreeMap<Partition, Box<PartitionState>>,
    idle: BTreeMap<Partition, Box<PartitionState>>,
    /// When idle partitions become active. Some of them are active already.
    due: BTreeSet<(UnixMillis, Partition)>,
}

impl Partitions {
    /// Adds a partition. Returns the state that it had before.
    pub fn insert(&mut self, state: PartitionState) -> Option<PartitionState> {
        let before = self.remove(state.id);
        self.active.insert(state.id, Box::new(state));
        before
    }

    /// Removes a partition.
    pub fn remove(&mut self, id: Partition) -> Option<PartitionState> {
        let state = self.active.remove(&id).or_else(|| self.idle.remove(&id));
        state.map(|state| *state)
    }

    /// Removes all partitions.
    pub fn take_all(&mut self) -> impl Iterator<Item = PartitionState> + use<> {
        let Self { active, idle, .. } = std::mem::take(self);
        active.into_values().chain(idle.into_values()).map(|s| *s)
    }

    /// Returns the number of partitions.
    pub fn len(&self) -> usize {
        self.active.len() + self.idle.len()
    }

    /// Returns the state of a partition, which is active from now on.
    pub fn get_mut(&mut self, id: Partition) -> Option<&mut PartitionState> {
        if let Some(state) = self.idle.remove(&id) {
            self.active.insert(id, state);
        }
        self.active.get_mut(&id).map(|state| &mut **state)
    }

    /// Returns the state of a partition, which stays idle if it was. The caller
    /// changes nothing that a turn acts on.
    pub fn note_mut(&mut self, id: Partition) -> Option<&mut PartitionState> {
        let state = self.active.get_mut(&id).or_else(|| self.idle.get_mut(&id));
        state.map(|state| &mut **state)
    }

    /// Returns whether a partition is idle.
    pub fn is_idle(&self, id: Partition) -> bool {
        self.idle.contains_key(&id)
    }

    /// Returns the active partitions, in order.
    pub fn active(&self) -> impl Iterator<Item = &PartitionState> + Clone {
        self.active.values().map(|state| &**state)
    }

    /// The same, to change them.
    pub fn active_mut(&mut self) -> impl Iterator<Item = &mut PartitionState> {
        self.active.values_mut().map(|state| &mut **state)
    }

    /// Returns all partitions, in order.
    pub fn all(&self) -> impl Iterator<Item = &PartitionState> + Clone {
        let (mut active, mut idle) = (self.active().peekable(), self.idle.values().peekable());
        std::iter::from_fn(move || match (active.peek(), idle.peek()) {
            (Some(next), Some(other)) if next.id > other.id => idle.next().map(|state| &**state),
            (Some(_), _) => active.next(),
            (None, _) => idle.next().map(|state| &**state),
        })
    }

    /// Returns all partitions, which are active from now on.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut PartitionState> {
        self.active.append(&mut self.idle);
        self.due.clear();
        self.active_mut()
    }

    /// Makes the partitions active whose next delayed record is due.
    pub fn wake(&mut self, now: UnixMillis) {
        while let Some((at, id)) = self.due.first().copied() {
            if at > now {
                return;
            }
            self.due.pop_first();
            self.get_mut(id);
        }
    }

    /// Makes the partitions idle that nothing is to be done for.
    pub fn rest(&mut self) {
        let idle = self.active().filter(|state| is_idle(state));
        for id in idle.map(|state| state.id).collect::<Vec<_>>() {
            if let Some(state) = self.active.remove(&id) {
                if let Some(HeadWait::Due(at)) = state.head_wait {
                    self.due.insert((at, id));
                }
                self.idle.insert(id, state);
            }
        }
    }

    /// Returns when the next record at the head of an inbox may be placed.
    pub fn next_head(&self) -> Option<UnixMillis> {
        let running = self.active().filter(|state| state.is_running());
        let heads = running.filter_map(|state| state.head_wait?.until());
        let idle = self.due.first().map(|(at, _)| *at);
        heads.chain(idle).min()
    }
}

/// Returns whether nothing is to be done for a partition until an event or the time
/// of its head.
fn is_idle(state: &PartitionState) -> bool {
    let reads_on = match state.head_wait {
        Some(HeadWait::Due(_)) => true,
        Some(HeadWait::Change(_)) => false,
        None => state.inbox.is_empty(),
    };
    state.phase == PartitionPhase::Running
        && reads_on
        && !state.inbox.wants_more()
        && state.is_clean()
        && !state.write_now
        && state.held.is_empty()
        && state.delivered.is_empty()
        && state.ramp_up.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Generation, Topic};
    use crate::model::time::UnixMillis;

    const IDS: [Partition; 3] = [
        Topic::Source.partition(0),
        Topic::Source.partition(1),
        Topic::Source.partition(2),
    ];

    fn three() -> Partitions {
        let mut partitions = Partitions::default();
        for id in IDS {
            let mut state = PartitionState::adopting(id, Generation(1));
            state.phase = PartitionPhase::Running;
            state.inbox.request(1);
            partitions.insert(state);
        }
        partitions
    }

    fn ids<'a>(states: impl Iterator<Item = &'a PartitionState>) -> Vec<i32> {
        states.map(|state| state.id.number).collect()
    }

    #[test]
    fn a_partition_rests_until_it_is_touched_or_its_head_is_due() {
        let mut partitions = three();
        let at = UnixMillis(1_000);
        let state = partitions.get_mut(IDS[1]).expect("assigned");
        state.head_wait = Some(HeadWait::Due(at));
        partitions.rest();
        assert_eq!(ids(partitions.active()), [] as [i32; 0]);
        assert_eq!(ids(partitions.all()), [0, 1, 2]);
        assert_eq!(partitions.next_head(), Some(at));
        partitions.wake(UnixMillis(999));
        assert!(partitions.is_idle(IDS[1]));
        partitions.wake(at);
        assert_eq!(ids(partitions.active()), [1]);
        partitions.note_mut(IDS[0]).expect("assigned");
        assert!(partitions.is_idle(IDS[0]));
        partitions.get_mut(IDS[2]).expect("assigned");
        assert_eq!(ids(partitions.active()), [1, 2]);
        assert_eq!(ids(partitions.all()), [0, 1, 2], "in order");
        assert_eq!(partitions.all_mut().count(), 3);
        assert_eq!(partitions.take_all().count(), 3);
        assert_eq!(partitions.len(), 0);
    }

    #[test]
    fn a_partition_with_something_to_do_does_not_rest() {
        let work: [fn(&mut PartitionState); 7] = [
            |state| state.phase = PartitionPhase::Adopting,
            |state| state.inbox.clear(),
            |state| state.touch(UnixMillis(0)),
            |state| state.write_now = true,
            |state| state.in_write = Some(Default::default()),
            |state| state.head_wait = Some(HeadWait::Change(None)),
            |state| {
                state.held.insert(Topic::DeadLetter, Default::default());
            },
        ];
        for change in work {
            let mut partitions = three();
            change(partitions.get_mut(IDS[0]).expect("assigned"));
            partitions.rest();
            assert_eq!(ids(partitions.active()), [0]);
        }
    }
}
