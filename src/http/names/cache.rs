//! Keeps the answers to lookups. Looks nothing up. Moments come from
//! `clock::elapsed`. Runs on the runtimes of attempts.
//!
//! Arithmetic: an entry has a name and, usually, two addresses: some 300 bytes. At
//! [`HOSTS_MAX`] these are 3 MB.

use super::Unresolved;
use hickory_resolver::proto::rr::Name;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// The maximum number of host names.
pub(super) const HOSTS_MAX: usize = 10_000;
/// Addresses are kept for their TTL, and at most this time.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(5 * 60);
/// A failure is kept for at most this time, so that a corrected zone is soon used.
pub(super) const FAILURE_AGE_MAX: Duration = Duration::from_secs(10);
/// The minimum time between two searches for old entries in a full cache.
const SWEEP_WAIT: Duration = Duration::from_secs(1);

/// The result of a lookup.
pub(super) type Found = Result<Vec<IpAddr>, Unresolved>;

/// The answers, by host name.
#[derive(Default)]
pub(super) struct Cache {
    hosts: HashMap<Name, Entry>,
    swept_at: Option<Duration>,
}

struct Entry {
    found: Found,
    until: Duration,
}

impl Cache {
    /// Returns the answer for a name, if it is not too old.
    pub fn get(&self, name: &Name, now: Duration) -> Option<Found> {
        let entry = self.hosts.get(name)?;
        (now < entry.until).then(|| entry.found.clone())
    }

    /// Keeps an answer for this time, up to the maximum.
    pub fn put(&mut self, name: &Name, found: &Found, ttl: Duration, now: Duration) {
        let age_max = match found {
            Ok(_) => ANSWER_AGE_MAX,
            Err(_) => FAILURE_AGE_MAX,
        };
        let ttl = ttl.min(age_max);
        if ttl.is_zero() {
            return;
        }
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(name) {
            self.make_space(now);
        }
        let entry = Entry {
            found: found.clone(),
            until: now + ttl,
        };
        self.hosts.insert(name.clone(), entry);
    }

    /// Removes old entries, or else any one.
    fn make_space(&mut self, now: Duration) {
        let swept = |at: Duration| now.saturating_sub(at) < SWEEP_WAIT;
        if !self.swept_at.is_some_and(swept) {
            self.swept_at = Some(now);
            self.hosts.retain(|_, entry| now < entry.until);
        }
        if self.hosts.len() >= HOSTS_MAX {
            let any = self.hosts.keys().next().cloned();
            self.hosts.remove(&any.expect("it is full"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::from_str_relaxed(format!("h{number}.test")).expect("a name")
    }

    fn found() -> Found {
        Ok(vec!["192.0.2.1".parse().expect("an address")])
    }

    #[test]
    fn answers_are_kept_for_their_time_and_failures_not_long() {
        let at = Duration::from_secs;
        #[track_caller]
        fn check(found: &Found, ttl_s: u64, age_s: u64, kept: bool) {
            let (at, mut cache) = (Duration::from_secs, Cache::default());
            cache.put(&name(1), found, at(ttl_s), at(7));
            let is = cache.get(&name(1), at(7 + age_s)).is_some();
            assert_eq!(is, kept, "{found:?} {ttl_s} {age_s}");
        }
        check(&found(), 60, 59, true);
        check(&found(), 60, 60, false);
        check(&found(), 0, 0, false);
        check(&found(), 86_400, 299, true);
        check(&found(), 86_400, 300, false);
        check(&Err(Unresolved::NoSuchName), 86_400, 9, true);
        check(&Err(Unresolved::NoSuchName), 86_400, 10, false);
        let mut cache = Cache::default();
        cache.put(&name(1), &found(), at(60), at(0));
        let other_case = Name::from_str_relaxed("H1.test").expect("a name");
        assert!(cache.get(&other_case, at(1)).is_some());
    }

    #[test]
    fn ten_thousand_hosts_are_kept_and_one_more_takes_a_place() {
        let (now, hour) = (Duration::from_secs(100), Duration::from_secs(3_600));
        let mut cache = Cache::default();
        for number in 0..HOSTS_MAX {
            cache.put(&name(number), &found(), hour, now);
        }
        let kept = |cache: &Cache, now| {
            let all = 0..HOSTS_MAX;
            all.filter(|number| cache.get(&name(*number), now).is_some())
                .count()
        };
        assert_eq!(kept(&cache, now), 10_000);
        cache.put(&name(HOSTS_MAX), &found(), hour, now);
        assert_eq!((cache.hosts.len(), kept(&cache, now)), (10_000, 9_999));
        let late = now + ANSWER_AGE_MAX;
        cache.put(&name(HOSTS_MAX + 1), &found(), hour, late);
        assert_eq!(cache.hosts.len(), 1);
    }
}
