//! Shows a request: as text for people, or as one JSON line for programs. Pure
//! but for the system's time zone.
//!
//! Limits: text shows 2,000 characters of a value, and 200 of a body that is no
//! callback. A JSON line has whole values.

use super::body::BodyKind;
use super::explain::{Explained, moment};
use super::terminal::{cut, json_line, padded, safe};
use crate::model::attempt::ATTEMPTS_MAX;
use serde::Serialize;
use std::collections::BTreeMap;

const VALUE_CHARS_MAX: usize = 2_000;
/// Of a body that is no callback.
pub const EXCERPT_CHARS_MAX: usize = 200;
const NAME_COLUMNS: usize = 22;
const VALUE_COLUMNS: usize = 26;

/// A request, with everything that is shown of it. Its fields in their order
/// are the JSON line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// Epoch milliseconds.
    pub at: i64,
    pub path: String,
    pub peer: String,
    pub id: Option<String>,
    pub attempt: Option<u32>,
    /// Number of callbacks of this record, this one included.
    pub seen: Option<u64>,
    pub answered_before: Option<bool>,
    pub signature: &'static str,
    /// Status of the answer; none where the receiver never answers.
    pub answer: Option<u16>,
    /// The values of a repeated header are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Length of the body, as far as it arrived.
    pub bytes: usize,
    pub body: BodyKind,
    /// What a body is that is no callback; none where it is empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
    pub fields: Vec<Explained>,
    pub absent: Vec<&'static str>,
    /// The verdict in words, for the text only; so are the next three.
    #[serde(skip)]
    pub signature_words: String,
    #[serde(skip)]
    pub answer_words: String,
    /// Number of members of `data` that are not shown.
    #[serde(skip)]
    pub left_out: usize,
    /// Keys beside `data`.
    #[serde(skip)]
    pub beside: Vec<String>,
}

impl Shown {
    /// Returns the JSON line.
    #[must_use]
    pub fn json(&self) -> String {
        let json = serde_json::to_string(self).expect("texts, numbers and JSON read before");
        json_line(&json) + "\n"
    }

    /// Returns the text, with an empty line at its end.
    #[must_use]
    pub fn text(&self) -> String {
        let at = moment(self.at).unwrap_or_default();
        let (path, peer) = (cut(&self.path, EXCERPT_CHARS_MAX), &self.peer);
        let mut text = format!("── {at}  POST {path}  from {peer}\n");
        self.header_lines(&mut text);
        let bytes = self.bytes;
        if self.body == BodyKind::Callback {
            line(&mut text, "body", &format!("{bytes} bytes"));
            self.callback_lines(&mut text);
        } else {
            let detail = self.detail.as_deref().unwrap_or("empty");
            line(&mut text, "body", &format!("{bytes} bytes: {detail}"));
            if let Some(excerpt) = self.excerpt.as_ref().filter(|_| bytes > 0) {
                line(&mut text, "", excerpt);
            }
        }
        line(&mut text, "answer", &self.answer_words);
        text + "\n"
    }

    /// Writes the headers, without those of the transport.
    fn header_lines(&self, text: &mut String) {
        if self.id.is_none() {
            line(text, "webhook-id", "none");
        }
        for (name, value) in &self.headers {
            let explained = match name.as_str() {
                "host" | "content-length" | "accept" | "connection" | "transfer-encoding"
                | "webhook-signature" => continue,
                "webhook-id" => self.repeats(),
                "ringback-attempt" => format!(" of at most {ATTEMPTS_MAX}"),
                "webhook-timestamp" => {
                    let ms = value.parse().map(|s: i64| s.saturating_mul(1_000));
                    let at = ms.ok().and_then(moment);
                    at.map(|at| format!(" = {at}")).unwrap_or_default()
                }
                _ => String::new(),
            };
            let value = cut(value, 300);
            line(text, name, &format!("{value}{explained}"));
        }
        line(text, "webhook-signature", &self.signature_words);
    }

    fn repeats(&self) -> String {
        match (self.seen, self.answered_before) {
            (None, _) => String::new(),
            (Some(1), _) => "  (new)".to_owned(),
            (Some(times), Some(true)) => {
                format!("  (SEEN BEFORE: time {times}, and answered 2xx before: drop it)")
            }
            (Some(times), _) => format!("  (SEEN BEFORE: time {times}, never answered 2xx yet)"),
        }
    }

    fn callback_lines(&self, text: &mut String) {
        text.push('\n');
        for field in &self.fields {
            field_lines(text, field, 3);
        }
        if self.left_out > 0 {
            line(text, "…", &format!("and {} members more", self.left_out));
        }
        if !self.beside.is_empty() {
            let keys: Vec<String> = self.beside.iter().map(|key| cut(key, 60)).collect();
            line(text, "beside data", &keys.join(", "));
        }
        text.push('\n');
        if !self.absent.is_empty() {
            line(text, "not in it", &self.absent.join(", "));
        }
    }
}

