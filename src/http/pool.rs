//! Decides which attempts leave their connection open for the next attempt to the
//! same host. It mirrors the pool of the client, which limits each host but not
//! their sum. It may count a connection that is closed already, and it counts each
//! HTTP/2 stream as one. It does not count connections that the client opened and
//! no attempt used. Opens and closes nothing. Moments come from `clock::elapsed`.
//! Runs on the runtimes of attempts.
//!
//! Arithmetic: connections that are idle, or in use and left open afterwards, are
//! at most [`POOL_MAX`]. All others are closed after their attempt. So the process
//! has that many sockets to receivers beside its attempts in progress. Without the
//! limit it would have the connections of the last 4 to 8 s. At 1,000 attempts/s to
//! as many hosts these are 8,000, each closed before its host is called again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of connections that are idle or stay open after their attempt.
pub const POOL_MAX: usize = 1_024;

/// Minimum time between two searches for closed connections in a full pool.
const SWEEP_WAIT: Duration = Duration::from_millis(100);

/// The state of a connection after its attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionAfter {
    /// It may be open, so it counts as idle.
    Open,
    Closed,
}

/// The reusable connections, by host.
#[derive(Debug)]
pub struct IdlePool {
    open_max: Duration,
    hosts: HashMap<Arc<str>, Host>,
    count: usize,
    swept_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Host {
    in_use: usize,
    /// The start of each idle time; the longest idle time comes first.
    idle: VecDeque<Duration>,
}

impl IdlePool {
    /// Returns an empty pool. An idle connection is closed after `open_max` at the latest.
    #[must_use]
    pub fn new(open_max: Duration) -> Self {
        Self {
            open_max,
            hosts: HashMap::new(),
            count: 0,
            swept_at: None,
        }
    }

    /// Starts an attempt. Returns whether it may use and leave an open connection;
    /// [`IdlePool::end`] must follow then.
    #[must_use]
    pub fn begin(&mut self, host: &Arc<str>, now: Duration) -> bool {
        if let Some(host) = self.hosts.get_mut(host)
            && host.idle.pop_back().is_some()
        {
            host.in_use += 1;
            return true;
        }
        if self.count >= POOL_MAX {
            self.sweep(now);
        }
        if self.count >= POOL_MAX {
            return false;
        }
        self.count += 1;
        self.hosts.entry(Arc::clone(host)).or_default().in_use += 1;
        true
    }

    /// Ends an attempt for which [`IdlePool::begin`] returned true.
    pub fn end(&mut self, host: &Arc<str>, after: ConnectionAfter, now: Duration) {
        let connections = self.hosts.get_mut(host);
        let connections = connections.expect("the host of an attempt stays until its end");
        connections.in_use -= 1;
        if after == ConnectionAfter::Open {
            connections.idle.push_back(now);
            return;
        }
        self.count -= 1;
        if connections.in_use == 0 && connections.idle.is_empty() {
            self.hosts.remove(host);
        }
    }

    /// Removes the connections that are closed by now.
    fn sweep(&mut self, now: Duration) {
        let since = |at: Duration| now.saturating_sub(at);
        if self.swept_at.is_some_and(|at| since(at) < SWEEP_WAIT) {
            return;
        }
        self.swept_at = Some(now);
        let open_max = self.open_max;
        self.hosts.retain(|_, host| {
            while host.idle.front().is_some_and(|at| since(*at) > open_max) {
                host.idle.pop_front();
                self.count -= 1;
            }
            host.in_use > 0 || !host.idle.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN_MAX: Duration = Duration::from_secs(8);

    fn host(number: usize) -> Arc<str> {
        Arc::from(format!("http://t{number}.example:80"))
    }

    #[test]
    fn a_second_attempt_to_a_host_reuses_its_connection() {
        let now = Duration::ZERO;
        let mut pool = IdlePool::new(OPEN_MAX);
        for _ in 0..3 {
            assert!(pool.begin(&host(1), now));
            pool.end(&host(1), ConnectionAfter::Open, now);
        }
        assert_eq!(pool.count, 1);
        assert!(pool.begin(&host(1), now) && pool.begin(&host(1), now));
        assert_eq!(pool.count, 2);
    }

    #[test]
    fn a_full_pool_takes_a_new_host_only_after_idle_connections_are_closed() {
        let start = Duration::ZERO;
        let mut pool = IdlePool::new(OPEN_MAX);
        for number in 0..POOL_MAX {
            assert!(pool.begin(&host(number), start));
            pool.end(&host(number), ConnectionAfter::Open, start);
        }
        assert!(!pool.begin(&host(POOL_MAX), start));
        assert!(pool.begin(&host(7), start), "it has a connection");
        let closed = start + OPEN_MAX + SWEEP_WAIT;
        assert!(pool.begin(&host(POOL_MAX), closed));
        assert_eq!((pool.count, pool.hosts.len()), (2, 2));
    }

    proptest! {
        /// The oracle is a pool that closes a connection after its maximum idle
        /// time. It never has more open connections than are counted.
        #[test]
        fn no_more_connections_are_open_than_are_counted(steps in prop::collection::vec((0_u8..4, 0_usize..8, 0_u64..3_000), 1..300)) {
            let mut now = Duration::ZERO;
            let mut pool = IdlePool::new(OPEN_MAX);
            let mut running: Vec<usize> = Vec::new();
            let mut idle: Vec<(usize, Duration)> = Vec::new();
            for (kind, which, pause_ms) in steps {
                match kind {
                    0 | 1 => if pool.begin(&host(which), now) {
                        if let Some(at) = idle.iter().rposition(|(host, _)| *host == which) {
                            idle.remove(at);
                        }
                        running.push(which);
                    },
                    2 => if !running.is_empty() {
                        let ended = running.remove(which % running.len());
                        let after = match pause_ms % 3 {
                            0 => ConnectionAfter::Closed,
                            _ => ConnectionAfter::Open,
                        };
                        pool.end(&host(ended), after, now);
                        if after == ConnectionAfter::Open {
                            idle.push((ended, now));
                        }
                    },
                    _ => now += Duration::from_millis(pause_ms),
                }
                idle.retain(|(_, since)| now - *since <= OPEN_MAX);
                prop_assert!(running.len() + idle.len() <= pool.count);
                let counted: usize = pool.hosts.values().map(|h| h.in_use + h.idle.len()).sum();
                prop_assert_eq!(counted, pool.count);
                pool.sweep(now);
            }
        }
    }
}
