//! Decides which attempts leave their connection open for the next attempt to the
//! same host, and when the connections to a host are renewed. It mirrors the pool of
//! the client, which limits each host but not their sum. It may count a connection
//! that is closed already, and it counts each HTTP/2 stream as one. It does not count
//! connections that the client opened and no attempt used. Opens and closes nothing.
//! Moments come from `clock::elapsed`. Runs on the runtimes of attempts.
//!
//! Arithmetic: connections that are idle, or in use and left open afterwards, are
//! at most [`POOL_MAX`]. All others are closed after their attempt. So the process
//! has that many sockets to receivers beside its attempts in progress. Without the
//! limit it would have the connections of the last 4 to 8 s. At 1,000 attempts/s to
//! as many hosts these are 8,000, each closed before its host is called again.
//!
//! The connections to one host are a *bundle*, with a client of its own. A bundle is
//! worn after [`AGE_MAX`], after [`REQUESTS_MAX`] for each connection, or after an
//! attempt without a good answer. Then the next attempt starts a new bundle. So it
//! looks the name up again and finds a new instance of the receiver. The connections
//! of the old bundle close when its last attempt ends. An overloaded receiver fails
//! many attempts: it gets a new bundle once a second at most.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// The maximum number of connections that are idle or stay open after their attempt.
pub const POOL_MAX: usize = 1_024;
/// A bundle is worn at this age.
pub const AGE_MAX: Duration = Duration::from_secs(60);
/// A bundle is worn after this number of requests for each connection. Some
/// receivers close a connection then (nginx), which is dearer than to close it first.
pub const REQUESTS_MAX: usize = 1_000;

/// Minimum time between two searches for closed connections in a full pool.
const SWEEP_WAIT: Duration = Duration::from_millis(100);
/// Failures do not make a bundle worn that is younger.
const FAILING_AGE_MIN: Duration = Duration::from_secs(1);

/// The state of a connection after its attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionAfter {
    /// It may be open, so it counts as idle.
    Open,
    Closed,
}

/// How a connection carries its requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carries {
    /// One at a time (HTTP/1.1).
    OneRequest,
    /// Many at once (HTTP/2).
    ManyRequests,
}

/// What the end of an attempt says of its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AttemptEnd {
    pub after: ConnectionAfter,
    /// `None` where nothing answered.
    pub carries: Option<Carries>,
    pub health: Health,
}

/// Whether the receiver at the other end works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Works,
    /// No answer, or a server error.
    Fails,
}

/// The number of a bundle.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BundleId(u64);

/// The reusable connections, in bundles. `C` is the client of a bundle.
#[derive(Debug)]
pub struct IdlePool<C> {
    open_max: Duration,
    /// The bundle of each host that new attempts use.
    hosts: HashMap<Arc<str>, BundleId>,
    bundles: HashMap<BundleId, Bundle<C>>,
    next: BundleId,
    count: usize,
    swept_at: Option<Duration>,
}

#[derive(Debug)]
struct Bundle<C> {
    client: C,
    host: Arc<str>,
    started_at: Duration,
    requests: usize,
    /// The most requests at once.
    peak: usize,
    carries: Carries,
    health: Health,
    in_use: usize,
    /// The start of each idle time; the longest idle time comes first.
    idle: VecDeque<Duration>,
}

impl<C: Clone> IdlePool<C> {
    /// Returns an empty pool. An idle connection is closed after `open_max` at the latest.
    #[must_use]
    pub fn new(open_max: Duration) -> Self {
        Self {
            open_max,
            hosts: HashMap::new(),
            bundles: HashMap::new(),
            next: BundleId(0),
            count: 0,
            swept_at: None,
        }
    }

