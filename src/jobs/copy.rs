//! The copy of a record for the shortest delay topic: same key and value, and a new
//! history. Pure.
//!
//! A copy has no attempts and one divert, as a record that was moved because its lane
//! was full. So the service delivers it with attempt 1 and a full budget.

use super::{JobKind, JobName};
use crate::model::headers::{CopiedBy, History, Marks};
use crate::model::position::{Topic, TopicNames};
use crate::model::record::{MovedRecord, Record};
use crate::model::time::{Delay, UnixMillis};

/// Makes the copies of one job.
#[derive(Clone, Debug)]
pub struct Copier {
    pub names: TopicNames,
    pub kind: JobKind,
    pub job: JobName,
    /// The delay topic that takes the copies.
    pub to: Delay,
}

impl Copier {
    /// Returns the copy of a record, made at this moment.
    #[must_use]
    pub fn copy(&self, record: Record, at: UnixMillis) -> MovedRecord {
        let Record {
            position,
            timestamp,
            key,
            value,
            headers,
        } = record;
        let topic = self.names.name(position.partition.topic);
        let from = format!("{topic}/{}/{}", position.partition.number, position.offset);
        let source = match self.kind {
            JobKind::Replay => None,
            JobKind::Redrive => {
                let marks = Marks::read(&headers);
                marks.origin.zip(marks.published_at)
            }
        };
        let (origin, published_at) = source.unwrap_or_else(|| (from.clone(), timestamp));
        let history = History {
            diverts: 1,
            last_at: Some(at),
            copied_by: Some(CopiedBy {
                job: self.job.as_str().to_owned(),
                from,
            }),
            ..History::new(origin, published_at)
        };
        MovedRecord {
            from: position,
            to: Topic::Delay(self.to),
            key,
            value,
            headers: history.write(&headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::disposition::DeadLetterReason;
    use crate::model::headers::{CutLengths, write_dead_letter};
    use crate::model::position::Offset;
    use crate::model::record::Header;
    use bytes::Bytes;

    fn copier(kind: JobKind) -> Copier {
        Copier {
            names: TopicNames::new("t"),
            kind,
            job: JobName::new("j").expect("a name"),
            to: "10s".parse().expect("a delay"),
        }
    }

    fn record(topic: Topic, headers: Vec<Header>) -> Record {
        Record {
            position: topic.partition(3).at(Offset(7)),
            timestamp: UnixMillis(5),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers,
        }
    }

    #[test]
    fn a_replayed_record_has_a_new_history_that_a_delay_topic_accepts() {
        let own = Header {
            name: "x".to_owned(),
            value: None,
        };
        let source = record(Topic::Source, vec![own.clone()]);
        let copy = copier(JobKind::Replay).copy(source, UnixMillis(9));
        assert_eq!((copy.key, copy.value), (Some("k".into()), Some("v".into())));
        assert!(copy.headers[0] == own);
        let history = History::read(&copy.headers).expect("well-formed");
        assert_eq!((history.attempts_made, history.diverts), (0, 1));
        assert_eq!(
            (history.origin.as_str(), history.published_at.0),
            ("t/3/7", 5)
        );
        assert_eq!(history.last_at, Some(UnixMillis(9)));
        let copied_by = history.copied_by.expect("a job");
        assert_eq!(
            (copied_by.job.as_str(), copied_by.from.as_str()),
            ("j", "t/3/7")
        );
    }

    #[test]
    fn a_redriven_record_keeps_its_origin_and_loses_its_old_history() {
        let mut old = History::new("t/0/1".to_owned(), UnixMillis(2));
        (old.attempts_made, old.confirmed) = (10, 10);
        old.last_at = Some(UnixMillis(3));
        let mut headers = old.write(&[]);
        let reason = DeadLetterReason::AttemptsExhausted;
        write_dead_letter(&mut headers, reason, CutLengths::default());
        let dead = record(Topic::DeadLetter, headers);
        let copy = copier(JobKind::Redrive).copy(dead, UnixMillis(9));
        let history = History::read(&copy.headers).expect("well-formed");
        assert_eq!(
            (history.origin.as_str(), history.published_at.0),
            ("t/0/1", 2)
        );
        assert_eq!(history.attempts_made, 0);
        let from = history.copied_by.expect("a job").from;
        assert_eq!(from, "t.dead-letter/3/7");
    }
}
