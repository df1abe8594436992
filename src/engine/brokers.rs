//! Brokers that do not answer this process, for operators. Decides only when they are
//! told. Only the partitions that such a broker leads wait for it. Runs on the
//! runner's thread.

use super::Core;
use crate::model::broker::{BrokerId, SilentBroker};
use crate::model::fact::Fact;
use crate::model::overview::UnreachableBroker;
use crate::model::time::UnixMillis;
use std::collections::BTreeMap;
use std::time::Duration;

/// Operators are told of a broker that is silent for this long. Before, it may just
/// restart, and its partitions get other leaders.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// The brokers that do not answer.
#[derive(Default)]
pub struct SilentBrokers(BTreeMap<BrokerId, Silent>);

struct Silent {
    last: SilentBroker,
    since: UnixMillis,
    told: bool,
}

impl SilentBrokers {
    /// Replaces the silent brokers and returns what to tell operators.
    fn replace(&mut self, now: UnixMillis, silent: Vec<SilentBroker>) -> Vec<Fact> {
        let mut before = std::mem::take(&mut self.0);
        for last in silent {
            let id = last.broker.id;
            let silent = match before.remove(&id) {
                Some(silent) => Silent { last, ..silent },
                None => Silent {
                    last,
                    since: now,
                    told: false,
                },
            };
            self.0.insert(id, silent);
        }
        let mut facts = Vec::new();
        for ended in before.into_values().filter(|silent| silent.told) {
            let broker = ended.last.broker;
            facts.push(Fact::BrokerAnswers { broker });
        }
        for silent in self.0.values_mut() {
            if !silent.told && now.since(silent.since) >= TOLD_AFTER {
                silent.told = true;
                facts.push(Fact::BrokerUnreachable(silent.last.clone()));
            }
        }
        facts
    }

    /// Returns the brokers that operators were told of, with times of the wall clock.
    pub fn unreachable(&self, now: UnixMillis, wall: UnixMillis) -> Vec<UnreachableBroker> {
        let told = self.0.values().filter(|silent| silent.told);
        let shown = told.map(|silent| UnreachableBroker {
            broker: silent.last.broker.clone(),
            partitions: silent.last.partitions,
            since: wall.minus(now.since(silent.since)),
        });
        shown.collect()
    }
}

impl Core {
    pub(super) fn on_silent_brokers(&mut self, silent: Vec<SilentBroker>) {
        for fact in self.silent_brokers.replace(self.now, silent) {
            self.report(fact);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::broker::Broker;

    fn silent(id: i32, partitions: usize) -> SilentBroker {
        let broker = Broker {
            id: BrokerId(id),
            address: format!("kafka-{id}:9092"),
        };
        SilentBroker { broker, partitions }
    }

    fn at(second: i64) -> UnixMillis {
        UnixMillis(second * 1_000)
    }

    #[test]
    fn a_broker_is_told_once_after_half_a_minute_and_once_when_it_answers() {
        let mut brokers = SilentBrokers::default();
        assert_eq!(brokers.replace(at(0), vec![silent(2, 4)]), []);
        assert_eq!(brokers.replace(at(29), vec![silent(2, 4)]), []);
        assert_eq!(brokers.unreachable(at(29), at(29)), []);
        let told = [Fact::BrokerUnreachable(silent(2, 3))];
        assert_eq!(brokers.replace(at(30), vec![silent(2, 3)]), told);
        let both = vec![silent(2, 3), silent(3, 1)];
        assert_eq!(brokers.replace(at(31), both), []);
        let shown = UnreachableBroker {
            broker: silent(2, 3).broker,
            partitions: 3,
            since: at(100),
        };
        assert_eq!(brokers.unreachable(at(31), at(131)), [shown]);
        let answers = Fact::BrokerAnswers {
            broker: silent(2, 3).broker,
        };
        assert_eq!(brokers.replace(at(32), Vec::new()), [answers]);
        assert_eq!(brokers.unreachable(at(32), at(32)), []);
    }

    #[test]
    fn a_broker_that_answers_in_between_is_not_told() {
        let mut brokers = SilentBrokers::default();
        for second in [0, 29] {
            assert_eq!(brokers.replace(at(second), vec![silent(2, 4)]), []);
            assert_eq!(brokers.replace(at(second + 1), Vec::new()), []);
        }
        assert_eq!(brokers.replace(at(31), vec![silent(2, 4)]), []);
    }
}
