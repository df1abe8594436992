//! Moves and destinations that refuse them.

use super::super::*;
use super::{Harness, PARTITION, commits, moves};
use crate::model::attempt::{AttemptResult, ErrorClass, Outcome};
use crate::model::destination::RefusalReason;
use crate::model::message::{Appended, ConsumerRequest, MovePurpose, MoveRequest, Revocation};
use crate::model::position::{NextOffset, Offset, Topic};
use crate::model::record::Record;
use crate::model::tenant::{Secret, Tenant, TenantId};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) const SESSION: SessionId = SessionId(1);
const TOOK: Duration = Duration::from_millis(10);

pub(super) fn at(offset: i64) -> Position {
    PARTITION.at(Offset(offset))
}

fn delay() -> Topic {
    Topic::Delay("10s".parse().expect("valid delay"))
}

/// Returns the destinations of each transaction, each once.
fn destinations(asked: &[MoveRequest]) -> Vec<Vec<Topic>> {
    let of = |request: &MoveRequest| {
        let topics: BTreeSet<Topic> = request.records.iter().map(|record| record.to).collect();
        topics.into_iter().collect()
    };
    asked.iter().map(of).collect()
}

impl Harness {
    /// A partition is assigned and its first commit is answered. There is one tenant.
    pub(super) fn running() -> Self {
        let mut harness = Self::new();
        let tenant = Tenant {
            id: TenantId::new("t").expect("valid"),
            url: Secret(String::new()),
            secrets: Vec::new(),
            headers: Vec::new(),
            max_in_flight: 64,
            timeout: None,
            enabled: true,
        };
        let tenants = Tenants::from_iter([tenant]);
        harness.handle(Event::TenantsReplaced(Arc::new(tenants)));
        harness.turn(Duration::ZERO);
        harness.assign(SESSION);
        harness.settle(Duration::ZERO);
        harness
    }

    fn state(&self) -> &PartitionState {
        let mut all = self.engine.partitions.all();
        all.find(|state| state.id == PARTITION)
            .expect("it is assigned")
    }

    /// Hands over records as [`Harness::hand_over`], and starts their attempts.
    pub(super) fn read(&mut self, records: &[(i64, usize)]) {
        self.hand_over(records);
        self.settle(Duration::from_millis(1));
    }

