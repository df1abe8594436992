//! Health and readiness of the service: what it waits for, and when the brokers last
//! answered. Changes nothing else. Whether the runner's loop still turns is checked
//! in `admin`. Runs on the runner's thread.

use crate::model::broker::WaitCause;
use crate::model::message::KafkaEvent;
use crate::model::overview::{PartitionOverview, PartitionStatus, ServiceState};
use crate::model::position::{Partition, TopicNames};
use crate::model::time::UnixMillis;
use std::time::Duration;

/// How long the brokers may stay silent while the service is ready. They are
/// asked every second, with a second to answer.
const SILENT_MAX: Duration = Duration::from_secs(5);

/// The state of the service.
#[derive(Default)]
pub struct Readiness {
    pub state: ServiceState,
    /// What the service waits for, such as a broker or a topic.
    waits_for: Option<(String, WaitCause)>,
    answered_at: UnixMillis,
    /// The fault at the last call of [`Readiness::changed`].
    shown: Option<String>,
}

impl Readiness {
    /// Handles an event of the current session.
    pub fn handle(&mut self, now: UnixMillis, event: &KafkaEvent) {
        match event {
            KafkaEvent::Assigned { .. } | KafkaEvent::LogBounds(_) | KafkaEvent::Subscribed => {
                self.waits_for = None;
                self.answered_at = now;
            }
            KafkaEvent::Waiting { why, cause } => self.waits_for = Some((why.clone(), *cause)),
            _ => {}
        }
        if matches!(event, KafkaEvent::Assigned { .. }) && self.state != ServiceState::Draining {
            self.state = ServiceState::Running;
        }
    }

    /// Notes that the service waits for something else than the session reports.
    pub fn wait(&mut self, why: String) {
        self.waits_for = Some((why, WaitCause::Other));
    }

    /// Notes that the Kafka session was dropped.
    pub fn session_dropped(&mut self) {
        if self.state == ServiceState::Running {
            self.state = ServiceState::Readopting;
        }
    }

    /// Returns why the service does not deliver now, if it does not.
    pub fn fault(&self, now: UnixMillis, assigned: usize) -> Option<String> {
        let waits_for = self.waits_for.as_ref().map(|(why, _)| why.as_str());
        if let Some(why) = waits_for.or(self.state.fault()) {
            return Some(why.to_owned());
        }
        let silent = self.silent(now, assigned)?.as_secs();
        Some(format!("the brokers have not answered for {silent} s"))
    }

    /// Returns the kind of the fault, if the service waits for Kafka.
    pub fn cause(&self, now: UnixMillis, assigned: usize) -> Option<WaitCause> {
        let reported = self.waits_for.as_ref().map(|(_, cause)| *cause);
        let silent = || self.silent(now, assigned).map(|_| WaitCause::Connect);
        reported.or_else(silent)
    }

    /// Returns for how long the brokers have been silent, if that is too long.
    fn silent(&self, now: UnixMillis, assigned: usize) -> Option<Duration> {
        let silent = now.since(self.answered_at);
        (assigned > 0 && silent > SILENT_MAX).then_some(silent)
    }

    /// Returns whether the fault changed since the last call.
    pub fn changed(&mut self, now: UnixMillis, assigned: usize) -> bool {
        let fault = self.fault(now, assigned);
        std::mem::replace(&mut self.shown, fault) != self.shown
    }
}

