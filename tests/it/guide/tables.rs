//! The tables of the tenants' guides equal the code's.

use super::{ENGLISH, GUIDES, Guide};
use crate::support::sample::EXAMPLE;
use ringback::config::definitions::DELAYS_DEFAULT;
use ringback::model::attempt::ErrorClass;
use ringback::model::time::parse_duration;
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
