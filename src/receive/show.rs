//! A request as text for people, or as one JSON line for programs. Pure but for
//! the system's time zone.
//!
//! Limits: 2,000 characters of a value and 200 of any other body are shown as
//! text; a JSON line has the values whole.

use super::body::{Body, Callback};
use super::escape::{columns, cut, json_line, safe};
use super::explain::{self, Explained};
use super::moment;
use super::seen::Known;
use super::signed::Verdict;
use crate::model::attempt::ATTEMPTS_MAX;
use crate::model::call::RecordId;
use crate::model::time::UnixMillis;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

const VALUE_CHARS_MAX: usize = 2_000;
const EXCERPT_CHARS_MAX: usize = 200;
const NAME_COLUMNS: usize = 22;
const VALUE_COLUMNS: usize = 26;

/// Headers of the transport, which say nothing about the callback.
const PLAIN_HEADERS: [&str; 5] = [
    "host",
    "content-length",
    "accept",
    "connection",
    "transfer-encoding",
];
/// Headers that have lines of their own, or are told by what they mean.
const KNOWN_HEADERS: [&str; 4] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "ringback-attempt",
];

/// How the reading of a body ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It came whole.
    Whole,
    /// It is larger than the receiver holds, and was not read on.
    TooLarge,
    /// It was not whole after so many seconds.
    TooSlow(u64),
    /// The connection failed before its end.
    Broken,
}

/// A POST as it came.
pub struct Arrival {
    /// When.
    pub at: UnixMillis,
    /// From where.
    pub peer: String,
    /// The path with its query.
    pub path: String,
    /// The headers, names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// As much of the body as came.
    pub bytes: Vec<u8>,
    /// How that ended.
    pub ending: Ending,
    /// What is known of the record, where it has an id.
    pub known: Option<Known>,
    /// What its signature is worth.
    pub signature: Verdict,
    /// What is answered; none where nothing is.
    pub status: Option<u16>,
    /// In words.
    pub answering: String,
}

impl Arrival {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The record's id; one that is longer than ids are is none.
    #[must_use]
    pub fn record_id(&self) -> Option<&str> {
        let id = self.header("webhook-id");
        id.filter(|id| id.len() <= RecordId::LEN_MAX)
    }

