//! Limits the rate of log lines with token buckets. Failed attempts have one for
//! each tenant and one for all tenants, dead letters have one. Lines that are left
//! out are counted, and the count is logged. Never writes a line itself. Pure: the
//! time is an argument. Runs on the runner's thread.
//!
//! Arithmetic: a line of a failed attempt has some 550 bytes as JSON. When every
//! tenant fails at once (no DNS), 20 s write at most 200 + 20 x 10 = 400 lines,
//! 220 kB. A single dead tenant writes 20 lines at first and then one a second.
//! The metrics count every attempt, also where its line is left out.

use crate::model::position::Topic;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The rate of lines about failed attempts of one tenant.
const TENANT: LineRate = LineRate {
    burst: 20,
    per_second: 1,
};
/// The rate of lines about failed attempts of all tenants.
const ALL_TENANTS: LineRate = LineRate {
    burst: 200,
    per_second: 10,
};
/// The rate of lines about dead letters.
const DEAD_LETTERS: LineRate = LineRate {
    burst: 200,
    per_second: 10,
};
/// The maximum number of tenants with a bucket of their own; at some 100 bytes
/// each, 100 kB. The lines of further tenants are limited by [`ALL_TENANTS`] only.
const TENANTS_MAX: usize = 1_024;
/// Time between two removals of full buckets.
const FORGET_EACH: Duration = Duration::from_secs(1);
/// Minimum time between two lines about clock skew.
const SKEW_LINE_EACH: Duration = Duration::from_secs(60);
/// Minimum time between two lines about a topic that begins to refuse records.
const REFUSED_LINE_EACH: Duration = Duration::from_secs(30);

struct LineRate {
    burst: u32,
    per_second: u32,
}

/// The lines that a rate allows now, in thousandths of a line.
#[derive(Clone, Copy)]
struct Bucket {
    milli_lines: u64,
    at: UnixMillis,
}

impl Bucket {
    const fn full(rate: &LineRate, now: UnixMillis) -> Self {
        Self {
            milli_lines: rate.burst as u64 * 1_000,
            at: now,
        }
    }

    /// Adds the lines that the rate allowed since the last call.
    fn fill(&mut self, rate: &LineRate, now: UnixMillis) {
        // A line a second is a thousandth of a line a millisecond.
        let since_ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let added = since_ms.saturating_mul(rate.per_second.into());
        let most = u64::from(rate.burst) * 1_000;
        self.milli_lines = self.milli_lines.saturating_add(added).min(most);
        self.at = self.at.max(now);
    }

    const fn has_line(&self) -> bool {
        self.milli_lines >= 1_000
    }

    /// Takes one line from the bucket, if it holds one.
    fn take_line(&mut self) -> bool {
        let enough = self.has_line();
        if enough {
            self.milli_lines -= 1_000;
        }
        enough
    }

    const fn is_full(&self, rate: &LineRate) -> bool {
        self.milli_lines == rate.burst as u64 * 1_000
    }
}

/// The buckets, and the number of lines that were left out.
pub(super) struct LogLimit {
    all_tenants: Bucket,
    dead_letters: Bucket,
    tenants: HashMap<TenantId, TenantLines>,
    left_out: u64,
    forgot_at: UnixMillis,
    skew_line_at: Option<UnixMillis>,
    refused: BTreeMap<Topic, RefusedLine>,
}

/// The last line about a topic that refuses records.
struct RefusedLine {
    at: UnixMillis,
    /// No line about its end was written yet.
    open: bool,
}

struct TenantLines {
    bucket: Bucket,
    left_out: u64,
}

impl Default for LogLimit {
    fn default() -> Self {
        let start = UnixMillis(0);
        Self {
            all_tenants: Bucket::full(&ALL_TENANTS, start),
            dead_letters: Bucket::full(&DEAD_LETTERS, start),
            tenants: HashMap::new(),
            left_out: 0,
            forgot_at: start,
            skew_line_at: None,
            refused: BTreeMap::new(),
        }
    }
}

impl LogLimit {
    /// Returns whether a line may say that this topic refuses records.
    pub(super) fn refused_line(&mut self, now: UnixMillis, topic: Topic) -> bool {
        let before = self.refused.get(&topic);
        let permitted = before.is_none_or(|line| now.since(line.at) >= REFUSED_LINE_EACH);
        if permitted {
            let line = RefusedLine {
                at: now,
                open: true,
            };
            self.refused.insert(topic, line);
        }
        permitted
    }

    /// Returns whether a line may say that this topic accepts records again: once
    /// after each line that said the contrary.
    pub(super) fn accepted_line(&mut self, topic: Topic) -> bool {
        let line = self.refused.get_mut(&topic);
        line.is_some_and(|line| std::mem::take(&mut line.open))
    }

    /// Returns whether the line of a dead letter may be written.
    pub(super) fn dead_letter_line(&mut self, now: UnixMillis) -> bool {
        self.dead_letters.fill(&DEAD_LETTERS, now);
        let permitted = self.dead_letters.take_line();
        if !permitted {
            self.left_out += 1;
        }
        permitted
    }

