//! Keeps logs and reports small in an outage: each distinct kind at most once
//! in [`QUIET`]. Never decides what is worth saying. Used by all threads of all
//! lives.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The least time between two lines of one kind.
const QUIET: Duration = Duration::from_secs(30);

/// Kinds remembered (L5): librdkafka has some 60 facilities, of which an
/// outage shows fewer than ten.
const KINDS_MAX: usize = 256;

/// When each kind was last let through.
#[derive(Default)]
pub struct Quiet {
    last: Mutex<BTreeMap<String, Said>>,
}

struct Said {
    at: Duration,
    held_back: u64,
}

impl Quiet {
    /// Lets a kind through, with how many were held back before it, or not.
    pub fn pass(&self, kind: &str, now: Duration) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = last.get_mut(kind) {
            if now.saturating_sub(said.at) < QUIET {
                said.held_back += 1;
                return None;
            }
            let held_back = std::mem::take(&mut said.held_back);
            said.at = now;
            return Some(held_back);
        }
        if last.len() >= KINDS_MAX {
            last.clear();
        }
        let said = Said {
            at: now,
            held_back: 0,
        };
        last.insert(kind.to_owned(), said);
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_passes_once_in_thirty_seconds_and_counts_the_rest() {
        let quiet = Quiet::default();
        let at = Duration::from_secs;
        assert_eq!(quiet.pass("a", at(0)), Some(0));
        assert_eq!(quiet.pass("a", at(29)), None);
        assert_eq!(quiet.pass("b", at(29)), Some(0));
        assert_eq!(quiet.pass("a", at(30)), Some(1));
        assert_eq!(quiet.pass("a", at(31)), None);
    }

    #[test]
    fn the_memory_of_kinds_is_bounded() {
        let quiet = Quiet::default();
        for kind in 0..10_000 {
            quiet.pass(&kind.to_string(), Duration::ZERO);
        }
        assert!(quiet.last.lock().expect("not poisoned").len() <= KINDS_MAX);
    }
}
