//! The connection to the group coordinator, as librdkafka's log lines show it. Tells
//! whether librdkafka may have sent a commit more than once. Log lines come on
//! librdkafka's threads; the committer thread asks.
//!
//! librdkafka sends an `OffsetCommit` again in two cases only: its connection was
//! lost, or its socket timeout passed. The older request may then still reach the
//! broker, after a later commit, and undo that one. A commit that only took long was
//! sent once. A coordinator that answers with an error has not written the commit,
//! or has written it before the next one.
//!
//! The proof that no connection was lost is the absence of a log line. Source,
//! librdkafka 2.12.1: `rd_kafka_broker_fail` logs a lost connection under `FAIL`
//! before it queues the connection's requests again. It does so on the thread that
//! queues them, and calls our callback on that thread. An idle connection is closed
//! without a line, but it has no request (`rd_kafka_broker_conn_closed`). A line that
//! repeats the one before within 30 s is left out (`rd_kafka_broker_set_error`). So
//! a line counts for 30 s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The name of the coordinator's connection in librdkafka's log lines.
const NAME: &str = "GroupCoordinator";
/// librdkafka leaves out the same line for this long.
const LINE_REPEATS: Duration = Duration::from_secs(30);
/// A commit that took no longer was sent once: no broker loses a connection and
/// keeps its request for later in this time.
const SHORT: Duration = Duration::from_secs(1);

/// When the connection to the group coordinator was last lost.
#[derive(Default)]
pub struct CoordinatorConnection {
    /// In milliseconds of the monotonic clock, plus one. Zero where it never was.
    lost_at: AtomicU64,
}

impl CoordinatorConnection {
    /// Notes one of librdkafka's log lines, at this monotonic time.
    pub fn note(&self, facility: &str, text: &str, now: Duration) {
        if facility == "FAIL" && text.contains(NAME) {
            let lost_at = now.as_millis() as u64 + 1;
            self.lost_at.store(lost_at, Ordering::SeqCst);
        }
    }

    /// Returns whether librdkafka sent a commit once: it was requested at `started`
    /// and acknowledged after `took`.
    pub fn sent_once(&self, started: Duration, took: Duration, socket_timeout: Duration) -> bool {
        if took <= SHORT {
            return true;
        }
        let lost_at = match self.lost_at.load(Ordering::SeqCst) {
            0 => None,
            at => Some(Duration::from_millis(at)),
        };
        let may_be_lost = lost_at.is_some_and(|at| at + LINE_REPEATS >= started);
        took < socket_timeout && !may_be_lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: Duration = Duration::from_secs(15);
    const LOST: &str = "[thrd:GroupCoordinator]: GroupCoordinator: 127.0.0.1:9092: Disconnected";

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_commit_that_only_took_long_was_sent_once() {
        let connection = CoordinatorConnection::default();
        assert!(connection.sent_once(at(100), at(14), SOCKET));
        assert!(!connection.sent_once(at(100), at(15), SOCKET), "timed out");
        connection.note("FAIL", "[thrd:b:9092/1]: b:9092/1: Disconnected", at(101));
        connection.note("REQTMOUT", LOST, at(101));
        assert!(connection.sent_once(at(100), at(14), SOCKET), "other lines");
    }

    #[test]
    fn a_commit_is_unsure_while_a_lost_connection_may_go_unlogged() {
        let connection = CoordinatorConnection::default();
        connection.note("FAIL", LOST, at(69));
        assert!(!connection.sent_once(at(99), at(2), SOCKET));
        assert!(connection.sent_once(at(100), at(2), SOCKET));
        connection.note("FAIL", LOST, at(101));
        assert!(!connection.sent_once(at(100), at(2), SOCKET));
        assert!(connection.sent_once(at(100), at(1), SOCKET), "short");
    }
}
