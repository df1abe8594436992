//! A record of Kafka: its bytes, its headers and its position. Never shows its text.
//! Pure values.

use super::position::{Position, Topic};
use super::time::UnixMillis;
use bytes::Bytes;
use std::fmt;

/// One header of a Kafka record; a null value is `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Kafka allows several headers with one name.
    pub name: String,
    pub value: Option<Bytes>,
}

impl Header {
    /// Returns the bytes of this header in a Kafka record, and at most 8 more.
    #[must_use]
    pub fn size(&self) -> usize {
        const LENGTHS_BYTES: usize = 10;
        self.name.len() + self.value.as_ref().map_or(0, Bytes::len) + LENGTHS_BYTES
    }
}

/// A record read from Kafka. Its text is personal data: `Debug` shows sizes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    /// The timestamp of the broker or of the producer, by the setting of the topic.
    pub timestamp: UnixMillis,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// Returns the memory of this record: its bytes, and a fixed amount for its parts.
    #[must_use]
    pub fn size(&self) -> usize {
        const PARTS_BYTES: usize = 200;
        let bytes = |b: &Option<Bytes>| b.as_ref().map_or(0, Bytes::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|h| h.name.len() + bytes(&h.value) + 48)
            .sum();
        PARTS_BYTES + bytes(&self.key) + bytes(&self.value) + headers
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("position", &self.position)
            .field("timestamp", &self.timestamp)
            .field("value_bytes", &self.value.as_ref().map(Bytes::len))
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// A record that is moved to its next residence. The partition is chosen by the key.
#[derive(Clone, PartialEq, Eq)]
pub struct MovedRecord {
    /// The residence that this move completes.
    pub from: Position,
    /// A delay topic or the dead letters.
    pub to: Topic,
    /// The unchanged key; of a dead letter that is too large, its start.
    pub key: Option<Bytes>,
    /// The unchanged value; of a dead letter that is too large, its start.
    pub value: Option<Bytes>,
    /// The record's own headers, followed by those of ringback. A dead letter that
    /// is too large keeps only some of its own headers.
    pub headers: Vec<Header>,
}

impl fmt::Debug for MovedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MovedRecord")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("value_bytes", &self.value.as_ref().map(Bytes::len))
            .finish_non_exhaustive()
    }
}
