//! The history of every residence as the outside world saw it: appended,
//! attempted, answered, moved, lost. The receivers' side of the ledger.

use super::{Breach, Law, Verdict};
use ringback::model::attempt::ATTEMPTS_MAX;
use ringback::model::call::CallEnded;
use ringback::model::position::{NextOffset, Offset, Partition, Position, Topic};
use ringback::model::record::{Header, MovedRecord, Record};
use ringback::model::tenant::TenantId;
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// The maximum difference between two clocks.
const SKEW_MAX: Duration = Duration::from_secs(1);

/// Identifies one publication or replay of a record, with its budget of ten
/// attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BudgetId(usize);

#[derive(Debug, Default)]
struct Budget {
    posts: u32,
    succeeded: bool,
    dead_letters: u32,
}

/// Why the service need not handle a record any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gone {
    /// The log was deleted up to a later offset: the record is lost and must be
    /// counted.
    Deleted,
    /// An operator's reset, or the loss of its map, skipped it.
    PassedOver,
}

/// One residence of a record.
#[derive(Clone, Debug)]
pub struct Residence {
    /// The number of the published record.
    pub number: u64,
    pub budget: BudgetId,
    /// The call, if the value is readable.
    pub call: Option<CallEnded>,
    /// Attempts made before the record came here.
    pub attempts_made: u8,
    /// The due time, by the broker's clock.
    pub due: UnixMillis,
    /// POSTs started from here.
    pub posts: u32,
    /// Whether one of these POSTs got a 2xx.
    pub delivered: bool,
    /// Whether a committed transaction moved it on.
    pub moved: bool,
    /// Whether its tenant had no callback at some time since the record was read.
    pub may_skip: bool,
    pub gone: Option<Gone>,
    /// Whether the map that listed it was lost: the service may call it too old.
    pub map_lost: bool,
}

impl Residence {
    /// Returns whether an offset past this record may be committed (L1).
    pub fn is_durable(&self) -> bool {
        self.is_disposed() || self.gone.is_some()
    }

    fn is_disposed(&self) -> bool {
        let skipped = self.may_skip && self.call.is_some();
        self.delivered || self.moved || skipped
    }
}

/// Identifies a residence across recreations of its topic, which reuse the
/// offsets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Posted {
    position: Position,
    number: u64,
    budget: usize,
}

impl Posted {
    /// Returns the number of the published record.
    pub fn number(self) -> u64 {
        self.number
    }
}

/// All residences of a run.
#[derive(Debug, Default)]
pub struct Residences {
    at: BTreeMap<Position, Residence>,
    /// Residences of deleted topics.
    former: HashMap<(Position, u64), Residence>,
    budgets: Vec<Budget>,
    posts_after_success: u64,
}

impl Residences {
    /// Adds a record that was appended to the source topic.
    pub fn published(&mut self, record: &Record, number: u64) {
        let budget = self.new_budget();
        let residence = Residence {
            number,
            budget,
            call: call_of(record.value.as_deref()),
            attempts_made: 0,
            due: UnixMillis(i64::MIN),
            posts: 0,
            delivered: false,
            moved: false,
            may_skip: false,
            gone: None,
            map_lost: false,
        };
        self.at.insert(record.position, residence);
    }

    fn new_budget(&mut self) -> BudgetId {
        self.budgets.push(Budget::default());
        BudgetId(self.budgets.len() - 1)
    }

