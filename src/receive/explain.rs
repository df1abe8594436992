//! Explains the values of a callback, in Chinese and English, and notes what is
//! strange about them. A strange value is no error: everything is shown. Pure
//! but for the system's time zone.
//!
//! Limit: 200 items of `expansionFields` are explained.

use super::body::{Member, Object};
use crate::contract::{CONTRACT, Field, JsonType, ValueForm};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::value::RawValue;

const ITEMS_MAX: usize = 200;
/// Numbers beyond it are rounded by programs that read them as doubles.
const EXACT_MAX: u128 = 1 << 53;
/// A number of seconds from here on is a moment: no call lasts 30 years.
const SECONDS_MAX: u64 = 1_000_000_000;
/// A moment from here on is in milliseconds.
const EPOCH_MS_MIN: u64 = 1_000_000_000_000;

/// A member with its explanation.
#[derive(Serialize, Default)]
pub struct Explained {
    /// Its key, or the index of an item.
    pub name: String,
    /// The value as it arrived, to the digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zh: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub en: Option<&'static str>,
    /// The meaning of this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The parts of a string that holds JSON.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<Explained>,
}

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

/// Explains the members of an object by the list of its fields. `item_type` is the
/// type of the custom field that they belong to.
#[must_use]
pub fn explain(
    object: &Object<'_>,
    list: &'static [Field],
    item_type: Option<&str>,
) -> Vec<Explained> {
    let explain = |member: &Member<'_>| {
        let raw = member.raw.get();
        let mut explained = Explained {
            name: member.name.clone(),
            value: Some(member.raw.to_owned()),
            ..Explained::default()
        };
        if member.times > 1 {
            let times = member.times;
            explained.note(format!("the key is there {times} times: this is the last"));
        }
        match list.iter().find(|field| field.name == member.name) {
            None => explained.note("not in the contract"),
            Some(field) => explained.explain_value(field, raw, item_type),
        }
        let number: Option<i128> = raw.parse().ok();
        if number.is_some_and(|n| n.unsigned_abs() > EXACT_MAX) {
            let how = "read it as a 64-bit number or as text, a double rounds it";
            explained.note(format!("beyond 2^53: {how}"));
        }
        explained
    };
    object.members.iter().map(explain).collect()
}

impl Explained {
    fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn explain_value(&mut self, field: &'static Field, raw: &str, item_type: Option<&str>) {
        (self.zh, self.en) = (Some(field.zh.as_str()), Some(field.en.as_str()));
        if let Some(note) = &field.note {
            self.note(&note.en);
        }
        let json_type = JsonType::of(raw);
        if json_type == JsonType::Null {
            return;
        }
        if !field.json.contains(&json_type) {
            let expected: Vec<&str> = field.json.iter().map(|json| json.name()).collect();
            let expected = expected.join(" or ");
            self.note(format!("{}, expected {expected}", json_type.name()));
        }
        let text = plain(raw);
        if let Some(listed) = field.values.iter().find(|listed| listed.value == text) {
            let part = |words| part_of_type(words, item_type);
            self.means = Some(format!("{} {}", part(&listed.zh), part(&listed.en)));
        } else if !field.values.is_empty() {
            self.note("not one of the listed values");
        }
        match field.form {
            ValueForm::Plain | ValueForm::Big => {}
            ValueForm::Seconds => self.explain_seconds(&text),
            ValueForm::EpochMs => {
                self.means = text.parse().ok().and_then(moment);
                if self.means.is_none() && !text.is_empty() {
                    self.note("not epoch milliseconds");
                }
            }
            ValueForm::CustomFields => self.explain_custom_fields(&text),
            ValueForm::Rules => {
                let rules: Object<'_> = serde_json::from_str(&text).unwrap_or_default();
                self.inside = explain(&rules, &CONTRACT.other_rules, item_type);
            }
        }
    }

