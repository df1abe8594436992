//! Which faults happen to whom, from the seed.

use super::arguments::Arguments;
use crate::support::relay::{Fate, Request};

#[path = "../sim/chance.rs"]
#[allow(dead_code, reason = "the simulator uses the rest")]
mod chance;

use chance::Chance;

/// What happens to a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blow {
    /// kill -9, and started again at once.
    Kill,
    /// kill -9 so soon after its start, and started again at once.
    KillStarting {
        /// How soon.
        after_ms: u64,
    },
    /// kill -9 when it sends this request of a transaction.
    KillInTransaction {
        /// Which.
        request: Request,
        /// Whether the request still arrives.
        fate: Fate,
    },
    /// kill -9, and not started again before others have its partitions.
    KillAbsent {
        /// How long it is away.
        for_ms: u64,
    },
    /// SIGSTOP for longer than the session timeout, then SIGCONT.
    Stop {
        /// How long.
        for_ms: u64,
    },
    /// SIGTERM, and started again.
    Drain,
    /// No byte between it and Kafka.
    CutKafka {
        /// How long.
        for_ms: u64,
    },
    /// No byte between it and the receivers.
    CutReceivers {
        /// How long.
        for_ms: u64,
    },
}

/// A blow, and how long the replica works before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// From its first POST.
    pub work_ms: u64,
    /// Then this.
    pub blow: Blow,
}

/// kill -9 of a broker, which is started again on its data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokerDown {
    /// Calm before it.
    pub after_ms: u64,
    /// Which broker.
    pub broker: usize,
    /// How long it is away.
    pub for_ms: u64,
}

/// All of a run.
#[derive(PartialEq, Eq, Debug)]
pub struct Plan {
    /// For each replica, in order.
    pub replicas: Vec<Vec<Planned>>,
    /// For the brokers, one at a time.
    pub brokers: Vec<BrokerDown>,
}

impl Plan {
    /// Every fault of this run.
    pub fn new(arguments: &Arguments) -> Self {
        let mut chance = Chance::new(arguments.seed);
        let kills = arguments.kills;
        let mut blows = Vec::new();
        for number in 0..kills {
            blows.push(kill(number, &mut chance));
        }
        let share = |one_in: u64| (kills / one_in).max(1);
        for _ in 0..share(25) {
            // The session timeout is 10 s.
            let for_ms = chance.between(11_000, 14_000);
            blows.push(Blow::Stop { for_ms });
        }
        for _ in 0..share(12) {
            blows.push(Blow::Drain);
        }
        for _ in 0..share(25) {
            let for_ms = chance.between(1_000, 13_000);
            blows.push(Blow::CutKafka { for_ms });
        }
        for _ in 0..share(25) {
            let for_ms = chance.between(500, 7_000);
            blows.push(Blow::CutReceivers { for_ms });
        }
        shuffle(&mut blows, &mut chance);
        let mut replicas = vec![Vec::new(); arguments.replicas as usize];
        for (number, blow) in blows.into_iter().enumerate() {
            let work_ms = chance.between(100, 2_000);
            replicas[number % arguments.replicas as usize].push(Planned { work_ms, blow });
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
        Self {
            replicas,
            brokers: brokers.collect(),
        }
    }
}

/// Of 40 kills one is of a replica that stays away, 8 hit a transaction, 4 a start.
fn kill(number: u64, chance: &mut Chance) -> Blow {
    let in_transaction = |request, fate| Blow::KillInTransaction { request, fate };
    match number % 40 {
        0 | 10 => in_transaction(Request::EndTransaction, Fate::Withheld),
        2 | 20 | 30 => in_transaction(Request::EndTransaction, Fate::Passed),
        4 | 14 | 24 => in_transaction(Request::TransactionOffsets, Fate::Passed),
        6 => Blow::KillAbsent {
            for_ms: chance.between(11_000, 14_000),
        },
        5 | 15 | 25 | 35 => Blow::KillStarting {
            after_ms: chance.between(30, 800),
        },
        _ => Blow::Kill,
    }
}

fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for at in (1..items.len()).rev() {
        items.swap(at, chance.index(at + 1));
    }
}
