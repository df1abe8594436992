//! Checks which code stands where and which module uses which, after [`super::rules`].

use super::Breach;
use super::graph::{UsedPath, used_paths};
use super::rules::{ARROWS, EVERYONE, HOMES, NOWHERE};
use super::source::Source;

/// Code outside its place, and modules that use what they may not.
pub fn breaches(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let path = &source.path;
    if !source.text.starts_with("//!") {
        found.push(Breach::new(path, 1, "a file opens with //!".to_owned()));
    }
    let lines = source.code_lines();
    for (number, line) in &lines {
        for home in HOMES {
            let applies = source.is_under(home.under) && !source.is_under(home.except);
            let word = home.words.iter().find(|word| has_word(line, word));
            if let (true, Some(word)) = (applies, word) {
                let text = format!("{}: {word}", home.rule);
                found.push(Breach::new(path, *number, text));
            }
        }
    }
    found.append(&mut wrong_arrows(source));
    found
}

/// Lines with words that may stand nowhere.
pub fn forbidden(path: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (word, rule) in NOWHERE.iter().filter(|(word, _)| has_word(line, word)) {
            found.push(Breach::new(path, number, format!("{rule}: {word}")));
        }
    }
    found
}

fn wrong_arrows(source: &Source) -> Vec<Breach> {
    let Some(module) = source.module() else {
        return Vec::new();
    };
    let path = &source.path;
    let Some(arrow) = ARROWS.iter().find(|arrow| arrow.from == module) else {
        let text = format!("{module} has no line in ARROWS");
        return vec![Breach::new(path, 1, text)];
    };
    if arrow.to == EVERYONE {
        return Vec::new();
    }
    let root = if module == "main" {
        "ringback"
    } else {
        "crate"
    };
    let paths = used_paths(&source.code, |word| word == root);
    let ours = paths.iter().filter(|used| used.path[0] == root);
    let wrong = ours.filter(|used| {
        let other = used.path.get(1).map(String::as_str);
        other.is_some_and(|other| other != module && !arrow.to.contains(&other))
    });
    let breach = |used: &UsedPath| {
        let text = format!("{module} may not use {}", used.path[1]);
        Breach::new(path, used.line, text)
    };
    let mut found: Vec<Breach> = wrong.map(breach).collect();
    found.dedup_by(|a, b| (a.line, &a.text) == (b.line, &b.text));
    found
}

/// Whether a word stands alone in a line.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let open_start = word.starts_with(|c: char| c.is_alphanumeric());
    let open_end = word.ends_with(|c: char| c.is_lowercase());
    line.match_indices(word).any(|(at, _)| {
        let before = open_start && is_part(line[..at].chars().next_back());
        let after =
            open_end && !word.starts_with('"') && is_part(line[at + word.len()..].chars().next());
        !before && !after
    })
}

/// Checks what is found in a made-up file.
#[cfg(test)]
#[track_caller]
fn check(path: &str, code: &str, expected: &[&str]) {
    let source = Source::new(path.to_owned(), format!("//! A file.\n{code}\n"));
    let found: Vec<String> = breaches(&source).iter().map(Breach::to_string).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_breach_is_told_with_file_line_and_rule() {
    check(
        "src/engine/x.rs",
        "use crate::kafka::Consumer;",
        &["src/engine/x.rs:2: engine may not use kafka"],
    );
    check(
        "src/http/x.rs",
        "use crate::{\n    model::call,\n    telemetry::{a, b},\n};",
        &["src/http/x.rs:2: http may not use telemetry"],
    );
    check(
        "src/kafka/x.rs",
        "let now = Instant::now();",
        &["src/kafka/x.rs:2: only src/clock.rs reads clocks: Instant::now"],
    );
    check(
        "src/engine/x.rs",
        "async fn x() {}",
        &[
            "src/engine/x.rs:2: engine and model are free of async, IO, chance, logging and locks: async",
        ],
    );
    check(
        "src/admin/x.rs",
        "let name = \"ringback_lag_records\"; x.unwrap();",
        &[
            "src/admin/x.rs:2: only src/telemetry/metrics.rs names metrics: \"ringback_",
            "src/admin/x.rs:2: no unwrap: expect(\"why it cannot happen\"): .unwrap()",
        ],
    );
}

#[test]
fn comments_and_tests_leave_nothing_for_later() {
    let text = concat!(
        "// TO",
        "DO: more\n// todos\n#[cfg(test)]\nmod tests { // FIX",
        "ME\n}\n"
    );
    let found: Vec<usize> = forbidden("src/x.rs", text).iter().map(|b| b.line).collect();
    assert_eq!(found, [1, 4]);
}

#[test]
fn comments_tests_and_homes_are_no_breach() {
    check("src/kafka/x.rs", "// Instant::now", &[]);
    check("src/clock.rs", "let now = clock_gettime();", &[]);
    check(
        "src/http/x.rs",
        "const A: &str = \"ringback-attempt\";\n#[cfg(test)]\nmod tests {\n    use crate::kafka;\n}",
        &[],
    );
    check("src/model/x.rs", "let operand = brand;", &[]);
    check("src/runner.rs", "use crate::kafka;\ntokio::spawn(x);", &[]);
}