    /// Returns `None` where the line of a failed attempt must be left out. Otherwise
    /// returns how many lines were left out since the last line of this tenant.
    pub(super) fn tenant_line(&mut self, now: UnixMillis, tenant: &TenantId) -> Option<u64> {
        self.forget(now);
        self.all_tenants.fill(&ALL_TENANTS, now);
        let below_max = self.tenants.len() < TENANTS_MAX;
        let counted = match self.tenants.get_mut(tenant) {
            Some(counted) => Some(counted),
            None if below_max => Some(self.tenants.entry(tenant.clone()).or_insert(TenantLines {
                bucket: Bucket::full(&TENANT, now),
                left_out: 0,
            })),
            None => None,
        };
        let Some(counted) = counted else {
            return self.all_tenants.take_line().then_some(0).or_else(|| {
                self.left_out += 1;
                None
            });
        };
        counted.bucket.fill(&TENANT, now);
        // A line that one bucket refuses costs nothing in the other.
        if counted.bucket.has_line() && self.all_tenants.take_line() {
            counted.bucket.take_line();
            return Some(std::mem::take(&mut counted.left_out));
        }
        counted.left_out += 1;
        self.left_out += 1;
        None
    }

    /// Returns how many lines were left out since the last call.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Returns whether a line about clock skew may be written.
    pub(super) fn skew_line(&mut self, now: UnixMillis) -> bool {
        let due = self
            .skew_line_at
            .is_none_or(|at| now.since(at) >= SKEW_LINE_EACH);
        if due {
            self.skew_line_at = Some(now);
        }
        due
    }

    /// Removes tenants with a full bucket and no line left out. Removes all
    /// tenants where that frees no place.
    fn forget(&mut self, now: UnixMillis) {
        if now.since(self.forgot_at) < FORGET_EACH {
            return;
        }
        self.forgot_at = now;
        self.tenants.retain(|_, counted| {
            counted.bucket.fill(&TENANT, now);
            counted.left_out > 0 || !counted.bucket.is_full(&TENANT)
        });
        if self.tenants.len() >= TENANTS_MAX {
            self.tenants.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t-{n}")).expect("valid")
    }

    fn written(limit: &mut LogLimit, now: UnixMillis, tenant: &TenantId, lines: u32) -> u32 {
        let permitted = |_: &u32| limit.tenant_line(now, tenant).is_some();
        u32::try_from((0..lines).filter(permitted).count()).expect("as many as asked at most")
    }

    #[test]
    fn a_tenant_has_a_burst_then_its_rate_and_its_lines_say_how_many_were_left_out() {
        let mut limit = LogLimit::default();
        let start = UnixMillis(5_000);
        assert_eq!(written(&mut limit, start, &tenant(1), 60), TENANT.burst);
        assert_eq!(limit.tenant_line(start, &tenant(2)), Some(0));
        assert_eq!(limit.tenant_line(UnixMillis(5_999), &tenant(1)), None);
        assert_eq!(limit.tenant_line(UnixMillis(6_000), &tenant(1)), Some(41));
        assert_eq!(limit.tenant_line(UnixMillis(6_000), &tenant(1)), None);
        assert_eq!(limit.take_left_out(), 42);
        assert_eq!(limit.take_left_out(), 0);
    }

    #[test]
    fn all_tenants_failing_at_once_write_within_the_stated_sum() {
        let mut limit = LogLimit::default();
        let mut lines = 0;
        let mut attempts = 0;
        for ms in (7_000..27_000).step_by(10) {
            for n in 0..20 {
                attempts += 1;
                let line = limit.tenant_line(UnixMillis(ms), &tenant(n + ms as usize % 3_000));
                lines += u64::from(line.is_some());
            }
            assert!(limit.tenants.len() <= TENANTS_MAX);
        }
        assert!((390..=400).contains(&lines), "{lines}");
        assert_eq!(lines + limit.take_left_out(), attempts);
    }

    #[test]
    fn one_tenants_flood_leaves_lines_to_the_others() {
        let mut limit = LogLimit::default();
        let now = UnixMillis(5_000);
        assert_eq!(written(&mut limit, now, &tenant(0), 10_000), TENANT.burst);
        for n in 1..=9 {
            assert_eq!(written(&mut limit, now, &tenant(n), 20), TENANT.burst);
        }
        assert_eq!(limit.tenant_line(now, &tenant(10)), None);
    }

    #[test]
    fn dead_letters_have_lines_of_their_own() {
        let mut limit = LogLimit::default();
        let now = UnixMillis(5_000);
        let lines = (0..1_000).filter(|_| limit.dead_letter_line(now)).count();
        assert_eq!(lines, DEAD_LETTERS.burst as usize);
        assert_eq!(limit.take_left_out(), 800);
        assert_eq!(limit.tenant_line(now, &tenant(1)), Some(0));
    }

    #[test]
    fn a_topic_that_refuses_now_and_then_has_a_line_each_half_minute() {
        let mut limit = LogLimit::default();
        let topic = Topic::DeadLetter;
        let at = |second: i64| UnixMillis(1_000_000 + second * 1_000);
        assert!(!limit.accepted_line(topic), "it never refused");
        assert!(limit.refused_line(at(0), topic));
        assert!(limit.refused_line(at(0), Topic::Source), "another topic");
        assert!(limit.accepted_line(topic));
        assert!(!limit.refused_line(at(29), topic));
        assert!(!limit.accepted_line(topic), "its begin was not told");
        assert!(limit.refused_line(at(30), topic));
        assert!(limit.accepted_line(topic));
    }
}