    fn body(&self) -> Body<'_> {
        Body::read(&self.bytes)
    }

    /// Why the body is not whole.
    fn cut_short(&self) -> Option<String> {
        let came = self.bytes.len();
        match self.ending {
            Ending::Whole => None,
            Ending::TooLarge => Some("larger than is held here, not read on".to_owned()),
            Ending::TooSlow(after) => Some(format!("{came} bytes and no end after {after} s")),
            Ending::Broken => Some(format!("the connection ended after {came} bytes")),
        }
    }

    /// The request as text, with an empty line at its end.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let at = moment::both(self.at.0).unwrap_or_default();
        let (path, peer) = (cut(&self.path, EXCERPT_CHARS_MAX), &self.peer);
        line(&mut text, format_args!("── {at}  POST {path}  from {peer}"));
        self.head_lines(&mut text);
        let bytes = self.bytes.len();
        match (self.cut_short(), self.body()) {
            (Some(why), _) => self.other_body(&mut text, &why),
            (None, Body::Callback(callback)) => {
                pair(&mut text, "body", &format!("{bytes} bytes"));
                callback_lines(&mut text, &callback);
            }
            (None, body) => self.other_body(&mut text, &told(&body)),
        }
        pair(&mut text, "answer", &self.answering);
        text.push('\n');
        text
    }

    fn head_lines(&self, text: &mut String) {
        let id = self
            .header("webhook-id")
            .map_or("none".to_owned(), |id| cut(id, 300));
        let known = self.known.map(known_words).unwrap_or_default();
        pair(text, "webhook-id", &format!("{id}{known}"));
        if let Some(attempt) = self.header("ringback-attempt") {
            let attempt = cut(attempt, 20);
            pair(
                text,
                "ringback-attempt",
                &format!("{attempt} of at most {ATTEMPTS_MAX}"),
            );
        }
        if let Some(timestamp) = self.header("webhook-timestamp") {
            let ms = timestamp
                .parse()
                .ok()
                .and_then(|s: i64| s.checked_mul(1_000));
            let at = ms.and_then(moment::both);
            let at = at.map(|at| format!(" = {at}")).unwrap_or_default();
            let timestamp = cut(timestamp, 40);
            pair(text, "webhook-timestamp", &format!("{timestamp}{at}"));
        }
        pair(text, "webhook-signature", &self.signature.to_string());
        for (name, value) in &self.headers {
            let name = name.as_str();
            if !KNOWN_HEADERS.contains(&name) && !PLAIN_HEADERS.contains(&name) {
                pair(text, name, &cut(value, EXCERPT_CHARS_MAX));
            }
        }
    }

    fn other_body(&self, text: &mut String, what: &str) {
        let bytes = self.bytes.len();
        pair(text, "body", &format!("{bytes} bytes: {what}"));
        if !self.bytes.is_empty() {
            let excerpt = explain::excerpt(&self.bytes, EXCERPT_CHARS_MAX);
            pair(text, "", &excerpt);
        }
    }

    /// The request as one JSON line.
    #[must_use]
    pub fn json(&self) -> String {
        let body = self.body();
        let (kind, detail) = match (self.cut_short(), &body) {
            (Some(why), _) => ("incomplete", Some(why)),
            (None, Body::Callback(_)) => ("callback", None),
            (None, Body::Empty) => ("empty", None),
            (None, Body::NotUtf8(_)) => ("not_utf8", Some(told(&body))),
            (None, Body::NotJson(_)) => ("not_json", Some(told(&body))),
            (None, Body::NotCallback(_)) => ("not_callback", Some(told(&body))),
        };
        let (mut fields, mut absent) = (Vec::new(), Vec::new());
        if let Body::Callback(callback) = &body {
            fields = explain::members(&callback.members);
            absent = callback.absent().map(|field| field.name).collect();
        }
        let excerpt = || explain::excerpt(&self.bytes, EXCERPT_CHARS_MAX);
        let whole = Line {
            at: self.at.0,
            path: &self.path,
            peer: &self.peer,
            id: self.header("webhook-id"),
            attempt: self.header("ringback-attempt").and_then(|a| a.parse().ok()),
            seen: self.known.map(|known| known.times),
            answered_before: self.known.map(|known| known.answered),
            signature: self.signature.name(),
            answer: self.status,
            headers: self
                .headers
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str()))
                .collect(),
            bytes: self.bytes.len(),
            body: kind,
            detail,
            excerpt: (kind != "callback").then(excerpt),
            fields,
            absent,
        };
        let json = serde_json::to_string(&whole).expect("texts, numbers and JSON read before");
        json_line(&json) + "\n"
    }
}

/// What a script gets.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    at: i64,
    path: &'a str,
    peer: &'a str,
    id: Option<&'a str>,
    attempt: Option<u32>,
    seen: Option<u64>,
    answered_before: Option<bool>,
    signature: &'a str,
    answer: Option<u16>,
    headers: BTreeMap<&'a str, &'a str>,
    bytes: usize,
    body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    excerpt: Option<String>,
    fields: Vec<Explained>,
    absent: Vec<&'a str>,
}

fn told(body: &Body<'_>) -> String {
    match body {
        Body::Empty => "empty".to_owned(),
        Body::NotUtf8(at) => format!("not UTF-8: byte {at} is the first that is not"),
        Body::NotJson(why) => format!("not JSON: {}", safe(why)),
        Body::NotCallback(what) => {
            format!("JSON, but not a callback: {what}; a callback is {{\"data\":{{…}}}}")
        }
        Body::Callback(_) => "a callback".to_owned(),
    }
}

