//! The part of a record that its dead letter keeps. A dead letter is whole if the
//! dead-letter topic takes it, else cut, so that whatever the source topic took
//! fits. Pure. Runs on the runner's thread.
//!
//! | part | [`Keep::Whole`] | [`Keep::Start`] | [`Keep::Least`] |
//! |---|---|---|---|
//! | value | all | its first 64 KiB | its first 16 KiB |
//! | key | all | its first 1 KiB | its first 256 bytes |
//! | own headers | all | the first that fit 16 KiB | the first that fit 4 KiB |
//!
//! Arithmetic: the dead-letter topic takes 64 KiB more than the source topic at
//! least; `check-config` and the start check that. So 21 KiB and the headers of
//! ringback always fit.

use super::verdict::Verdict;
use crate::model::disposition::DeadLetterReason;
use crate::model::headers::{self, CutLengths};
use crate::model::record::{Header, Record};
use bytes::Bytes;

/// How much of a record is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    Whole,
    Start,
    Least,
}

/// The lengths to which the parts are cut, in bytes.
struct Limits {
    value: usize,
    key: usize,
    headers: usize,
}

/// The kept parts of a record, and the whole lengths of those that were cut.
pub struct Kept {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
    pub cut: CutLengths,
}

impl Keep {
    /// Returns how much a move of this verdict keeps at first.
    pub fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::DeadLetter(DeadLetterReason::TooLarge) => Self::Start,
            _ => Self::Whole,
        }
    }

    /// Returns the next shorter form, if there is one.
    pub fn shorter(self) -> Option<Self> {
        match self {
            Self::Whole => Some(Self::Start),
            Self::Start => Some(Self::Least),
            Self::Least => None,
        }
    }

    fn limits(self) -> Limits {
        let kib = |value: usize, key: usize, headers: usize| Limits {
            value: value << 10,
            key,
            headers: headers << 10,
        };
        match self {
            Self::Whole => Limits {
                value: usize::MAX,
                key: usize::MAX,
                headers: usize::MAX,
            },
            Self::Start => kib(64, 1_024, 16),
            Self::Least => kib(16, 256, 4),
        }
    }

    /// Returns the kept parts of a record. Headers of ringback are left out.
    pub fn apply(self, record: &Record) -> Kept {
        let limits = self.limits();
        let mut cut = CutLengths {
            value: cut_length(record.value.as_ref(), limits.value),
            key: cut_length(record.key.as_ref(), limits.key),
            headers: None,
        };
        let own = headers::own_headers(&record.headers);
        let (mut kept, mut bytes, mut all_bytes) = (Vec::new(), 0, 0);
        for header in own {
            let size = header.size();
            all_bytes += size;
            if bytes + size <= limits.headers {
                bytes += size;
                kept.push(header.clone());
            }
        }
        if bytes < all_bytes {
            cut.headers = Some(all_bytes);
        }
        let start = |part: &Option<Bytes>, limit: usize| {
            let part = part.as_ref();
            part.map(|bytes| bytes.slice(..bytes.len().min(limit)))
        };
        Kept {
            key: start(&record.key, limits.key),
            value: start(&record.value, limits.value),
            headers: kept,
            cut,
        }
    }
}

fn cut_length(part: Option<&Bytes>, limit: usize) -> Option<usize> {
    part.map(Bytes::len).filter(|length| *length > limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::position::{Offset, Topic};
    use crate::model::time::UnixMillis;

    fn record(key: usize, value: usize, headers: &[usize]) -> Record {
        let bytes = |length| Some(Bytes::from(vec![b'x'; length]));
        let header = |length: &usize| Header {
            name: "own".to_owned(),
            value: bytes(*length),
        };
        let partition = Topic::Source.partition(0);
        Record {
            position: partition.at(Offset(0)),
            timestamp: UnixMillis(0),
            key: bytes(key),
            value: bytes(value),
            headers: headers.iter().map(header).collect(),
        }
    }

    #[test]
    fn a_record_of_any_size_is_cut_to_21_kib_at_least() {
        let huge = record(5 << 20, 5 << 20, &[3 << 20, 10, 10 << 10, 100]);
        let mut keep = Keep::Whole;
        while let Some(shorter) = keep.shorter() {
            keep = shorter;
        }
        let kept = keep.apply(&huge);
        let headers: usize = kept.headers.iter().map(Header::size).sum();
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        assert!(length(&kept.key) + length(&kept.value) + headers <= 21 << 10);
        assert_eq!(kept.headers.len(), 2, "the small ones are kept");
        assert_eq!(kept.cut.value, Some(5 << 20));
        assert_eq!(kept.cut.key, Some(5 << 20));
        assert!(kept.cut.headers.is_some_and(|bytes| bytes > 3 << 20));
    }

    #[test]
    fn a_part_that_fits_is_kept_whole_and_is_not_said_to_be_cut() {
        let small = record(1_024, 64 << 10, &[100, 100]);
        let kept = Keep::Start.apply(&small);
        assert!(kept.key == small.key && kept.value == small.value);
        assert_eq!(kept.headers.len(), 2);
        assert_eq!(kept.cut, CutLengths::default());
        let kept = Keep::Start.apply(&record(1_025, 0, &[]));
        let key_only = CutLengths {
            key: Some(1_025),
            ..CutLengths::default()
        };
        assert_eq!(kept.cut, key_only);
    }
}