    /// Adds a move by a committed transaction. `appended_at` is the log-append
    /// time of the copy, `to` its position.
    pub fn moved(&mut self, moved: &MovedRecord, to: Position, appended_at: UnixMillis) -> Verdict {
        let from = moved.from;
        let number = number_of(moved.key.as_deref())
            .ok_or_else(|| Law::L1.breach(format!("the copy of {from:?} has another key")))?;
        let old = self
            .at
            .get_mut(&from)
            .filter(|residence| residence.number == number)
            .or_else(|| self.former.get_mut(&(from, number)));
        let old = old.ok_or_else(|| {
            Law::L1.breach(format!("moved from {from:?}, where no record exists"))
        })?;
        let made = header(&moved.headers, "ringback-attempts-made")
            .and_then(|text| text.parse::<u8>().ok())
            .ok_or_else(|| Law::L3.breach(format!("the copy of {from:?} has no attempts made")))?;
        let reason = header(&moved.headers, "ringback-reason");
        if reason == Some("too_old") {
            return too_old(old, from, to, appended_at);
        }
        Law::L3.check(!old.moved, || {
            format!("{from:?} was moved twice: the record has two budgets")
        })?;
        let started = u8::from(old.posts > 0);
        let charged = made.checked_sub(old.attempts_made);
        Law::L3.check(charged.is_some_and(|c| c >= started && c <= 1), || {
            format!(
                "the copy of {from:?} says {made} attempts made: it had {} and {} were started",
                old.attempts_made, old.posts
            )
        })?;
        old.moved = true;
        let budget = old.budget;
        match to.partition.topic {
            Topic::DeadLetter => self.budgets[budget.0].dead_letters += 1,
            Topic::Source => return Err(Law::L1.breach("moved to the source topic")),
            Topic::Delay(delay) => {
                let residence = Residence {
                    number,
                    budget,
                    call: call_of(moved.value.as_deref()),
                    attempts_made: made,
                    due: appended_at.plus(delay.duration()),
                    posts: 0,
                    delivered: false,
                    moved: false,
                    may_skip: false,
                    gone: None,
                    map_lost: false,
                };
                self.at.insert(to, residence);
            }
        }
        Ok(())
    }

    /// Checks and counts a POST that starts from this residence.
    pub fn posted(
        &mut self,
        position: Position,
        number: u64,
        attempt: u8,
    ) -> Result<Posted, Breach> {
        let residence = self
            .at
            .get_mut(&position)
            .filter(|residence| residence.number == number)
            .or_else(|| self.former.get_mut(&(position, number)));
        let residence = residence.ok_or_else(|| {
            Law::L3.breach(format!("attempt from {position:?}, where no record exists"))
        })?;
        residence.posts += 1;
        let budget = &mut self.budgets[residence.budget.0];
        budget.posts += 1;
        self.posts_after_success += u64::from(budget.succeeded);
        Law::L3.check(residence.posts == 1, || {
            format!("{} POSTs from {position:?}", residence.posts)
        })?;
        Law::L3.check(attempt == residence.attempts_made + 1, || {
            format!(
                "attempt {attempt} from {position:?}, after {} attempts made",
                residence.attempts_made
            )
        })?;
        Law::L3.check(budget.posts <= u32::from(ATTEMPTS_MAX), || {
            format!("{} POSTs of one record, from {position:?}", budget.posts)
        })?;
        Ok(Posted {
            position,
            number,
            budget: residence.budget.0,
        })
    }

    /// Notes a 2xx of the receiver.
    pub fn delivered(&mut self, posted: Posted) {
        self.budgets[posted.budget].succeeded = true;
        if let Some(residence) = self.at.get_mut(&posted.position)
            && residence.budget == BudgetId(posted.budget)
        {
            residence.delivered = true;
        }
    }

    /// Notes tenants without a callback: their waiting records may be skipped.
    pub fn may_skip(&mut self, lacks_callback: impl Fn(&TenantId) -> bool) {
        for residence in self.at.values_mut() {
            let call = residence.call.as_ref();
            residence.may_skip |= call.is_some_and(|call| lacks_callback(&call.tenant));
        }
    }

    /// Notes that a process without a callback for this record's tenant got the
    /// record.
    pub fn may_skip_one(&mut self, position: Position) {
        if let Some(residence) = self.at.get_mut(&position) {
            residence.may_skip = true;
        }
    }

    /// Notes that a partition's map was lost and all records from `from` on are
    /// replayed. A source record gets a new budget. A copy in a delay topic may
    /// be called too old. Records before `from` are skipped.
    pub fn replayed(&mut self, partition: Partition, from: NextOffset) {
        let mut next = self.budgets.len();
        for (_, residence) in self.at.range_mut(whole(partition, from)) {
            residence.gone = None;
            if partition.topic == Topic::Source {
                residence.budget = BudgetId(next);
                residence.posts = 0;
                residence.delivered = false;
                residence.moved = false;
                residence.may_skip = false;
                next += 1;
            } else {
                residence.map_lost = true;
            }
        }
        self.budgets.resize_with(next, Budget::default);
        self.gone_before(partition, from, Gone::PassedOver);
    }

    /// Notes that the records before `start` were deleted, or skipped by an
    /// operator.
    pub fn gone_before(&mut self, partition: Partition, start: NextOffset, why: Gone) {
        let before = partition.at(Offset(i64::MIN))..partition.at(Offset(start.0));
        for (_, residence) in self.at.range_mut(before) {
            let already_deleted = residence.gone.is_some() && why == Gone::Deleted;
            if !residence.is_disposed() && !already_deleted {
                residence.gone = Some(why);
            }
        }
    }