fn known_words(known: Known) -> String {
    match (known.times, known.answered) {
        (1, _) => "  (new)".to_owned(),
        (times, true) => {
            format!("  (SEEN BEFORE: time {times}, and answered 2xx before: drop it)")
        }
        (times, false) => format!("  (SEEN BEFORE: time {times}, never answered 2xx yet)"),
    }
}

fn callback_lines(text: &mut String, callback: &Callback<'_>) {
    text.push('\n');
    for field in explain::members(&callback.members) {
        field_lines(text, &field, 3);
    }
    if callback.left_out > 0 {
        let left_out = callback.left_out;
        line(text, format_args!("   … and {left_out} members more"));
    }
    if !callback.beside.is_empty() {
        let keys: Vec<String> = callback.beside.iter().map(|key| cut(key, 60)).collect();
        pair(text, "beside data", &keys.join(", "));
    }
    let absent: Vec<&str> = callback.absent().map(|field| field.name).collect();
    text.push('\n');
    if !absent.is_empty() {
        pair(text, "not in it", &absent.join(", "));
    }
}

/// `name  value = what it means  Chinese · English`, then notes and what the
/// value holds.
fn field_lines(text: &mut String, field: &Explained, indent: usize) {
    let raw = field.value.as_ref().map_or("", |value| value.get());
    // JSON in a string is shown below, piece by piece.
    let value = if field.inside.is_empty() {
        cut(&json_line(raw), VALUE_CHARS_MAX)
    } else {
        String::new()
    };
    let means = field.means.as_ref().map(|means| format!("= {means}"));
    let both = [value, means.unwrap_or_default()].join(" ");
    let name = cut(&field.name, 60);
    let mut shown = format!(
        "{:indent$}{} {}",
        "",
        padded(&name, NAME_COLUMNS),
        both.trim()
    );
    if let (Some(zh), Some(en)) = (field.zh, field.en) {
        shown = format!(
            "{}  {zh} · {en}",
            padded(&shown, indent + NAME_COLUMNS + 1 + VALUE_COLUMNS)
        );
    }
    line(text, format_args!("{}", shown.trim_end()));
    for note in &field.notes {
        let note = safe(note);
        line(
            text,
            format_args!("{:indent$}{:NAME_COLUMNS$} ! {note}", "", ""),
        );
    }
    for inner in &field.inside {
        field_lines(text, inner, indent + 3);
    }
}

fn pair(text: &mut String, name: &str, value: &str) {
    line(
        text,
        format_args!("   {} {value}", padded(name, NAME_COLUMNS)),
    );
}

fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(columns(text));
    format!("{text}{:missing$}", "")
}

