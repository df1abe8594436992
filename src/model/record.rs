//! A record as Kafka holds it: bytes, headers and where it lives.

use super::position::{Position, Topic};
use super::time::UnixMillis;
use bytes::Bytes;
use std::fmt;

/// One header of a Kafka record; a null value is `None`.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// Its name; Kafka allows repeats.
    pub name: String,
    /// Its bytes.
    pub value: Option<Bytes>,
}

/// A record read from Kafka. Its text is personal data: `Debug` shows sizes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lives.
    pub position: Position,
    /// The broker's or the producer's timestamp, by the topic's type.
    pub timestamp: UnixMillis,
    /// The key, moved on byte for byte.
    pub key: Option<Bytes>,
    /// The value, moved on byte for byte.
    pub value: Option<Bytes>,
    /// All headers in their order.
    pub headers: Vec<Header>,
}

impl Record {
    /// The memory that this record's bytes take, with a fixed share for its parts.
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

/// A record on its way to its next residence. The broker chooses the partition
/// by the key.
#[derive(Clone, PartialEq, Eq)]
pub struct MovedRecord {
    /// The residence that this write completes.
    pub from: Position,
    /// Where it goes: a delay topic or the dead letters.
    pub to: Topic,
    /// As it was.
    pub key: Option<Bytes>,
    /// As it was, or the first 64 KiB of a record that is too large.
    pub value: Option<Bytes>,
    /// The record's own headers, then ours.
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
