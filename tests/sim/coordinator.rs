//! The group coordinator of the classic protocol with static members. It has member
//! ids, generations, the join and the sync of a rebalance, and the rule on when a
//! member may commit. It sees only requests, never an engine.
//!
//! Source: Kafka's `ClassicGroup` and `GroupMetadataManager`.

use crate::chance::Chance;
use crate::replica::Tag;
use ringback::model::position::Partition;
use std::collections::{BTreeMap, BTreeSet};

/// `group.instance.id`: the replica's name.
pub type Name = usize;

/// `member.id`, which the coordinator assigns to a consumer that joins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MemberId(u64);

/// The identity of a consumer in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub name: Name,
    pub member: MemberId,
    pub generation: u32,
}

/// Why the coordinator refuses a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    UnknownMember,
    FencedInstance,
    IllegalGeneration,
    RebalanceInProgress,
}

/// The state of the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Empty,
    /// Waits for all members to join.
    Preparing,
    /// Waits for the leader's assignment.
    Completing,
    Stable,
}

struct Member {
    id: MemberId,
    tag: Tag,
    joined: bool,
    /// The partitions that its consumer reported when it joined.
    claims: BTreeSet<Partition>,
    assignment: BTreeSet<Partition>,
}

/// The answer to a join.
#[derive(Debug)]
pub enum Join {
    /// The group is stable: the consumer takes its predecessor's place at once.
    AtOnce(Credentials),
    /// The answer comes when all have joined.
    Waits,
    /// Another member has the name now.
    Fenced,
    /// The group dropped this member.
    Unknown,
}

/// The coordinator.
pub struct Coordinator {
    state: State,
    generation: u32,
    members: BTreeMap<Name, Member>,
    ids: u64,
    leader: Option<Name>,
    /// The number of next assignments that move partitions to other members.
    pub shuffles: u32,
}