fn line(text: &mut String, shown: std::fmt::Arguments<'_>) {
    text.write_fmt(shown).expect("a String takes any text");
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn arrival(body: &[u8]) -> Arrival {
        let headers = [
            ("webhook-id", "0605589a"),
            ("webhook-timestamp", "1606188575"),
            ("ringback-attempt", "3"),
            ("host", "localhost:8080"),
            ("x-team", "blue\u{1b}[31m"),
        ];
        Arrival {
            at: UnixMillis(1_606_188_575_123),
            peer: "127.0.0.1:4000".to_owned(),
            path: "/call-ended".to_owned(),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            bytes: body.to_vec(),
            ending: Ending::Whole,
            known: Some(Known {
                times: 3,
                answered: true,
            }),
            signature: Verdict::Verified,
            status: Some(200),
            answering: "200".to_owned(),
        }
    }

    /// The one line of a text that begins with this name.
    #[track_caller]
    fn line_of<'t>(text: &'t str, name: &str) -> &'t str {
        let begins = |line: &&str| line.trim_start().split(' ').next() == Some(name);
        text.lines()
            .find(begins)
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    #[test]
    fn the_example_is_shown_with_every_field_and_its_meaning() {
        let text = arrival(EXAMPLE).text();
        for (name, parts) in [
            (
                "webhook-id",
                &["0605589a", "SEEN BEFORE: time 3", "answered 2xx"][..],
            ),
            ("ringback-attempt", &["3 of at most 10"]),
            (
                "webhook-timestamp",
                &["1606188575 = 2020-11-24T03:29:35.000Z"],
            ),
            ("webhook-signature", &["verified"]),
            ("x-team", &["blue\\u001b[31m"]),
            ("body", &["2340 bytes"]),
            (
                "acw",
                &["5", "话后时间(单位:秒) · after-call work in seconds"],
            ),
            (
                "callType",
                &["1 = 呼入 inbound", "通话类型 · type of the call"],
            ),
            (
                "communicateBeginTime",
                &["1606188550000 = 2020-11-24T03:29:10.000Z"],
            ),
            (
                "iccRecordDate",
                &["\"1605318636358\" = 2020-11-14T01:50:36.358Z"],
            ),
            (
                "parkingWaitDuration",
                &["1606188570 = 2020-11-24T03:29:30.000Z", "振铃时间"],
            ),
            ("digitUrl", &["\"开始>播放语音>转AI语音>转人工\""]),
            ("evaluationScore", &["-1", "满意度评价结果"]),
            ("expansionFields", &["= 3 个扩展字段 3 custom fields"]),
            ("otherRules", &["规则 · its rules"]),
            ("fieldInnerType", &["0 = 单选项 single choice"]),
            ("not", &["staffId", "taskId", "agentAnswerTime"]),
            ("answer", &["200"]),
        ] {
            let line = line_of(&text, name);
            for part in parts {
                let bytes = part.replace("2340", &EXAMPLE.len().to_string());
                assert!(line.contains(&bytes), "{part} is not in: {line}");
            }
        }
        assert!(!text.contains("host"));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_json_line_has_it_all_for_a_script() {
        let line = arrival(EXAMPLE).json();
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["id"], "0605589a");
        assert_eq!((&read["attempt"], &read["seen"]), (&3.into(), &3.into()));
        assert_eq!(read["answeredBefore"], true);
        assert_eq!(
            (&read["signature"], &read["body"]),
            (&"verified".into(), &"callback".into())
        );
        let fields = read["fields"].as_array().unwrap();
        assert_eq!(fields.len(), 31);
        let begin = fields
            .iter()
            .find(|f| f["name"] == "communicateBeginTime")
            .unwrap();
        assert_eq!(begin["value"], 1_606_188_550_000_i64);
        assert_eq!(begin["zh"], "通话开始时间");
        assert_eq!(read["absent"].as_array().unwrap().len(), 7);
        let exact = arrival(b"{\"data\":{\"taskId\":\n 123456789012345678901234567890}}").json();
        assert!(exact.contains("\"value\":123456789012345678901234567890"));
    }

    #[test]
    fn what_is_no_callback_is_shown_as_what_it_is() {
        #[track_caller]
        fn check(body: &[u8], ending: Ending, kind: &str, told: &str) {
            let arrival = Arrival {
                ending,
                ..arrival(body)
            };
            let text = arrival.text();
            assert!(text.contains(told), "{text}");
            assert!(!text.contains('\u{1b}') && !text.contains('\u{0}'));
            let line: Value = serde_json::from_str(&arrival.json()).unwrap();
            assert_eq!(line["body"], kind);
        }
        let whole = Ending::Whole;
        check(b"", whole, "empty", "0 bytes: empty");
        check(b"\x1b[2J\0", whole, "not_json", "\\u001b[2J\\u0000");
        check(b"ab\xff", whole, "not_utf8", "byte 2 is the first");
        check(b"[1]", whole, "not_callback", "an array; a callback is");
        let large = vec![b'x'; 10_000_000];
        check(&large, whole, "not_json", "10000000 bytes: not JSON");
        assert!(arrival(&large).text().len() < 3_000);
        check(
            b"{\"da",
            Ending::TooSlow(10),
            "incomplete",
            "4 bytes and no end after 10 s",
        );
        check(
            b"{",
            Ending::TooLarge,
            "incomplete",
            "1 bytes: larger than is held here",
        );
        check(
            b"{",
            Ending::Broken,
            "incomplete",
            "the connection ended after 1 bytes",
        );
    }
}
