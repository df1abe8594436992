//! Reads a request's body as a callback. Numbers keep their digits. A repeated
//! key counts, and its last value is shown. Pure.
//!
//! Limits: an object keeps 1,000 keys and counts further members. The server
//! limits the size of a body.

use super::terminal::safe;
use crate::contract::{CONTRACT, JsonType};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;

const KEYS_MAX: usize = 1_000;

/// What a body is.
#[derive(serde::Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum BodyKind {
    Callback,
    Empty,
    NotUtf8,
    NotJson,
    /// JSON without an object under `data`.
    NotCallback,
    /// It did not arrive whole.
    Incomplete,
}

/// A callback.
#[derive(Default)]
pub struct Callback<'a> {
    pub data: Object<'a>,
    /// Names of the contract's fields that `data` lacks.
    pub absent: Vec<&'static str>,
    /// Keys beside `data`; ringback sends none.
    pub beside: Vec<String>,
}

impl<'a> Callback<'a> {
    /// Reads a body.
    ///
    /// Errors: what the body is instead, as a kind and in words.
    pub fn read(bytes: &'a [u8]) -> Result<Self, (BodyKind, String)> {
        if bytes.trim_ascii().is_empty() {
            return Err((BodyKind::Empty, "empty".to_owned()));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            let what = format!("not UTF-8: byte {at} is the first that is not");
            (BodyKind::NotUtf8, what)
        })?;
        let body: &RawValue = serde_json::from_str(text).map_err(|error| {
            let what = format!("not JSON: {}", safe(&error.to_string()));
            (BodyKind::NotJson, what)
        })?;
        Self::read_json(body.get()).map_err(|what| {
            let what =
                format!("JSON, but not a callback: {what}; a callback is {{\"data\":{{…}}}}");
            (BodyKind::NotCallback, what)
        })
    }

    fn read_json(body: &'a str) -> Result<Self, String> {
        let outer: Object<'_> =
            serde_json::from_str(body).map_err(|_| JsonType::of(body).name())?;
        let (data, beside): (Vec<_>, Vec<_>) =
            outer.members.into_iter().partition(|m| m.name == "data");
        let data = data.first().ok_or("an object without data")?.raw.get();
        let not_object = |_| format!("an object whose data is {}", JsonType::of(data).name());
        let data: Object<'_> = serde_json::from_str(data).map_err(not_object)?;
        let has = |name: &str| data.members.iter().any(|member| member.name == name);
        let absent = CONTRACT.data.iter().map(|field| field.name.as_str());
        Ok(Self {
            absent: absent.filter(|name| !has(name)).collect(),
            beside: beside.into_iter().map(|member| member.name).collect(),
            data,
        })
    }
}

/// A JSON object.
#[derive(Default)]
pub struct Object<'a> {
    /// Each key once, in order of first appearance.
    pub members: Vec<Member<'a>>,
    /// Number of members beyond the limit.
    pub left_out: usize,
}

/// One member of an object.
pub struct Member<'a> {
    pub name: String,
    /// Its last value.
    pub raw: &'a RawValue,
    /// How often the key occurs.
    pub times: usize,
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self::default())
    }
}

impl<'de> Visitor<'de> for Object<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        let mut places = HashMap::new();
        while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
            if let Some(place) = places.get(&name) {
                let member: &mut Member<'_> = &mut self.members[*place];
                (member.raw, member.times) = (raw, member.times + 1);
            } else if places.len() < KEYS_MAX {
                places.insert(name.clone(), places.len());
                let times = 1;
                self.members.push(Member { name, raw, times });
            } else {
                self.left_out += 1;
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn callback(bytes: &[u8]) -> Callback<'_> {
        match Callback::read(bytes) {
            Ok(callback) => callback,
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_has_its_31_keys_with_the_repeated_ones_last_value() {
        let example = callback(EXAMPLE);
        assert_eq!(example.data.members.len(), 31);
        let repeated: Vec<_> = example
            .data
            .members
            .iter()
            .filter(|m| m.times > 1)
            .collect();
        assert_eq!(repeated.len(), 1);
        assert_eq!(
            (repeated[0].name.as_str(), repeated[0].times),
            ("expansionFields", 2)
        );
        assert!(repeated[0].raw.get().starts_with(r#""[{\"id\":121"#));
        assert_eq!(example.absent.len(), 7);
    }

    #[test]
    fn digits_beyond_2_to_the_53_stay() {
        let body = br#"{"data":{"taskId":9007199254740993,"x":123456789012345678901234567890}}"#;
        let raw: Vec<&str> = callback(body)
            .data
            .members
            .iter()
            .map(|m| m.raw.get())
            .collect();
        assert_eq!(raw, ["9007199254740993", "123456789012345678901234567890"]);
    }

    #[test]
    fn every_other_body_is_named() {
        #[track_caller]
        fn check(bytes: &[u8], kind: BodyKind, expected: &str) {
            let (found, why) = match Callback::read(bytes) {
                Ok(_) => (BodyKind::Callback, String::new()),
                Err(other) => other,
            };
            assert_eq!(found, kind);
            assert!(why.contains(expected), "{why}");
        }
        use BodyKind::{Callback as Right, Empty, NotCallback, NotJson, NotUtf8};
        check(b"", Empty, "empty");
        check(b" \n", Empty, "empty");
        check(b"{\"data\":\"\xff\"}", NotUtf8, "byte 9");
        check(b"hello", NotJson, "expected value at line 1");
        check(b"{\"data\":{}", NotJson, "EOF");
        check(b"{\"data\":{}} x", NotJson, "trailing");
        check(b"[1]", NotCallback, "an array");
        check(b"5", NotCallback, "a number");
        check(b"null", NotCallback, "null");
        check(b"{\"id\":\"1\"}", NotCallback, "an object without data");
        check(
            b"{\"data\":[]}",
            NotCallback,
            "an object whose data is an array",
        );
        check(b"{\"data\":{}}", Right, "");
        check(
            br#"{"data":{"a":1e999,"b":"\ud800","c":null,"":[{}]}}"#,
            Right,
            "",
        );
        let deep = format!(
            r#"{{"data":{{"x":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        // It is accepted or refused; it does not crash.
        let read = Callback::read(deep.as_bytes());
        assert!(!matches!(read, Err((Empty, _))));
    }

    #[test]
    fn more_members_than_the_limit_are_counted() {
        let mut text = r#"{"data":{"#.to_owned();
        for n in 0..2_500 {
            write!(text, "\"k{n}\":{n},").unwrap();
        }
        text.push_str(r#""k0":9}}"#);
        let many = callback(text.as_bytes());
        assert_eq!(
            (many.data.members.len(), many.data.left_out),
            (KEYS_MAX, 1_500)
        );
        assert_eq!(
            (many.data.members[0].raw.get(), many.data.members[0].times),
            ("9", 2)
        );

        let same = format!("{{\"data\":{{{}\"a\":1}}}}", "\"a\":0,".repeat(20_000));
        let same = callback(same.as_bytes()).data;
        assert_eq!((same.members.len(), same.left_out), (1, 0));
        assert_eq!(same.members[0].times, 20_001);
    }
}
