//! The headers that ringback writes on delayed and dead-letter records, and their
//! content: the [`History`] of a record. The only file with these names. Never
//! changes the record's own headers. Pure; runs on the thread of the engine.

use super::attempt::{ATTEMPTS_MAX, ErrorClass};
use super::disposition::DeadLetterReason;
use super::record::Header;
use super::time::UnixMillis;
use bytes::Bytes;
use std::str::FromStr;

/// The prefix of all headers of ringback. On source records such headers are ignored.
pub const PREFIX: &str = "ringback-";

/// The prefix of the request headers that Standard Webhooks defines.
pub const WEBHOOK_PREFIX: &str = "webhook-";

const ATTEMPTS_MADE: &str = "ringback-attempts-made";
const CONFIRMED: &str = "ringback-confirmed";
const ERROR: &str = "ringback-error";
const STATUS: &str = "ringback-status";
const FIRST_AT: &str = "ringback-first-at";
const LAST_AT: &str = "ringback-last-at";
const DIVERTS: &str = "ringback-diverts";
const ORIGIN: &str = "ringback-origin";
const PUBLISHED_AT: &str = "ringback-published-at";
const REASON: &str = "ringback-reason";
const LENGTH: &str = "ringback-length";
const CUT: &str = "ringback-cut";
/// The name of the job that wrote a copy.
pub const JOB: &str = "ringback-job";
/// `topic/partition/offset` of the record that a job copied.
pub const REPLAYED_FROM: &str = "ringback-replayed-from";

/// The job that made a copy of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopiedBy {
    /// The name of the job.
    pub job: String,
    /// `topic/partition/offset` of the record that was copied.
    pub from: String,
}

/// The history of a record before its present residence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Started attempts, including those in doubt.
    pub attempts_made: u8,
    /// Attempts that certainly started.
    pub confirmed: u8,
    /// The class of the last failed attempt.
    pub error: Option<ErrorClass>,
    /// The last HTTP status, if a receiver answered.
    pub status: Option<u16>,
    /// When the first attempt started.
    pub first_at: Option<UnixMillis>,
    /// When the last move was decided.
    pub last_at: Option<UnixMillis>,
    /// How often the record was moved because its lane was full.
    pub diverts: u32,
    /// `topic/partition/offset` of the source record.
    pub origin: String,
    /// The source record's timestamp.
    pub published_at: UnixMillis,
    /// Of a copy that a redrive or replay made.
    pub copied_by: Option<CopiedBy>,
}

impl History {
    /// Returns the history of a record that was just published.
    #[must_use]
    pub fn new(origin: String, published_at: UnixMillis) -> Self {
        Self {
            attempts_made: 0,
            confirmed: 0,
            error: None,
            status: None,
            first_at: None,
            last_at: None,
            diverts: 0,
            origin,
            published_at,
            copied_by: None,
        }
    }

    /// Reads the history of a record in a delay topic.
    ///
    /// Returns `None` where a header is missing, repeated or malformed. Also where the
    /// attempts are outside of 1 to 9 (0 with a divert), or fewer than the confirmed
    /// ones.
    #[must_use]
    pub fn read(headers: &[Header]) -> Option<Self> {
        let history = Self {
            attempts_made: required(headers, ATTEMPTS_MADE)?,
            confirmed: required(headers, CONFIRMED)?,
            error: match optional::<String>(headers, ERROR)? {
                None => None,
                Some(name) => Some(ErrorClass::from_name(&name)?),
            },
            status: optional(headers, STATUS)?,
            first_at: optional(headers, FIRST_AT)?.map(UnixMillis),
            last_at: Some(UnixMillis(required(headers, LAST_AT)?)),
            diverts: required(headers, DIVERTS)?,
            origin: required(headers, ORIGIN)?,
            published_at: UnixMillis(required(headers, PUBLISHED_AT)?),
            copied_by: optional(headers, JOB)?
                .zip(optional(headers, REPLAYED_FROM)?)
                .map(|(job, from)| CopiedBy { job, from }),
        };
        let was_moved = history.attempts_made > 0 || history.diverts > 0;
        let sane = was_moved
            && history.attempts_made < ATTEMPTS_MAX
            && history.confirmed <= history.attempts_made;
        sane.then_some(history)
    }

