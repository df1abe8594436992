//! The group's coordinator, as the classic protocol with static members knows
//! it: member ids, generations, the join and the sync of a rebalance, and who
//! may commit when. It knows what Kafka knows, and no engine.
//!
//! Source: Kafka's `ClassicGroup` and `GroupMetadataManager`.

use crate::chance::Chance;
use crate::replica::Tag;
use ringback::model::position::Partition;
use std::collections::{BTreeMap, BTreeSet};

/// `group.instance.id`: the replica's name.
pub type Name = usize;

/// `member.id`, which the coordinator gives to a consumer that joins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MemberId(u64);

/// How a consumer names itself in a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub name: Name,
    pub member: MemberId,
    pub generation: u32,
}

/// Why the coordinator does not do what a member asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    UnknownMember,
    FencedInstance,
    IllegalGeneration,
    RebalanceInProgress,
}

/// How far along the group is.
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
    /// What its consumer said to own when it joined.
    claims: BTreeSet<Partition>,
    assignment: BTreeSet<Partition>,
}

/// What a consumer that joins is told.
#[derive(Debug)]
pub enum Join {
    /// The group is stable: it takes its predecessor's place at once.
    AtOnce(Credentials),
    /// The answer comes when all have joined.
    Waits,
    /// The name belongs to another one now.
    Fenced,
    /// The group has gone on without it.
    Unknown,
}

/// The coordinator.
pub struct Coordinator {
    state: State,
    generation: u32,
    members: BTreeMap<Name, Member>,
    ids: u64,
    leader: Option<Name>,
    /// So many of the next assignments take partitions from their owners.
    pub shuffles: u32,
}

impl Coordinator {
    /// A group without members.
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

    /// Whether nobody is a member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether members are to join.
    pub fn is_preparing(&self) -> bool {
        self.state == State::Preparing
    }

    /// Whether this is the member that the coordinator knows by its name.
    pub fn is_member(&self, name: Name, id: MemberId) -> bool {
        self.members.get(&name).is_some_and(|m| m.id == id)
    }

    /// Whether the member waits for the answer to its join, and so cannot time out.
    pub fn awaits_join(&self, name: Name) -> bool {
        self.is_preparing() && self.members.get(&name).is_some_and(|m| m.joined)
    }

    /// All members' consumers.
    pub fn tags(&self) -> Vec<Tag> {
        self.members.values().map(|m| m.tag).collect()
    }

    /// The consumer that has this name.
    pub fn tag_of(&self, name: Name) -> Option<Tag> {
        self.members.get(&name).map(|m| m.tag)
    }

    /// Whether a member with these credentials exists.
    pub fn check(&self, by: &Credentials) -> Result<(), Refusal> {
        let member = self.members.get(&by.name).ok_or(Refusal::UnknownMember)?;
        if member.id != by.member {
            return Err(Refusal::FencedInstance);
        }
        Ok(())
    }

    /// Whether an offset commit is taken. Ownership of the partitions is not asked.
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

    /// A consumer joins; `id` is what it was given before, if it still knows.
    pub fn join(
        &mut self,
        name: Name,
        tag: Tag,
        id: Option<MemberId>,
        claims: BTreeSet<Partition>,
    ) -> Join {
        let known = self.members.get(&name).map(|m| m.id);
        let id = match (known, id) {
            (Some(known), Some(id)) if known != id => return Join::Fenced,
            (Some(_), Some(id)) => id,
            (None, Some(_)) => return Join::Unknown,
            (_, None) => {
                self.ids += 1;
                MemberId(self.ids)
            }
        };
        let replaced = known.is_some_and(|known| known != id);
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
        if known.is_none() {
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

    /// A rebalance begins: everybody is to join.
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

    /// A member leaves or was not heard of for too long. Returns whether a
    /// rebalance begins.
    pub fn remove(&mut self, name: Name) -> bool {
        if self.members.remove(&name).is_none() {
            return false;
        }
        // Those that have joined already need not again.
        if self.state == State::Preparing && !self.members.is_empty() {
            return false;
        }
        self.prepare();
        !self.members.is_empty()
    }

    /// Once all have joined, a new generation begins: what each is told.
    pub fn complete_join(&mut self) -> Option<Vec<(Tag, Credentials)>> {
        let all = self.members.values().all(|m| m.joined);
        if self.state != State::Preparing || !all {
            return None;
        }
        self.state = State::Completing;
        self.generation += 1;
        self.leader = self.members.keys().next().copied();
        let generation = self.generation;
        let told = self.members.iter().map(|(name, m)| {
            let credentials = Credentials {
                name: *name,
                member: m.id,
                generation,
            };
            (m.tag, credentials)
        });
        Some(told.collect())
    }

    /// Whether a sync can be answered now; where the leader syncs, it assigns
    /// before. `Err` where the member has to join again.
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

    /// Whether the group is stable and some of these are nobody's: a member
    /// died after they were taken from it and before they were given on, and
    /// took its own place again.
    pub fn has_orphans(&self, partitions: &[Partition]) -> bool {
        let is_orphan = |p: &Partition| !self.members.values().any(|m| m.assignment.contains(p));
        self.state == State::Stable && partitions.iter().any(is_orphan)
    }

    /// What the member of this name is to own.
    pub fn assignment(&self, name: Name) -> BTreeSet<Partition> {
        let member = self.members.get(&name);
        member.map(|m| m.assignment.clone()).unwrap_or_default()
    }

    /// Cooperative and sticky: what somebody owns stays there, unless it is
    /// taken; what is taken is given on in the next round.
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

/// What a member that syncs is told.
pub enum Sync {
    /// The assignment is there; these other consumers may be waiting for it.
    Answered(Vec<Tag>),
    /// The leader has not synced yet.
    Waits,
}
