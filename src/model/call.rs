//! The call-ended record's value: which call, which tenant, and how it is
//! framed. Only `id` and `tenantId` are read; nothing is re-serialized.

use super::disposition::DeadLetterReason;
use super::tenant::TenantId;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;

/// The deepest nesting of arrays and objects in a value, the outermost counted.
pub const DEPTH_MAX: usize = 128;

/// A record's id: 1 to 256 visible ASCII characters, for it becomes a header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Arc<str>);

impl RecordId {
    /// The largest length in characters.
    pub const LEN_MAX: usize = 256;

    fn new(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        (visible && !text.is_empty() && text.len() <= Self::LEN_MAX).then(|| Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// How the value becomes the request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// `{"data":{…}}` already: sent byte for byte.
    Wrapped,
    /// Any other object: sent between `{"data":` and `}`.
    Bare,
}

/// What ringback reads of a call-ended record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallEnded {
    /// The record's id.
    pub id: RecordId,
    /// Whose call it was.
    pub tenant: TenantId,
    /// How the body is made.
    pub framing: Framing,
}

impl CallEnded {
    /// Reads a record's value.
    ///
    /// Errors: the reason for its dead letter.
    pub fn read(value: &[u8]) -> Result<Self, DeadLetterReason> {
        let text = std::str::from_utf8(value).map_err(|_| DeadLetterReason::Undecodable)?;
        if depth(value) > DEPTH_MAX {
            return Err(DeadLetterReason::Undecodable);
        }
        let outer: Fields<'_> =
            serde_json::from_str(text).map_err(|_| DeadLetterReason::Undecodable)?;
        if let Some(data) = outer.only_data() {
            let inner: Fields<'_> =
                serde_json::from_str(data).map_err(|_| DeadLetterReason::Undecodable)?;
            return inner.call(Framing::Wrapped);
        }
        outer.call(Framing::Bare)
    }