    /// Returns the record's own headers, followed by those of ringback.
    #[must_use]
    pub fn write(&self, own: &[Header]) -> Vec<Header> {
        let mut headers: Vec<Header> = own_headers(own).cloned().collect();
        let mut put = |name: &str, text: String| {
            headers.push(Header {
                name: name.to_owned(),
                value: Some(Bytes::from(text)),
            });
        };
        put(ATTEMPTS_MADE, self.attempts_made.to_string());
        put(CONFIRMED, self.confirmed.to_string());
        if let Some(error) = self.error {
            put(ERROR, error.name().to_owned());
        }
        if let Some(status) = self.status {
            put(STATUS, status.to_string());
        }
        if let Some(at) = self.first_at {
            put(FIRST_AT, at.to_string());
        }
        if let Some(at) = self.last_at {
            put(LAST_AT, at.to_string());
        }
        put(DIVERTS, self.diverts.to_string());
        put(ORIGIN, self.origin.clone());
        put(PUBLISHED_AT, self.published_at.to_string());
        if let Some(CopiedBy { job, from }) = &self.copied_by {
            put(JOB, job.clone());
            put(REPLAYED_FROM, from.clone());
        }
        headers
    }
}

/// What the headers of ringback say about a record, as far as they can be read. For
/// people: [`History`] decides what happens to a record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    pub attempts_made: Option<u8>,
    pub confirmed: Option<u8>,
    pub error: Option<ErrorClass>,
    pub status: Option<u16>,
    pub first_at: Option<UnixMillis>,
    pub last_at: Option<UnixMillis>,
    pub diverts: Option<u32>,
    pub origin: Option<String>,
    pub published_at: Option<UnixMillis>,
    pub reason: Option<DeadLetterReason>,
    /// Length of the whole value, where it was cut.
    pub length: Option<u64>,
    pub job: Option<String>,
    pub replayed_from: Option<String>,
}

impl Marks {
    /// Reads the headers. A missing, repeated or malformed one is `None`.
    #[must_use]
    pub fn read(headers: &[Header]) -> Self {
        let at = |name| required(headers, name).map(UnixMillis);
        let text = |name| required::<String>(headers, name);
        Self {
            attempts_made: required(headers, ATTEMPTS_MADE),
            confirmed: required(headers, CONFIRMED),
            error: text(ERROR).and_then(|name| ErrorClass::from_name(&name)),
            status: required(headers, STATUS),
            first_at: at(FIRST_AT),
            last_at: at(LAST_AT),
            diverts: required(headers, DIVERTS),
            origin: text(ORIGIN),
            published_at: at(PUBLISHED_AT),
            reason: text(REASON).and_then(|name| DeadLetterReason::from_name(&name)),
            length: required(headers, LENGTH),
            job: text(JOB),
            replayed_from: text(REPLAYED_FROM),
        }
    }
}

/// The whole lengths of the parts of a dead letter that were cut, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CutLengths {
    pub value: Option<usize>,
    pub key: Option<usize>,
    /// Of all own headers together, as [`Header::size`] counts.
    pub headers: Option<usize>,
}

/// Adds the headers of dead letters: the reason, and the whole lengths of parts
/// that were cut.
pub fn write_dead_letter(headers: &mut Vec<Header>, reason: DeadLetterReason, cut: CutLengths) {
    headers.push(Header {
        name: REASON.to_owned(),
        value: Some(Bytes::from_static(reason.name().as_bytes())),
    });
    if let Some(length) = cut.value {
        headers.push(Header {
            name: LENGTH.to_owned(),
            value: Some(Bytes::from(length.to_string())),
        });
    }
    let parts = [
        ("value", cut.value),
        ("key", cut.key),
        ("headers", cut.headers),
    ];
    let parts = parts.map(|(part, length)| length.map(|length| format!("{part}={length}")));
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        headers.push(Header {
            name: CUT.to_owned(),
            value: Some(Bytes::from(parts.join(","))),
        });
    }
}

/// Returns whether a part of a dead letter was cut. A mark that cannot be read counts.
#[must_use]
pub fn is_cut(headers: &[Header]) -> bool {
    headers.iter().any(|h| h.name == CUT || h.name == LENGTH)
}

/// Returns the record's own headers, without any that have the prefix of ringback.
pub fn own_headers(headers: &[Header]) -> impl Iterator<Item = &Header> {
    headers.iter().filter(|h| !h.name.starts_with(PREFIX))
}

/// Returns the W3C trace context of the record, if it is well-formed.
///
/// Source: W3C Trace Context, `traceparent` header, version 00.
#[must_use]
pub fn traceparent(headers: &[Header]) -> Option<String> {
    let value = headers
        .iter()
        .find(|h| h.name == "traceparent")?
        .value
        .as_ref()?;
    let text = std::str::from_utf8(value).ok()?;
    let lower_hex = |part: &str, len: usize| {
        part.len() == len
            && part
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else {
        return None;
    };
    let formed =
        *version == "00" && lower_hex(trace, 32) && lower_hex(parent, 16) && lower_hex(flags, 2);
    formed.then(|| text.to_owned())
}

/// Returns the value of a header. The outer option is `None` where the header is
/// repeated or malformed, the inner one where it is missing.
#[expect(
    clippy::option_option,
    reason = "malformed and missing are different answers"
)]
fn optional<T: FromStr>(headers: &[Header], name: &str) -> Option<Option<T>> {
    let mut found = headers.iter().filter(|h| h.name == name);
    let Some(header) = found.next() else {
        return Some(None);
    };
    if found.next().is_some() {
        return None;
    }
    let text = std::str::from_utf8(header.value.as_ref()?).ok()?;
    Some(Some(text.parse().ok()?))
}

