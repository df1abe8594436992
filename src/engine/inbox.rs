//! Records that were read from one partition and not yet placed, and the credit by
//! which more are requested. Runs on the runner's thread.
//!
//! Memory (L5): an inbox and its credit have at most the partition's share of
//! [`ALL_BYTES_MAX`], and the record that uses up the credit. The share is 256 KiB with
//! 96 partitions or fewer, and 20 KiB with 1,200.

use crate::model::call::CallEnded;
use crate::model::disposition::DeadLetterReason;
use crate::model::headers::History;
use crate::model::message::Credit;
use crate::model::record::Record;
use crate::model::time::UnixMillis;
use std::collections::VecDeque;

/// The maximum number of records requested ahead of the record that is placed next.
pub const INBOX_RECORDS_MAX: usize = 64;
/// The maximum bytes requested ahead for one partition, and for all of them.
const INBOX_BYTES_MAX: usize = 256 << 10;
const ALL_BYTES_MAX: usize = 24 << 20;
/// The least share of a partition.
const INBOX_BYTES_MIN: usize = 16 << 10;

/// Returns each partition's share of the bytes.
pub fn bytes_each(partitions: usize) -> usize {
    (ALL_BYTES_MAX / partitions.max(1)).clamp(INBOX_BYTES_MIN, INBOX_BYTES_MAX)
}

/// A record that was read, with its parsed headers and value.
pub struct ReadRecord {
    pub record: Record,
    pub history: History,
    pub call: Result<CallEnded, DeadLetterReason>,
    pub due: Option<UnixMillis>,
}

/// The inbox of one partition.
#[derive(Default)]
pub struct Inbox {
    records: VecDeque<ReadRecord>,
    bytes: usize,
    /// Requested and not yet received.
    credit: Credit,
    /// The bytes that may be requested ahead.
    bytes_max: usize,
}

impl Inbox {
    /// Adds a record that was received.
    pub fn receive(&mut self, read: ReadRecord) {
        let bytes = read.record.size();
        self.credit.take(bytes);
        self.bytes += bytes;
        self.records.push_back(read);
    }

    /// Notes a received record of this size that is not kept.
    pub fn pass(&mut self, bytes: usize) {
        self.credit.take(bytes);
    }

    /// Takes the first record.
    pub fn take_first(&mut self) -> Option<ReadRecord> {
        let read = self.records.pop_front()?;
        self.bytes -= read.record.size();
        Some(read)
    }

    /// Puts the first record back.
    pub fn put_back(&mut self, read: ReadRecord) {
        self.bytes += read.record.size();
        self.records.push_front(read);
    }

    /// Returns the first record.
    pub fn first(&self) -> Option<&ReadRecord> {
        self.records.front()
    }

    /// Returns the records in their order.
    pub fn records(&self) -> impl Iterator<Item = &ReadRecord> {
        self.records.iter()
    }

    /// Returns whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns whether no record can come before the next request.
    pub fn has_no_credit(&self) -> bool {
        self.credit.is_used_up()
    }

    /// Forgets all records and what was requested.
    pub fn clear(&mut self) {
        *self = Self {
            bytes_max: self.bytes_max,
            ..Self::default()
        };
    }

    /// Requests more records, with this share of the bytes. Returns what to request, if
    /// half of the last request is used up: so requests are few.
    pub fn request(&mut self, bytes_max: usize) -> Option<Credit> {
        self.bytes_max = bytes_max;
        if !self.wants_more() {
            return None;
        }
        let ahead = self.ahead();
        let more = Credit {
            records: INBOX_RECORDS_MAX.saturating_sub(ahead.records),
            bytes: bytes_max.saturating_sub(ahead.bytes),
        };
        self.credit.add(more);
        Some(more)
    }

    /// Returns whether half of the last request is used up.
    pub fn wants_more(&self) -> bool {
        let ahead = self.ahead();
        ahead.records * 2 <= INBOX_RECORDS_MAX || ahead.bytes * 2 <= self.bytes_max
    }

    fn ahead(&self) -> Credit {
        Credit {
            records: self.records.len() + self.credit.records,
            bytes: self.bytes + self.credit.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Offset, Topic};
    use proptest::prelude::*;

    fn read(bytes: usize) -> ReadRecord {
        let record = Record {
            position: Topic::Source.partition(0).at(Offset(0)),
            timestamp: UnixMillis(1),
            key: None,
            value: Some(vec![b'x'; bytes].into()),
            headers: Vec::new(),
        };
        ReadRecord {
            history: History::new(String::new(), UnixMillis(1)),
            call: Err(DeadLetterReason::Undecodable),
            due: None,
            record,
        }
    }

    proptest! {
        /// The reader hands over while the credit lasts, and the engine places the
        /// records sooner or later.
        #[test]
        fn an_inbox_is_bounded_in_bytes_and_never_stops_asking(
            sizes in proptest::collection::vec(1..1_000_000_usize, 1..200),
            places in proptest::collection::vec(any::<bool>(), 400),
            share in 1..300_000_usize,
        ) {
            let (mut inbox, mut reader) = (Inbox::default(), Credit::default());
            let mut sizes = sizes.into_iter().peekable();
            let largest = 1_000_000 + 300;
            for place in places.into_iter().chain(std::iter::repeat_n(true, 1_000)) {
                if let Some(more) = inbox.request(share) {
                    reader.add(more);
                }
                while !reader.is_used_up() && let Some(size) = sizes.next() {
                    let read = read(size);
                    reader.take(read.record.size());
                    inbox.receive(read);
                }
                prop_assert_eq!(reader, inbox.credit);
                prop_assert!(inbox.bytes <= share + largest);
                prop_assert!(inbox.records.len() <= INBOX_RECORDS_MAX);
                if place {
                    inbox.take_first();
                }
            }
            prop_assert!(sizes.peek().is_none() && inbox.is_empty());
        }
    }

    #[test]
    fn a_share_shrinks_with_the_number_of_partitions() {
        assert_eq!(bytes_each(0), INBOX_BYTES_MAX);
        assert_eq!(bytes_each(96), INBOX_BYTES_MAX);
        assert_eq!(bytes_each(1_200), ALL_BYTES_MAX / 1_200);
        assert_eq!(bytes_each(100_000), INBOX_BYTES_MIN);
    }

    #[test]
    fn a_record_that_is_put_back_is_counted_again() {
        let mut inbox = Inbox::default();
        inbox.request(1_000);
        inbox.receive(read(400));
        let bytes = inbox.bytes;
        let first = inbox.take_first().expect("received");
        assert_eq!(inbox.bytes, 0);
        inbox.put_back(first);
        assert_eq!(inbox.bytes, bytes);
        inbox.clear();
        assert!(inbox.has_no_credit() && inbox.wants_more());
    }
}
