//! The ledger: published records against received POSTs and dead letters. A pure
//! account, so tests can plant breaches and show that it finds them.
//!
//! Early: between attempts k and m of a record lie the delays of all steps
//! between. The broker counts each delay from an append that followed the answer
//! to k. The receiver notes both attempts on one monotonic clock. The tolerance
//! is [`MARGIN`]: append times are whole milliseconds, and the replicas' clocks
//! are slewed.

use super::receiver::ReceivedPost;
use super::records::{self, Kind};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The tolerance for early attempts.
pub const MARGIN: Duration = Duration::from_millis(20);
/// The maximum number of attempts of a record.
const ATTEMPTS_MAX: usize = 10;
/// The maximum time for which a success is uncommitted. A longer commit, or a
/// longer end of a transaction, leads to a re-adoption. The engine remembers the
/// outcome there, unless another fault destroys it.
const UNCOMMITTED_MAX: Duration = Duration::from_secs(12);
/// The usual maximum time from a success to its commit.
pub const COMMITTED_AFTER: Duration = Duration::from_millis(100);
/// The maximum time in which a receiver answers the last POSTs of a killed
/// process.
const IN_FLIGHT_MAX: Duration = Duration::from_millis(500);
/// The maximum time after a fault in which an earlier POST may arrive: a stopped
/// process finishes its started POSTs.
const LATE_MAX: Duration = Duration::from_secs(2);

/// The kinds of faults in the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FaultKind {
    Kill,
    /// kill -9 within a transaction.
    KillInTransaction,
    /// kill -9 without a restart before other replicas have its partitions.
    KillAbsent,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// SIGTERM.
    Drain,
    /// No byte from or to Kafka.
    CutKafka,
    /// No byte from or to the receivers.
    CutReceivers,
    BrokerDown,
    /// A tenant that accepts requests and does not answer.
    HangingTenant,
    /// A broker that answers only now and then.
    SlowBroker,
    /// A broker that one replica does not reach.
    UnreachableBroker,
}

impl FaultKind {
    /// Whether an attempt of ringback may get lost, so that it is made again.
    pub fn is_sudden(self) -> bool {
        !matches!(self, Self::Drain | Self::HangingTenant)
    }
}

/// A fault that was performed.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub kind: FaultKind,
    /// The replica of the fault; `None` for a broker, which concerns all
    /// replicas.
    pub replica: Option<usize>,
    /// The number of the tenant that hangs.
    pub tenant: Option<u64>,
    pub at: Instant,
    /// When the fault ended: by a restart, SIGCONT or a healed network.
    pub over: Instant,
    /// The time from the end to the replica's next POST.
    pub recovery: Option<Duration>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The number of its record.
    pub number: u64,
    pub reason: String,
    /// Whether its bytes are the record's.
    pub exact: bool,
}

/// The observations of a run.
pub struct Evidence<'a> {
    /// The number of published records.
    pub published: u64,
    pub posts: &'a HashMap<u64, Vec<ReceivedPost>>,
    /// Requests that are not of a published record.
    pub strays: u64,
    pub dead_letters: &'a [DeadLetter],
    /// In the order of their times.
    pub faults: &'a [Fault],
    /// The delays between attempts; the last one repeats.
    pub delays: &'a [Duration],
}

/// The account of all records.
#[derive(Default, Debug)]
pub struct Account {
    pub published: u64,
    pub posts: usize,
    /// Records with a 2xx.
    pub delivered: u64,
    /// Records of tenants without a callback.
    pub skipped: u64,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, u64>,
    /// Dead letters of records that also got a 2xx.
    pub dead_and_delivered: u64,
    /// Records without a 2xx, a dead letter, or a missing callback.
    pub lost: Vec<u64>,
    /// Records with more than ten POSTs.
    pub over_ten: Vec<u64>,
    /// Records with a POST of another body or tenant.
    pub mismatches: Vec<u64>,
    /// Records with a dead letter of other bytes or an impossible reason.
    pub dead_wrong: Vec<u64>,
    /// Records with more than one dead letter.
    pub dead_twice: Vec<u64>,
    /// Records with an attempt before it was due.
    pub early: Vec<u64>,
    /// Records with two POSTs of one attempt number, or with a number outside 1
    /// to 10.
    pub repeated: Vec<u64>,
    /// POSTs of unpublished records, and of records that must not be sent.
    pub unknown: u64,
    /// POSTs after a success, by the index of the fault that explains them.
    pub after_success: BTreeMap<usize, usize>,
    /// For each fault, the successes of its replica in the [`COMMITTED_AFTER`]
    /// before it: these may have been uncommitted.
    pub just_before: BTreeMap<usize, usize>,
    /// Records with a POST after a success that no fault explains.
    pub unexplained: Vec<u64>,
    /// POSTs of a stopped or cut-off process that arrived after a later attempt.
    pub late: u64,
    /// For each fault, the longest time without a first attempt from its
    /// replica's partitions.
    pub standstill: BTreeMap<usize, Duration>,
    /// The longest time without a first attempt from one partition.
    pub idle_max: Duration,
}

impl Account {
    /// Makes the account of a run.
    pub fn of(evidence: &Evidence<'_>) -> Self {
        let mut account = Self {
            published: evidence.published,
            ..Self::default()
        };
        let mut dead: HashMap<u64, Vec<&DeadLetter>> = HashMap::new();
        for letter in evidence.dead_letters {
            dead.entry(letter.number).or_default().push(letter);
            *account.dead.entry(letter.reason.clone()).or_default() += 1;
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

    fn add(
        &mut self,
        number: u64,
        posts: &[ReceivedPost],
        dead: &[&DeadLetter],
        evidence: &Evidence<'_>,
    ) {
        self.posts += posts.len();
        let delivered = posts.iter().any(ReceivedPost::succeeded);
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
        let fits = |letter: &&DeadLetter| match must_be {
            Some(reason) => letter.reason == reason,
            None => letter.reason.starts_with("attempts_"),
        };
        if !dead.iter().all(|letter| letter.exact && fits(letter)) {
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

    fn add_times(&mut self, number: u64, posts: &[ReceivedPost], evidence: &Evidence<'_>) {
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
        let Some(first) = posts.iter().position(ReceivedPost::succeeded) else {
            return;
        };
        let success = &posts[first];
        for after in &posts[first + 1..] {
            let all = evidence.faults.iter().enumerate();
            let explaining = all.filter(|(_, fault)| fault.explains(success, after));
            // The nearest fault of the replica itself comes before a broker's.
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

    /// Adds, for each fault, when the replica's partitions had first attempts
    /// again.
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
                    let longest = self.standstill.entry(place).or_default();
                    *longest = took.max(*longest);
                }
            }
        }
    }
}

impl Fault {
    /// Returns whether this fault explains a POST after this success. Either the
    /// success was in flight or uncommitted at the fault, or the POST started
    /// before it.
    fn explains(&self, success: &ReceivedPost, after: &ReceivedPost) -> bool {
        let until = match self.kind {
            kind if !kind.is_sudden() => return false,
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

    /// Returns whether this POST may have started long before it arrived.
    fn delays(&self, seen: &ReceivedPost) -> bool {
        let holds = matches!(
            self.kind,
            FaultKind::Stop
                | FaultKind::CutKafka
                | FaultKind::CutReceivers
                | FaultKind::UnreachableBroker
        );
        holds
            && self.replica == Some(seen.replica)
            && (self.at..=self.over + LATE_MAX).contains(&seen.at)
    }
}