    /// Starts an attempt. Returns the bundle and the client that it uses, and may leave
    /// a connection open in; [`IdlePool::end`] must follow then. `None` where the
    /// attempt must close its connection.
    #[must_use]
    pub fn begin(
        &mut self,
        host: &Arc<str>,
        now: Duration,
        make: impl FnOnce() -> C,
    ) -> Option<(BundleId, C)> {
        let current = self.hosts.get(host).copied();
        if let Some(id) = current.filter(|id| self.bundles[id].is_worn(now)) {
            self.retire(id);
        }
        if let Some(id) = self.hosts.get(host)
            && let Some(bundle) = self.bundles.get_mut(id)
            && bundle.idle.pop_back().is_some()
        {
            bundle.start();
            return Some((*id, bundle.client.clone()));
        }
        if self.count >= POOL_MAX {
            self.sweep(now);
        }
        if self.count >= POOL_MAX {
            return None;
        }
        self.count += 1;
        let id = match self.hosts.get(host) {
            Some(id) => *id,
            None => self.add(host, now, make()),
        };
        let bundle = self.bundles.get_mut(&id).expect("hosts have bundles");
        bundle.start();
        Some((id, bundle.client.clone()))
    }

    fn add(&mut self, host: &Arc<str>, now: Duration, client: C) -> BundleId {
        let id = self.next;
        self.next.0 += 1;
        self.hosts.insert(Arc::clone(host), id);
        let bundle = Bundle {
            client,
            host: Arc::clone(host),
            started_at: now,
            requests: 0,
            peak: 0,
            carries: Carries::OneRequest,
            health: Health::Works,
            in_use: 0,
            idle: VecDeque::new(),
        };
        self.bundles.insert(id, bundle);
        id
    }

    /// Ends an attempt for which [`IdlePool::begin`] returned a bundle.
    pub fn end(&mut self, id: BundleId, end: AttemptEnd, now: Duration) {
        let bundle = self.bundles.get_mut(&id);
        let bundle = bundle.expect("the bundle of an attempt stays until its end");
        bundle.in_use -= 1;
        bundle.carries = end.carries.unwrap_or(bundle.carries);
        if end.health == Health::Fails {
            bundle.health = Health::Fails;
        }
        match end.after {
            ConnectionAfter::Open => bundle.idle.push_back(now),
            ConnectionAfter::Closed => self.count -= 1,
        }
        self.drop_unused(id);
    }

    /// Ends the use of all connections for new attempts.
    pub fn retire_all(&mut self) {
        let all: Vec<BundleId> = self.hosts.values().copied().collect();
        for id in all {
            self.retire(id);
        }
    }

    /// Ends the use of a bundle for new attempts.
    fn retire(&mut self, id: BundleId) {
        self.hosts.remove(&self.bundles[&id].host);
        self.drop_unused(id);
    }

    /// Drops a bundle, and with it its client, if nothing uses it. A bundle that is
    /// retired needs its idle connections no more.
    fn drop_unused(&mut self, id: BundleId) {
        let bundle = &self.bundles[&id];
        let current = self.hosts.get(&bundle.host) == Some(&id);
        if bundle.in_use > 0 || (current && !bundle.idle.is_empty()) {
            return;
        }
        self.count -= bundle.idle.len();
        if current {
            self.hosts.remove(&bundle.host);
        }
        self.bundles.remove(&id);
    }

    /// Removes the connections that are closed by now.
    fn sweep(&mut self, now: Duration) {
        let since = |at: Duration| now.saturating_sub(at);
        if self.swept_at.is_some_and(|at| since(at) < SWEEP_WAIT) {
            return;
        }
        self.swept_at = Some(now);
        let open_max = self.open_max;
        let (count, hosts) = (&mut self.count, &mut self.hosts);
        self.bundles.retain(|id, bundle| {
            while bundle.idle.front().is_some_and(|at| since(*at) > open_max) {
                bundle.idle.pop_front();
                *count -= 1;
            }
            let used = bundle.in_use > 0 || !bundle.idle.is_empty();
            if !used && hosts.get(&bundle.host) == Some(id) {
                hosts.remove(&bundle.host);
            }
            used
        });
    }
}

impl<C> Bundle<C> {
    fn start(&mut self) {
        self.in_use += 1;
        self.requests += 1;
        self.peak = self.peak.max(self.in_use);
    }

