//! What the value of a field means, in Chinese and English, and what is strange
//! about it. Strange is no error: everything is shown. Pure.
//!
//! Limits: 200 items of `expansionFields` are explained.

use super::body::{Member, Object};
use super::escape::cut;
use super::field::{Field, Holds, JsonType};
use super::fields::{EXPANSION, FIELDS, RULES};
use super::moment;
use serde::Serialize;
use serde_json::value::RawValue;

const ITEMS_MAX: usize = 200;
/// Numbers beyond it are rounded by programs that read them as doubles.
const EXACT_MAX: u128 = 1 << 53;
/// From here on a number of seconds is a moment: no call lasts 30 years.
const SECONDS_MAX: u64 = 1_000_000_000;
/// And from here on a moment in milliseconds.
const EPOCH_MS_MIN: u64 = 1_000_000_000_000;

/// A member with its explanation.
#[derive(Serialize)]
pub struct Explained {
    /// Its key, or the place of an item.
    pub name: String,
    /// The value as it came, to the digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    /// What the field is, in the contract's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zh: Option<&'static str>,
    /// The same in English.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub en: Option<&'static str>,
    /// What this value means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// What is strange about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the string holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inside: Vec<Explained>,
}

/// Explains the members of `data`.
#[must_use]
pub fn members(members: &[Member<'_>]) -> Vec<Explained> {
    let explain = |member: &Member<'_>| {
        let mut explained = explain(member, FIELDS, None);
        let field = member.field(FIELDS);
        if field.is_some_and(|field| field.declared.is_none()) {
            explained.note("in the contract's example, not in its table");
        }
        explained
    };
    members.iter().map(explain).collect()
}

/// Explains one member by one of the contract's lists; `item` is the type of the
/// custom field that it belongs to.
fn explain(member: &Member<'_>, list: &'static [Field], item: Option<&str>) -> Explained {
    let field = member.field(list);
    let mut explained = Explained {
        name: member.name.clone(),
        value: RawValue::from_string(member.raw.to_owned()).ok(),
        zh: field.map(|field| field.zh),
        en: field.map(|field| field.en),
        means: None,
        notes: Vec::new(),
        inside: Vec::new(),
    };
    if member.times > 1 {
        let note = format!("the key is there {} times: this is the last", member.times);
        explained.notes.push(note);
    }
    match field {
        None => explained.note("not in the contract"),
        Some(field) => by_field(field, member.raw, item, &mut explained),
    }
    if let Some(number) = integer(member.raw)
        && number.unsigned_abs() > EXACT_MAX
    {
        explained.note("beyond 2^53: read it as a 64-bit number or as text, a double rounds it");
    }
    explained
}

impl Explained {
    fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }
}

fn by_field(field: &'static Field, raw: &str, item: Option<&str>, explained: &mut Explained) {
    let kind = JsonType::of(raw);
    if kind == JsonType::Null {
        return;
    }
    if !field.holds.json().contains(&kind) {
        let expected: Vec<&str> = field.holds.json().iter().map(|json| json.name()).collect();
        let note = format!("{}, expected {}", kind.name(), expected.join(" or "));
        explained.notes.push(note);
    }
    let text = plain(raw);
    match field.holds {
        Holds::Choices(_, choices) => {
            match choices.iter().find(|choice| choice.value == text) {
                Some(choice) => {
                    let part = |words| of_type(words, item);
                    let means = format!("{} {}", part(choice.zh), part(choice.en));
                    explained.means = Some(means);
                }
                None => explained.note("not one of the listed values"),
            };
        }
        Holds::Moment | Holds::MomentInText => {
            explained.means = text.parse().ok().and_then(moment::both);
            if explained.means.is_none() && !text.is_empty() {
                explained.note("not epoch milliseconds");
            }
        }
        Holds::Seconds => seconds(&text, explained),
        Holds::Expansion => expansion(&text, explained),
        Holds::Rules => explained.inside = rules(&text, item),
        Holds::Text
        | Holds::Number
        | Holds::BigNumber
        | Holds::Truth
        | Holds::TextOrArray
        | Holds::Anything => {}
    }
}

