//! What was published against what arrived and what lies among the dead
//! letters: a pure account, so that planted breaches can show that it sees.
//!
//! Early: between attempts k and m of a record lie the delays of all steps
//! between, each counted by the broker from an append that followed the answer
//! to k. The receiver notes both attempts on one monotonic clock; what is
//! allowed is [`MARGIN`], for append times are whole milliseconds and the
//! replicas' clocks are slewed.

use super::receiver::Seen;
use super::records::{self, Kind};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How much too early an attempt may seem.
pub const MARGIN: Duration = Duration::from_millis(20);
/// The attempts of a record.
const ATTEMPTS_MAX: usize = 10;
/// A success may be uncommitted for this long: a commit that takes longer is
/// followed by a re-adoption, which knows the outcome, and so does a
/// transaction's end, but for what the other faults of the time destroy.
const UNCOMMITTED_MAX: Duration = Duration::from_secs(12);
/// A success is normally committed within this time.
pub const COMMITTED_AFTER: Duration = Duration::from_millis(100);
/// A receiver answers a killed process's last POSTs within this time.
const IN_FLIGHT_MAX: Duration = Duration::from_millis(500);
/// After a fault a POST of before it may still come for this long: a stopped
/// process sends what it had begun.
const LATE_MAX: Duration = Duration::from_secs(2);

/// Kinds of faults, as the report names them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    /// kill -9.
    Kill,
    /// Within a transaction.
    KillInTransaction,
    /// Not started again before others had its partitions.
    KillAbsent,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// SIGTERM.
    Drain,
    /// No byte from or to Kafka.
    CutKafka,
    /// No byte from or to the receivers.
    CutReceivers,
    /// A broker's.
    BrokerDown,
}

/// A fault that happened.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Which kind.
    pub kind: FaultKind,
    /// Whom it hit; `None`: all, for it hit a broker.
    pub replica: Option<usize>,
    /// When.
    pub at: Instant,
    /// When it was undone: started again, resumed, healed.
    pub over: Instant,
    /// From there to the replica's next POST.
    pub recovery: Option<Duration>,
}

/// A dead letter of a known record.
#[derive(Clone, Debug)]
pub struct Buried {
    /// Whose.
    pub number: u64,
    /// Its reason.
    pub reason: String,
    /// Whether its bytes are the record's.
    pub exact: bool,
}

/// All that a run has shown.
pub struct Evidence<'a> {
    /// Records 0 to this were published.
    pub published: u64,
    /// The POSTs of each.
    pub posts: &'a HashMap<u64, Vec<Seen>>,
    /// Requests of no such record.
    pub strays: u64,
    /// The dead letters.
    pub buried: &'a [Buried],
    /// What happened, by time.
    pub faults: &'a [Fault],
    /// The waits between attempts; the last repeats.
    pub delays: &'a [Duration],
}

/// What became of the records.
#[derive(Default, Debug)]
pub struct Account {
    /// Records published.
    pub published: u64,
    /// POSTs that arrived.
    pub posts: usize,
    /// Records answered 2xx.
    pub delivered: u64,
    /// Records of tenants without a callback.
    pub skipped: u64,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, u64>,
    /// Of those, of records that were answered 2xx too.
    pub dead_and_delivered: u64,
    /// Neither answered 2xx, nor dead letter, nor without a callback.
    pub lost: Vec<u64>,
    /// With more than ten POSTs.
    pub over_ten: Vec<u64>,
    /// POSTs whose body or tenant is not the record's.
    pub mismatches: Vec<u64>,
    /// Dead letters whose bytes are not the record's, or with a reason that
    /// cannot be.
    pub dead_wrong: Vec<u64>,
    /// With more than one dead letter.
    pub dead_twice: Vec<u64>,
    /// Attempts before they were due.
    pub early: Vec<u64>,
    /// With two POSTs of one attempt's number, or a number not from 1 to 10.
    pub repeated: Vec<u64>,
    /// POSTs of what nobody published or nobody may get.
    pub unknown: u64,
    /// POSTs after a success, by the place of the fault that explains them.
    pub after_success: BTreeMap<usize, usize>,
    /// For each fault, how many successes its replica had had in the
    /// [`COMMITTED_AFTER`] before: what may have been uncommitted.
    pub just_before: BTreeMap<usize, usize>,
    /// Those that no fault explains.
    pub unexplained: Vec<u64>,
    /// POSTs that a stopped or cut-off process had begun, after a later one.
    pub late: u64,
    /// For each fault, how long its replica's partitions stood still.
    pub taken_over: BTreeMap<usize, Duration>,
    /// The longest time without a first attempt from one partition.
    pub idle_max: Duration,
}

