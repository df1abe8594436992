//! Shows a callback: as text for people, or as one JSON line for programs. Pure
//! but for the system's time zone.
//!
//! Limits: text shows 300 characters of a header, and 200 of a body that is no
//! callback. A JSON line has whole values.

use super::explain::{INDENT, line, moment, object};
use super::terminal::{cut, json_line, safe};
use crate::contract::CONTRACT;
use crate::model::attempt::ATTEMPTS_MAX;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const HEADER_CHARS_MAX: usize = 300;
const EXCERPT_CHARS_MAX: usize = 200;

/// A request, with everything that is shown of it. Its fields in their order
/// are the JSON line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'r> {
    /// Epoch milliseconds.
    pub at: i64,
    pub path: String,
    pub peer: String,
    pub id: Option<&'r str>,
    pub attempt: Option<u32>,
    /// Number of callbacks of this record, this one included.
    pub seen: Option<u64>,
    pub answered_before: Option<bool>,
    pub signature: &'static str,
    /// Status of the answer; none where the receiver never answers.
    pub answer: Option<u16>,
    /// The values of a repeated header are joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Length of the body.
    pub bytes: usize,
    /// Why the body is no callback.
    pub problem: Option<String>,
    /// The body as it arrived, if it is JSON.
    pub body: Option<&'r RawValue>,
    /// The verdict in words, for the text only; so are the next two.
    #[serde(skip)]
    pub signature_words: String,
    #[serde(skip)]
    pub answer_words: String,
    /// The body if it is no callback.
    #[serde(skip)]
    pub excerpt: &'r [u8],
}

/// Reads a body: as JSON, and why it is no callback.
pub fn read(bytes: &[u8]) -> (Option<&RawValue>, Option<String>) {
    if bytes.trim_ascii().is_empty() {
        return (None, Some("empty".to_owned()));
    }
    match serde_json::from_slice::<&RawValue>(bytes) {
        Err(error) => (
            None,
            Some(format!("not JSON: {}", safe(&error.to_string()))),
        ),
        Ok(raw) => match serde_json::from_str::<Value>(raw.get()) {
            Ok(body) if body["data"].is_object() => (Some(raw), None),
            Ok(_) => {
                let problem = "JSON, but not a callback: a callback is {\"data\":{…}}";
                (Some(raw), Some(problem.to_owned()))
            }
            // A reader of the JSON line could not read it either.
            Err(error) => (None, Some(format!("not JSON that can be read: {error}"))),
        },
    }
}

impl Shown<'_> {
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
        let problem = self.problem.as_ref().map(|problem| format!(": {problem}"));
        let length = format!("{} bytes{}", self.bytes, problem.unwrap_or_default());
        line(&mut text, "body", &length);
        let body = self.body.filter(|_| self.problem.is_none());
        let body = body.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        match body.as_ref().and_then(|body| body["data"].as_object()) {
            Some(data) => {
                text.push('\n');
                let absent = object(&mut text, data, &CONTRACT.data, INDENT);
                text.push('\n');
                if !absent.is_empty() {
                    line(&mut text, "not in it", &absent.join(", "));
                }
            }
            None if self.bytes > 0 => {
                let excerpt = String::from_utf8_lossy(self.excerpt);
                line(&mut text, "", &cut(&excerpt, EXCERPT_CHARS_MAX));
            }
            None => {}
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
            let value = cut(value, HEADER_CHARS_MAX);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn shown(bytes: &[u8]) -> Shown<'_> {
        let (body, problem) = read(bytes);
        let headers = [("webhook-id", "a"), ("host", "h"), ("x", "blue\u{9b}[31m")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Shown {
            at: 1_606_188_575_000,
            path: "/call-ended".to_owned(),
            peer: "127.0.0.1:4000".to_owned(),
            id: Some("a"),
            attempt: Some(3),
            seen: Some(2),
            answered_before: Some(true),
            signature: "no_secret",
            answer: Some(200),
            headers: headers.into(),
            bytes: bytes.len(),
            problem,
            body,
            signature_words: "signed, not verified".to_owned(),
            answer_words: "200".to_owned(),
            excerpt: bytes,
        }
    }

    #[test]
    fn the_example_is_shown_with_its_fields_and_what_it_lacks() {
        let text = shown(EXAMPLE).text();
        for part in [
            "SEEN BEFORE: time 2, and answered 2xx before",
            "blue\\u009b[31m",
            "话后时间(单位:秒) · after-call work in seconds",
            "1606188550000 = 2020-11-24T03:29:10.000Z",
            "= 3 个扩展字段 custom fields",
            "= 下拉框 drop-down list",
            "not in it              callWaitDuration, staffId",
        ] {
            assert!(text.contains(part), "{part} is not in:\n{text}");
        }
        assert!(!text.contains("host") && !text.contains('\u{1b}'));
        let line = shown(EXAMPLE).json();
        assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["seen"], &read["problem"]), (&2.into(), &Value::Null));
        assert_eq!(read["body"]["data"]["acw"], 5);
        let long = b"{\"data\":{\"taskId\":\n 123456789012345678901234567890}}";
        assert!(
            shown(long)
                .json()
                .contains("123456789012345678901234567890}")
        );
    }

    #[test]
    fn a_body_that_is_no_callback_is_shown_as_what_it_is() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for (body, expected) in [
            (&b""[..], "0 bytes: empty"),
            (b" \n", "2 bytes: empty"),
            (b"\x1b[2J\0", "\\u001b[2J\\u0000"),
            (b"{\"data\":\"\xff\"}", "not JSON"),
            (b"{\"data\":{}", "not JSON: EOF"),
            (b"[1]", "not a callback"),
            (b"{\"data\":[]}", "not a callback"),
            (deep.as_bytes(), "not JSON that can be read"),
            (&[b'x'; 1_000_000], "1000000 bytes: not JSON"),
        ] {
            let text = shown(body).text();
            assert!(text.contains(expected), "{text}");
            assert!(!text.contains('\u{1b}') && text.len() < 3_000);
            assert!(serde_json::from_str::<Value>(&shown(body).json()).is_ok());
        }
    }
}
