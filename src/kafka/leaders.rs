//! Which broker leads which partition, and which leaders are silent. A leader is
//! silent after a request that it did not answer in time. An error code is an
//! answer. Also how many replicas of a partition are in sync, and whether these are
//! enough. Pure state without a clock: the reader thread and the transaction thread
//! write it, and librdkafka's threads note lost connections.
//!
//! | leader | asked for log bounds |
//! |---|---|
//! | answers, or is not identified yet | each second, before all others |
//! | silent | every [`SILENT_EVERY`], after all others have their answers |
//! | all are silent | each second: no other read waits for them |
//! | none | not asked |
//!
//! A transaction with a record for a partition that has too few replicas in sync cannot
//! end. The broker refuses the record, and the marker of the abort, too. The transactional
//! id then waits, and with it all moves. So such a partition gets no record.
//!
//! Kafka takes some seconds to notice that a broker is gone. Until then the dead broker
//! counts as in sync. So a broker is doubted from the moment that a connection to it is
//! lost until it answers. A doubted broker does not count as in sync.

use crate::model::broker::{Broker, BrokerId, DescribedPartition, SilentBroker};
use crate::model::destination::RefusalReason;
use crate::model::position::{Partition, Topic};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The interval between two requests to a silent leader. Such a request may wait for
/// its limit, and the other leaders' next reads wait for it.
const SILENT_EVERY: Duration = Duration::from_secs(5);
/// How long a broker is doubted at most. Kafka then knows whether it is gone: by default,
/// it notices after 9 s, with ZooKeeper after 18 s. A stopped replica is out of sync
/// after 30 s. A broker may be unreachable for this process alone.
const DOUBTED_MAX: Duration = Duration::from_secs(45);

/// The leaders of the partitions, as far as the brokers have told them.
#[derive(Default)]
pub struct Leaders {
    by_partition: BTreeMap<Partition, Told>,
    addresses: BTreeMap<BrokerId, String>,
    /// With the time of the next request.
    silent: BTreeMap<BrokerId, Duration>,
    /// Brokers that may be gone although Kafka does not say so yet, with the time of the
    /// first sign.
    doubted: BTreeMap<BrokerId, Duration>,
}

/// What the brokers tell about a partition.
struct Told {
    /// `None` is a partition without leader.
    leader: Option<BrokerId>,
    in_sync: BTreeSet<BrokerId>,
    /// How many replicas must be in sync. Zero where that is not told.
    least: usize,
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
    None(RefusalReason),
}

/// The requests of one round.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct BoundsRound {
    pub first: Vec<Ask>,
    /// To silent leaders: only after the answers to the first ones are reported.
    pub last: Vec<Ask>,
}

