//! Explains the values of a callback, in Chinese and English, and notes what is
//! strange about them. A strange value is no error: everything is shown. Pure
//! but for the system's time zone.
//!
//! Limits: 2,000 characters of a value, and 200 items of `expansionFields`.

use super::terminal::{cut, json_line, padded, safe};
use crate::contract::{CONTRACT, Field, JsonType, ValueForm};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

const VALUE_CHARS_MAX: usize = 2_000;
const ITEMS_MAX: usize = 200;
/// Numbers beyond it are rounded by programs that read them as doubles.
const EXACT_MAX: u64 = 1 << 53;
/// A number of seconds from here on is a moment: no call lasts 30 years.
const SECONDS_MAX: i64 = 1_000_000_000;
/// Indent of the members of `data`.
pub const INDENT: usize = 3;
const NAME_COLUMNS: usize = 22;
const VALUE_COLUMNS: usize = 26;

/// Returns a moment in UTC, to the millisecond, and in local time where that
/// differs. Returns none beyond the years -9999 to 9999.
#[must_use]
pub fn moment(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    let zoned = at.to_zoned_datetime(TimeZone::system());
    if zoned.offset().seconds() == 0 {
        return Some(format!("{at:.3}"));
    }
    let local = zoned.strftime("%Y-%m-%d %H:%M:%S%.3f %:z");
    Some(format!("{at:.3} = {local}"))
}

/// Writes a name and its value on a line.
pub fn line(text: &mut String, name: &str, value: &str) {
    let name = padded(name, NAME_COLUMNS);
    *text += &format!("   {name} {value}\n");
}

/// Writes the members of an object: the listed ones in the list's order, then the
/// others. Returns the names of the listed fields that it lacks.
pub fn object(
    text: &mut String,
    object: &Map<String, Value>,
    list: &'static [Field],
    indent: usize,
) -> Vec<&'static str> {
    let mut absent = Vec::new();
    for field in list {
        match object.get(&field.name) {
            Some(value) => member(text, &field.name, value, Some(field), indent),
            None => absent.push(field.name.as_str()),
        }
    }
    let listed = |name: &str| list.iter().any(|field| field.name == name);
    for (name, value) in object.iter().filter(|(name, _)| !listed(name)) {
        member(text, name, value, None, indent);
    }
    absent
}

/// Writes `name  value = its meaning  Chinese · English`, then the notes and the
/// parts of the value.
fn member(
    text: &mut String,
    name: &str,
    value: &Value,
    field: Option<&'static Field>,
    indent: usize,
) {
    let mut inside = String::new();
    let (means, notes) = match field {
        Some(field) => explained(&mut inside, value, field, indent + INDENT),
        None => (None, vec!["表外字段 not in the contract".to_owned()]),
    };
    let mut shown = String::new();
    // JSON in a string is shown below, part by part.
    if inside.is_empty() {
        shown = cut(&json_line(&value.to_string()), VALUE_CHARS_MAX);
    }
    if let Some(means) = means {
        shown = format!("{shown} = {means}");
    }
    let name = padded(&cut(name, 60), NAME_COLUMNS);
    let mut shown = format!("{:indent$}{name} {}", "", shown.trim());
    if let Some(field) = field {
        shown = padded(&shown, indent + NAME_COLUMNS + 1 + VALUE_COLUMNS);
        shown += &format!("  {} · {}", field.zh, field.en);
    }
    *text += &format!("{}\n", shown.trim_end());
    for note in notes {
        let margin = indent + NAME_COLUMNS;
        *text += &format!("{:margin$} ! {}\n", "", safe(&note));
    }
    *text += &inside;
}

