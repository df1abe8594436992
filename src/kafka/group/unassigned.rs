//! Finds partitions that the group has assigned to no member. In a cooperative
//! rebalance a partition changes its member in two steps. Its member gives it up
//! and joins again; only then the group assigns it. A member may die or be dropped
//! between the two steps. It comes back under its static name with its old
//! assignment, and the group never notices that the second step is missing.
//!
//! The same look shows members of other programs that have partitions. ringback never
//! gets their records.
//!
//! Decides nothing. Used by the reader thread.
//!
//! Cost: one request to each broker and a few small requests.

use super::context::Consumer;
use crate::kafka::session_state::SessionState;
use crate::model::message::ForeignMember;
use crate::model::position::{Partition, TopicNames};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use std::collections::BTreeSet;
use std::time::Duration;

/// The limit of each request.
const CALL: Duration = Duration::from_secs(1);

/// The result of a look.
#[derive(Default)]
pub struct Found {
    /// The subscribed partitions that no member has.
    pub unassigned: BTreeSet<Partition>,
    /// None while the group does not tell it.
    pub foreign: Option<Vec<ForeignMember>>,
}

/// Looks at the assignments of the group. Finds nothing while the group rebalances or
/// does not answer.
pub fn look(state: &SessionState, consumer: &Consumer) -> Option<Found> {
    let found = request(state, consumer);
    found.unwrap_or_else(|error| {
        tracing::debug!(%error, "the group's assignment cannot be read");
        None
    })
}

fn request(state: &SessionState, consumer: &Consumer) -> KafkaResult<Option<Found>> {
    let (client, names) = (consumer.client(), &state.settings.topics);
    let groups = client.fetch_group_list(Some(&state.settings.group), CALL)?;
    let group = groups.groups().iter().find(|g| g.state() == "Stable");
    let Some(group) = group else {
        return Ok(None);
    };
    let mut assigned = BTreeSet::new();
    let mut foreign = Vec::new();
    for member in group.members() {
        let Some(partitions) = read_assignment(names, member.assignment().unwrap_or_default())
        else {
            return Ok(None);
        };
        assigned.extend(partitions.iter().copied());
        if !partitions.is_empty() && !is_ringback(member.id()) {
            foreign.push(ForeignMember {
                member: member.id().to_owned(),
                client: member.client_id().to_owned(),
                host: member.client_host().to_owned(),
                partitions,
            });
        }
    }
    let mut all = BTreeSet::new();
    for topic in consumer.subscription()?.elements() {
        let metadata = client.fetch_metadata(Some(topic.topic()), CALL)?;
        for found in metadata.topics() {
            let numbers = found.partitions().iter().map(|partition| partition.id());
            all.extend(partitions(names, found.name(), numbers));
        }
    }
    Ok(Some(Found {
        unassigned: all.difference(&assigned).copied().collect(),
        foreign: Some(foreign),
    }))
}

/// Returns whether a member's id is that of a process of ringback. Kafka makes it of
/// the static name, which ends with a hash of the topics, and of a UUID.
fn is_ringback(member: &str) -> bool {
    const UUID: usize = 36;
    let name = member.len().checked_sub(UUID + 1);
    let name = name.and_then(|end| member.get(..end));
    let hash = name.and_then(|name| name.rsplit_once('-'));
    hash.is_some_and(|(_, hash)| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns the partitions of a topic by its name; none of a foreign topic.
fn partitions(
    names: &TopicNames,
    topic: &str,
    numbers: impl IntoIterator<Item = i32>,
) -> impl Iterator<Item = Partition> {
    let topic = names.topic(topic);
    let all = numbers.into_iter();
    all.filter_map(move |number| Some(topic?.partition(number)))
}

/// Returns the partitions of a member's assignment, or `None` when it cannot be
/// read. An empty assignment has no partitions.
///
/// Source: Kafka's `ConsumerProtocolAssignment.json`: a version, then topics as
/// their name and the numbers of the partitions, then user data.
fn read_assignment(names: &TopicNames, mut bytes: &[u8]) -> Option<Vec<Partition>> {
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
        let mut numbers = Vec::new();
        for _ in 0..i32::from_be_bytes(take(bytes)?) {
            numbers.push(i32::from_be_bytes(take(bytes)?));
        }
        assigned.extend(partitions(names, name, numbers));
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
    use crate::model::position::Topic;

    #[test]
    fn members_of_other_programs_have_no_hash_of_topics_in_their_ids() {
        let uuid = "d290f1ee-6c54-4b01-90e6-d701748f0851";
        for (name, expected) in [
            ("ringback-0-1a2b3c4d", true),
            ("a-00000000", true),
            ("rdkafka", false),
            ("console-consumer", false),
            ("consumer-ringback-1", false),
            ("ringback-0-1a2b3c4g", false),
        ] {
            assert_eq!(is_ringback(&format!("{name}-{uuid}")), expected, "{name}");
        }
        assert!(!is_ringback("short"));
    }

    #[test]
    fn an_assignment_is_read_whole_or_not_at_all() {
        let names = TopicNames::new("a");
        let read = |bytes| read_assignment(&names, bytes);
        let bytes = [
            &[0, 3, 0, 0, 0, 2][..],
            &[0, 1, b'a', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 7],
            &[0, 2, b'b', b'c', 0, 0, 0, 0],
            &[255, 255, 255, 255],
        ]
        .concat();
        let expected = [0, 263].map(|number| Topic::Source.partition(number));
        assert_eq!(read(&bytes), Some(expected.to_vec()));
        assert_eq!(read(&[]), Some(Vec::new()));
        for length in 1..bytes.len() - 4 {
            assert_eq!(read(&bytes[..length]), None, "{length} bytes");
        }
        let endless = [0, 0, 127, 255, 255, 255];
        assert_eq!(read(&endless), None);
    }
}
