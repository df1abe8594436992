//! The value of a call-ended record: its id, its tenant and its framing. Only `id`
//! and `tenantId` are read; nothing is serialized again. Pure; runs on the thread of
//! the engine.

use super::disposition::DeadLetterReason;
use super::tenant::TenantId;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

/// The maximum nesting of arrays and objects in a value, including the outermost.
pub const DEPTH_MAX: usize = 128;

/// The id of a record: 1 to 256 visible ASCII characters, because it becomes a header.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(Arc<str>);

impl RecordId {
    /// The maximum length in characters.
    pub const LEN_MAX: usize = 256;

    /// Returns the id, or `None` where the text is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        (visible && !text.is_empty() && text.len() <= Self::LEN_MAX).then(|| Self(text.into()))
    }

    /// Returns the id as text.
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

/// The way in which a value becomes the body of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// The value is `{"data":{…}}` already: it is sent byte for byte.
    Wrapped,
    /// The value is any other object: it is sent between `{"data":` and `}`.
    Bare,
}

/// The parts of a call-ended record that ringback reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallEnded {
    pub id: RecordId,
    pub tenant: TenantId,
    pub framing: Framing,
}

impl CallEnded {
    /// Reads the value of a record.
    ///
    /// Errors: the reason for its dead letter.
    pub fn read(value: &[u8]) -> Result<Self, DeadLetterReason> {
        let (ids, framing) = Ids::read(value)?;
        ids.call(framing)
    }

    /// Returns the id of a value, also where the value has no usable tenant.
    #[must_use]
    pub fn id(value: &[u8]) -> Option<RecordId> {
        let (ids, _) = Ids::read(value).ok()?;
        RecordId::new(&ids.id.text(DeadLetterReason::NoRecordId).ok()?)
    }

    /// Returns the body of the request for this value.
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

/// Returns whether arrays and objects are nested too deeply. Few values have so many
/// brackets that their nesting must be counted.
fn is_too_deep(value: &[u8]) -> bool {
    let opening = |byte: &&u8| matches!(byte, b'{' | b'[');
    value.iter().filter(opening).count() > DEPTH_MAX && depth(value) > DEPTH_MAX
}

/// Returns the maximum nesting of arrays and objects, counted by brackets outside of
/// strings. It is exact for JSON; other text is refused later anyway.
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

/// A key of an object, by its decoded text.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum MemberKey {
    Id,
    TenantId,
    Data,
    #[serde(other)]
    Other,
}

/// The value of a key.
enum ObjectMember<T> {
    Missing,
    Once(T),
    Repeated,
}

impl<T> ObjectMember<T> {
    fn fill(&mut self, value: T) {
        *self = match self {
            Self::Missing => Self::Once(value),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }
}

impl<'a> ObjectMember<&'a RawValue> {
    /// Returns the string, or `missing` where the key is absent.
    fn text(&self, missing: DeadLetterReason) -> Result<Cow<'a, str>, DeadLetterReason> {
        match self {
            Self::Missing => Err(missing),
            Self::Repeated => Err(DeadLetterReason::Undecodable),
            Self::Once(raw) => {
                let text: Result<Text, _> = serde_json::from_str(raw.get());
                text.map(|text| text.0).map_err(|_| DeadLetterReason::BadId)
            }
        }
    }
}

/// A string, which is copied only where it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object that ringback reads, with `data` as a `D`.
struct Members<'a, D> {
    id: ObjectMember<&'a RawValue>,
    tenant_id: ObjectMember<&'a RawValue>,
    data: ObjectMember<D>,
    count: usize,
}

/// An object whose `data` may be anything.
type Inner<'a> = Members<'a, IgnoredAny>;
/// An object whose `data` is an object, if there is one.
type Outer<'a> = Members<'a, Inner<'a>>;

/// The members that name a record and its tenant.
struct Ids<'a> {
    id: ObjectMember<&'a RawValue>,
    tenant_id: ObjectMember<&'a RawValue>,
}

impl<'a> Ids<'a> {
    /// Reads the object that holds the members, and how it is framed.
    fn read(value: &'a [u8]) -> Result<(Self, Framing), DeadLetterReason> {
        let text = std::str::from_utf8(value).map_err(|_| DeadLetterReason::Undecodable)?;
        if is_too_deep(value) {
            return Err(DeadLetterReason::Undecodable);
        }
        match serde_json::from_str(text) {
            Ok(Outer {
                data: ObjectMember::Once(inner),
                count: 1,
                ..
            }) => Ok((inner.into(), Framing::Wrapped)),
            Ok(outer) => Ok((outer.into(), Framing::Bare)),
            // Not JSON, or `data` is no object.
            Err(_) => match serde_json::from_str::<Inner<'_>>(text) {
                Ok(object) => Ok((object.into(), Framing::Bare)),
                Err(_) => Err(DeadLetterReason::Undecodable),
            },
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

impl<'a, D> From<Members<'a, D>> for Ids<'a> {
    fn from(members: Members<'a, D>) -> Self {
        let Members { id, tenant_id, .. } = members;
        Self { id, tenant_id }
    }
}

impl<D> Default for Members<'_, D> {
    fn default() -> Self {
        Self {
            id: ObjectMember::Missing,
            tenant_id: ObjectMember::Missing,
            data: ObjectMember::Missing,
            count: 0,
        }
    }
}

impl<'de, D: Deserialize<'de>> Deserialize<'de> for Members<'de, D> {
    fn deserialize<T: Deserializer<'de>>(deserializer: T) -> Result<Self, T::Error> {
        struct MembersVisitor<D>(PhantomData<D>);
        impl<'de, D: Deserialize<'de>> Visitor<'de> for MembersVisitor<D> {
            type Value = Members<'de, D>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(key) = map.next_key()? {
                    members.count += 1;
                    match key {
                        MemberKey::Id => members.id.fill(map.next_value()?),
                        MemberKey::TenantId => members.tenant_id.fill(map.next_value()?),
                        MemberKey::Data => members.data.fill(map.next_value()?),
                        MemberKey::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    /// Returns the inner object of the example, byte for byte.
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
    fn other_members_cannot_make_a_record_unreadable() {
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
            r#"{"data":{"id":"b"},"data":[],"id":"a","tenantId":"t"}"#,
            Framing::Bare,
        );
        check(
            &format!(
                r#"{{"data":{{"id":"a","tenantId":"t","x":"{}"}}}}"#,
                "[".repeat(1_000)
            ),
            Framing::Wrapped,
        );
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
    fn an_unreadable_value_has_its_reason() {
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
        check(br#"{"data":5}"#, NoRecordId);
        check(br#"{"data":{"id":"a","tenantId":"t"}} x"#, Undecodable);
        check(br#"{"data":{"id":"a","tenantId":"t",}}"#, Undecodable);
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