/// A duration, or a moment in a duration's place.
fn seconds(text: &str, explained: &mut Explained) {
    let Ok(number) = text.parse::<u64>() else {
        return;
    };
    if number < SECONDS_MAX {
        return;
    }
    let (unit, ms) = if number < EPOCH_MS_MIN {
        ("seconds", number.saturating_mul(1_000))
    } else {
        ("milliseconds", number)
    };
    if let Some(at) = i64::try_from(ms).ok().and_then(moment::both) {
        explained.means = Some(at);
        explained
            .notes
            .push(format!("a moment in epoch {unit}, not a duration"));
    }
}

/// What `expansionFields` holds.
fn expansion(text: &str, explained: &mut Explained) {
    let items = match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(items) => items,
        Err(error) => {
            match Object::read(text) {
                Some(object) if object.members.is_empty() => {
                    explained.means = Some("无扩展字段 no custom fields".to_owned());
                }
                Some(_) => explained.note("an object, expected {} or an array"),
                None => explained
                    .notes
                    .push(format!("what it holds is not an array of JSON: {error}")),
            }
            return;
        }
    };
    explained.means = Some(match items.len() {
        1 => "1 个扩展字段 1 custom field".to_owned(),
        n => format!("{n} 个扩展字段 {n} custom fields"),
    });
    for (at, item) in items.iter().take(ITEMS_MAX).enumerate() {
        let mut told = Explained {
            name: format!("[{at}]"),
            value: None,
            zh: None,
            en: None,
            means: None,
            notes: Vec::new(),
            inside: Vec::new(),
        };
        match Object::read(item.get()) {
            Some(object) => {
                let kind = object.members.iter().find(|member| member.name == "type");
                let kind = kind.map(|member| plain(member.raw));
                let members = object.members.iter();
                told.inside = members
                    .map(|member| explain(member, EXPANSION, kind.as_deref()))
                    .collect();
            }
            None => {
                told.value = Some((*item).to_owned());
                let is = JsonType::of(item.get()).name();
                told.notes.push(format!("{is}, expected an object"));
            }
        }
        explained.inside.push(told);
    }
    if items.len() > ITEMS_MAX {
        let note = format!("the first {ITEMS_MAX} are explained");
        explained.notes.push(note);
    }
}

/// The members of `otherRules`, an object or a string that holds one.
fn rules(text: &str, item: Option<&str>) -> Vec<Explained> {
    let object = Object::read(text).unwrap_or_default();
    let members = object.members.iter();
    members.map(|member| explain(member, RULES, item)).collect()
}

/// Of the meanings of `fieldInnerType` the one for a custom field of this type:
/// drop-down list and check boxes (4, 5), number (6), date and time (7).
fn of_type(words: &'static str, item: Option<&str>) -> &'static str {
    let place = match item {
        Some("4" | "5") => 0,
        Some("6") => 1,
        Some("7") => 2,
        _ => return words,
    };
    words.split(" / ").nth(place).unwrap_or(words)
}

/// A string's text, or any other value as it is written.
fn plain(raw: &str) -> String {
    serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned())
}

fn integer(raw: &str) -> Option<i128> {
    raw.parse().ok()
}

/// A body that is no callback, as far as it is worth showing.
#[must_use]
pub fn excerpt(bytes: &[u8], chars_max: usize) -> String {
    // A character has at most four bytes.
    let head = &bytes[..bytes.len().min(4 * chars_max)];
    let mut shown = cut(&String::from_utf8_lossy(head), chars_max);
    if head.len() < bytes.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::body::{Body, Callback};
    use super::*;

    const EXAMPLE: &[u8] = include_bytes!("../../tests/contract/example-request.json");

    fn explained(body: &[u8]) -> Vec<Explained> {
        let Body::Callback(Callback { members: read, .. }) = Body::read(body) else {
            panic!("no callback");
        };
        members(&read)
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
    fn every_field_of_the_example_is_explained_and_its_traps_are_told() {
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
        let at = moment::both(1_605_318_636_358);
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
}
