//! Destinations that refuse records for a while, and the check of L10. Records that
//! do not need the destination are delivered as in a run without the fault.

use crate::laws::{Law, Verdict};
use crate::plan::{Behaviour, Fault, MS, Plan, SECOND, delays, partitions};
use crate::planted::Planted;
use crate::replica::Request;
use crate::trace::Trace;
use crate::world::World;
use crate::{Chance, run};
use ringback::model::destination::{RefusalReason, Refusals};
use ringback::model::position::Topic;
use std::collections::{BTreeMap, BTreeSet};

/// How much later the slowest record may be delivered. It may wait for an aborted
/// transaction, and for a probe of its partition. The runs draw other chances, and
/// a tenant's own limit may hold a record for seconds.
const LATER_US: u64 = 5 * SECOND;

/// Records that were published before may wait for the start of the replica.
pub const WARM_UP_US: u64 = 5 * SECOND;

/// A destination that refuses records until this time.
#[derive(Clone, Copy, Debug)]
pub struct Refusing {
    reason: RefusalReason,
    until_us: u64,
}

impl World {
    /// Makes a destination refuse records, at most until the faults end.
    pub fn refuse(&mut self, topic: Topic, reason: RefusalReason, for_us: u64) {
        let until_us = (self.now_us + for_us).min(self.plan.faults_end_us);
        let refusing = Refusing { reason, until_us };
        self.refusing.insert(topic, refusing);
    }

    /// Returns how destinations refuse these records now. The shell cannot always
    /// tell which one it was.
    pub fn refusals(&mut self, request: &Request) -> Refusals {
        let topics: BTreeSet<Topic> = request.records.iter().map(|record| record.to).collect();
        let now_us = self.now_us;
        let refuses = |topic: &Topic| {
            let refusing = self.refusing.get(topic)?;
            (refusing.until_us > now_us).then_some((*topic, refusing.reason))
        };
        let refused: BTreeMap<Topic, RefusalReason> = topics.iter().filter_map(refuses).collect();
        if refused.is_empty() {
            return Refusals::default();
        }
        match topics.len() > 1 && self.chance.permille(300) {
            true => Refusals {
                suspected: topics,
                ..Refusals::default()
            },
            false => Refusals {
                refused,
                ..Refusals::default()
            },
        }
    }
}

/// Returns none to three refusals of destinations, each with its time.
pub fn refusals(chance: &mut Chance, end_us: u64) -> Vec<(u64, Fault)> {
    (0..chance.below(4))
        .map(|_| refusal(chance, end_us))
        .collect()
}

fn refusal(chance: &mut Chance, end_us: u64) -> (u64, Fault) {
    // A transaction never tells of settings.
    let told = RefusalReason::ALL.into_iter();
    let told: Vec<_> = told.filter(|r| *r != RefusalReason::Settings).collect();
    let fault = Fault::Refuse {
        destination: chance.index(4),
        reason: chance.pick(&told),
        for_us: chance.pick(&[300 * MS, 5 * SECOND, 60 * SECOND]),
    };
    (chance.below(end_us), fault)
}

/// Returns a plan without faults: one tenant whose records all become dead
/// letters, and others that answer, some after a retry.
fn dead_letters(chance: &mut Chance) -> Plan {
    let mut plan = Plan::busy(chance);
    plan.settings.attempts = 2;
    plan.settings.delays = delays(&[300]);
    plan.settings.record_bytes_max = 1 << 20;
    plan.delayed_bytes_max = usize::MAX;
    plan.partitions = partitions(chance, &plan.settings);
    let behaviours = [
        Behaviour::Good,
        Behaviour::FailsFirst(1),
        Behaviour::FailsFirst(9),
    ];
    for (tenant, behaviour) in plan.tenants.iter_mut().zip(behaviours) {
        tenant.behaviour = behaviour;
    }
    plan.publish_us = 20 * SECOND;
    plan.faults_end_us = 70 * SECOND;
    plan
}

/// Checks L10: compares the slowest delivery of a run with that of its twin, whose
/// dead-letter topic refuses records for a minute.
fn contains(seed: u64, planted: Option<Planted>) -> Verdict {
    let calm = run(seed, dead_letters, None, &Trace::off())?;
    let refusing = |chance: &mut Chance| {
        let mut plan = dead_letters(chance);
        let fault = Fault::Refuse {
            destination: usize::MAX,
            reason: RefusalReason::NotAuthorized,
            for_us: 60 * SECOND,
        };
        plan.faults = vec![(WARM_UP_US, fault)];
        plan
    };
    let faulty = run(seed, refusing, planted, &Trace::off())?;
    let count = |what| faulty.seen.get(what).copied().unwrap_or(0);
    assert!(
        planted.is_some() || count("destination_refused") > 0,
        "seed {seed}"
    );
    let (with, without) = (faulty.slowest_us, calm.slowest_us);
    Law::L10.check(with <= without + LATER_US, || {
        format!("the slowest delivery took {with} us, and {without} us without the fault")
    })
}

#[test]
fn a_destination_that_refuses_records_delays_no_other_record() {
    for seed in 0..40 {
        let contained = contains(seed, None);
        contained.unwrap_or_else(|breach| panic!("seed {seed}: {breach:?}"));
    }
}

#[test]
fn a_refusal_that_blames_no_destination_is_caught() {
    let breaches = (0..10).filter_map(|seed| contains(seed, Some(Planted::BlameNone)).err());
    let caught = breaches.filter(|breach| breach.law == Law::L10);
    assert!(caught.count() >= 3);
}
