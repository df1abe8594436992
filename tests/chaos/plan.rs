//! The plan of a run: the faults of each replica, of each broker and of what
//! surrounds them, derived from the seed.

use super::arguments::{Arguments, Faults};
use super::records;
use crate::support::relay::{Fate, Request};

#[path = "../sim/chance.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod chance;

use chance::Chance;

/// A fault of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlannedFault {
    /// kill -9 and an immediate restart.
    Kill,
    /// kill -9 soon after a start, and an immediate restart.
    KillStarting { after_ms: u64 },
    /// kill -9 when it sends this request of a transaction.
    KillInTransaction {
        request: Request,
        /// Whether the request still arrives.
        fate: Fate,
    },
    /// kill -9 and a restart after other replicas have its partitions.
    KillAbsent { for_ms: u64 },
    /// SIGSTOP for longer than the session timeout, then SIGCONT.
    Stop { for_ms: u64 },
    /// SIGTERM and a restart.
    Drain,
    /// No byte passes between it and Kafka.
    CutKafka { for_ms: u64 },
    /// No byte passes between it and the receivers.
    CutReceivers { for_ms: u64 },
}

/// A fault, and how long the replica works before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Counted from its first POST.
    pub work_ms: u64,
    pub fault: PlannedFault,
}

/// kill -9 of a broker, and a restart on its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerDown {
    /// The time without a broker fault before it.
    pub after_ms: u64,
    /// The index of the broker.
    pub broker: usize,
    pub for_ms: u64,
}

/// A fault of a tenant, or of one broker that stays up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Surrounding {
    /// This tenant accepts requests and does not answer.
    HangingTenant { tenant: u64 },
    /// A broker answers only now and then.
    SlowBroker { broker: usize },
    /// A replica reaches the other brokers only.
    UnreachableBroker { replica: usize, broker: usize },
}

/// Such a fault, its time, and the time without one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedSurrounding {
    pub after_ms: u64,
    pub fault: Surrounding,
    pub for_ms: u64,
}

/// The plan of a run.
#[derive(PartialEq, Eq, Debug)]
pub struct Plan {
    /// The faults of each replica, in order.
    pub replicas: Vec<Vec<Planned>>,
    /// The faults of the brokers, one at a time.
    pub brokers: Vec<BrokerDown>,
    /// The other faults, one at a time.
    pub surroundings: Vec<PlannedSurrounding>,
}

impl Plan {
    /// Returns every fault of this run.
    pub fn new(arguments: &Arguments) -> Self {
        let mut chance = Chance::new(arguments.seed);
        let kills = arguments.kills;
        let mut faults = Vec::new();
        for number in 0..kills {
            faults.push(kill(number, &mut chance));
        }
        // Without kills only the surroundings fail.
        let share = |one_in: u64| (kills / one_in).max(kills.min(1));
        for _ in 0..share(25) {
            // The session timeout is 10 s.
            let for_ms = chance.between(11_000, 14_000);
            faults.push(PlannedFault::Stop { for_ms });
        }
        for _ in 0..share(12) {
            faults.push(PlannedFault::Drain);
        }
        for _ in 0..share(25) {
            let for_ms = chance.between(1_000, 13_000);
            faults.push(PlannedFault::CutKafka { for_ms });
        }
        for _ in 0..share(25) {
            let for_ms = chance.between(500, 7_000);
            faults.push(PlannedFault::CutReceivers { for_ms });
        }
        shuffle(&mut faults, &mut chance);
        let mut replicas = vec![Vec::new(); arguments.replicas as usize];
        for (number, fault) in faults.into_iter().enumerate() {
            let work_ms = chance.between(100, 2_000);
            replicas[number % arguments.replicas as usize].push(Planned { work_ms, fault });
        }
        let downs = match arguments.brokers {
            1 => share(50),
            _ => share(12).min(12),
        };
        let brokers = (0..downs).map(|_| BrokerDown {
            after_ms: chance.between(3_000, 12_000),
            broker: chance.index(arguments.brokers as usize),
            for_ms: chance.between(1_000, 8_000),
        });
        let brokers = brokers.collect();
        Self {
            replicas,
            brokers,
            surroundings: surroundings(arguments, &mut chance),
        }
    }
}

fn surroundings(arguments: &Arguments, chance: &mut Chance) -> Vec<PlannedSurrounding> {
    let count = match arguments.faults {
        Faults::Processes => 0,
        Faults::All => (arguments.kills / 8).max(6),
    };
    let mut plan = Vec::new();
    for number in 0..count {
        let broker = chance.index(arguments.brokers as usize);
        let (fault, for_ms) = match number % 3 {
            0 => {
                let tenant = chance.index(records::TENANTS as usize) as u64;
                (Surrounding::HangingTenant { tenant }, (6_000, 14_000))
            }
            1 if arguments.brokers > 1 => {
                let replica = chance.index(arguments.replicas as usize);
                let fault = Surrounding::UnreachableBroker { replica, broker };
                (fault, (3_000, 14_000))
            }
            _ => (Surrounding::SlowBroker { broker }, (4_000, 8_000)),
        };
        plan.push(PlannedSurrounding {
            after_ms: chance.between(1_000, 5_000),
            fault,
            for_ms: chance.between(for_ms.0, for_ms.1),
        });
    }
    plan
}

/// Returns a kill. Of 40 kills one is of a replica that stays away, 8 hit a
/// transaction, 4 a start.
fn kill(number: u64, chance: &mut Chance) -> PlannedFault {
    let in_transaction = |request, fate| PlannedFault::KillInTransaction { request, fate };
    match number % 40 {
        0 | 10 => in_transaction(Request::EndTransaction, Fate::Withheld),
        2 | 20 | 30 => in_transaction(Request::EndTransaction, Fate::Passed),
        4 | 14 | 24 => in_transaction(Request::TransactionOffsets, Fate::Passed),
        6 => PlannedFault::KillAbsent {
            for_ms: chance.between(11_000, 14_000),
        },
        5 | 15 | 25 | 35 => PlannedFault::KillStarting {
            after_ms: chance.between(30, 800),
        },
        _ => PlannedFault::Kill,
    }
}

fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for at in (1..items.len()).rev() {
        items.swap(at, chance.index(at + 1));
    }
}
