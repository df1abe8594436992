//! A line of an export of dead letters: `{"ringback":{…},"record":{…}}`. `ringback`
//! says where the dead letter lies. `record` is its value, byte for byte except for
//! line breaks; an export without bodies has none.

use super::found::RecordPlace;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A line as it is read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExportLine {
    /// Where the dead letter lies.
    pub place: RecordPlace,
    /// The id of the record, if its value has one.
    pub id: Option<String>,
    /// The value of the record, if the line has it.
    pub record: Option<Vec<u8>>,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    ringback: RawPosition<'a>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawPosition<'a> {
    #[serde(borrow)]
    position: std::borrow::Cow<'a, str>,
    id: Option<String>,
}

impl ExportLine {
    /// Reads a line. Returns `None` where it is no line of an export.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<Self> {
        let line: RawLine<'_> = serde_json::from_slice(line).ok()?;
        Some(Self {
            place: line.ringback.position.parse().ok()?,
            id: line.ringback.id,
            record: line.record.map(|raw| raw.get().as_bytes().to_vec()),
        })
    }
}

/// Returns a JSON value on one line, otherwise unchanged; `None` where it is none.
/// Line breaks in JSON lie between its parts, where a space means the same.
#[must_use]
pub fn one_line(value: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(value).ok()?;
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_byte_for_byte_but_for_line_breaks() {
        let value = b"{\"id\":\"a\",\r\n \"n\":12345678901234567890123,\"t\":\"x\\ny\"}";
        let record = one_line(value).expect("JSON");
        let line =
            format!(r#"{{"ringback":{{"position":"t/0/1","id":"a","x":1}},"record":{record}}}"#);
        assert!(!line.contains('\n'));
        let read = ExportLine::read(line.as_bytes()).expect("a line");
        assert_eq!(read.place.to_string(), "t/0/1");
        assert_eq!(read.id.as_deref(), Some("a"));
        let expected = b"{\"id\":\"a\",   \"n\":12345678901234567890123,\"t\":\"x\\ny\"}";
        assert_eq!(read.record.as_deref(), Some(&expected[..]));
    }

    #[test]
    fn other_lines_are_none() {
        let without = ExportLine::read(br#"{"ringback":{"position":"t/0/1"}}"#);
        assert_eq!(without.map(|line| line.record), Some(None));
        for line in [
            "",
            "x",
            "{}",
            r#"{"id":"a","tenantId":"t"}"#,
            r#"{"ringback":{"position":"t"}}"#,
        ] {
            assert_eq!(ExportLine::read(line.as_bytes()), None, "{line}");
        }
        assert!(one_line(b"{").is_none() && one_line(b"\xff").is_none());
    }
}
