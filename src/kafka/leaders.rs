//! Which broker leads which partition, and which leaders are silent. A leader is
//! silent after a request that it did not answer in time. An error code is an
//! answer. Pure state without a clock: the reader thread writes it, the transaction
//! thread reads it.
//!
//! | leader | asked for log bounds |
//! |---|---|
//! | answers, or is not identified yet | each second, before all others |
//! | silent | every [`SILENT_EVERY`], after all others have their answers |
//! | all are silent | each second: no other read waits for them |
//! | none | not asked |

use crate::model::broker::{Broker, BrokerId, SilentBroker};
use crate::model::position::{Partition, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The interval between two requests to a silent leader. Such a request may wait for
/// its limit, and the other leaders' next reads wait for it.
const SILENT_EVERY: Duration = Duration::from_secs(5);

/// The leaders of the partitions, as far as the brokers have told them.
#[derive(Default)]
pub struct Leaders {
    /// `None` is a partition without leader.
    by_partition: BTreeMap<Partition, Option<BrokerId>>,
    addresses: BTreeMap<BrokerId, String>,
    /// With the time of the next request.
    silent: BTreeMap<BrokerId, Duration>,
}

/// Partitions that are asked in one request, because one broker leads them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// `None` where the leader is not identified yet.
    pub leader: Option<BrokerId>,
    pub partitions: Vec<Partition>,
}

/// The partitions of a topic to which records can be moved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Choice {
    /// All, as far as they are told. The client chooses.
    All,
    Some(Vec<i32>),
    None,
}

/// The requests of one round.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct BoundsRound {
    pub first: Vec<Ask>,
    /// To silent leaders: only after the answers to the first ones are reported.
    pub last: Vec<Ask>,
}

impl Leaders {
    /// Replaces the leaders of a topic's partitions.
    pub fn set(&mut self, topic: Topic, leaders: Vec<(i32, Option<Broker>)>) {
        self.by_partition
            .retain(|partition, _| partition.topic != topic);
        for (number, leader) in leaders {
            let id = leader.as_ref().map(|leader| leader.id);
            self.by_partition.insert(topic.partition(number), id);
            self.addresses
                .extend(leader.map(|leader| (leader.id, leader.address)));
        }
        let leading: BTreeSet<BrokerId> = self.by_partition.values().copied().flatten().collect();
        self.addresses.retain(|id, _| leading.contains(id));
        self.silent.retain(|id, _| leading.contains(id));
    }

    /// Returns the requests for the log bounds of these partitions. A leader of none
    /// of them is asked for one of its partitions: records may be moved there.
    pub fn round(&self, assigned: &BTreeSet<Partition>, now: Duration) -> BoundsRound {
        let mut asks = self.by_leader(assigned.iter().copied());
        for (partition, leader) in &self.by_partition {
            let asked = asks.iter().any(|ask| ask.leader == *leader);
            if leader.is_some() && !asked {
                asks.push(Ask {
                    leader: *leader,
                    partitions: vec![*partition],
                });
            }
        }
        let next = |ask: &Ask| ask.leader.and_then(|id| self.silent.get(&id));
        if asks.iter().all(|ask| next(ask).is_some()) {
            return BoundsRound {
                first: asks,
                last: Vec::new(),
            };
        }
        let (mut last, first): (Vec<Ask>, Vec<Ask>) =
            asks.into_iter().partition(|ask| next(ask).is_some());
        last.retain(|ask| next(ask).is_some_and(|at| now >= *at));
        BoundsRound { first, last }
    }

    /// Returns these partitions by leader, without those that have none.
    pub fn by_leader(&self, partitions: impl IntoIterator<Item = Partition>) -> Vec<Ask> {
        let mut asks: BTreeMap<Option<BrokerId>, Vec<Partition>> = BTreeMap::new();
        for partition in partitions {
            match self.by_partition.get(&partition) {
                Some(None) => {}
                Some(leader) => asks.entry(*leader).or_default().push(partition),
                None => asks.entry(None).or_default().push(partition),
            }
        }
        let asks = asks.into_iter();
        asks.map(|(leader, partitions)| Ask { leader, partitions })
            .collect()
    }

    /// Notes whether a leader has answered a request.
    pub fn note(&mut self, leader: Option<BrokerId>, answered: bool, now: Duration) {
        let Some(leader) = leader else {
            return;
        };
        match answered {
            true => self.silent.remove(&leader),
            false => self.silent.insert(leader, now + SILENT_EVERY),
        };
    }

