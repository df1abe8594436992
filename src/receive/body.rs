//! What a request's body is: a callback, or what else. Reads what it can and
//! refuses nothing; numbers keep their digits, a repeated key counts and its
//! last value is shown. Pure.
//!
//! Limits: of one object 10,000 members are looked at and 1,000 keys kept, more
//! are counted, so that no object costs more than ten million comparisons; a
//! body's size is the server's to bound.

use super::field::{Field, JsonType};
use super::fields::{FIELDS, find};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

const MEMBERS_MAX: usize = 10_000;
const KEYS_MAX: usize = 1_000;

/// What came as a body.
pub enum Body<'a> {
    /// Nothing.
    Empty,
    /// Bytes that are no UTF-8, the first of them at this place, from 0.
    NotUtf8(usize),
    /// Text that is no JSON, and where that shows.
    NotJson(String),
    /// JSON without an object under `data`, and what it is instead.
    NotCallback(String),
    /// A callback.
    Callback(Callback<'a>),
}

/// The members of `data`, and what stands beside it.
pub struct Callback<'a> {
    /// The members of `data`, each key once, in order of their first appearance.
    pub members: Vec<Member<'a>>,
    /// How many members were left out.
    pub left_out: usize,
    /// Keys beside `data`; ringback sends none.
    pub beside: Vec<String>,
}

/// One member of an object.
pub struct Member<'a> {
    /// Its key.
    pub name: String,
    /// The text of its last value.
    pub raw: &'a str,
    /// How often the key was there.
    pub times: usize,
}

impl<'a> Body<'a> {
    /// Reads a body.
    #[must_use]
    pub fn read(bytes: &'a [u8]) -> Self {
        if bytes.trim_ascii().is_empty() {
            return Self::Empty;
        }
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Self::NotUtf8(error.valid_up_to()),
        };
        let raw: &RawValue = match serde_json::from_str(text) {
            Ok(raw) => raw,
            Err(error) => return Self::NotJson(error.to_string()),
        };
        let is = JsonType::of(raw.get()).name();
        let Some(outer) = Object::read(raw.get()) else {
            return Self::NotCallback(is.to_owned());
        };
        let Some(data) = outer.members.iter().find(|member| member.name == "data") else {
            return Self::NotCallback("an object without data".to_owned());
        };
        let Some(inner) = Object::read(data.raw) else {
            let is = JsonType::of(data.raw).name();
            return Self::NotCallback(format!("an object whose data is {is}"));
        };
        let beside = outer.members.iter().filter(|member| member.name != "data");
        Self::Callback(Callback {
            beside: beside.map(|member| member.name.clone()).collect(),
            members: inner.members,
            left_out: inner.left_out,
        })
    }
}

impl Callback<'_> {
    /// The fields of the contract that this callback does not have.
    pub fn absent(&self) -> impl Iterator<Item = &'static Field> {
        let has = |name: &str| self.members.iter().any(|member| member.name == name);
        FIELDS.iter().filter(move |field| !has(field.name))
    }
}

impl Member<'_> {
    /// What the contract says of it, in one of the lists.
    #[must_use]
    pub fn field(&self, list: &'static [Field]) -> Option<&'static Field> {
        find(list, &self.name)
    }
}

/// A JSON object as it is written.
#[derive(Default)]
pub struct Object<'a> {
    /// Each key once, in order of its first appearance.
    pub members: Vec<Member<'a>>,
    /// How many members were left out.
    pub left_out: usize,
}

impl<'a> Object<'a> {
    /// Reads an object; none where the text is anything else.
    #[must_use]
    pub fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn put(&mut self, name: String, raw: &'a RawValue) {
        let raw = raw.get();
        if let Some(member) = self.members.iter_mut().find(|m| m.name == name) {
            member.raw = raw;
            member.times += 1;
        } else if self.members.len() < KEYS_MAX {
            self.members.push(Member {
                name,
                raw,
                times: 1,
            });
        } else {
            self.left_out += 1;
        }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = Object::default();
                for _ in 0..MEMBERS_MAX {
                    let Some((name, raw)) = map.next_entry()? else {
                        return Ok(object);
                    };
                    object.put(name, raw);
                }
                // Beyond the limit members are only counted.
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    object.left_out += 1;
                }
                Ok(object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn callback(bytes: &[u8]) -> Callback<'_> {
        match Body::read(bytes) {
            Body::Callback(callback) => callback,
            _ => panic!("{}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn the_example_has_its_31_keys_with_the_repeated_ones_last_value() {
        let example = callback(EXAMPLE);
        assert_eq!(example.members.len(), 31);
        let repeated: Vec<_> = example.members.iter().filter(|m| m.times > 1).collect();
        assert_eq!(repeated.len(), 1);
        assert_eq!(
            (repeated[0].name.as_str(), repeated[0].times),
            ("expansionFields", 2)
        );
        assert!(repeated[0].raw.starts_with(r#""[{\"id\":121"#));
        assert_eq!(example.absent().count(), 7);
    }

    #[test]
    fn digits_beyond_2_to_the_53_stay() {
        let body = br#"{"data":{"taskId":9007199254740993,"x":123456789012345678901234567890}}"#;
        let raw: Vec<&str> = callback(body).members.iter().map(|m| m.raw).collect();
        assert_eq!(raw, ["9007199254740993", "123456789012345678901234567890"]);
    }

    #[test]
    fn anything_else_is_told_as_what_it_is() {
        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            let told = match Body::read(bytes) {
                Body::Empty => "empty".to_owned(),
                Body::NotUtf8(at) => format!("not utf-8 at {at}"),
                Body::NotJson(why) => format!("not json: {why}"),
                Body::NotCallback(what) => what,
                Body::Callback(_) => "callback".to_owned(),
            };
            assert!(told.starts_with(expected), "{told}");
        }
        check(b"", "empty");
        check(b" \n", "empty");
        check(b"{\"data\":\"\xff\"}", "not utf-8 at 9");
        check(b"hello", "not json: expected value at line 1");
        check(b"{\"data\":{}", "not json: EOF");
        check(b"{\"data\":{}} x", "not json: trailing");
        check(b"[1]", "an array");
        check(b"5", "a number");
        check(b"null", "null");
        check(b"{\"id\":\"1\"}", "an object without data");
        check(b"{\"data\":[]}", "an object whose data is an array");
        check(b"{\"data\":{}}", "callback");
        check(
            br#"{"data":{"a":1e999,"b":"\ud800","c":null,"":[{}]}}"#,
            "callback",
        );
        let deep = format!(
            r#"{{"data":{{"x":{}{}}}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        // Whether it is taken or not, it is no crash.
        assert!(!matches!(Body::read(deep.as_bytes()), Body::Empty));
    }

    #[test]
    fn more_members_than_the_limit_are_counted() {
        let mut text = r#"{"data":{"#.to_owned();
        for n in 0..2_500 {
            write!(text, "\"k{n}\":{n},").unwrap();
        }
        text.push_str(r#""k0":9}}"#);
        let many = callback(text.as_bytes());
        assert_eq!((many.members.len(), many.left_out), (KEYS_MAX, 1_500));
        assert_eq!((many.members[0].raw, many.members[0].times), ("9", 2));

        let same = format!("{{\"data\":{{{}\"a\":1}}}}", "\"a\":0,".repeat(20_000));
        let same = callback(same.as_bytes());
        assert_eq!((same.members.len(), same.left_out), (1, 10_001));
    }
}
