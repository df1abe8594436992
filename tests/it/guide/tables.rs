//! The tables of the tenants' guides equal the code's.

use super::{ENGLISH, GUIDES, Guide};
use crate::support::sample::EXAMPLE;
use ringback::config::definitions::DELAYS_DEFAULT;
use ringback::model::attempt::ErrorClass;
use ringback::model::time::parse_duration;
use ringback::receive::contract::{CONTRACT, Field, JsonType, ValueForm};
use std::fmt::Write as _;
use std::time::Duration;

impl Guide {
    fn is_english(&self) -> bool {
        self.name == ENGLISH
    }

    #[track_caller]
    fn has(&self, what: &str) {
        assert!(self.text.contains(what), "{} must hold:\n{what}", self.name);
    }

    /// Returns the rows of a table of fields, in this guide's language.
    fn fields(&self, list: &[Field]) -> String {
        let mut rows = String::new();
        for field in list {
            let declared = field.declared.unwrap_or("–");
            let words = value_words(field);
            let (holds, mut meaning) = match self.is_english() {
                true => (words.1, field.en.to_owned()),
                false => (words.0, field.zh.to_owned()),
            };
            if !field.values.is_empty() {
                let (colon, between, end) = match self.is_english() {
                    true => (": ", "; ", ". "),
                    false => ("：", "；", "。"),
                };
                let values = field.values.iter().map(|listed| {
                    let means = match self.is_english() {
                        true => listed.en,
                        false => listed.zh,
                    };
                    format!("{}{colon}{means}", listed.value)
                });
                let values: Vec<String> = values.collect();
                meaning = format!("{meaning}{end}{}", values.join(between));
            }
            let name = field.name;
            writeln!(rows, "| `{name}` | {declared} | {holds} | {meaning} |").expect("text");
        }
        rows
    }

    /// Returns a duration in words, without units that are 0.
    fn duration(&self, duration: Duration) -> String {
        let seconds = duration.as_secs();
        let names = match self.is_english() {
            true => ["h", "min", "s"],
            false => ["小时", "分", "秒"],
        };
        let parts = [seconds / 3_600, seconds / 60 % 60, seconds % 60];
        let words = parts.iter().zip(names).filter(|(number, _)| **number > 0);
        let words: Vec<String> = words.map(|(n, name)| format!("{n} {name}")).collect();
        if words.is_empty() {
            "–".to_owned()
        } else {
            words.join(" ")
        }
    }

    /// Returns the attempts of the default schedule, the first at nine o'clock.
    fn schedule(&self) -> String {
        let delays = DELAYS_DEFAULT
            .split(',')
            .map(|text| parse_duration(text).expect("a delay"));
        let waits = std::iter::once(Duration::ZERO).chain(delays);
        let mut rows = String::new();
        let mut after = Duration::ZERO;
        for (number, wait) in (1..).zip(waits) {
            after += wait;
            let clock = 9 * 3_600 + after.as_secs();
            let clock = format!(
                "{:02}:{:02}:{:02}",
                clock / 3_600,
                clock / 60 % 60,
                clock % 60
            );
            // A single wait is "1 分钟"; within a sum, "1 分".
            let wait = self.duration(wait).replace('分', "分钟");
            let after = self.duration(after);
            writeln!(rows, "| {number} | {wait} | {after} | {clock} |").expect("text");
        }
        rows
    }
}

/// Returns what the values of a field really are: Chinese, English.
fn value_words(field: &Field) -> (&'static str, &'static str) {
    match (field.form, &field.json[..]) {
        (ValueForm::Big, _) => ("数字，可能大于 2^53", "number, may exceed 2^53"),
        (ValueForm::EpochMs, [JsonType::Number]) => {
            ("数字，毫秒时间戳", "number, epoch milliseconds")
        }
        (ValueForm::EpochMs, _) => (
            "字符串，内容为毫秒时间戳",
            "string that holds epoch milliseconds",
        ),
        (ValueForm::CustomFields, _) => (
            "字符串，内容为 JSON：`{}` 或数组",
            "string that holds JSON: `{}` or an array",
        ),
        (_, [JsonType::String]) => ("字符串", "string"),
        (_, [JsonType::Number]) => ("数字", "number"),
        (_, [JsonType::Boolean]) => ("布尔值", "boolean"),
        (_, [JsonType::Object]) => ("对象", "object"),
        (_, [JsonType::String, _]) => ("字符串或数组", "string or array"),
        (_, _) => ("对象或数组", "object or array"),
    }
}

#[test]
fn the_tables_of_fields_equal_the_codes() {
    for guide in GUIDES.iter() {
        for list in [
            &CONTRACT.data,
            &CONTRACT.expansion_fields,
            &CONTRACT.other_rules,
        ] {
            guide.has(&guide.fields(list));
        }
    }
}

#[test]
fn the_example_is_the_contracts_to_the_byte() {
    let example = std::str::from_utf8(EXAMPLE).expect("it is UTF-8");
    for guide in GUIDES.iter() {
        guide.has(&format!("```json\n{}\n```", example.trim_end()));
    }
}

#[test]
fn the_schedule_is_the_default_one() {
    for guide in GUIDES.iter() {
        let schedule = guide.schedule();
        assert_eq!(schedule.lines().count(), 10);
        guide.has(&schedule);
    }
}

#[test]
fn the_guides_list_every_error_class_with_an_advice() {
    for guide in GUIDES.iter() {
        let (_, table) = guide
            .text
            .rsplit_once("|---|---|---|\n")
            .expect("the last table");
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows.len(), ErrorClass::ALL.len(), "{}", guide.name);
        for (row, class) in rows.iter().zip(ErrorClass::ALL) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[1], format!("`{}`", class.name()), "{}", guide.name);
            assert!(!cells[2].is_empty() && !cells[3].is_empty(), "{row}");
            if guide.is_english() {
                assert_eq!(cells[3], class.advice());
            }
        }
    }
}

#[test]
fn both_guides_have_the_same_parts() {
    let outlines: Vec<Vec<String>> = GUIDES.iter().map(outline).collect();
    assert_eq!(outlines[0], outlines[1]);
}

/// Returns the headings, tables and blocks without their words, in order.
fn outline(guide: &Guide) -> Vec<String> {
    let mut in_block = false;
    let mut parts = Vec::new();
    for line in guide.text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
            parts.push(line.to_owned());
        } else if !in_block && line.starts_with('#') {
            let level = line.split(' ').next().unwrap_or_default();
            parts.push(level.to_owned());
        } else if !in_block && line.starts_with('|') {
            parts.push(format!("{} cells", line.matches('|').count()));
        }
    }
    parts
}