    /// Whether a request for this partition may be answered.
    pub fn may_answer(&self, partition: Partition) -> bool {
        match self.by_partition.get(&partition) {
            Some(Some(leader)) => !self.silent.contains_key(leader),
            Some(None) => false,
            None => true,
        }
    }

    /// Returns the partitions of a topic to which records can be moved now. `unclosed`
    /// are partitions that must not be used.
    pub fn choice(&self, topic: Topic, unclosed: &BTreeSet<Partition>) -> Choice {
        let all = self.by_partition.keys().filter(|p| p.topic == topic);
        let is_good = |partition: &Partition| {
            !unclosed.contains(partition) && (self.may_answer(*partition) || self.none_answers())
        };
        let good = all.clone().filter(|partition| is_good(partition));
        let good: Vec<i32> = good.map(|partition| partition.number).collect();
        let is_told = all.clone().next().is_some();
        if !is_told && unclosed.iter().any(|partition| partition.topic == topic) {
            Choice::None
        } else if good.len() == all.count() {
            Choice::All
        } else if good.is_empty() {
            Choice::None
        } else {
            Choice::Some(good)
        }
    }

    /// Whether all leaders are silent: then none is better than another.
    pub fn none_answers(&self) -> bool {
        self.silent.len() == self.addresses.len()
    }

    /// Whether some leaders are silent and others are not.
    pub fn some_are_silent(&self) -> bool {
        !self.silent.is_empty() && !self.none_answers()
    }

    /// Returns the silent leaders.
    pub fn silent(&self, assigned: &BTreeSet<Partition>) -> Vec<SilentBroker> {
        let leads = |id: &BrokerId| {
            let leaders = assigned.iter().map(|p| self.by_partition.get(p));
            leaders.filter(|leader| *leader == Some(&Some(*id))).count()
        };
        let silent = self.silent.keys().map(|id| SilentBroker {
            broker: Broker {
                id: *id,
                address: self.addresses.get(id).cloned().unwrap_or_default(),
            },
            partitions: leads(id),
        });
        silent.collect()
    }

