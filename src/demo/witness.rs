//! The POSTs of each record as the receivers saw them. The service's own numbers
//! are checked against them. Never asks the service. The receivers write it, and
//! the summary reads it.

use super::tenants::Role;
use crate::model::attempt::ATTEMPTS_MAX;
use std::collections::HashMap;

/// Every published record with its POSTs.
#[derive(Default)]
pub struct Witness {
    records: HashMap<String, WitnessedRecord>,
    faults: Vec<String>,
}

struct WitnessedRecord {
    role: Role,
    value: Vec<u8>,
    posts: u64,
    delivered: bool,
}

/// The numbers of one tenant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub published: u64,
    /// Records with at least one POST.
    pub posted: u64,
    /// Records that were answered 2xx.
    pub delivered: u64,
    pub posts: u64,
    /// The most POSTs for one record.
    pub posts_most: u64,
}

impl Witness {
    /// Notes a record that is about to be published.
    pub fn publish(&mut self, role: Role, id: &str, value: &[u8]) {
        let entry = WitnessedRecord {
            role,
            value: value.to_vec(),
            posts: 0,
            delivered: false,
        };
        self.records.insert(id.to_owned(), entry);
    }

    /// Notes a POST at this tenant's callback.
    pub fn posted(&mut self, role: Role, id: &str, attempt: &str, body: &[u8]) {
        let Some(entry) = self.records.get_mut(id) else {
            self.faults
                .push(format!("{id} was POSTed and never published"));
            return;
        };
        entry.posts += 1;
        let mut fault = |what: &str| self.faults.push(format!("{id}: {what}"));
        if entry.role != role {
            fault("POSTed to another tenant");
        }
        if entry.value != body {
            fault("the body is not what was published");
        }
        if entry.delivered {
            fault("POSTed after its 2xx");
        }
        if entry.posts > u64::from(ATTEMPTS_MAX) {
            fault("POSTed more than 10 times");
        }
        // An attempt in doubt is charged without a POST. No POST is uncharged.
        if attempt.parse().is_ok_and(|n: u64| n < entry.posts) || attempt.parse::<u8>().is_err() {
            fault("ringback-attempt is behind the POSTs");
        }
    }

    /// Notes that a POST is answered 2xx.
    pub fn delivered(&mut self, id: &str) {
        if let Some(entry) = self.records.get_mut(id) {
            entry.delivered = true;
        }
    }

    /// Returns one tenant's numbers.
    #[must_use]
    pub fn tally(&self, role: Role) -> Tally {
        let mut tally = Tally::default();
        for entry in self.records.values().filter(|entry| entry.role == role) {
            tally.published += 1;
            tally.posted += u64::from(entry.posts > 0);
            tally.delivered += u64::from(entry.delivered);
            tally.posts += entry.posts;
            tally.posts_most = tally.posts_most.max(entry.posts);
        }
        tally
    }

    /// Returns the broken promises.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        &self.faults
    }
}

impl std::ops::Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            published: self.published + other.published,
            posted: self.posted + other.posted,
            delivered: self.delivered + other.delivered,
            posts: self.posts + other.posts,
            posts_most: self.posts_most.max(other.posts_most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_is_a_fault() {
        #[track_caller]
        fn check(role: Role, id: &str, attempt: &str, body: &[u8], faults: usize) {
            let mut witness = Witness::default();
            witness.publish(Role::Slow, "a", b"value");
            witness.posted(Role::Slow, "a", "1", b"value");
            witness.posted(role, id, attempt, body);
            assert_eq!(witness.faults().len(), faults, "{:?}", witness.faults());
        }
        check(Role::Slow, "a", "2", b"value", 0);
        check(Role::Slow, "a", "3", b"value", 0);
        check(Role::Slow, "a", "1", b"value", 1);
        check(Role::Slow, "a", "", b"value", 1);
        check(Role::Slow, "b", "1", b"value", 1);
        check(Role::Dead, "a", "2", b"value", 1);
        check(Role::Slow, "a", "2", b"other", 1);

        let mut witness = Witness::default();
        witness.publish(Role::Slow, "a", b"value");
        for n in 1..=11 {
            witness.posted(Role::Slow, "a", &n.to_string(), b"value");
        }
        assert_eq!(witness.faults().len(), 1);
        witness.delivered("a");
        witness.posted(Role::Slow, "a", "12", b"value");
        assert_eq!(witness.faults().len(), 3);
        assert_eq!(witness.tally(Role::Slow).posts_most, 12);
    }
}