    /// Hands over one record for the tenant at each of these offsets, with this
    /// many more bytes.
    pub(super) fn hand_over(&mut self, records: &[(i64, usize)]) {
        let record = |(offset, filler): &(i64, usize)| {
            let filler = "x".repeat(*filler);
            let value = format!(r#"{{"id":"r{offset}","tenantId":"t","x":"{filler}"}}"#);
            let record = Record {
                position: at(*offset),
                timestamp: self.now,
                key: None,
                value: Some(Bytes::from(value)),
                headers: Vec::new(),
            };
            (Generation(SESSION.0), record)
        };
        let records = records.iter().map(record).collect();
        self.kafka(SESSION, KafkaEvent::Records(records));
    }

    /// The attempt of this record fails with this class after this time.
    fn fail_attempt(&mut self, offset: i64, class: ErrorClass, duration: Duration) {
        self.handle(Event::AttemptFinished {
            position: at(offset),
            ended: AttemptResult {
                outcome: Outcome::Failed {
                    class,
                    status: None,
                    retry_after: None,
                    detail: String::new(),
                },
                started_at: self.now,
                duration,
            },
        });
    }

    /// Ends the attempt of this record.
    pub(super) fn end_attempt(&mut self, offset: i64, status: u16) {
        let outcome = match ErrorClass::of_status(status) {
            None => Outcome::Delivered { status },
            Some(class) => Outcome::Failed {
                class,
                status: Some(status),
                retry_after: None,
                detail: String::new(),
            },
        };
        self.handle(Event::AttemptFinished {
            position: at(offset),
            ended: AttemptResult {
                outcome,
                started_at: self.now,
                duration: Duration::from_millis(1),
            },
        });
    }

    fn moved(&mut self, request: &MoveRequest) {
        self.moved_at(request, None);
    }

    fn moved_at(&mut self, request: &MoveRequest, appended: Option<Appended>) {
        let moved = KafkaEvent::Moved {
            write: request.write,
            took: TOOK,
            appended,
        };
        self.kafka(SESSION, moved);
    }

    fn refused(&mut self, request: &MoveRequest, destinations: Refusals) {
        let refused = KafkaEvent::MoveRefused {
            write: request.write,
            took: TOOK,
            why: String::new(),
            destinations,
        };
        self.kafka(SESSION, refused);
    }

    /// This topic refuses the transaction.
    fn refuse(&mut self, request: &MoveRequest, topic: Topic) {
        let refused = [(topic, RefusalReason::NotAuthorized)].into();
        let refusals = Refusals {
            refused,
            ..Refusals::default()
        };
        self.refused(request, refusals);
    }

    /// Takes turns and answers each commit at once, until a turn has none. Returns
    /// all actions.
    pub(super) fn settle(&mut self, after: Duration) -> Vec<Action> {
        let mut all = self.turn(after);
        let mut seen = 0;
        while let Some(action) = all.get(seen) {
            seen += 1;
            if let Action::Kafka(KafkaRequest::Commit(commit)) = action {
                let (write, took) = (commit.write, Duration::from_millis(1));
                self.kafka(SESSION, KafkaEvent::Committed { write, took });
                all.extend(self.turn(Duration::from_millis(1)));
            }
        }
        all
    }
}

#[test]
fn a_refused_destination_holds_back_only_its_records_until_a_probe_is_accepted() {
    let mut harness = Harness::running();
    harness.read(&[(0, 1), (1, 5_000), (2, 5_000)]);
    harness.end_attempt(0, 503);
    let asked = moves(&harness.settle(Duration::from_millis(30)));
    assert_eq!(asked[0].records.len(), 3);
    harness.refuse(&asked[0], Topic::DeadLetter);
    let actions = harness.settle(Duration::ZERO);
    let told = Fact::DestinationRefused {
        topic: Topic::DeadLetter,
        reason: RefusalReason::NotAuthorized,
    };
    assert!(actions.contains(&Action::Report(told)));
    let asked = moves(&actions);
    assert_eq!(destinations(&asked), [vec![delay()]], "at once");
    harness.moved(&asked[0]);
    assert!(moves(&harness.settle(Duration::from_millis(900))).is_empty());
    let overview = harness.engine.overview(harness.now);
    assert_eq!(overview.refusing[0].waiting, 2);
    assert_eq!(overview.health, None, "a restart would not help");
    let mut probed = Vec::new();
    for backoff in [1_u64, 2, 4] {
        let asked = moves(&harness.settle(Duration::from_secs(backoff)));
        assert_eq!(destinations(&asked), [vec![Topic::DeadLetter]]);
        assert_eq!(asked[0].purpose, MovePurpose::Probe);
        probed.push(asked[0].records[0].from.offset.0);
        harness.refuse(&asked[0], Topic::DeadLetter);
    }
    assert_eq!(probed, [1, 2, 1], "not always the same record");
    let asked = moves(&harness.settle(Duration::from_secs(8)));
    harness.moved(&asked[0]);
    let actions = harness.settle(Duration::from_millis(20));
    let topic = Topic::DeadLetter;
    let told = Action::Report(Fact::DestinationAccepted { topic });
    assert!(actions.contains(&told));
    let asked = moves(&actions);
    assert_eq!(destinations(&asked), [vec![Topic::DeadLetter]]);
    assert_eq!(asked[0].purpose, MovePurpose::Move);
    harness.moved(&asked[0]);
    harness.settle(Duration::from_millis(100));
    let state = harness.state();
    assert_eq!(state.ledger.base(), NextOffset(3));
}

#[test]
fn the_process_that_moves_a_record_measures_its_own_clock() {
    let mut harness = Harness::running();
    harness.read(&[(0, 1)]);
    harness.end_attempt(0, 503);
    let asked = moves(&harness.settle(Duration::from_millis(30)));
    let appended = Appended {
        at: UnixMillis(harness.now.0 + 100_000),
        ago: Duration::from_millis(5),
    };
    harness.moved_at(&asked[0], Some(appended));
    let actions = harness.settle(Duration::ZERO);
    let told = Action::Report(Fact::ClockSkew { ms: -100_005 });
    assert!(actions.contains(&told), "{actions:?}");
}

#[test]
fn a_topic_whose_settings_lose_records_gets_none_and_no_probe_until_they_are_right() {
    let mut harness = Harness::running();
    harness.read(&[(0, 1), (1, 5_000)]);
    let losing = BTreeSet::from([delay()]);
    harness.handle(Event::TopicSettings { losing });
    harness.end_attempt(0, 503);
    let actions = harness.settle(Duration::from_secs(1));
    let (topic, reason) = (delay(), RefusalReason::Settings);
    let told = Action::Report(Fact::DestinationRefused { topic, reason });
    assert!(actions.contains(&told));
    let asked = moves(&actions);
    assert_eq!(
        destinations(&asked),
        [vec![Topic::DeadLetter]],
        "all others"
    );
    harness.moved(&asked[0]);
    for _ in 0..10 {
        assert!(moves(&harness.settle(Duration::from_secs(60))).is_empty());
    }
    let overview = harness.engine.overview(harness.now);
    assert_eq!(overview.refusing[0].waiting, 1);
    let losing = BTreeSet::new();
    harness.handle(Event::TopicSettings { losing });
    let actions = harness.settle(Duration::from_millis(20));
    let told = Action::Report(Fact::DestinationAccepted { topic });
    assert!(actions.contains(&told));
    assert_eq!(destinations(&moves(&actions)), [vec![delay()]]);
}

#[test]
fn suspected_destinations_are_probed_at_once_one_by_one() {
    let mut harness = Harness::running();
    harness.read(&[(0, 1), (1, 5_000)]);
    harness.end_attempt(0, 503);
    let asked = moves(&harness.settle(Duration::from_millis(30)));
    let suspected = asked[0].records.iter().map(|record| record.to).collect();
    let refusals = Refusals {
        suspected,
        ..Refusals::default()
    };
    harness.refused(&asked[0], refusals);
    let mut probed = Vec::new();
    for _ in 0..2 {
        let asked = moves(&harness.settle(Duration::from_millis(20)));
        assert_eq!(asked[0].purpose, MovePurpose::Probe);
        probed.extend(destinations(&asked).concat());
        harness.moved(&asked[0]);
    }
    assert_eq!(probed, [delay(), Topic::DeadLetter]);
    harness.settle(Duration::from_millis(100));
    let state = harness.state();
    assert_eq!(state.ledger.base(), NextOffset(2));
}

#[test]
fn a_dead_letter_that_no_form_makes_fit_stops_no_partition() {
    let mut harness = Harness::running();
    harness.read(&[(0, 5_000), (1, 1)]);
    let mut told = harness.settle(Duration::from_millis(30));
    for _ in 0..2 {
        let asked = moves(&told);
        let (write, took) = (asked[0].write, TOOK);
        harness.kafka(SESSION, KafkaEvent::MoveTooLarge { write, took });
        told = harness.settle(Duration::from_millis(20));
    }
    let refused = Fact::DestinationRefused {
        topic: Topic::DeadLetter,
        reason: RefusalReason::TooLarge,
    };
    assert!(told.contains(&Action::Report(refused)));
    assert!(harness.state().is_running());
    harness.end_attempt(1, 200);
    harness.settle(Duration::from_millis(100));
    assert_eq!(harness.engine.uncommitted(), 0);
}

#[test]
fn a_revoked_partition_is_committed_at_once_although_its_overdue_moves_were_forgotten() {
    let mut harness = Harness::running();
    harness.read(&[(0, 5_000), (1, 1)]);
    let asked = moves(&harness.settle(Duration::from_millis(30)));
    let (write, why) = (asked[0].write, String::new());
    harness.kafka(SESSION, KafkaEvent::MoveNotStarted { write, why });
    harness.end_attempt(1, 200);
    let (generation, partitions) = (Generation(2), vec![PARTITION]);
    let revoked = KafkaEvent::Revoked {
        generation,
        partitions: partitions.clone(),
        how: Revocation::Requested,
    };
    harness.kafka(SESSION, revoked);
    harness.settle(Duration::from_millis(1));
    let actions = harness.settle(Duration::from_millis(1));
    assert_eq!(commits(&actions), 1, "{actions:?}");
    let finish = ConsumerRequest::FinishRevoke {
        generation,
        partitions,
    };
    assert!(actions.contains(&Action::Kafka(KafkaRequest::Consumer(finish))));
}

#[test]
fn a_failure_of_the_egress_proxy_spends_an_attempt_and_is_not_held_against_the_tenant() {
    for (class, held, starts) in [
        (ErrorClass::Proxy, false, 8),
        (ErrorClass::Timeout, true, 4),
    ] {
        let mut harness = Harness::running();
        let records = |offsets: std::ops::Range<i64>| offsets.map(|at| (at, 1)).collect::<Vec<_>>();
        harness.read(&records(0..8));
        for offset in 0..8 {
            harness.fail_attempt(offset, class, Duration::from_secs(5));
        }
        let asked = moves(&harness.settle(Duration::from_millis(30)));
        assert_eq!(destinations(&asked), [vec![delay()]], "{class:?}");
        assert_eq!(asked[0].records.len(), 8);
        harness.moved(&asked[0]);
        harness.settle(Duration::from_millis(30));
        harness.read(&records(8..20));
        let overview = harness.engine.overview(harness.now);
        assert_eq!(overview.attempted.failed, usize::from(held), "{class:?}");
        assert_eq!(!overview.failing.is_empty(), held, "{class:?}");
        assert_eq!(overview.in_flight, starts, "{class:?}");
    }
}

/// A refused dead-letter topic holds 40 MiB. That must not stop the small records of a
/// tenant that fails, nor the ones behind them.
#[test]
fn held_records_of_a_refused_destination_stop_no_small_record() {
    let mut harness = Harness::running();
    let large: Vec<(i64, usize)> = (0..40).map(|offset| (offset, 1 << 20)).collect();
    harness.hand_over(&large);
    let asked = moves(&harness.settle(Duration::from_millis(30)));
    harness.refuse(&asked[0], Topic::DeadLetter);
    harness.settle(Duration::ZERO);
    let bytes = harness.engine.core.moving_bytes;
    assert!(!partition::may_be_moved(bytes, 1 << 20));
    let small: Vec<(i64, usize)> = (40..440).map(|offset| (offset, 1)).collect();
    harness.hand_over(&small);
    let mut moved = BTreeSet::new();
    for _ in 0..600 {
        for action in harness.settle(Duration::from_millis(100)) {
            let request = match action {
                Action::StartAttempt(attempt) => {
                    let (offset, took) = (attempt.position.offset.0, Duration::from_secs(5));
                    harness.fail_attempt(offset, ErrorClass::Timeout, took);
                    continue;
                }
                Action::Kafka(KafkaRequest::Move(request)) => request,
                _ => continue,
            };
            if request.purpose == MovePurpose::Probe {
                harness.refuse(&request, Topic::DeadLetter);
                continue;
            }
            moved.extend(request.records.iter().map(|record| record.from.offset.0));
            harness.moved(&request);
        }
    }
    assert_eq!(moved, (40..440).collect(), "the others are moved");
}