    /// Explains a duration that is really a moment.
    fn explain_seconds(&mut self, text: &str) {
        let number = text.parse().unwrap_or(0);
        if number < SECONDS_MAX {
            return;
        }
        let (unit, ms) = match number {
            ..EPOCH_MS_MIN => ("seconds", number.saturating_mul(1_000)),
            _ => ("milliseconds", number),
        };
        self.means = i64::try_from(ms).ok().and_then(moment);
        if self.means.is_some() {
            self.note(format!("a moment in epoch {unit}, not a duration"));
        }
    }

    fn explain_custom_fields(&mut self, text: &str) {
        let items: Vec<&RawValue> = match serde_json::from_str(text) {
            Ok(items) => items,
            Err(error) => return self.explain_other_than_array(text, &error),
        };
        self.means = Some(match items.len() {
            1 => "1 个扩展字段 1 custom field".to_owned(),
            n => format!("{n} 个扩展字段 {n} custom fields"),
        });
        for (at, item) in items.iter().take(ITEMS_MAX).enumerate() {
            let mut explained = Explained {
                name: format!("[{at}]"),
                ..Explained::default()
            };
            if let Ok(object) = serde_json::from_str::<Object<'_>>(item.get()) {
                let item_type = object.members.iter().find(|member| member.name == "type");
                let item_type = item_type.map(|member| plain(member.raw.get()));
                let list = &CONTRACT.expansion_fields;
                explained.inside = explain(&object, list, item_type.as_deref());
            } else {
                explained.value = Some((*item).to_owned());
                let json_type = JsonType::of(item.get()).name();
                explained.note(format!("{json_type}, expected an object"));
            }
            self.inside.push(explained);
        }
        if items.len() > ITEMS_MAX {
            self.note(format!("the first {ITEMS_MAX} are explained"));
        }
    }

    fn explain_other_than_array(&mut self, text: &str, error: &serde_json::Error) {
        match serde_json::from_str::<Object<'_>>(text) {
            Ok(object) if object.members.is_empty() => {
                self.means = Some("无扩展字段 no custom fields".to_owned());
            }
            Ok(_) => self.note("an object, expected {} or an array"),
            Err(_) => self.note(format!("what it holds is not an array of JSON: {error}")),
        }
    }
}

/// Returns the part of a meaning that applies to a custom field's type. The types
/// are drop-down list and check boxes (4, 5), number (6), date and time (7). Only
/// meanings of `fieldInnerType` have parts.
fn part_of_type<'w>(words: &'w str, item_type: Option<&str>) -> &'w str {
    let place = match item_type {
        Some("4" | "5") => 0,
        Some("6") => 1,
        Some("7") => 2,
        _ => return words,
    };
    words.split(" / ").nth(place).unwrap_or(words)
}

