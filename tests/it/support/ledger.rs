//! The promises, checked from outside: what was published, against what
//! arrived at the receiver and what lies among the dead letters.

use super::dead_letters::FoundRecord;
use super::receiver::{Post, Posts};
use ringback::model::attempt::ATTEMPTS_MAX;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

/// What was published.
#[derive(Clone, Default)]
pub struct Ledger {
    published: BTreeMap<String, Published>,
}

#[derive(Clone)]
struct Published {
    tenant: String,
    sum: (usize, u32),
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Records published.
    pub published: usize,
    /// Of those, answered 2xx.
    pub delivered: usize,
    /// Of those, among the dead letters.
    pub dead_lettered: usize,
    /// The number of POSTs.
    pub posts: usize,
    /// Neither answered 2xx nor among the dead letters.
    pub lost: Vec<String>,
    /// With more than ten POSTs.
    pub over_ten: Vec<String>,
    /// With a body, or a tenant, that is not the record's.
    pub altered: Vec<String>,
    /// POSTs of a record that was never published.
    pub unknown: Vec<String>,
    /// With attempt numbers that do not rise, or are not 1 to 10.
    pub out_of_order: Vec<String>,
    /// With two POSTs closer than the delay between them.
    pub early: Vec<String>,
    /// When POSTs arrived of a record that had been answered 2xx before.
    pub after_success: Vec<Instant>,
    /// The shortest time between two POSTs of a record.
    pub shortest_gap: Option<Duration>,
}

impl Ledger {
    /// Notes a record and the body that must arrive for it.
    pub fn publish(&mut self, id: &str, tenant: &str, body: &[u8]) {
        let published = Published {
            tenant: tenant.to_owned(),
            sum: (body.len(), crc32fast::hash(body)),
        };
        let before = self.published.insert(id.to_owned(), published);
        assert!(before.is_none(), "{id} is published twice");
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.published.len()
    }

    /// Their ids.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.published.keys().map(String::as_str)
    }

    /// Whether every record was answered 2xx or is among the dead letters.
    pub fn settled(&self, posts: &Posts, dead: &[FoundRecord]) -> bool {
        self.unsettled_now(posts, dead).next().is_none()
    }

    /// The records that are neither, each with its POSTs.
    fn unsettled_now(&self, posts: &Posts, dead: &[FoundRecord]) -> impl Iterator<Item = String> {
        let dead = ids(dead);
        self.ids().filter_map(move |id| {
            let posts = posts.get(id).map_or(&[][..], Vec::as_slice);
            let told = || {
                posts
                    .iter()
                    .map(|p| (p.attempt, p.status))
                    .collect::<Vec<_>>()
            };
            let settled = dead.contains(id) || posts.iter().any(Post::succeeded);
            (!settled).then(|| format!("{id}: {:?}", told()))
        })
    }

    /// The records that are not settled, each with its POSTs.
    pub fn unsettled(&self, posts: &Posts, dead: &[FoundRecord]) -> Vec<String> {
        self.unsettled_now(posts, dead).collect()
    }

    /// Draws up the account; `delay` is the shortest wait between attempts.
    pub fn account(&self, posts: &Posts, dead: &[FoundRecord], delay: Duration) -> Account {
        let dead = ids(dead);
        let mut account = Account {
            published: self.published.len(),
            ..Account::default()
        };
        for id in posts.keys().filter(|id| !self.published.contains_key(*id)) {
            account.unknown.push(id.clone());
        }
        for (id, published) in &self.published {
            let posts = posts.get(id).map_or(&[][..], Vec::as_slice);
            let delivered = posts.iter().any(Post::succeeded);
            account.delivered += usize::from(delivered);
            account.dead_lettered += usize::from(dead.contains(id.as_str()));
            if !delivered && !dead.contains(id.as_str()) {
                account.lost.push(id.clone());
            }
            account.add(id, published, posts, delay);
        }
        account
    }
}

impl Account {
    fn add(&mut self, id: &str, published: &Published, posts: &[Post], delay: Duration) {
        self.posts += posts.len();
        if posts.len() > usize::from(ATTEMPTS_MAX) {
            self.over_ten.push(id.to_owned());
        }
        let same = |p: &Post| p.sum == published.sum && p.tenant == published.tenant;
        if !posts.iter().all(same) {
            self.altered.push(id.to_owned());
        }
        let rising = posts.windows(2).all(|two| two[0].attempt < two[1].attempt);
        let within = |p: &Post| (1..=ATTEMPTS_MAX).contains(&p.attempt);
        if !rising || !posts.iter().all(within) {
            self.out_of_order.push(id.to_owned());
        }
        for two in posts.windows(2) {
            let gap = two[1].at.duration_since(two[0].at);
            self.shortest_gap = Some(self.shortest_gap.map_or(gap, |least| least.min(gap)));
        }
        let close = |two: &[Post]| two[1].at.duration_since(two[0].at) < delay;
        if posts.windows(2).any(close) {
            self.early.push(id.to_owned());
        }
        if let Some(first) = posts.iter().position(Post::succeeded) {
            let after = posts[first + 1..].iter().map(|p| p.at);
            self.after_success.extend(after);
        }
    }

    /// Checks every promise that holds whatever happens.
    #[track_caller]
    pub fn assert_kept(&self) {
        for (what, ids) in [
            ("lost", &self.lost),
            ("over ten POSTs", &self.over_ten),
            ("altered", &self.altered),
            ("not published", &self.unknown),
            ("attempts out of order", &self.out_of_order),
            ("too early", &self.early),
        ] {
            let few: Vec<_> = ids.iter().take(5).collect();
            assert!(ids.is_empty(), "{what}: {few:?}\n{self}");
        }
    }

    /// The same, and what holds where nothing was killed: no POST after a
    /// success, and no record both delivered and dead-lettered.
    #[track_caller]
    pub fn assert_exact(&self) {
        self.assert_kept();
        assert!(self.after_success.is_empty(), "after a success\n{self}");
        let ended = self.delivered + self.dead_lettered;
        assert_eq!(ended, self.published, "ended twice\n{self}");
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, what: &str, count: usize| {
            writeln!(f, "  {what:<28}{count:>8}")
        };
        row(f, "published", self.published)?;
        row(f, "delivered", self.delivered)?;
        row(f, "dead-lettered", self.dead_lettered)?;
        row(f, "POSTs", self.posts)?;
        row(f, "lost", self.lost.len())?;
        row(f, "over ten POSTs", self.over_ten.len())?;
        row(f, "altered", self.altered.len())?;
        row(f, "not published", self.unknown.len())?;
        row(f, "attempts out of order", self.out_of_order.len())?;
        row(f, "too early", self.early.len())?;
        row(f, "POSTs after a success", self.after_success.len())?;
        let gap = self.shortest_gap.unwrap_or_default();
        writeln!(f, "  {:<28}{:>8} ms", "shortest gap", gap.as_millis())
    }
}

fn ids(dead: &[FoundRecord]) -> HashSet<String> {
    dead.iter().filter_map(FoundRecord::id).collect()
}