    /// Returns the leader to ask after this one, among those that answer. `None` asks
    /// the broker that the client chooses.
    pub fn next_answering(&self, after: Option<BrokerId>) -> Option<BrokerId> {
        let mut answering = self
            .addresses
            .keys()
            .filter(|id| !self.silent.contains_key(id));
        answering.find(|id| Some(**id) > after).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn broker(id: i32) -> Broker {
        Broker {
            id: BrokerId(id),
            address: format!("kafka-{id}:9092"),
        }
    }

    fn of(topic: Topic, numbers: &[i32]) -> Vec<Partition> {
        numbers.iter().map(|n| topic.partition(*n)).collect()
    }

    fn ask(leader: i32, numbers: &[i32]) -> Ask {
        Ask {
            leader: Some(BrokerId(leader)),
            partitions: of(Topic::Source, numbers),
        }
    }

    /// Six partitions: 1 and 4 are led by broker 1 and so on. The seventh has no leader.
    fn three_brokers() -> Leaders {
        let mut leaders = Leaders::default();
        let led = (0..6).map(|number| (number, Some(broker(1 + number % 3))));
        leaders.set(Topic::Source, led.chain([(6, None)]).collect());
        leaders
    }

    fn assigned() -> BTreeSet<Partition> {
        of(Topic::Source, &[0, 1, 2, 3, 4, 6]).into_iter().collect()
    }

    #[test]
    fn a_silent_leader_is_asked_last_and_seldom_and_the_others_as_usual() {
        let mut leaders = three_brokers();
        let all = vec![ask(1, &[0, 3]), ask(2, &[1, 4]), ask(3, &[2])];
        let round = leaders.round(&assigned(), SECOND);
        assert_eq!((round.first, round.last), (all, Vec::new()));

        leaders.note(Some(BrokerId(2)), false, SECOND);
        let others = vec![ask(1, &[0, 3]), ask(3, &[2])];
        for (at, last) in [
            (2 * SECOND, vec![]),
            (SECOND + SILENT_EVERY, vec![ask(2, &[1, 4])]),
        ] {
            let round = leaders.round(&assigned(), at);
            assert_eq!((round.first, round.last), (others.clone(), last));
        }
        let silent = SilentBroker {
            broker: broker(2),
            partitions: 2,
        };
        assert_eq!(leaders.silent(&assigned()), [silent]);
        assert!(!leaders.may_answer(Topic::Source.partition(1)));
        assert!(leaders.may_answer(Topic::Source.partition(0)));
        assert!(!leaders.may_answer(Topic::Source.partition(6)));

        leaders.note(Some(BrokerId(2)), true, 9 * SECOND);
        assert_eq!(leaders.silent(&assigned()), []);
        assert_eq!(leaders.round(&assigned(), 9 * SECOND).first.len(), 3);
    }

    #[test]
    fn without_an_answer_of_any_leader_all_are_asked_as_usual() {
        let mut leaders = three_brokers();
        for id in 1..=3 {
            leaders.note(Some(BrokerId(id)), false, SECOND);
        }
        let round = leaders.round(&assigned(), SECOND);
        assert_eq!((round.first.len(), round.last.len()), (3, 0));
        assert_eq!(leaders.silent(&assigned()).len(), 3);
    }

    #[test]
    fn a_leader_of_no_assigned_partition_is_asked_for_one_of_its_own() {
        let leaders = three_brokers();
        let one = of(Topic::Source, &[4]).into_iter().collect();
        let round = leaders.round(&one, SECOND);
        assert_eq!(round.first, [ask(2, &[4]), ask(1, &[0]), ask(3, &[2])]);
        let none = BTreeSet::new();
        assert_eq!(leaders.round(&none, SECOND).first.len(), 3);
    }

    #[test]
    fn partitions_of_leaders_that_are_not_identified_are_asked_together() {
        let mut leaders = Leaders::default();
        let together = Ask {
            leader: None,
            partitions: assigned().into_iter().collect(),
        };
        for answered in [false, true] {
            leaders.note(None, answered, SECOND);
            let round = leaders.round(&assigned(), SECOND);
            assert_eq!(round.first, std::slice::from_ref(&together));
            assert_eq!(leaders.silent(&assigned()), []);
        }
    }

    #[test]
    fn records_are_moved_to_partitions_whose_leaders_answer_as_long_as_there_are_some() {
        let mut leaders = three_brokers();
        leaders.set(Topic::DeadLetter, vec![(0, Some(broker(1)))]);
        let delay = Topic::Delay("1m".parse().expect("valid"));
        let choice = |leaders: &Leaders, topic| leaders.choice(topic, &BTreeSet::new());
        let all_but_leaderless = Choice::Some(vec![0, 1, 2, 3, 4, 5]);
        assert_eq!(choice(&leaders, Topic::Source), all_but_leaderless);
        assert_eq!(choice(&leaders, Topic::DeadLetter), Choice::All);
        leaders.note(Some(BrokerId(1)), false, SECOND);
        let others = Choice::Some(vec![1, 2, 4, 5]);
        assert_eq!(choice(&leaders, Topic::Source), others);
        assert_eq!(choice(&leaders, Topic::DeadLetter), Choice::None);
        assert_eq!(choice(&leaders, delay), Choice::All);
        let unclosed = of(Topic::Source, &[1, 5]).into_iter().collect();
        let rest = Choice::Some(vec![2, 4]);
        assert_eq!(leaders.choice(Topic::Source, &unclosed), rest);
        let untold = Leaders::default();
        assert_eq!(untold.choice(Topic::Source, &unclosed), Choice::None);
        for id in [2, 3] {
            leaders.note(Some(BrokerId(id)), false, SECOND);
        }
        assert_eq!(choice(&leaders, Topic::DeadLetter), Choice::All);
    }

    #[test]
    fn a_broker_that_leads_nothing_any_more_is_forgotten() {
        let mut leaders = three_brokers();
        leaders.note(Some(BrokerId(2)), false, SECOND);
        leaders.set(Topic::Source, vec![(0, Some(broker(1)))]);
        assert_eq!(leaders.silent(&assigned()), []);
        assert_eq!(leaders.addresses.len(), 1);
    }

    #[test]
    fn the_brokers_that_answer_are_asked_in_turn() {
        let mut leaders = three_brokers();
        leaders.note(Some(BrokerId(2)), false, SECOND);
        assert_eq!(leaders.next_answering(None), Some(BrokerId(1)));
        assert_eq!(leaders.next_answering(Some(BrokerId(1))), Some(BrokerId(3)));
        assert_eq!(leaders.next_answering(Some(BrokerId(3))), None);
    }
}