/// Returns a string's text, or any other value as it is written.
fn plain(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::body::Callback;
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn explained(body: &[u8]) -> Vec<Explained> {
        let Ok(callback) = Callback::read(body) else {
            panic!("no callback");
        };
        explain(&callback.data, &CONTRACT.data, None)
    }

    /// One member alone: what it means, and its notes.
    #[track_caller]
    fn check(member: &str, means: Option<&str>, notes: &[&str]) {
        let all = explained(format!("{{\"data\":{{{member}}}}}").as_bytes());
        let found = all[0].notes.iter().map(String::as_str);
        assert_eq!(all[0].means.as_deref(), means, "{member}");
        assert_eq!(found.collect::<Vec<_>>(), notes, "{member}");
    }

    #[test]
    fn every_field_of_the_example_is_explained_and_its_traps_are_noted() {
        let all = explained(EXAMPLE);
        assert!(all.iter().all(|field| field.zh.is_some()));
        let strange: Vec<(&str, &str)> = all
            .iter()
            .flat_map(|field| {
                field
                    .notes
                    .iter()
                    .map(|note| (field.name.as_str(), note.as_str()))
            })
            .collect();
        let beside = "in the contract's example, not in its table";
        assert_eq!(
            strange,
            [
                ("agentLoginType", beside),
                ("callResult", beside),
                ("customerId", beside),
                ("evaluationScore", "not one of the listed values"),
                (
                    "expansionFields",
                    "the key is there 2 times: this is the last"
                ),
                ("noteStatus", beside),
                (
                    "parkingWaitDuration",
                    "a moment in epoch seconds, not a duration"
                ),
            ]
        );
        let custom = all.iter().find(|field| field.name == "expansionFields");
        let items = &custom.expect("it is there").inside;
        assert_eq!(items.len(), 3);
        let urgency = &items[1].inside;
        let kind = urgency.iter().find(|member| member.name == "type");
        assert_eq!(
            kind.and_then(|kind| kind.means.as_deref()),
            Some("下拉框 drop-down list")
        );
        let rules = urgency.iter().find(|member| member.name == "otherRules");
        let inner = rules.expect("it has rules").inside.iter();
        let inner: Vec<_> = inner.filter_map(|rule| rule.means.as_deref()).collect();
        assert_eq!(inner, ["单选项 single choice"]);
    }

    #[test]
    fn values_mean_what_the_contract_lists() {
        check(r#""callType":1"#, Some("呼入 inbound"), &[]);
        check(r#""callType":9"#, None, &["not one of the listed values"]);
        check(r#""callType":null"#, None, &[]);
        check(
            r#""callType":"2""#,
            Some("呼出 outbound"),
            &["a string, expected a number"],
        );
        check(
            r#""hangUpDirectionType":"AGENT_DROPPED_CALL""#,
            Some("坐席挂机 agent"),
            &[],
        );
        check(r#""acw":5"#, None, &[]);
        check(r#""acw":5.5"#, None, &[]);
        check(r#""x":1"#, None, &["not in the contract"]);
        let rounds = "beyond 2^53: read it as a 64-bit number or as text, a double rounds it";
        check(r#""taskId":9007199254740993"#, None, &[rounds]);
        check(r#""taskId":9007199254740992"#, None, &[]);
    }

    #[test]
    fn moments_are_read_from_numbers_and_from_strings() {
        let at = moment(1_605_318_636_358);
        check(r#""iccRecordDate":"1605318636358""#, at.as_deref(), &[]);
        check(
            r#""createTime":"1605318636358""#,
            at.as_deref(),
            &["a string, expected a number"],
        );
        check(r#""createTime":1e30"#, None, &["not epoch milliseconds"]);
        check(r#""iccRecordDate":"""#, None, &[]);
        check(
            r#""parkingWaitDuration":1605318636358"#,
            at.as_deref(),
            &["a moment in epoch milliseconds, not a duration"],
        );
    }

    #[test]
    fn custom_fields_of_any_form_are_shown() {
        let none = Some("无扩展字段 no custom fields");
        check(r#""expansionFields":"{}""#, none, &[]);
        check(
            r#""expansionFields":"[]""#,
            Some("0 个扩展字段 0 custom fields"),
            &[],
        );
        check(
            r#""expansionFields":[]"#,
            Some("0 个扩展字段 0 custom fields"),
            &["an array, expected a string"],
        );
        check(
            r#""expansionFields":"{\"a\":1}""#,
            None,
            &["an object, expected {} or an array"],
        );
        check(
            r#""expansionFields":"x""#,
            None,
            &["what it holds is not an array of JSON: expected value at line 1 column 1"],
        );
        let odd = explained(
            br#"{"data":{"expansionFields":"[5,{\"type\":6,\"otherRules\":\"{\\\"fieldInnerType\\\":1}\"}]"}}"#,
        );
        let items = &odd[0].inside;
        assert_eq!(items[0].notes, ["a number, expected an object"]);
        let rules = &items[1].inside[1];
        assert_eq!(rules.notes, ["a string, expected an object"]);
        assert_eq!(rules.inside[0].means.as_deref(), Some("百分比 percentage"));
    }

    #[test]
    fn moments_are_shown_in_utc_and_nonsense_is_not() {
        for (ms, expected) in [
            (1_606_188_550_000, Some("2020-11-24T03:29:10.000Z")),
            (1_605_318_636_358, Some("2020-11-14T01:50:36.358Z")),
            (-1, Some("1969-12-31T23:59:59.999Z")),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            let shown = moment(ms);
            let utc = shown.as_deref().and_then(|text| text.split(' ').next());
            assert_eq!(utc, expected, "{ms}");
        }
    }
}
