//! Which attempts leave their connection open for the next one to the same
//! host: a mirror of the client's pool, which itself bounds each host and not
//! their sum. It counts connections that are gone already, each HTTP/2 stream
//! as one, and not what the pool opened and nobody waited for. Opens and closes
//! nothing. Moments are what `clock::elapsed` says.
//!
//! Arithmetic: connections that are idle, or in use and left open afterwards,
//! are at most [`KEPT_MAX`]; all others are closed with their attempt. So the
//! process has that many sockets to receivers beside its attempts in flight.
//! Without the bound it were those of the last 4 to 8 s: 8,000 idle ones at
//! 1,000 attempts/s to as many hosts, each of which is next called when its
//! connection has long been closed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Connections at most that are open without an attempt or stay so after it.
pub const KEPT_MAX: usize = 1_024;

/// With all taken, those that have closed are looked for this often at most.
const SWEEP_WAIT: Duration = Duration::from_millis(100);

/// The connections that are kept, by host.
#[derive(Debug)]
pub struct Kept {
    open_max: Duration,
    hosts: HashMap<Arc<str>, Host>,
    count: usize,
    swept_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct Host {
    in_use: usize,
    /// Since when, the longest first.
    idle: VecDeque<Duration>,
}

impl Kept {
    /// None yet; an idle one is closed after `open_max` at the latest.
    #[must_use]
    pub fn new(open_max: Duration) -> Self {
        Self {
            open_max,
            hosts: HashMap::new(),
            count: 0,
            swept_at: None,
        }
    }

    /// An attempt begins: whether its connection is kept, which [`Kept::end`]
    /// is then told of.
    #[must_use]
    pub fn begin(&mut self, host: &Arc<str>, now: Duration) -> bool {
        if let Some(host) = self.hosts.get_mut(host)
            && host.idle.pop_back().is_some()
        {
            host.in_use += 1;
            return true;
        }
        if self.count >= KEPT_MAX {
            self.sweep(now);
        }
        if self.count >= KEPT_MAX {
            return false;
        }
        self.count += 1;
        self.hosts.entry(Arc::clone(host)).or_default().in_use += 1;
        true
    }

    /// An attempt with a kept connection ended, and may have left it open.
    pub fn end(&mut self, host: &Arc<str>, open: bool, now: Duration) {
        let kept = self.hosts.get_mut(host);
        let kept = kept.expect("the host of an attempt is known until it ends");
        kept.in_use -= 1;
        if open {
            kept.idle.push_back(now);
            return;
        }
        self.count -= 1;
        if kept.in_use == 0 && kept.idle.is_empty() {
            self.hosts.remove(host);
        }
    }

    /// Forgets those that are closed by now.
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
    fn a_host_that_is_called_again_uses_its_connection_again() {
        let now = Duration::ZERO;
        let mut kept = Kept::new(OPEN_MAX);
        for _ in 0..3 {
            assert!(kept.begin(&host(1), now));
            kept.end(&host(1), true, now);
        }
        assert_eq!(kept.count, 1);
        assert!(kept.begin(&host(1), now) && kept.begin(&host(1), now));
        assert_eq!(kept.count, 2);
    }

    #[test]
    fn with_all_taken_new_hosts_keep_none_until_the_idle_are_closed() {
        let begun = Duration::ZERO;
        let mut kept = Kept::new(OPEN_MAX);
        for number in 0..KEPT_MAX {
            assert!(kept.begin(&host(number), begun));
            kept.end(&host(number), true, begun);
        }
        assert!(!kept.begin(&host(KEPT_MAX), begun));
        assert!(kept.begin(&host(7), begun), "it has one");
        let closed = begun + OPEN_MAX + SWEEP_WAIT;
        assert!(kept.begin(&host(KEPT_MAX), closed));
        assert_eq!((kept.count, kept.hosts.len()), (2, 2));
    }

    proptest! {
        /// The oracle is a pool that closes what nobody used for so long: it
        /// never has more open than are counted.
        #[test]
        fn no_more_are_open_than_are_counted(steps in prop::collection::vec((0_u8..4, 0_usize..8, 0_u64..3_000), 1..300)) {
            let mut now = Duration::ZERO;
            let mut kept = Kept::new(OPEN_MAX);
            let mut running: Vec<usize> = Vec::new();
            let mut idle: Vec<(usize, Duration)> = Vec::new();
            for (kind, which, pause_ms) in steps {
                match kind {
                    0 | 1 => if kept.begin(&host(which), now) {
                        if let Some(at) = idle.iter().rposition(|(host, _)| *host == which) {
                            idle.remove(at);
                        }
                        running.push(which);
                    },
                    2 => if !running.is_empty() {
                        let ended = running.remove(which % running.len());
                        let open = pause_ms % 3 != 0;
                        kept.end(&host(ended), open, now);
                        if open {
                            idle.push((ended, now));
                        }
                    },
                    _ => now += Duration::from_millis(pause_ms),
                }
                idle.retain(|(_, since)| now - *since <= OPEN_MAX);
                prop_assert!(running.len() + idle.len() <= kept.count);
                let counted: usize = kept.hosts.values().map(|h| h.in_use + h.idle.len()).sum();
                prop_assert_eq!(counted, kept.count);
                kept.sweep(now);
            }
        }
    }
}