/// Returns why partitions make no progress, if some do not. Names the first stopped
/// one, or else the first stalled one.
pub fn health_fault(topics: &TopicNames, partitions: &[PartitionOverview]) -> Option<String> {
    let place = |partition: &Partition| {
        let topic = topics.name(partition.topic);
        format!("{topic}/{}", partition.number)
    };
    let mut stopped = partitions.iter().filter_map(|shown| match shown.state {
        PartitionStatus::Stopped(why) => Some((shown.partition, why)),
        _ => None,
    });
    if let Some((partition, why)) = stopped.next() {
        let (count, place) = (1 + stopped.count(), place(&partition));
        return Some(format!("partitions stopped: {count}; {place}: {why}"));
    }
    let mut stalled = partitions.iter().filter_map(|shown| match shown.state {
        PartitionStatus::Stalled(why, span) => Some((shown.partition, why, span)),
        _ => None,
    });
    let (partition, why, span) = stalled.next()?;
    let (count, place, seconds) = (1 + stalled.count(), place(&partition), span.as_secs());
    Some(format!(
        "partitions without progress: {count}; {place}: {why}, for {seconds} s while the brokers \
         answered"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Generation, NextOffset, Topic};

    const NOW: UnixMillis = UnixMillis(0);
    const LATER: UnixMillis = UnixMillis(6_000);

    fn assigned() -> KafkaEvent {
        KafkaEvent::Assigned {
            generation: Generation(1),
            partitions: Vec::new(),
        }
    }

    fn running() -> Readiness {
        let mut readiness = Readiness::default();
        readiness.handle(NOW, &assigned());
        readiness
    }

    #[track_caller]
    fn check(readiness: &Readiness, fault: Option<&str>) {
        assert_eq!(readiness.fault(NOW, 0).as_deref(), fault);
    }

    #[test]
    fn a_service_is_ready_once_assigned_and_while_it_waits_for_nothing() {
        let mut readiness = Readiness::default();
        let starting = Some("starting: not in the consumer group yet");
        check(&readiness, starting);
        let away = "no broker of 127.0.0.1:9092 answers";
        let (why, cause) = (away.to_owned(), WaitCause::Tls);
        let waiting = KafkaEvent::Waiting { why, cause };
        assert_eq!(readiness.cause(NOW, 0), None, "it waits for nothing");
        readiness.handle(NOW, &waiting);
        check(&readiness, Some(away));
        assert_eq!(readiness.cause(NOW, 0), Some(WaitCause::Tls));
        readiness.handle(NOW, &KafkaEvent::Subscribed);
        check(&readiness, starting);
        readiness.handle(NOW, &assigned());
        check(&readiness, None);
        readiness.handle(NOW, &waiting);
        check(&readiness, Some(away));
        readiness.handle(NOW, &KafkaEvent::LogBounds(Vec::new()));
        check(&readiness, None);
    }

    #[test]
    fn silent_brokers_are_a_readiness_fault_while_partitions_are_assigned() {
        let mut readiness = running();
        assert_eq!(readiness.fault(LATER, 0), None);
        assert_eq!(readiness.fault(UnixMillis(5_000), 1), None);
        let silent = Some("the brokers have not answered for 6 s".to_owned());
        assert_eq!(readiness.fault(LATER, 1), silent);
        assert_eq!(readiness.cause(LATER, 1), Some(WaitCause::Connect));
        assert!(readiness.changed(LATER, 1));
        assert!(!readiness.changed(LATER, 1), "a change is returned once");
        readiness.handle(LATER, &KafkaEvent::LogBounds(Vec::new()));
        assert_eq!(readiness.fault(LATER, 1), None);
    }

    #[test]
    fn a_dropped_session_is_a_readiness_fault_until_the_next_assignment() {
        let mut readiness = running();
        readiness.session_dropped();
        let again = "restarting the Kafka session: not in the consumer group yet";
        check(&readiness, Some(again));
        readiness.handle(NOW, &assigned());
        check(&readiness, None);
    }

    #[test]
    fn an_assignment_or_a_dropped_session_does_not_end_a_drain() {
        let mut readiness = running();
        readiness.state = ServiceState::Draining;
        readiness.handle(NOW, &assigned());
        readiness.session_dropped();
        check(&readiness, Some("draining"));
    }

    #[test]
    fn a_partition_without_progress_is_named_after_a_stopped_one() {
        let shown = |topic: Topic, number, state| PartitionOverview {
            partition: topic.partition(number),
            state,
            base: NextOffset(0),
            next: NextOffset(0),
            log_end: NextOffset(0),
            lag: 0,
            oldest_unfinished_age: Duration::ZERO,
        };
        let delayed = Topic::Delay("10s".parse().expect("valid"));
        let owed = "a write of its offsets is not answered";
        let stalled = PartitionStatus::Stalled(owed, Duration::from_secs(31));
        let stopped = PartitionStatus::Stopped("beyond the log");
        let mut all = vec![
            shown(Topic::Source, 1, PartitionStatus::Running),
            shown(delayed, 7, stalled),
        ];
        let topics = TopicNames::new("call-ended");
        assert_eq!(health_fault(&topics, &all[..1]), None);
        let red = "partitions without progress: 1; call-ended.delay.10s/7: a write of its offsets \
                   is not answered, for 31 s while the brokers answered";
        let fault = health_fault(&topics, &all);
        assert_eq!(fault.as_deref(), Some(red));
        let red = "partitions stopped: 1; call-ended/3: beyond the log";
        all.push(shown(Topic::Source, 3, stopped));
        let fault = health_fault(&topics, &all);
        assert_eq!(fault.as_deref(), Some(red));
    }
}
