//! The words that names and texts are free of, and how long sentences are.
//! Exceptions are data with a reason.

use super::Breach;
use super::source::{Source, Token};

/// Words that have a plainer one, or that mean several things.
const BANNED: &[&str] = &[
    "anew",
    "whom",
    "nobody",
    "namesake",
    "namesakes",
    "life",
    "lives",
    "seat",
    "seats",
    "board",
    "breath",
    "caution",
    "fresh",
    "known",
    "owned",
    "apart",
    "crowd",
    "room",
    "quiet",
    "wish",
    "given",
    "trouble",
    "standing",
    "began",
];

/// The same of several words.
const BANNED_PHRASES: &[&str] = &["of ours", "no news", "had better", "in all"];

/// Names of the standard library and of other crates.
const NAMES_OF_OTHERS: &[&str] = &[
    "to_owned",
    "into_owned",
    "ToOwned",
    "OwnedSemaphorePermit",
    "try_acquire_owned",
    "acquire_owned",
    "OwnedFd",
    "OwnedHeaders",
    "OwnedMessage",
    "OwnedWriteHalf",
    "OwnedReadHalf",
];

/// A banned word that may stand in some lines.
struct Exception {
    under: &'static str,
    /// What the line contains.
    line: &'static str,
    #[allow(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[Exception {
    under: "tests/tidy/words.rs",
    line: "",
    reason: "it is the list",
}];

/// Words of a sentence in documentation.
pub const SENTENCE_WORDS_MAX: usize = 25;