/// Writes `name  value = its meaning  Chinese · English`, then the notes and the
/// parts of the value.
fn field_lines(text: &mut String, field: &Explained, indent: usize) {
    let raw = field.value.as_ref().map_or("", |value| value.get());
    let mut value = String::new();
    // JSON in a string is shown below, part by part.
    if field.inside.is_empty() {
        value = cut(&json_line(raw), VALUE_CHARS_MAX);
    }
    if let Some(means) = &field.means {
        value = format!("{value} = {means}");
    }
    let name = padded(&cut(&field.name, 60), NAME_COLUMNS);
    let mut shown = format!("{:indent$}{name} {}", "", value.trim());
    if let (Some(zh), Some(en)) = (field.zh, field.en) {
        shown = padded(&shown, indent + NAME_COLUMNS + 1 + VALUE_COLUMNS);
        shown += &format!("  {zh} · {en}");
    }
    *text += &format!("{}\n", shown.trim_end());
    for note in &field.notes {
        let margin = indent + NAME_COLUMNS;
        *text += &format!("{:margin$} ! {}\n", "", safe(note));
    }
    for inner in &field.inside {
        field_lines(text, inner, indent + 3);
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    let name = padded(name, NAME_COLUMNS);
    *text += &format!("   {name} {value}\n");
}

#[cfg(test)]
mod tests {
    use super::super::server::{Ending, Receiver};
    use super::super::{OutputFormat, PlannedAnswer, ReceivePlan};
    use super::*;
    use crate::http::signature::Keys;
    use axum::http::StatusCode;
    use serde_json::Value;
    use std::time::Duration;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    const WHOLE: Ending = Ok(());

    fn shown(body: &[u8], ending: Ending) -> Shown {
        let (head, ()) = axum::http::Request::post("/call-ended")
            .header("webhook-id", "0605589a")
            .header("webhook-timestamp", "1606188575")
            .header("webhook-signature", "v1,x")
            .header("ringback-attempt", "3")
            .header("host", "localhost:8080")
            .header("x-team", "blue\u{9b}[31m")
            .header("x-team", "red")
            .body(())
            .expect("a valid request")
            .into_parts();
        let answer = PlannedAnswer {
            status: Some(StatusCode::OK),
            delay: Duration::ZERO,
            retry_after: None,
        };
        let receiver = Receiver::new(ReceivePlan {
            listen: ([127, 0, 0, 1], 0).into(),
            keys: Keys::read(&[]).expect("no secret is malformed"),
            answer,
            format: OutputFormat::Text,
        });
        let peer = ([127, 0, 0, 1], 4000).into();
        receiver.shown(&head, peer, b"", WHOLE, answer);
        receiver.with_history(|history| history.answered("0605589a"));
        receiver.shown(&head, peer, body, ending, answer)
    }

    /// Returns the one line of a text that starts with this name.
    #[track_caller]
    fn line_of<'t>(text: &'t str, name: &str) -> &'t str {
        let starts = |line: &&str| line.trim_start().split(' ').next() == Some(name);
        text.lines()
            .find(starts)
            .unwrap_or_else(|| panic!("no {name} in:\n{text}"))
    }

    #[test]
    fn the_example_is_shown_with_every_field_and_its_meaning() {
        let text = shown(EXAMPLE, WHOLE).text();
        for (name, parts) in [
            (
                "webhook-id",
                &["0605589a", "SEEN BEFORE: time 2", "answered 2xx"][..],
            ),
            ("ringback-attempt", &["3 of at most 10"]),
            (
                "webhook-timestamp",
                &["1606188575 = 2020-11-24T03:29:35.000Z"],
            ),
            ("webhook-signature", &["signed, not verified"]),
            ("x-team", &["blue\\u009b[31m, red"]),
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
    fn a_json_line_has_everything_for_a_script() {
        let line = shown(EXAMPLE, WHOLE).json();
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["id"], "0605589a");
        assert_eq!((&read["attempt"], &read["seen"]), (&3.into(), &2.into()));
        assert_eq!(read["answeredBefore"], true);
        assert_eq!(
            (&read["signature"], &read["body"]),
            (&"no_secret".into(), &"callback".into())
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
        let long = b"{\"data\":{\"taskId\":\n 123456789012345678901234567890}}";
        let exact = shown(long, WHOLE).json();
        assert!(exact.contains("\"value\":123456789012345678901234567890"));
    }

    #[test]
    fn a_body_that_is_no_callback_is_shown_as_what_it_is() {
        #[track_caller]
        fn check(body: &[u8], ending: Ending, kind: &str, expected: &str) {
            let shown = shown(body, ending);
            let text = shown.text();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains('\u{1b}') && !text.contains('\u{0}'));
            let line: Value = serde_json::from_str(&shown.json()).unwrap();
            assert_eq!(line["body"], kind);
        }
        check(b"", WHOLE, "empty", "0 bytes: empty");
        check(b"\x1b[2J\0", WHOLE, "not_json", "\\u001b[2J\\u0000");
        check(b"ab\xff", WHOLE, "not_utf8", "byte 2 is the first");
        check(b"[1]", WHOLE, "not_callback", "an array; a callback is");
        let large = vec![b'x'; 10_000_000];
        check(&large, WHOLE, "not_json", "10000000 bytes: not JSON");
        assert!(shown(&large, WHOLE).text().len() < 3_000);
        let cut = Err((None, "no end".to_owned()));
        check(b"{\"da", cut, "incomplete", "4 bytes: no end");
    }
}