impl Account {
    /// Draws it up.
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let mut account = Self {
            published: evidence.published,
            ..Self::default()
        };
        let mut dead: HashMap<u64, Vec<&Buried>> = HashMap::new();
        for buried in evidence.buried {
            dead.entry(buried.number).or_default().push(buried);
            *account.dead.entry(buried.reason.clone()).or_default() += 1;
        }
        account.unknown = evidence.strays;
        for number in evidence.posts.keys().chain(dead.keys()) {
            account.unknown += u64::from(*number >= evidence.published);
        }
        for number in 0..evidence.published {
            let posts = evidence.posts.get(&number).map_or(&[][..], Vec::as_slice);
            let dead = dead.get(&number).map_or(&[][..], Vec::as_slice);
            account.add(number, posts, dead, evidence);
        }
        account.add_recoveries(evidence);
        account.add_just_before(evidence);
        account
    }

    fn add(&mut self, number: u64, posts: &[Seen], dead: &[&Buried], evidence: &Evidence<'_>) {
        self.posts += posts.len();
        let delivered = posts.iter().any(Seen::succeeded);
        let skipped = records::kind(number) == Kind::Unlisted;
        self.delivered += u64::from(delivered);
        self.skipped += u64::from(skipped);
        self.dead_and_delivered += u64::from(delivered && !dead.is_empty());
        if !delivered && dead.is_empty() && !skipped {
            self.lost.push(number);
        }
        if posts.len() > ATTEMPTS_MAX {
            self.over_ten.push(number);
        }
        let wrong = posts.iter().filter(|seen| !seen.exact);
        self.mismatches.extend(wrong.map(|_| number));
        if dead.len() > 1 {
            self.dead_twice.push(number);
        }
        let must_be = records::must_be_dead(number);
        let fits = |buried: &&Buried| match must_be {
            Some(reason) => buried.reason == reason,
            None => buried.reason.starts_with("attempts_"),
        };
        if !dead.iter().all(|buried| buried.exact && fits(buried)) {
            self.dead_wrong.push(number);
        }
        if skipped || must_be.is_some() {
            self.unknown += posts.len() as u64;
        }
        let mut numbers: Vec<u8> = posts.iter().map(|seen| seen.attempt).collect();
        numbers.sort_unstable();
        let within = numbers
            .iter()
            .all(|n| (1..=ATTEMPTS_MAX).contains(&usize::from(*n)));
        if !within || numbers.windows(2).any(|two| two[0] == two[1]) {
            self.repeated.push(number);
        }
        self.add_times(number, posts, evidence);
    }

    fn add_times(&mut self, number: u64, posts: &[Seen], evidence: &Evidence<'_>) {
        for (before, after) in posts.iter().zip(posts.iter().skip(1)) {
            let held_up = || evidence.faults.iter().any(|fault| fault.delays(before));
            if after.attempt <= before.attempt {
                self.late += 1;
                if !evidence.faults.iter().any(|fault| fault.delays(after)) {
                    self.early.push(number);
                }
            } else {
                let steps = usize::from(before.attempt)..usize::from(after.attempt);
                let last = evidence.delays.len() - 1;
                let wait: Duration = steps.map(|k| evidence.delays[(k - 1).min(last)]).sum();
                if after.at.duration_since(before.at) + MARGIN < wait && !held_up() {
                    self.early.push(number);
                }
            }
        }
        let Some(first) = posts.iter().position(Seen::succeeded) else {
            return;
        };
        let success = &posts[first];
        for after in &posts[first + 1..] {
            let all = evidence.faults.iter().enumerate();
            let explaining = all.filter(|(_, fault)| fault.explains(success, after));
            // The replica's own fault, the nearest, before a broker's.
            let nearest = explaining.min_by_key(|(_, fault)| {
                let after = fault.at.saturating_duration_since(success.at);
                let before = success.at.saturating_duration_since(fault.at);
                (fault.replica != Some(success.replica), after.max(before))
            });
            match nearest.map(|(place, _)| place) {
                Some(fault) => *self.after_success.entry(fault).or_default() += 1,
                None => self.unexplained.push(number),
            }
        }
    }

    fn add_just_before(&mut self, evidence: &Evidence<'_>) {
        for success in evidence.posts.values().flatten().filter(|p| p.succeeded()) {
            let from = evidence.faults.partition_point(|f| f.at < success.at);
            for (place, fault) in evidence.faults.iter().enumerate().skip(from) {
                if fault.at > success.at + COMMITTED_AFTER {
                    break;
                }
                if fault.replica == Some(success.replica) {
                    *self.just_before.entry(place).or_default() += 1;
                }
            }
        }
    }

    /// When the partitions of those who were hit had first attempts again.
    fn add_recoveries(&mut self, evidence: &Evidence<'_>) {
        let mut firsts: BTreeMap<u32, Vec<(Instant, usize)>> = BTreeMap::new();
        for (number, posts) in evidence.posts {
            for seen in posts.iter().filter(|seen| seen.attempt == 1) {
                let times = firsts.entry(records::partition(*number)).or_default();
                times.push((seen.at, seen.replica));
            }
        }
        for times in firsts.values_mut() {
            times.sort_unstable();
            for two in times.windows(2) {
                self.idle_max = self.idle_max.max(two[1].0 - two[0].0);
            }
            for (place, fault) in evidence.faults.iter().enumerate() {
                let next = times.partition_point(|(at, _)| *at <= fault.at);
                let Some((last, next)) = next.checked_sub(1).zip(times.get(next)) else {
                    continue;
                };
                if fault.replica == Some(times[last].1) {
                    let took = next.0 - fault.at;
                    let longest = self.taken_over.entry(place).or_default();
                    *longest = took.max(*longest);
                }
            }
        }
    }
}

impl Fault {
    /// Whether a POST after this success may repeat it for this fault's sake:
    /// the success was in flight or not committed when the fault came, or the
    /// POST itself had been begun before it.
    fn explains(&self, success: &Seen, after: &Seen) -> bool {
        let until = match self.kind {
            FaultKind::Drain => return false,
            FaultKind::Kill | FaultKind::KillInTransaction | FaultKind::KillAbsent => {
                self.at + IN_FLIGHT_MAX
            }
            _ => self.over + LATE_MAX,
        };
        let hit = self
            .replica
            .is_none_or(|replica| replica == success.replica);
        let uncommitted = success.at + UNCOMMITTED_MAX >= self.at && success.at <= until;
        (hit && uncommitted && self.at <= after.at) || self.delays(after)
    }

    /// Whether this POST may have been begun long before it arrived.
    fn delays(&self, seen: &Seen) -> bool {
        let holds = matches!(
            self.kind,
            FaultKind::Stop | FaultKind::CutKafka | FaultKind::CutReceivers
        );
        holds
            && self.replica == Some(seen.replica)
            && (self.at..=self.over + LATE_MAX).contains(&seen.at)
    }
}