fn required<T: FromStr>(headers: &[Header], name: &str) -> Option<T> {
    optional(headers, name)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        History {
            attempts_made: 3,
            confirmed: 2,
            error: Some(ErrorClass::Http5xx),
            status: Some(503),
            first_at: Some(UnixMillis(1_000)),
            last_at: Some(UnixMillis(2_000)),
            diverts: 1,
            origin: "call-ended/3/77".to_owned(),
            published_at: UnixMillis(900),
            copied_by: None,
        }
    }

    fn header(name: &str, value: &str) -> Header {
        Header {
            name: name.to_owned(),
            value: Some(Bytes::from(value.to_owned())),
        }
    }

    #[test]
    fn a_history_reads_back_and_the_records_own_headers_stay() {
        let own = [
            header("x", "1"),
            header("ringback-attempts-made", "9"),
            header("x", "2"),
        ];
        let written = history().write(&own);
        assert_eq!(History::read(&written), Some(history()));
        assert!(written[..2] == [header("x", "1"), header("x", "2")]);
    }

    #[test]
    fn a_copy_stays_the_copy_of_its_job() {
        let copy = History {
            copied_by: Some(CopiedBy {
                job: "night".to_owned(),
                from: "call-ended.dead-letter/0/5".to_owned(),
            }),
            ..history()
        };
        assert_eq!(History::read(&copy.write(&[])), Some(copy));
    }

    #[test]
    fn a_malformed_history_is_none() {
        let good = history().write(&[]);
        for at in 0..good.len() {
            let mut broken = good.clone();
            broken[at].value = Some(Bytes::from_static(b"\xff nonsense"));
            assert_eq!(History::read(&broken), None, "{}", good[at].name);
            let mut missing = good.clone();
            let name = missing.remove(at).name;
            let may_miss = [ERROR, STATUS, FIRST_AT].contains(&name.as_str());
            assert_eq!(History::read(&missing).is_some(), may_miss, "{name}");
            let mut repeated = good.clone();
            repeated.push(good[at].clone());
            assert_eq!(History::read(&repeated), None, "{name}");
        }
        #[track_caller]
        fn check(made: u8, confirmed: u8, diverts: u32, sane: bool) {
            let history = History {
                attempts_made: made,
                confirmed,
                diverts,
                ..history()
            };
            assert_eq!(History::read(&history.write(&[])).is_some(), sane);
        }
        check(0, 0, 0, false);
        check(0, 0, 1, true);
        check(9, 9, 0, true);
        check(10, 9, 0, false);
        check(2, 3, 0, false);
    }

    #[test]
    fn marks_hold_what_can_be_read_and_nothing_else() {
        let mut headers = history().write(&[header("x", "1")]);
        let cut = CutLengths {
            value: Some(70_000),
            ..CutLengths::default()
        };
        write_dead_letter(&mut headers, DeadLetterReason::TooLarge, cut);
        let marks = Marks::read(&headers);
        assert_eq!(marks.attempts_made, Some(3));
        assert_eq!(marks.error, Some(ErrorClass::Http5xx));
        assert_eq!(marks.reason, Some(DeadLetterReason::TooLarge));
        assert_eq!(marks.length, Some(70_000));
        assert_eq!(marks.origin.as_deref(), Some("call-ended/3/77"));
        assert_eq!(marks.job, None);
        headers.push(header(JOB, "night"));
        headers.push(header(ATTEMPTS_MADE, "4"));
        let marks = Marks::read(&headers);
        assert_eq!(marks.job.as_deref(), Some("night"));
        assert_eq!(marks.attempts_made, None, "it is repeated");
        assert_eq!(Marks::read(&[header(ERROR, "unheard")]), Marks::default());
    }

    #[test]
    fn only_a_well_formed_traceparent_is_passed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(
            traceparent(&[header("traceparent", good)]).as_deref(),
            Some(good)
        );
        for bad in [
            "",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "x\r\ny",
            "00-1-2-3",
        ] {
            assert_eq!(traceparent(&[header("traceparent", bad)]), None, "{bad}");
        }
    }
}
