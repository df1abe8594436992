//! Notices partitions that the group has given to nobody. Cooperatively they
//! change hands in two steps: their owner gives them up and joins again, and
//! only then they are assigned anew. An owner that dies or is dropped between
//! the two comes back under its static name to what it was assigned, and the
//! group never notices that the second step is missing. Then this member leaves
//! and joins anew, which is a rebalance of all.
//!
//! Decides when that is needed, and nothing else. Used by the reader thread.
//!
//! Cost: a look is one request to every broker and a few small ones, some
//! seconds after each rebalance and then every half minute.

use super::context::Consumer;
use super::life::Shared;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use std::collections::BTreeSet;
use std::time::Duration;

/// After a rebalance the next one of a series has had its time.
const AFTER_REBALANCE: Duration = Duration::from_secs(3);
/// While nothing happens.
const EVERY: Duration = Duration::from_secs(30);
/// Before what was seen is believed; and up to as much again, different for
/// each member, so that one joins anew and not all.
const CONFIRM: Duration = Duration::from_millis(1_500);
/// For each request.
const CALL: Duration = Duration::from_secs(1);

/// A partition by its topic's name.
type Named = (String, i32);

/// What was seen, and when to look again.
pub struct UnownedWatch {
    next: Duration,
    seen: BTreeSet<Named>,
}

impl UnownedWatch {
    /// Nothing was seen yet.
    pub fn new(now: Duration) -> Self {
        Self {
            next: now + AFTER_REBALANCE,
            seen: BTreeSet::new(),
        }
    }

    /// When to look.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// A rebalance is under way, or just was.
    pub fn rebalanced(&mut self, now: Duration) {
        *self = Self::new(now);
    }

    /// Looks; whether this member is to leave and join anew.
    pub fn look(&mut self, shared: &Shared, consumer: &Consumer) -> bool {
        let found = match unowned(shared, consumer) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "the group's assignment is not known");
                BTreeSet::new()
            }
        };
        let again = found.intersection(&self.seen).next().is_some();
        let now = shared.now();
        self.next = now
            + if found.is_empty() {
                EVERY
            } else {
                confirm(shared)
            };
        if again {
            let partitions = found.len();
            tracing::warn!(
                partitions,
                "partitions are assigned to nobody: joining anew"
            );
            self.rebalanced(now);
            return true;
        }
        self.seen = found;
        false
    }
}

fn confirm(shared: &Shared) -> Duration {
    let own = crc32fast::hash(shared.settings.instance.as_bytes());
    CONFIRM + CONFIRM * (own % 16) / 16
}

/// What of our topics no member owns; nothing while the group rebalances.
fn unowned(shared: &Shared, consumer: &Consumer) -> KafkaResult<BTreeSet<Named>> {
    let client = consumer.client();
    let groups = client.fetch_group_list(Some(&shared.settings.group), CALL)?;
    let group = groups.groups().iter().find(|g| g.state() == "Stable");
    let Some(group) = group else {
        return Ok(BTreeSet::new());
    };
    let mut owned = BTreeSet::new();
    for member in group.members() {
        let Some(theirs) = assigned(member.assignment().unwrap_or_default()) else {
            return Ok(BTreeSet::new());
        };
        owned.extend(theirs);
    }
    let mut all = BTreeSet::new();
    for topic in consumer.subscription()?.elements() {
        let metadata = client.fetch_metadata(Some(topic.topic()), CALL)?;
        for found in metadata.topics() {
            let partitions = found.partitions().iter();
            all.extend(partitions.map(|p| (found.name().to_owned(), p.id())));
        }
    }
    Ok(all.difference(&owned).cloned().collect())
}

/// The partitions in a member's assignment; none where it is empty, `None` where
/// it cannot be read.
///
/// Source: Kafka's `ConsumerProtocolAssignment.json`: a version, then topics as
/// their name and the numbers of the partitions, then user data.
fn assigned(mut bytes: &[u8]) -> Option<Vec<Named>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let bytes = &mut bytes;
    let _version: [u8; 2] = take(bytes)?;
    let mut assigned = Vec::new();
    for _ in 0..i32::from_be_bytes(take(bytes)?) {
        let length = usize::from(u16::from_be_bytes(take(bytes)?));
        let (name, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        let name = std::str::from_utf8(name).ok()?;
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            let number = i32::from_be_bytes(take(bytes)?);
            assigned.push((name.to_owned(), number));
        }
    }
    Some(assigned)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_whole_or_not_at_all() {
        let bytes = [
            &[0, 3, 0, 0, 0, 2][..],
            &[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 7],
            &[0, 2, b'b', b'c', 0, 0, 0, 0],
            &[255, 255, 255, 255],
        ]
        .concat();
        let expected = vec![("a".to_owned(), 0), ("a".to_owned(), 263)];
        assert_eq!(assigned(&bytes), Some(expected));
        assert_eq!(assigned(&[]), Some(Vec::new()));
        for length in 1..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..length]), None, "{length} bytes");
        }
        let endless = [0, 0, 127, 255, 255, 255];
        assert_eq!(assigned(&endless), None);
    }
}