/// Returns what a value means and what is strange about it. Writes its parts.
fn explained(
    inside: &mut String,
    value: &Value,
    field: &'static Field,
    indent: usize,
) -> (Option<String>, Vec<String>) {
    let mut notes: Vec<String> = Vec::new();
    // Once for each member of `data`, not for each custom field.
    if let Some(note) = field.note.as_ref().filter(|_| indent == 2 * INDENT) {
        notes.push(format!("{} · {}", note.zh, note.en));
    }
    if value.is_null() {
        return (None, notes);
    }
    let plain = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    let json_type = JsonType::of(&value.to_string());
    if !field.json.contains(&json_type) {
        let expected: Vec<&str> = field.json.iter().map(|json| json.name()).collect();
        notes.push(format!(
            "{}, expected {}",
            json_type.name(),
            expected.join(" or ")
        ));
    }
    let listed = field.values.iter().find(|listed| listed.value == plain);
    let mut means = listed.map(|listed| format!("{} {}", listed.zh, listed.en));
    if means.is_none() && !field.values.is_empty() {
        notes.push("未列出的值 not one of the listed values".to_owned());
    }
    if value
        .as_i64()
        .is_some_and(|number| number.unsigned_abs() > EXACT_MAX)
    {
        notes.push("beyond 2^53: a double rounds it".to_owned());
    }
    let number: Option<i64> = plain.parse().ok();
    match field.form {
        ValueForm::Plain | ValueForm::Big => {}
        ValueForm::EpochMs => means = number.and_then(moment),
        ValueForm::Seconds => {
            let at = number.filter(|number| *number >= SECONDS_MAX);
            means = at.and_then(|number| moment(number.saturating_mul(1_000)));
        }
        ValueForm::CustomFields => match serde_json::from_str(&plain) {
            Ok(Value::Array(items)) => {
                means = Some(format!("{} 个扩展字段 custom fields", items.len()));
                custom_fields(inside, &items, indent);
            }
            Ok(Value::Object(none)) if none.is_empty() => {
                means = Some("无扩展字段 no custom fields".to_owned());
            }
            _ => notes.push("expected {} or an array, as JSON in a string".to_owned()),
        },
        ValueForm::Rules => {
            if let Some(rules) = value.as_object() {
                object(inside, rules, &CONTRACT.other_rules, indent);
            }
        }
    }
    (means, notes)
}

fn custom_fields(text: &mut String, items: &[Value], indent: usize) {
    for (at, item) in items.iter().take(ITEMS_MAX).enumerate() {
        *text += &format!("{:indent$}[{at}]\n", "");
        match item {
            Value::Object(item) => {
                object(text, item, &CONTRACT.expansion_fields, indent + INDENT);
            }
            _ => *text += &format!("{:indent$} ! expected an object\n", ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One member alone: its lines hold these parts.
    #[track_caller]
    fn check(member: &str, parts: &[&str], notes: usize) {
        let data: Map<String, Value> = serde_json::from_str(&format!("{{{member}}}")).unwrap();
        let mut text = String::new();
        object(&mut text, &data, &CONTRACT.data, INDENT);
        for part in parts {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
        assert_eq!(text.matches(" ! ").count(), notes, "{text}");
    }

    #[test]
    fn values_mean_what_the_contract_lists() {
        check(
            r#""callType":1"#,
            &["1 = 呼入 inbound", "通话类型 · type of the call"],
            0,
        );
        check(r#""callType":9"#, &["not one of the listed values"], 1);
        check(r#""callType":null"#, &["null"], 0);
        check(
            r#""callType":"2""#,
            &["呼出 outbound", "a string, expected a number"],
            1,
        );
        check(
            r#""hangUpDirectionType":"AGENT_DROPPED_CALL""#,
            &["= 坐席挂机 agent"],
            0,
        );
        check(r#""acw":5.5"#, &["5.5"], 0);
        check(r#""x\u001b":1"#, &["x\\u001b", "not in the contract"], 1);
        check(
            r#""taskId":9007199254740993"#,
            &["9007199254740993", "beyond 2^53"],
            1,
        );
        check(r#""taskId":9007199254740992"#, &["9007199254740992"], 0);
    }

    #[test]
    fn moments_are_read_from_numbers_and_from_strings() {
        let at = "= 2020-11-14T01:50:36.358Z";
        check(r#""iccRecordDate":"1605318636358""#, &[at], 1);
        check(
            r#""createTime":"1605318636358""#,
            &[at, "a string, expected"],
            1,
        );
        check(r#""createTime":1e30"#, &["1e+30"], 0);
        let at_start = "= 2020-11-24T03:29:30.000Z";
        check(
            r#""parkingWaitDuration":1606188570"#,
            &[at_start, "epoch seconds"],
            1,
        );
        assert_eq!((moment(i64::MAX), moment(i64::MIN)), (None, None));
    }

    #[test]
    fn custom_fields_of_any_form_are_shown() {
        check(
            r#""expansionFields":"{}""#,
            &["无扩展字段 no custom fields"],
            0,
        );
        check(r#""expansionFields":"[]""#, &["0 个扩展字段"], 0);
        check(r#""expansionFields":"x""#, &["expected {} or an array"], 1);
        check(
            r#""expansionFields":"{\"a\":1}""#,
            &["expected {} or an array"],
            1,
        );
        let odd = r#""expansionFields":"[5,{\"type\":6,\"otherRules\":{\"fieldInnerType\":1}}]""#;
        check(odd, &["[0]", "[1]", "数字 number", "百分比"], 1);
    }
}
