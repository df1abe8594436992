//! librdkafka's log lines and a throttle that keeps the log small in an outage.
//! Never decides which lines matter. Used by all threads of all sessions.

use crate::model::broker::BrokerId;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The minimum interval between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(30);

/// The most kinds that are remembered (L5). librdkafka has some 60 facilities,
/// and an outage shows fewer than ten.
const KINDS_MAX: usize = 256;

/// Lets each kind of line pass at most once in [`INTERVAL`].
pub struct LogThrottle {
    now: fn() -> Duration,
    kinds: Mutex<BTreeMap<String, Passed>>,
}

struct Passed {
    at: Duration,
    held_back: u64,
}

impl LogThrottle {
    /// Returns a throttle that has let nothing pass. `now` is a monotonic clock.
    pub fn new(now: fn() -> Duration) -> Self {
        Self {
            now,
            kinds: Mutex::default(),
        }
    }

    /// Returns how many lines of this kind were held back before, or `None` when
    /// this line must be held back too.
    pub fn pass(&self, kind: &str) -> Option<u64> {
        let now = (self.now)();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passed) = kinds.get_mut(kind) {
            if now.saturating_sub(passed.at) < INTERVAL {
                passed.held_back += 1;
                return None;
            }
            let held_back = std::mem::take(&mut passed.held_back);
            passed.at = now;
            return Some(held_back);
        }
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        let passed = Passed {
            at: now,
            held_back: 0,
        };
        kinds.insert(kind.to_owned(), passed);
        Some(0)
    }
}

/// Passes one of librdkafka's log lines on, within the throttle. The text never
/// holds a record: librdkafka does not log records.
pub fn pass_on(throttle: &LogThrottle, level: RDKafkaLogLevel, facility: &str, text: &str) {
    // The producer warns about each consumer property that it ignores.
    if facility == "CONFWARN" {
        return;
    }
    let Some(held_back) = throttle.pass(&format!("{level:?} {facility}")) else {
        return;
    };
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => {
            tracing::warn!(facility, text, held_back, "librdkafka");
        }
        _ => tracing::info!(facility, text, held_back, "librdkafka"),
    }
}

/// Returns the broker to which a connection was lost or could not be made, if this line
/// tells it: `[thrd:kafka-0:9092/1]: kafka-0:9092/1: Disconnected (…)`.
pub fn lost_broker(facility: &str, text: &str) -> Option<BrokerId> {
    if facility != "FAIL" {
        return None;
    }
    let (name, _) = text.split_once("]: ")?.1.split_once(": ")?;
    let (_, id) = name.rsplit_once('/')?;
    id.parse().ok().map(BrokerId)
}

/// Callbacks of query-only clients (admin, watchdog probe). They log at debug;
/// errors reach the caller as results.
pub struct QueryContext;

impl ClientContext for QueryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(?level, facility, text, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
    }
}

impl ConsumerContext for QueryContext {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_line_about_a_lost_connection_names_the_broker() {
        let lost = |facility: &str, text: &str| lost_broker(facility, text).map(|id| id.0);
        for (name, broker) in [
            ("kafka-0:9092/12", Some(12)),
            ("sasl_ssl://[::1]:9092/0", Some(0)),
            ("kafka-0:9092/bootstrap", None),
            ("GroupCoordinator", None),
        ] {
            let text = format!("[thrd:{name}]: {name}: Disconnected (after 5ms in state UP)");
            assert_eq!(lost("FAIL", &text), broker, "{text}");
            assert_eq!(lost("REQTMOUT", &text), None);
        }
        assert_eq!(lost("FAIL", "terminating"), None);
    }

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn throttle() -> LogThrottle {
        NOW.set(Duration::ZERO);
        LogThrottle::new(|| NOW.get())
    }

    #[test]
    fn each_kind_passes_once_in_thirty_seconds_and_counts_the_rest() {
        let throttle = throttle();
        let pass = |kind, seconds| {
            NOW.set(Duration::from_secs(seconds));
            throttle.pass(kind)
        };
        assert_eq!(pass("a", 0), Some(0));
        assert_eq!(pass("a", 29), None);
        assert_eq!(pass("b", 29), Some(0));
        assert_eq!(pass("a", 30), Some(1));
        assert_eq!(pass("a", 31), None);
    }

    #[test]
    fn the_memory_of_kinds_is_bounded() {
        let throttle = throttle();
        for kind in 0..10_000 {
            throttle.pass(&kind.to_string());
        }
        assert!(throttle.kinds.lock().expect("not poisoned").len() <= KINDS_MAX);
    }
}