/// The banned words of a text file of any kind, its path included.
pub fn banned(path: &str, text: &str) -> Vec<Breach> {
    let mut found = Vec::new();
    let name = path.rsplit('/').next().unwrap_or(path);
    let lines = std::iter::once((1, name)).chain((1..).zip(text.lines()));
    for (number, line) in lines {
        let words = words(line).filter(|word| BANNED.contains(&word.as_str()));
        for word in words {
            found.push((number, line, word));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    for (number, phrase) in phrases(text) {
        let line = lines[number - 1];
        found.push((number, line, phrase.to_owned()));
    }
    let excepted = |line: &str| {
        let mut all = EXCEPTIONS.iter();
        all.any(|e| path.starts_with(e.under) && line.contains(e.line))
    };
    let kept = found.into_iter().filter(|(_, line, _)| !excepted(line));
    let breach = |(number, _, word): (usize, &str, String)| {
        Breach::new(path, number, format!("the word \"{word}\""))
    };
    kept.map(breach).collect()
}

/// The words of a line in lower case: names are split at `_` and at humps.
fn words(line: &str) -> impl Iterator<Item = String> {
    let runs = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = runs.filter(|run| !NAMES_OF_OTHERS.contains(run));
    ours.flat_map(|run| run.split('_')).flat_map(humps)
}

/// `OneTwo` as `one` and `two`.
fn humps(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut before_is_lower = false;
    for c in name.chars() {
        if parts.is_empty() || (c.is_uppercase() && before_is_lower) {
            parts.push(String::new());
        }
        let last = parts.last_mut().expect("one was just added");
        last.push(c.to_ascii_lowercase());
        before_is_lower = c.is_lowercase();
    }
    parts
}

/// The banned phrases with their lines; a phrase may go over two lines.
fn phrases(text: &str) -> Vec<(usize, &'static str)> {
    let mut plain = String::new();
    let mut starts = Vec::new();
    for line in text.lines() {
        starts.push(plain.len());
        let marks = |c: char| c.is_whitespace() || matches!(c, '/' | '!' | '#' | '\\');
        plain.push_str(&line.trim_matches(marks).to_lowercase());
        plain.push(' ');
    }
    let mut found = Vec::new();
    for phrase in BANNED_PHRASES {
        for (at, _) in plain.match_indices(phrase) {
            let (before, after) = (&plain[..at], &plain[at + phrase.len()..]);
            let inside = before.ends_with(char::is_alphanumeric)
                || after.starts_with(|c: char| c.is_alphanumeric());
            // "in all cases" is plain, and so is a loop; "twelve in all" is not.
            let next = after.trim_start_matches([' ', '.']);
            let goes_on = next.starts_with(|c: char| c.is_alphanumeric() || c == '{');
            let ends = after.starts_with(". ");
            let plain_all = *phrase == "in all" && goes_on && !ends;
            if !inside && !plain_all {
                found.push((starts.partition_point(|start| *start <= at), *phrase));
            }
        }
    }
    found
}

/// The sentences of documentation that are too long.
pub fn long_sentences(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut paragraph: Vec<&Token> = Vec::new();
    let mut in_code = false;
    let mut last_line = 0;
    for token in source.tokens.iter().filter(|token| token.is_doc()) {
        let text = doc_text(token);
        let fence = text.starts_with("```");
        let starts = text.is_empty() || is_set_off(text) || fence || token.line != last_line + 1;
        if starts {
            found.extend(too_long(source, &paragraph));
            paragraph.clear();
        }
        last_line = token.line;
        in_code ^= fence;
        if !in_code && !fence && !text.starts_with(['|', '#']) {
            paragraph.push(token);
        }
    }
    found.extend(too_long(source, &paragraph));
    found
}

fn doc_text(token: &Token) -> &str {
    token.text[3..].trim()
}

/// Whether a line starts an item of a list, a row of a table or a heading.
fn is_set_off(text: &str) -> bool {
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = number.len() < text.len() && number.starts_with(". ");
    numbered || text.starts_with("- ") || text.starts_with("* ") || text.starts_with(['|', '#'])
}

/// The sentences of a paragraph that are too long.
fn too_long(source: &Source, paragraph: &[&Token]) -> Vec<Breach> {
    let mut found = Vec::new();
    let mut words = 0;
    let mut first_line = 0;
    for token in paragraph {
        for word in doc_text(token).split_whitespace() {
            if words == 0 {
                first_line = token.line;
            }
            words += usize::from(word.contains(char::is_alphanumeric));
            let bare = word.trim_end_matches([')', '"', '*', '_', '`', '”']);
            let ends = bare.ends_with(['.', '!', '?']);
            if ends {
                found.extend(sentence(source, first_line, words));
                words = 0;
            }
        }
    }
    found.extend(sentence(source, first_line, words));
    found
}

fn sentence(source: &Source, line: usize, words: usize) -> Option<Breach> {
    (words > SENTENCE_WORDS_MAX).then(|| {
        let text = format!("a sentence of {words} words, where {SENTENCE_WORDS_MAX} are allowed");
        Breach::new(&source.path, line, text)
    })
}

#[test]
fn words_are_found_inside_names_and_not_inside_other_words() {
    let check = |text: &str, expected: usize| {
        assert_eq!(banned("src/x.rs", text).len(), expected, "{text}");
    };
    check("let fresh_slots = isFresh(AllKnown);", 3);
    check("the lifetime of an unknown refresh on a dashboard", 0);
    check("let a = b.to_owned();", 0);
    check("/// A name of\n/// ours is 3 in all.", 2);
    check("in all cases, in all four", 0);
    assert_eq!(banned("tests/perf/crowd.rs", "").len(), 1);
}

#[test]
fn long_sentences_are_found_over_several_lines() {
    let long = |code: &str| {
        let source = Source::new("src/x.rs".to_owned(), code.to_owned());
        long_sentences(&source).len()
    };
    let twenty = "word ".repeat(20);
    assert_eq!(long(&format!("/// {twenty}\n/// {twenty}")), 1);
    assert_eq!(long(&format!("/// {twenty}.\n/// {twenty}")), 0);
    assert_eq!(long(&format!("/// {twenty}\n///\n/// {twenty}")), 0);
    assert_eq!(long(&format!("/// {twenty}\nfn a() {{}}\n/// {twenty}")), 0);
    assert_eq!(long(&format!("// {twenty} {twenty}")), 0);
}