    fn is_worn(&self, now: Duration) -> bool {
        let age = now.saturating_sub(self.started_at);
        let connections = match self.carries {
            Carries::OneRequest => self.peak.max(1),
            Carries::ManyRequests => 1,
        };
        age >= AGE_MAX
            || self.requests >= REQUESTS_MAX * connections
            || (self.health == Health::Fails && age >= FAILING_AGE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPEN_MAX: Duration = Duration::from_secs(8);
    const GOOD: AttemptEnd = AttemptEnd {
        after: ConnectionAfter::Open,
        carries: Some(Carries::OneRequest),
        health: Health::Works,
    };
    const FAILED: AttemptEnd = AttemptEnd {
        health: Health::Fails,
        ..GOOD
    };

    fn host(number: usize) -> Arc<str> {
        Arc::from(format!("http://t{number}.example:80"))
    }

    fn begin(pool: &mut IdlePool<()>, number: usize, now: Duration) -> Option<BundleId> {
        let begun = pool.begin(&host(number), now, || ());
        begun.map(|(id, ())| id)
    }

    /// Makes one attempt to host 1, and returns its bundle.
    fn attempt(pool: &mut IdlePool<()>, end: AttemptEnd, now: Duration) -> BundleId {
        let id = begin(pool, 1, now).expect("the pool is not full");
        pool.end(id, end, now);
        id
    }

    #[test]
    fn a_second_attempt_to_a_host_reuses_its_connection() {
        let now = Duration::ZERO;
        let mut pool = IdlePool::new(OPEN_MAX);
        for _ in 0..3 {
            attempt(&mut pool, GOOD, now);
        }
        assert_eq!(pool.count, 1);
        assert!(begin(&mut pool, 1, now).is_some() && begin(&mut pool, 1, now).is_some());
        assert_eq!((pool.count, pool.bundles.len()), (2, 1));
    }

    #[test]
    fn a_full_pool_takes_a_new_host_only_after_idle_connections_are_closed() {
        let start = Duration::ZERO;
        let mut pool = IdlePool::new(OPEN_MAX);
        for number in 0..POOL_MAX {
            let id = begin(&mut pool, number, start).expect("the pool is not full");
            pool.end(id, GOOD, start);
        }
        assert!(begin(&mut pool, POOL_MAX, start).is_none());
        assert!(begin(&mut pool, 7, start).is_some(), "it has a connection");
        let closed = start + OPEN_MAX + SWEEP_WAIT;
        assert!(begin(&mut pool, POOL_MAX, closed).is_some());
        assert_eq!((pool.count, pool.hosts.len()), (2, 2));
        assert_eq!(pool.bundles.len(), 2);
    }

    #[test]
    fn a_bundle_is_renewed_at_its_age_after_its_requests_and_after_failures() {
        let (start, second) = (Duration::ZERO, Duration::from_secs(1));
        let mut pool = IdlePool::new(OPEN_MAX);
        let first = attempt(&mut pool, GOOD, start);
        let mut now = start;
        while now + second < AGE_MAX {
            now += second;
            assert_eq!(attempt(&mut pool, GOOD, now), first, "{now:?}");
        }
        let at_age = attempt(&mut pool, GOOD, start + AGE_MAX);
        assert_ne!(at_age, first);
        assert_eq!((pool.count, pool.bundles.len()), (1, 1));

        let mut same = 1;
        let after_requests = loop {
            match attempt(&mut pool, GOOD, start + AGE_MAX) {
                id if id == at_age => same += 1,
                other => break other,
            }
        };
        assert_eq!(same, REQUESTS_MAX);

        let failed_at = start + AGE_MAX + second / 2;
        assert_eq!(attempt(&mut pool, FAILED, failed_at), after_requests);
        assert_eq!(attempt(&mut pool, GOOD, failed_at), after_requests);
        let later = start + AGE_MAX + second;
        assert_ne!(attempt(&mut pool, GOOD, later), after_requests);
    }

    #[test]
    fn requests_count_for_each_connection_or_for_the_one_that_all_share() {
        for (carries, expected) in [
            (Carries::OneRequest, 2 * REQUESTS_MAX),
            (Carries::ManyRequests, REQUESTS_MAX),
        ] {
            let (now, mut pool) = (Duration::ZERO, IdlePool::new(OPEN_MAX));
            let end = AttemptEnd {
                carries: Some(carries),
                ..GOOD
            };
            let mut requests = 0;
            loop {
                let two = [begin(&mut pool, 1, now), begin(&mut pool, 1, now)];
                let ids: Vec<BundleId> = two.into_iter().flatten().collect();
                for id in &ids {
                    pool.end(*id, end, now);
                }
                if ids.iter().any(|id| id.0 > 0) {
                    break;
                }
                requests += ids.len();
            }
            assert_eq!(requests, expected, "{carries:?}");
        }
    }

    #[test]
    fn an_old_bundle_counts_until_its_last_attempt_ends() {
        let (start, mut pool) = (Duration::ZERO, IdlePool::new(OPEN_MAX));
        let long = begin(&mut pool, 1, start).expect("not full");
        let short = begin(&mut pool, 1, start).expect("not full");
        pool.end(short, GOOD, start);
        pool.retire_all();
        let new = attempt(&mut pool, GOOD, start);
        assert_ne!(new, long);
        assert_eq!((pool.count, pool.bundles.len()), (3, 2));
        pool.end(long, GOOD, start);
        assert_eq!((pool.count, pool.bundles.len()), (1, 1));
    }

    /// A pool that closes a connection after its maximum idle time. It closes all idle
    /// ones of an old bundle once none of them is in use.
    #[derive(Default)]
    struct Oracle {
        running: Vec<(usize, BundleId)>,
        idle: Vec<(BundleId, Duration)>,
        newest: HashMap<usize, BundleId>,
    }

    impl Oracle {
        fn close(&mut self, now: Duration) {
            let in_use: Vec<BundleId> = self.running.iter().map(|(_, id)| *id).collect();
            let newest: Vec<BundleId> = self.newest.values().copied().collect();
            self.idle.retain(|(id, since)| {
                let open = in_use.contains(id) || newest.contains(id);
                open && now - *since <= OPEN_MAX
            });
        }
    }

    proptest! {
        /// The pool never has more open connections than it counts.
        #[test]
        fn no_more_connections_are_open_than_are_counted(steps in prop::collection::vec((0_u8..5, 0_usize..8, 0_u64..3_000), 1..300)) {
            let mut now = Duration::ZERO;
            let mut pool = IdlePool::new(OPEN_MAX);
            let mut oracle = Oracle::default();
            for (kind, which, pause_ms) in steps {
                match kind {
                    0 | 1 => if let Some(id) = begin(&mut pool, which, now) {
                        oracle.newest.insert(which, id);
                        if let Some(at) = oracle.idle.iter().rposition(|(of, _)| *of == id) {
                            oracle.idle.remove(at);
                        }
                        oracle.running.push((which, id));
                    },
                    2 => if !oracle.running.is_empty() {
                        let at = which % oracle.running.len();
                        let (_, id) = oracle.running.remove(at);
                        let end = match pause_ms % 4 {
                            0 => AttemptEnd { after: ConnectionAfter::Closed, ..GOOD },
                            1 => FAILED,
                            _ => GOOD,
                        };
                        pool.end(id, end, now);
                        if end.after == ConnectionAfter::Open {
                            oracle.idle.push((id, now));
                        }
                    },
                    3 if pause_ms % 10 == 0 => {
                        pool.retire_all();
                        oracle.newest.clear();
                    }
                    _ => now += Duration::from_millis(pause_ms),
                }
                oracle.close(now);
                prop_assert!(oracle.running.len() + oracle.idle.len() <= pool.count);
                let counted: usize = pool.bundles.values().map(|b| b.in_use + b.idle.len()).sum();
                prop_assert_eq!(counted, pool.count);
                prop_assert!(pool.hosts.len() <= pool.bundles.len());
                pool.sweep(now);
            }
        }
    }
}