impl Coordinator {
    /// Returns a group without members.
    pub fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            members: BTreeMap::new(),
            ids: 0,
            leader: None,
            shuffles: 0,
        }
    }

    /// Returns whether the group has no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns whether the group waits for its members to join.
    pub fn is_preparing(&self) -> bool {
        self.state == State::Preparing
    }

    /// Returns whether this id is the current member id of the name.
    pub fn is_member(&self, name: Name, id: MemberId) -> bool {
        self.members.get(&name).is_some_and(|m| m.id == id)
    }

    /// Returns whether the member waits for the answer to its join; such a member
    /// cannot time out.
    pub fn awaits_join(&self, name: Name) -> bool {
        self.is_preparing() && self.members.get(&name).is_some_and(|m| m.joined)
    }

    /// Returns the consumers of all members.
    pub fn tags(&self) -> Vec<Tag> {
        self.members.values().map(|m| m.tag).collect()
    }

    /// Returns the consumer with this name.
    pub fn tag_of(&self, name: Name) -> Option<Tag> {
        self.members.get(&name).map(|m| m.tag)
    }

    /// Checks that a member with these credentials exists.
    pub fn check(&self, by: &Credentials) -> Result<(), Refusal> {
        let member = self.members.get(&by.name).ok_or(Refusal::UnknownMember)?;
        if member.id != by.member {
            return Err(Refusal::FencedInstance);
        }
        Ok(())
    }

    /// Checks whether an offset commit is accepted. The partitions' assignment
    /// does not matter.
    pub fn may_commit(&self, by: &Credentials, transactional: bool) -> Result<(), Refusal> {
        self.check(by)?;
        if by.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        if self.state == State::Completing && !transactional {
            return Err(Refusal::RebalanceInProgress);
        }
        Ok(())
    }

    /// Handles a join; `id` is the consumer's earlier member id, if it has one.
    pub fn join(
        &mut self,
        name: Name,
        tag: Tag,
        id: Option<MemberId>,
        claims: BTreeSet<Partition>,
    ) -> Join {
        let current = self.members.get(&name).map(|m| m.id);
        let id = match (current, id) {
            (Some(current), Some(id)) if current != id => return Join::Fenced,
            (Some(_), Some(id)) => id,
            (None, Some(_)) => return Join::Unknown,
            (_, None) => {
                self.ids += 1;
                MemberId(self.ids)
            }
        };
        let replaced = current.is_some_and(|current| current != id);
        let before = self.members.remove(&name);
        let member = Member {
            id,
            tag,
            joined: true,
            claims,
            assignment: before.map(|m| m.assignment).unwrap_or_default(),
        };
        self.members.insert(name, member);
        if replaced && self.state == State::Stable {
            return Join::AtOnce(Credentials {
                name,
                member: id,
                generation: self.generation,
            });
        }
        if current.is_none() {
            self.shuffles += 1;
        }
        if self.state != State::Preparing {
            self.prepare();
            if let Some(member) = self.members.get_mut(&name) {
                member.joined = true;
            }
        }
        Join::Waits
    }

    /// Starts a rebalance: every member must join.
    pub fn prepare(&mut self) {
        self.leader = None;
        for member in self.members.values_mut() {
            member.joined = false;
        }
        self.state = match self.members.is_empty() {
            true => State::Empty,
            false => State::Preparing,
        };
    }

    /// Removes a member that leaves or timed out. Returns whether a rebalance
    /// starts.
    pub fn remove(&mut self, name: Name) -> bool {
        if self.members.remove(&name).is_none() {
            return false;
        }
        // Members that already joined need not join again.
        if self.state == State::Preparing && !self.members.is_empty() {
            return false;
        }
        self.prepare();
        !self.members.is_empty()
    }

    /// Starts a new generation once all members have joined; returns each
    /// member's answer.
    pub fn complete_join(&mut self) -> Option<Vec<(Tag, Credentials)>> {
        let all = self.members.values().all(|m| m.joined);
        if self.state != State::Preparing || !all {
            return None;
        }
        self.state = State::Completing;
        self.generation += 1;
        self.leader = self.members.keys().next().copied();
        let generation = self.generation;
        let answers = self.members.iter().map(|(name, m)| {
            let credentials = Credentials {
                name: *name,
                member: m.id,
                generation,
            };
            (m.tag, credentials)
        });
        Some(answers.collect())
    }

    /// Handles a sync and returns whether it can be answered now. The leader's
    /// sync assigns the partitions. `Err` if the member must join again.
    pub fn sync(
        &mut self,
        by: &Credentials,
        partitions: &[Partition],
        chance: &mut Chance,
    ) -> Result<Sync, Refusal> {
        self.check(by)?;
        if by.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        match self.state {
            State::Stable => Ok(Sync::Answered(Vec::new())),
            State::Completing if self.leader == Some(by.name) => {
                self.assign(partitions, chance);
                self.state = State::Stable;
                Ok(Sync::Answered(self.tags()))
            }
            State::Completing => Ok(Sync::Waits),
            State::Preparing | State::Empty => Err(Refusal::RebalanceInProgress),
        }
    }

    /// Returns which of these partitions a stable group has assigned to no member. This happens when a member dies between the two rounds of a
    /// revocation and then takes its own place again.
    pub fn unassigned(&self, partitions: &[Partition]) -> BTreeSet<Partition> {
        if self.state != State::Stable {
            return BTreeSet::new();
        }
        let assigned = |p: &Partition| self.members.values().any(|m| m.assignment.contains(p));
        let unassigned = partitions.iter().filter(|p| !assigned(p));
        unassigned.copied().collect()
    }

    /// Returns the assignment of this name.
    pub fn assignment(&self, name: Name) -> BTreeSet<Partition> {
        let member = self.members.get(&name);
        member.map(|m| m.assignment.clone()).unwrap_or_default()
    }

    /// Assigns cooperatively and stickily. An assigned partition stays with its
    /// member unless it is revoked. A revoked partition is assigned to another
    /// member in the next round.
    fn assign(&mut self, partitions: &[Partition], chance: &mut Chance) {
        let names: Vec<Name> = self.members.keys().copied().collect();
        let takes = self.shuffles > 0 && names.len() > 1;
        self.shuffles = self.shuffles.saturating_sub(1);
        let share = chance.pick(&[100, 400, 900]);
        let mut claimed = BTreeSet::new();
        for member in self.members.values_mut() {
            let mut stays = std::mem::take(&mut member.claims);
            stays.retain(|partition| claimed.insert(*partition));
            stays.retain(|p| partitions.contains(p) && !(takes && chance.permille(share)));
            member.assignment = stays;
        }
        let free = partitions.iter().filter(|p| !claimed.contains(p));
        for partition in free {
            let name = names[chance.index(names.len())];
            if let Some(member) = self.members.get_mut(&name) {
                member.assignment.insert(*partition);
            }
        }
    }
}

/// The answer to a sync.
pub enum Sync {
    /// The assignment is ready; these other consumers may wait for it.
    Answered(Vec<Tag>),
    /// The leader did not sync yet.
    Waits,
}