    /// The request's body for this record's value.
    #[must_use]
    pub fn body(&self, value: &Bytes) -> Bytes {
        match self.framing {
            Framing::Wrapped => value.clone(),
            Framing::Bare => {
                const HEAD: &[u8] = b"{\"data\":";
                let mut body = BytesMut::with_capacity(HEAD.len() + value.len() + 1);
                body.put_slice(HEAD);
                body.put_slice(value);
                body.put_u8(b'}');
                body.freeze()
            }
        }
    }
}

/// The deepest nesting of arrays and objects, by brackets outside strings. For
/// text that is JSON this is exact; for other text it does not matter.
fn depth(value: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let mut in_string = false;
    let mut bytes = value.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                bytes.next();
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// One of the keys that matter, by its decoded text.
enum Key {
    Id,
    TenantId,
    Data,
    Other,
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(match key {
                    "id" => Key::Id,
                    "tenantId" => Key::TenantId,
                    "data" => Key::Data,
                    _ => Key::Other,
                })
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A key's value as its raw text, or the fact that the key came twice.
#[derive(Default)]
enum Slot<'a> {
    #[default]
    Missing,
    Once(&'a RawValue),
    Repeated,
}

impl<'a> Slot<'a> {
    fn fill(&mut self, value: &'a RawValue) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    /// The string in this slot; `missing` is the reason where there is none.
    fn text(&self, missing: DeadLetterReason) -> Result<String, DeadLetterReason> {
        match self {
            Self::Missing => Err(missing),
            Self::Repeated => Err(DeadLetterReason::Undecodable),
            Self::Once(raw) => serde_json::from_str(raw.get()).map_err(|_| DeadLetterReason::BadId),
        }
    }
}

/// The members of one object that matter.
#[derive(Default)]
struct Fields<'a> {
    id: Slot<'a>,
    tenant_id: Slot<'a>,
    data: Slot<'a>,
    members: usize,
}

impl<'a> Fields<'a> {
    /// The text of `data` where it is the only member and an object.
    fn only_data(&self) -> Option<&'a str> {
        match self.data {
            Slot::Once(raw) if self.members == 1 && raw.get().starts_with('{') => Some(raw.get()),
            _ => None,
        }
    }

    fn call(&self, framing: Framing) -> Result<CallEnded, DeadLetterReason> {
        let id = self.id.text(DeadLetterReason::NoRecordId)?;
        let tenant = self.tenant_id.text(DeadLetterReason::NoTenantId)?;
        Ok(CallEnded {
            id: RecordId::new(&id).ok_or(DeadLetterReason::BadId)?,
            tenant: TenantId::new(&tenant).map_err(|_| DeadLetterReason::BadId)?,
            framing,
        })
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key()? {
                    fields.members += 1;
                    match key {
                        Key::Id => fields.id.fill(map.next_value()?),
                        Key::TenantId => fields.tenant_id.fill(map.next_value()?),
                        Key::Data => fields.data.fill(map.next_value()?),
                        Key::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    /// The example's inner object, byte for byte.
    fn bare_example() -> &'static [u8] {
        let start = EXAMPLE[1..]
            .iter()
            .position(|b| *b == b'{')
            .expect("inner object")
            + 1;
        let end = EXAMPLE.iter().rposition(|b| *b == b'}').expect("outer end");
        EXAMPLE[start..end].trim_ascii_end()
    }

    #[test]
    fn the_contract_example_is_sent_byte_for_byte() {
        let call = CallEnded::read(EXAMPLE).expect("the example is readable");
        assert_eq!(call.id.as_str(), "0605589a-c1f7-47a5-b75c-3e639e1b928a");
        assert_eq!(call.tenant.as_str(), "87462158132343186600590049");
        assert_eq!(call.body(&Bytes::from_static(EXAMPLE)), EXAMPLE);
    }

    #[test]
    fn the_bare_example_is_wrapped_and_otherwise_untouched() {
        let bare = bare_example();
        let call = CallEnded::read(bare).expect("the bare example is readable");
        assert_eq!(call.framing, Framing::Bare);
        let body = call.body(&Bytes::from_static(bare));
        assert_eq!(body, [b"{\"data\":", bare, b"}"].concat());
    }

    #[test]
    fn what_matters_is_read_and_nothing_else_can_fail() {
        #[track_caller]
        fn check(value: &str, framing: Framing) {
            let call = CallEnded::read(value.as_bytes()).expect(value);
            assert_eq!(
                (call.id.as_str(), call.tenant.as_str(), call.framing),
                ("a", "t", framing)
            );
        }
        check(r#"{"id":"a","tenantId":"t"}"#, Framing::Bare);
        check(
            r#" { "tenantId" : "t" , "\u0069d" : "\u0061" } "#,
            Framing::Bare,
        );
        check(r#"{"data":{"id":"a","tenantId":"t"}}"#, Framing::Wrapped);
        check(
            r#"{"data":{"id":"a","tenantId":"t","data":{}}}"#,
            Framing::Wrapped,
        );
        check(
            r#"{"data":{"id":5},"id":"a","tenantId":"t"}"#,
            Framing::Bare,
        );
        check(r#"{"data":1e999,"id":"a","tenantId":"t"}"#, Framing::Bare);
        check(
            r#"{"id":"a","tenantId":"t","n":123456789012345678901234567890,"x":1e999,"x":null}"#,
            Framing::Bare,
        );
        check(&nested(DEPTH_MAX - 1), Framing::Bare);
    }

    fn nested(depth: usize) -> String {
        format!(
            r#"{{"id":"a","tenantId":"t","x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    }

    #[test]
    fn what_cannot_be_read_has_its_reason() {
        #[track_caller]
        fn check(value: &[u8], reason: DeadLetterReason) {
            assert_eq!(
                CallEnded::read(value),
                Err(reason),
                "{}",
                String::from_utf8_lossy(value)
            );
        }
        use DeadLetterReason::{BadId, NoRecordId, NoTenantId, Undecodable};
        for value in [
            "",
            "null",
            "[]",
            "\"x\"",
            "1",
            "{",
            "{} x",
            "not json",
            r#"{"id":"a","id":"a","tenantId":"t"}"#,
            r#"{"id":"a","tenantId":"t","tenantId":"t"}"#,
            r#"{"id":"a","tenantId":"t",}"#,
        ] {
            check(value.as_bytes(), Undecodable);
        }
        check(
            b"{\"id\":\"a\",\"tenantId\":\"t\",\"x\":\"\xff\"}",
            Undecodable,
        );
        check(nested(DEPTH_MAX).as_bytes(), Undecodable);
        check(nested(10_000).as_bytes(), Undecodable);
        check(br#"{"tenantId":"t"}"#, NoRecordId);
        check(br#"{}"#, NoRecordId);
        check(br#"{"data":{}}"#, NoRecordId);
        check(br#"{"id":"a"}"#, NoTenantId);
        for id in [
            "5",
            "null",
            "\"\"",
            "\"a b\"",
            "\"\u{e9}\"",
            "{}",
            &format!("\"{}\"", "x".repeat(257)),
        ] {
            check(format!(r#"{{"id":{id},"tenantId":"t"}}"#).as_bytes(), BadId);
        }
        for id in [
            "5",
            "null",
            "\"\"",
            r#""a\n""#,
            &format!("\"{}\"", "x".repeat(257)),
        ] {
            check(format!(r#"{{"id":"a","tenantId":{id}}}"#).as_bytes(), BadId);
        }
    }
}