impl Leaders {
    /// Replaces what is told about a topic's partitions. `least` is the topic's
    /// `min.insync.replicas`, where it is told.
    pub fn set(&mut self, topic: Topic, partitions: Vec<DescribedPartition>, least: Option<usize>) {
        let all = std::mem::take(&mut self.by_partition).into_iter();
        let (before, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.partition(|(partition, _)| partition.topic == topic);
        self.by_partition = others;
        for described in partitions {
            let partition = topic.partition(described.number);
            if let Some(before) = before.get(&partition) {
                // A broker that is gone does not come back into sync.
                for id in described.in_sync.difference(&before.in_sync) {
                    self.doubted.remove(id);
                }
            }
            let leader = described.leader;
            let told = Told {
                leader: leader.as_ref().map(|leader| leader.id),
                in_sync: described.in_sync,
                least: least.unwrap_or(0).min(described.replicas),
            };
            self.by_partition.insert(partition, told);
            self.addresses
                .extend(leader.map(|leader| (leader.id, leader.address)));
        }
        let leaders = self.by_partition.values().map(|told| told.leader);
        let leading: BTreeSet<BrokerId> = leaders.flatten().collect();
        self.addresses.retain(|id, _| leading.contains(id));
        self.silent.retain(|id, _| leading.contains(id));
    }

    /// Returns the requests for the log bounds of these partitions. A leader of none
    /// of them is asked for one of its partitions: records may be moved there.
    pub fn round(&self, assigned: &BTreeSet<Partition>, now: Duration) -> BoundsRound {
        let mut asks = self.by_leader(assigned.iter().copied());
        for (partition, Told { leader, .. }) in &self.by_partition {
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
            match self.leader(partition) {
                Some(None) => {}
                Some(leader) => asks.entry(leader).or_default().push(partition),
                None => asks.entry(None).or_default().push(partition),
            }
        }
        let asks = asks.into_iter();
        asks.map(|(leader, partitions)| Ask { leader, partitions })
            .collect()
    }

    /// Returns the leader of a partition, if the partition is told.
    fn leader(&self, partition: Partition) -> Option<Option<BrokerId>> {
        self.by_partition.get(&partition).map(|told| told.leader)
    }

    /// Notes whether a leader has answered a request.
    pub fn note(&mut self, leader: Option<BrokerId>, answered: bool, now: Duration) {
        let Some(leader) = leader else {
            return;
        };
        if answered {
            self.silent.remove(&leader);
            self.doubted.remove(&leader);
        } else {
            self.silent.insert(leader, now + SILENT_EVERY);
            self.doubted.entry(leader).or_insert(now);
        }
    }

    /// Notes that a connection to a broker was lost, or could not be made.
    pub fn doubt(&mut self, broker: BrokerId, now: Duration) {
        let since = self.doubted.entry(broker).or_insert(now);
        if now >= *since + DOUBTED_MAX && !self.silent.contains_key(&broker) {
            *since = now;
        }
    }

    fn is_doubted(&self, broker: BrokerId, now: Duration) -> bool {
        let since = self.doubted.get(&broker);
        since.is_some_and(|since| now < *since + DOUBTED_MAX)
    }

    /// Whether a request for this partition may be answered.
    pub fn may_answer(&self, partition: Partition) -> bool {
        match self.leader(partition) {
            Some(Some(leader)) => !self.silent.contains_key(&leader),
            Some(None) => false,
            None => true,
        }
    }

    /// Returns why no record can be moved to this partition now, if so.
    pub fn fault(&self, partition: Partition, now: Duration) -> Option<RefusalReason> {
        if !self.has_enough_in_sync(partition, now) {
            return Some(RefusalReason::NotEnoughReplicas);
        }
        let good = self.may_answer(partition) || self.none_answers();
        (!good).then_some(RefusalReason::NoAnswer)
    }

    fn has_enough_in_sync(&self, partition: Partition, now: Duration) -> bool {
        let Some(told) = self.by_partition.get(&partition) else {
            return true;
        };
        // A partition without any replica in sync has no leader.
        if told.least < 2 {
            return true;
        }
        let is_good = |id: &BrokerId| !self.is_doubted(*id, now) && !self.silent.contains_key(id);
        // While no leader is good, no broker is gone alone.
        let counts_all = !self.addresses.keys().any(is_good);
        let counted = told.in_sync.iter();
        let counted = counted.filter(|id| counts_all || !self.is_doubted(**id, now));
        counted.count() >= told.least
    }

    /// Whether the loss of one broker leaves a partition of this topic with too few
    /// replicas in sync.
    pub fn is_at_risk(&self, topic: Topic) -> bool {
        let mut told = self.by_partition.iter().filter(|(p, _)| p.topic == topic);
        told.any(|(_, told)| told.least > 1 && told.in_sync.len() <= told.least)
    }

    /// Returns the partitions of a topic to which records can be moved now. `unclosed`
    /// are partitions that must not be used.
    pub fn choice(&self, topic: Topic, unclosed: &BTreeSet<Partition>, now: Duration) -> Choice {
        let all = self.by_partition.keys().filter(|p| p.topic == topic);
        let faults: Vec<(Partition, Option<RefusalReason>)> = all
            .map(|partition| match self.fault(*partition, now) {
                None if unclosed.contains(partition) => (*partition, Some(RefusalReason::NoAnswer)),
                fault => (*partition, fault),
            })
            .collect();
        if faults.is_empty() && unclosed.iter().any(|partition| partition.topic == topic) {
            return Choice::None(RefusalReason::NoAnswer);
        }
        let good = faults.iter().filter(|(_, fault)| fault.is_none());
        let good: Vec<i32> = good.map(|(partition, _)| partition.number).collect();
        let too_few = Some(RefusalReason::NotEnoughReplicas);
        if good.len() == faults.len() {
            Choice::All
        } else if !good.is_empty() {
            Choice::Some(good)
        } else if faults.iter().any(|(_, fault)| *fault == too_few) {
            Choice::None(RefusalReason::NotEnoughReplicas)
        } else {
            Choice::None(RefusalReason::NoAnswer)
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
            let leaders = assigned.iter().map(|p| self.leader(*p));
            leaders.filter(|leader| *leader == Some(Some(*id))).count()
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

    /// A partition with a leader, and with replicas in sync on these brokers, of two.
    fn described(number: i32, leader: Option<i32>, in_sync: &[i32]) -> DescribedPartition {
        DescribedPartition {
            number,
            leader: leader.map(broker),
            in_sync: in_sync.iter().map(|id| BrokerId(*id)).collect(),
            replicas: 2,
        }
    }

    /// Six partitions: 1 and 4 are led by broker 1 and so on. The seventh has no leader.
    fn three_brokers() -> Leaders {
        let mut leaders = Leaders::default();
        let led = (0..6).map(|number| described(number, Some(1 + number % 3), &[]));
        let all = led.chain([described(6, None, &[])]);
        leaders.set(Topic::Source, all.collect(), None);
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
        leaders.set(Topic::DeadLetter, vec![described(0, Some(1), &[])], None);
        let delay = Topic::Delay("1m".parse().expect("valid"));
        let choice = |leaders: &Leaders, topic| leaders.choice(topic, &BTreeSet::new(), SECOND);
        let no_answer = Choice::None(RefusalReason::NoAnswer);
        let all_but_leaderless = Choice::Some(vec![0, 1, 2, 3, 4, 5]);
        assert_eq!(choice(&leaders, Topic::Source), all_but_leaderless);
        assert_eq!(choice(&leaders, Topic::DeadLetter), Choice::All);
        leaders.note(Some(BrokerId(1)), false, SECOND);
        let others = Choice::Some(vec![1, 2, 4, 5]);
        assert_eq!(choice(&leaders, Topic::Source), others);
        assert_eq!(choice(&leaders, Topic::DeadLetter), no_answer);
        assert_eq!(choice(&leaders, delay), Choice::All);
        let unclosed = of(Topic::Source, &[1, 5]).into_iter().collect();
        let rest = Choice::Some(vec![2, 4]);
        assert_eq!(leaders.choice(Topic::Source, &unclosed, SECOND), rest);
        let untold = Leaders::default();
        assert_eq!(untold.choice(Topic::Source, &unclosed, SECOND), no_answer);
        for id in [2, 3] {
            leaders.note(Some(BrokerId(id)), false, SECOND);
        }
        assert_eq!(choice(&leaders, Topic::DeadLetter), Choice::All);
    }

    /// Two partitions with replicas on two of three brokers. Both replicas must be in sync.
    fn two_of_two(in_sync: [&[i32]; 2]) -> Leaders {
        let mut leaders = three_brokers();
        set_two(&mut leaders, in_sync);
        leaders
    }

    fn set_two(leaders: &mut Leaders, in_sync: [&[i32]; 2]) {
        let partition = |number: usize| {
            let ids = in_sync[number];
            described(number as i32, ids.first().copied(), ids)
        };
        let both = [0, 1].map(partition).to_vec();
        leaders.set(Topic::DeadLetter, both, Some(3));
    }

    #[track_caller]
    fn check(leaders: &Leaders, at: Duration, expected: Choice) {
        let choice = leaders.choice(Topic::DeadLetter, &BTreeSet::new(), at);
        assert_eq!(choice, expected);
    }

    const TOO_FEW: Choice = Choice::None(RefusalReason::NotEnoughReplicas);

    #[test]
    fn a_partition_with_too_few_replicas_in_sync_gets_no_record() {
        let leaders = two_of_two([&[1, 2], &[2, 3]]);
        check(&leaders, SECOND, Choice::All);
        assert!(leaders.is_at_risk(Topic::DeadLetter));
        assert!(
            !leaders.is_at_risk(Topic::Source),
            "its minimum is not told"
        );
        let leaders = two_of_two([&[1, 2], &[2]]);
        check(&leaders, SECOND, Choice::Some(vec![0]));
        check(&two_of_two([&[1], &[2]]), SECOND, TOO_FEW);
        let mut one = three_brokers();
        one.set(
            Topic::DeadLetter,
            vec![described(0, Some(1), &[1])],
            Some(1),
        );
        check(&one, SECOND, Choice::All);
        assert!(!one.is_at_risk(Topic::DeadLetter));
    }

    #[test]
    fn a_broker_whose_connection_is_lost_counts_as_gone_until_it_answers() {
        let mut leaders = two_of_two([&[1, 2], &[1, 2]]);
        leaders.doubt(BrokerId(2), SECOND);
        check(&leaders, SECOND, TOO_FEW);
        leaders.note(Some(BrokerId(2)), false, 2 * SECOND);
        check(&leaders, 3 * SECOND, TOO_FEW);
        leaders.doubt(BrokerId(2), 30 * SECOND);
        check(&leaders, SECOND + DOUBTED_MAX, Choice::All);
        leaders.note(Some(BrokerId(2)), true, 50 * SECOND);
        leaders.doubt(BrokerId(2), 60 * SECOND);
        check(&leaders, 60 * SECOND, TOO_FEW);
        leaders.note(Some(BrokerId(2)), true, 60 * SECOND);
        check(&leaders, 60 * SECOND, Choice::All);
        // It leads nothing, so nothing asks it. Kafka says that it is back.
        leaders.doubt(BrokerId(2), 61 * SECOND);
        set_two(&mut leaders, [&[1], &[1]]);
        check(&leaders, 62 * SECOND, TOO_FEW);
        set_two(&mut leaders, [&[1, 2], &[1, 2]]);
        check(&leaders, 62 * SECOND, Choice::All);
    }

    #[test]
    fn while_all_connections_are_lost_no_topic_is_blamed() {
        let mut leaders = two_of_two([&[1, 2], &[2, 3]]);
        for id in 1..=3 {
            leaders.doubt(BrokerId(id), SECOND);
        }
        check(&leaders, SECOND, Choice::All);
        leaders.note(Some(BrokerId(1)), false, SECOND);
        check(&leaders, SECOND, Choice::Some(vec![1]));
    }

    #[test]
    fn a_broker_that_leads_nothing_any_more_is_forgotten() {
        let mut leaders = three_brokers();
        leaders.note(Some(BrokerId(2)), false, SECOND);
        leaders.set(Topic::Source, vec![described(0, Some(1), &[])], None);
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
