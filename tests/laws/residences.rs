//! What became of every residence, as the outside world saw it: appended,
//! attempted, answered, moved. The receiver's side of the ledger.

use super::{Law, Verdict};
use ringback::model::attempt::ATTEMPTS_MAX;
use ringback::model::call::CallEnded;
use ringback::model::position::{NextOffset, Offset, Partition, Position, Topic};
use ringback::model::record::{Header, MovedRecord, Record};
use ringback::model::tenant::TenantId;
use ringback::model::time::UnixMillis;
use std::collections::{BTreeMap, HashMap, HashSet};

/// One residence of a record.
#[derive(Debug)]
pub struct Residence {
    /// The source record that it goes back to.
    pub published: Position,
    /// What could be read of it.
    pub call: Option<CallEnded>,
    /// Attempts made before it came here.
    pub attempts_made: u8,
    /// When it is due, by the broker's clock.
    pub due: UnixMillis,
    /// POSTs that were started from here.
    pub posts: u32,
    /// Whether one of them was answered 2xx.
    pub delivered: bool,
    /// Whether a committed transaction moved it on.
    pub moved: bool,
    /// Whether its tenant had no callback at some time since it was read.
    pub may_skip: bool,
}

impl Residence {
    /// Whether an offset may be committed past it (L1).
    pub fn is_durable(&self) -> bool {
        self.delivered || self.moved || (self.may_skip && self.call.is_some())
    }
}

/// All residences of a run.
#[derive(Debug, Default)]
pub struct Residences {
    at: BTreeMap<Position, Residence>,
    posts: HashMap<Position, u32>,
    dead_letters: HashMap<Position, u32>,
    succeeded: HashSet<Position>,
    posts_after_success: u64,
}

impl Residences {
    /// A record of the source topic was appended.
    pub fn published(&mut self, record: &Record) {
        let residence = Residence {
            published: record.position,
            call: call_of(record.value.as_deref()),
            attempts_made: 0,
            due: UnixMillis(i64::MIN),
            posts: 0,
            delivered: false,
            moved: false,
            may_skip: false,
        };
        self.at.insert(record.position, residence);
    }

    /// A committed transaction moved a record. The log-append time of its copy
    /// is `appended_at`, its partition and offset are `to`.
    pub fn moved(&mut self, moved: &MovedRecord, to: Position, appended_at: UnixMillis) -> Verdict {
        let from = moved.from;
        let old = self
            .at
            .get_mut(&from)
            .ok_or_else(|| Law::L1.breach(format!("moved from {from:?}, where no record is")))?;
        Law::L3.check(!old.moved, || {
            format!("{from:?} was moved twice: the record has two budgets")
        })?;
        let made = attempts_made(&moved.headers)
            .ok_or_else(|| Law::L3.breach(format!("the copy of {from:?} has no attempts made")))?;
        let started = u8::from(old.posts > 0);
        let charged = made.checked_sub(old.attempts_made);
        Law::L3.check(charged.is_some_and(|c| c >= started && c <= 1), || {
            format!(
                "the copy of {from:?} says {made} attempts made: it had {} and {} were started",
                old.attempts_made, old.posts
            )
        })?;
        old.moved = true;
        let published = old.published;
        match to.partition.topic {
            Topic::DeadLetter => *self.dead_letters.entry(published).or_default() += 1,
            Topic::Source => return Err(Law::L1.breach("moved to the source topic")),
            Topic::Delay(delay) => {
                let residence = Residence {
                    published,
                    call: call_of(moved.value.as_deref()),
                    attempts_made: made,
                    due: appended_at.plus(delay.duration()),
                    posts: 0,
                    delivered: false,
                    moved: false,
                    may_skip: false,
                };
                self.at.insert(to, residence);
            }
        }
        Ok(())
    }

    /// A POST starts from here as the `attempt`th.
    pub fn posted(&mut self, position: Position, attempt: u8) -> Verdict {
        let residence = self.at.get_mut(&position).ok_or_else(|| {
            Law::L3.breach(format!("attempt from {position:?}, where no record is"))
        })?;
        residence.posts += 1;
        let posts = self.posts.entry(residence.published).or_default();
        *posts += 1;
        self.posts_after_success += u64::from(self.succeeded.contains(&residence.published));
        Law::L3.check(residence.posts == 1, || {
            format!("{} POSTs from {position:?}", residence.posts)
        })?;
        Law::L3.check(attempt == residence.attempts_made + 1, || {
            format!(
                "attempt {attempt} from {position:?}, where {} were made",
                residence.attempts_made
            )
        })?;
        Law::L3.check(*posts <= u32::from(ATTEMPTS_MAX), || {
            format!(
                "{posts} POSTs of the record published at {:?}",
                residence.published
            )
        })
    }

    /// The receiver answered 2xx.
    pub fn delivered(&mut self, position: Position) {
        if let Some(residence) = self.at.get_mut(&position) {
            residence.delivered = true;
            self.succeeded.insert(residence.published);
        }
    }

    /// These tenants have no callback now: what they have waiting may be skipped.
    pub fn may_skip(&mut self, lacks_callback: impl Fn(&TenantId) -> bool) {
        for residence in self.at.values_mut() {
            let call = residence.call.as_ref();
            residence.may_skip |= call.is_some_and(|call| lacks_callback(&call.tenant));
        }
    }

    /// One record was handed to a process that knows no callback of its tenant.
    pub fn may_skip_one(&mut self, position: Position) {
        if let Some(residence) = self.at.get_mut(&position) {
            residence.may_skip = true;
        }
    }

    /// The residence at this position.
    pub fn get(&self, position: Position) -> Option<&Residence> {
        self.at.get(&position)
    }

    /// The residences of a partition from one place to before another.
    pub fn between(
        &self,
        partition: Partition,
        from: NextOffset,
        to: NextOffset,
    ) -> impl Iterator<Item = (Offset, &Residence)> {
        let position = |offset| Position { partition, offset };
        let range = position(Offset(from.0))..position(Offset(to.0.max(from.0)));
        self.at.range(range).map(|(p, r)| (p.offset, r))
    }

    /// POSTs of records that had been answered 2xx before.
    pub fn posts_after_success(&self) -> u64 {
        self.posts_after_success
    }

    /// How often a published record became a dead letter.
    pub fn dead_letters(&self) -> &HashMap<Position, u32> {
        &self.dead_letters
    }

    /// POSTs of each published record.
    pub fn posts(&self) -> &HashMap<Position, u32> {
        &self.posts
    }
}

fn call_of(value: Option<&[u8]>) -> Option<CallEnded> {
    CallEnded::read(value?).ok()
}

fn attempts_made(headers: &[Header]) -> Option<u8> {
    let mut found = headers
        .iter()
        .filter(|h| h.name == "ringback-attempts-made");
    let value = found.next()?.value.as_ref()?;
    let alone = found.next().is_none();
    alone.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}