    /// Notes that a partition was deleted with its topic.
    pub fn deleted(&mut self, partition: Partition) {
        let range = self.at.range(whole(partition, NextOffset(i64::MIN)));
        let positions: Vec<Position> = range.map(|(position, _)| *position).collect();
        for position in positions {
            if let Some(residence) = self.at.remove(&position) {
                self.former.insert((position, residence.number), residence);
            }
        }
    }

    /// Returns the residence at this position.
    pub fn get(&self, position: Position) -> Option<&Residence> {
        self.at.get(&position)
    }

    /// Returns the residences of a partition from `from` to before `to`.
    pub fn between(
        &self,
        partition: Partition,
        from: NextOffset,
        to: NextOffset,
    ) -> impl Iterator<Item = (Offset, &Residence)> {
        let range = partition.at(Offset(from.0))..partition.at(Offset(to.0.max(from.0)));
        self.at.range(range).map(|(p, r)| (p.offset, r))
    }

    /// Returns the number of POSTs of records that already had a 2xx.
    pub fn posts_after_success(&self) -> u64 {
        self.posts_after_success
    }

    /// Returns the number of POSTs.
    pub fn posts(&self) -> u64 {
        self.budgets.iter().map(|b| u64::from(b.posts)).sum()
    }

    /// Returns the number of POSTs of the record at this position, within its
    /// current budget.
    pub fn posts_of(&self, position: Position) -> u32 {
        let residence = self.at.get(&position);
        residence.map_or(0, |residence| self.budgets[residence.budget.0].posts)
    }

    /// Returns the number of publications and replays; each has a budget.
    pub fn budgets(&self) -> u64 {
        self.budgets.len() as u64
    }

    /// Returns the number of dead letters without the ones called too old.
    pub fn dead_letters(&self) -> u64 {
        let all = self.budgets.iter();
        all.map(|b| u64::from(b.dead_letters)).sum()
    }

    /// Returns the number of records that were deleted before they had a
    /// disposition.
    pub fn lost(&self) -> u64 {
        let lost = |r: &&Residence| r.gone == Some(Gone::Deleted) && !r.is_disposed();
        self.at.values().filter(lost).count() as u64
    }

    /// Checks the end of a run: every record has a disposition (L1) and became at
    /// most one dead letter (L3).
    pub fn ended(&self) -> Verdict {
        for (position, residence) in &self.at {
            Law::L1.check(residence.is_durable(), || {
                format!("{position:?} has no disposition: {residence:?}")
            })?;
            let times = self.budgets[residence.budget.0].dead_letters;
            Law::L3.check(times <= 1, || {
                format!("{position:?} became {times} dead letters")
            })?;
        }
        Ok(())
    }
}

/// Checks a copy that is dead-lettered as too old: its partition's map was lost,
/// it is due, and no attempt is charged.
fn too_old(old: &mut Residence, from: Position, to: Position, now: UnixMillis) -> Verdict {
    Law::L1.check(to.partition.topic == Topic::DeadLetter, || {
        format!("{from:?} is called too old and went to {to:?}")
    })?;
    Law::L1.check(std::mem::take(&mut old.map_lost), || {
        format!("{from:?} is wrongly called too old: {old:?}")
    })?;
    Law::L1.check(old.due <= now.plus(SKEW_MAX), || {
        format!("{from:?} is called too old at {now} before it is due: {old:?}")
    })?;
    old.moved = true;
    Ok(())
}

/// Returns the range of all positions of a partition from this offset on.
fn whole(partition: Partition, from: NextOffset) -> std::ops::RangeInclusive<Position> {
    let at = |offset| partition.at(Offset(offset));
    at(from.0)..=at(i64::MAX)
}

fn call_of(value: Option<&[u8]>) -> Option<CallEnded> {
    CallEnded::read(value?).ok()
}

/// Returns the number in a record key of the form `<group>-<number>`.
pub fn number_of(key: Option<&[u8]>) -> Option<u64> {
    let text = std::str::from_utf8(key?).ok()?;
    text.rsplit_once('-')?.1.parse().ok()
}

/// Returns the value of the only header with this name.
fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    let mut found = headers.iter().filter(|h| h.name == name);
    let value = found.next()?.value.as_ref()?;
    let alone = found.next().is_none();
    alone.then(|| std::str::from_utf8(value).ok())?
}
