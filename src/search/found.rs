//! A record as it lies in a topic: its position, and its identity and history as
//! far as they can be read. Never holds its value.

use crate::model::call::{CallEnded, RecordId};
use crate::model::disposition::DeadLetterReason;
use crate::model::headers::Marks;
use crate::model::position::{Offset, Topic};
use crate::model::record::Header;
use crate::model::schedule;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A position by the name of its topic, as text `topic/partition/offset`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordPlace {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: Offset,
}

impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for RecordPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a position: write topic/partition/offset");
        let mut parts = text.rsplitn(3, '/');
        let offset: i64 = number(parts.next()).ok_or_else(wrong)?;
        let partition: i32 = number(parts.next()).ok_or_else(wrong)?;
        let topic = parts.next().filter(|topic| !topic.is_empty());
        Ok(Self {
            topic: topic.ok_or_else(wrong)?.into(),
            partition,
            offset: Offset(offset),
        })
    }
}

/// Reads a number of digits only.
fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    let digits = text.filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// A record that was found, without its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundRecord {
    pub place: RecordPlace,
    pub topic: Topic,
    /// Of the broker or of the producer, by the setting of the topic.
    pub timestamp: UnixMillis,
    /// `Err` where the value is no call-ended record, with the reason.
    pub identity: Result<(RecordId, TenantId), DeadLetterReason>,
    /// Also where the value has an id but no usable tenant.
    id: Option<RecordId>,
    /// Empty in the source topic: there headers of ringback say nothing.
    pub marks: Marks,
    /// The number of bytes of the value.
    pub value_bytes: usize,
}

impl FoundRecord {
    /// Returns the record at a place.
    #[must_use]
    pub fn read(
        place: RecordPlace,
        topic: Topic,
        timestamp: UnixMillis,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Self {
        let value = value.unwrap_or_default();
        let identity = CallEnded::read(value).map(|call| (call.id, call.tenant));
        let id = match &identity {
            Ok((id, _)) => Some(id.clone()),
            Err(_) => CallEnded::id(value),
        };
        Self {
            place,
            topic,
            timestamp,
            identity,
            id,
            marks: match topic {
                Topic::Source => Marks::default(),
                Topic::Delay(_) | Topic::DeadLetter => Marks::read(headers),
            },
            value_bytes: value.len(),
        }
    }

    /// Returns the id, if the value has one. A value without a usable tenant may have
    /// an id.
    #[must_use]
    pub fn id(&self) -> Option<&RecordId> {
        self.id.as_ref()
    }

    /// Returns the tenant, if the value has one.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        self.identity.as_ref().ok().map(|(_, tenant)| tenant)
    }

    /// Returns the position of the source record as text.
    #[must_use]
    pub fn origin(&self) -> Option<String> {
        match self.topic {
            Topic::Source => Some(self.place.to_string()),
            Topic::Delay(_) | Topic::DeadLetter => self.marks.origin.clone(),
        }
    }

    /// Returns when the next attempt is due, for a record in a delay topic.
    #[must_use]
    pub fn due(&self) -> Option<UnixMillis> {
        let delay = self.topic.delay()?;
        Some(schedule::due(delay, self.timestamp, self.marks.last_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_place_reads_back_from_its_text() {
        let place: RecordPlace = "a.b/c/3/77".parse().expect("a position");
        assert_eq!(&*place.topic, "a.b/c");
        assert_eq!((place.partition, place.offset), (3, Offset(77)));
        assert_eq!(place.to_string(), "a.b/c/3/77");
        for bad in [
            "", "a", "a/1", "/1/2", "a/x/1", "a/1/-1", "a/1/+1", "a/1/", "a//1",
        ] {
            let why = bad.parse::<RecordPlace>().expect_err(bad);
            assert!(why.contains("topic/partition/offset"), "{why}");
        }
    }

    #[test]
    fn headers_count_in_our_own_topics_only() {
        let headers = [
            ("ringback-attempts-made", "3"),
            ("ringback-origin", "t/0/1"),
        ];
        let headers = headers.map(|(name, value)| Header {
            name: name.to_owned(),
            value: Some(Bytes::from(value)),
        });
        let value = br#"{"id":"a","tenantId":"t"}"#;
        let read = |topic| {
            let place = "x/1/2".parse().expect("a position");
            FoundRecord::read(place, topic, UnixMillis(5_000), Some(value), &headers)
        };
        let source = read(Topic::Source);
        assert_eq!(source.marks, Marks::default());
        assert_eq!(source.origin().as_deref(), Some("x/1/2"));
        assert_eq!(source.due(), None);
        let delayed = read(Topic::Delay("10s".parse().expect("a delay")));
        assert_eq!(delayed.marks.attempts_made, Some(3));
        assert_eq!(delayed.origin().as_deref(), Some("t/0/1"));
        assert_eq!(delayed.due(), Some(UnixMillis(15_000)));
        assert_eq!(delayed.id().map(|id| id.as_str()), Some("a"));
    }

    #[test]
    fn a_value_without_a_tenant_has_its_id() {
        let id = |value: &str| {
            let place = "x/1/2".parse().expect("a position");
            let value = Some(value.as_bytes());
            let found = FoundRecord::read(place, Topic::DeadLetter, UnixMillis(0), value, &[]);
            assert_eq!(found.tenant(), None);
            found.id().map(ToString::to_string)
        };
        assert_eq!(id(r#"{"id":"a"}"#).as_deref(), Some("a"));
        assert_eq!(id(r#"{"data":{"id":"b"}}"#).as_deref(), Some("b"));
        assert_eq!(id(r#"{"id":"a b"}"#), None);
        assert_eq!(id("not json"), None);
    }
}
