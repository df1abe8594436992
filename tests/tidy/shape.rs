//! How long files and functions are, and which public items have no documentation.

use super::Breach;
use super::source::{Kind, Source, Token, end_of_item};
use std::collections::HashSet;

/// Of a file, without its tests.
pub const FILE_LINES_MAX: usize = 500;
/// Of a function, from its name to its last brace.
pub const FUNCTION_LINES_MAX: usize = 70;

/// Public items that need documentation. The names of fields and variants suffice.
const DOCUMENTED: &[&str] = &[
    "fn", "struct", "enum", "trait", "type", "const", "static", "union", "unsafe", "async", "mod",
];

/// Documentation that says nothing.
const FILLER: &[&str] = &[
    "Which.",
    "Which one.",
    "How many.",
    "How long.",
    "How often.",
    "Since when.",
    "When.",
    "What.",
    "Whose.",
    "Where.",
    "Why.",
    "Its name.",
    "The name.",
];

/// A file that is too long.
pub fn long_file(source: &Source) -> Option<Breach> {
    let lines = source.lines;
    (lines > FILE_LINES_MAX).then(|| {
        let text = format!("{lines} lines, where a file has at most {FILE_LINES_MAX}");
        Breach::new(&source.path, 1, text)
    })
}

/// Functions that are too long.
pub fn long_functions(source: &Source) -> Vec<Breach> {
    let all = source
        .tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment);
    let code: Vec<Token> = all.cloned().collect();
    let mut found = Vec::new();
    for (at, pair) in code.windows(2).enumerate() {
        if !(pair[0].is("fn") && pair[1].kind == Kind::Word) {
            continue;
        }
        let last = &code[at + end_of_item(&code[at..]) - 1];
        let lines = last.line - pair[0].line + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = &pair[1].text;
            let text =
                format!("{name}: {lines} lines, where a function has at most {FUNCTION_LINES_MAX}");
            found.push(Breach::new(&source.path, pair[0].line, text));
        }
    }
    found
}

/// Public items of the crate without documentation, or with none that says anything.
pub fn undocumented(source: &Source) -> Vec<Breach> {
    let mut found = Vec::new();
    if !source.path.starts_with("src/") {
        return found;
    }
    let outside_tests: HashSet<usize> = source.code.iter().map(|token| token.line).collect();
    let mut documented = false;
    // The depth of brackets within an attribute.
    let mut attribute = 0;
    for (at, token) in source.tokens.iter().enumerate() {
        let next = source.tokens.get(at + 1);
        if attribute > 0 || token.is("#") {
            let (open, close) = (token.is("#") || token.is("["), token.is("]"));
            attribute = attribute + i32::from(open) - i32::from(close);
            // The mark counts as one level, which the last bracket ends too.
            attribute -= i32::from(close && attribute == 1);
            continue;
        }
        if token.is_doc() {
            // `//!` documents the file.
            documented = token.text.starts_with("///");
            let said = token.text.trim_start_matches(['/', '!']).trim();
            if FILLER.contains(&said) {
                let text = format!("documentation that says nothing: {said}");
                found.push(Breach::new(&source.path, token.line, text));
            }
        } else if token.is("pub") {
            let item = next.filter(|next| DOCUMENTED.iter().any(|item| next.is(item)));
            // A module's documentation stands in its file.
            let in_file = item.is_some_and(|item| item.is("mod"))
                && source.tokens.get(at + 3).is_some_and(|end| end.is(";"));
            if item.is_some() && !documented && !in_file && outside_tests.contains(&token.line) {
                let name = source.tokens[at + 1..]
                    .iter()
                    .find(|t| t.kind == Kind::Word && !DOCUMENTED.contains(&t.text.as_str()));
                let name = name.map_or("?", |name| name.text.as_str());
                let text = format!("{name}: a public item without documentation");
                found.push(Breach::new(&source.path, token.line, text));
            }
        } else if token.is("}") || token.is(";") || token.is("{") || token.is(",") {
            documented = false;
        }
    }
    found
}

#[cfg(test)]
fn made_up(code: &str) -> Source {
    Source::new("src/x.rs".to_owned(), code.to_owned())
}

#[test]
fn long_files_and_functions_are_found_and_tests_do_not_count() {
    let body = "    x();\n".repeat(69);
    let fits = format!("fn a() {{\n{}}}\n", "    x();\n".repeat(68));
    assert!(long_functions(&made_up(&fits)).is_empty());
    let long = format!("fn a() {{\n{body}}}\n");
    assert_eq!(long_functions(&made_up(&long)).len(), 1);
    let lines = "\n".repeat(500);
    let tests = "#[cfg(test)]\nmod tests {\n    fn a() {}\n}\n";
    assert!(long_file(&made_up(&format!("{lines}{tests}"))).is_none());
    assert!(long_file(&made_up(&format!("{lines}fn a() {{}}\n"))).is_some());
}

#[test]
fn public_items_need_documentation_and_fields_do_not() {
    let check = |code: &str, expected: usize| {
        assert_eq!(undocumented(&made_up(code)).len(), expected, "{code}");
    };
    check(
        "/// Text.\n#[derive(Debug)]\npub struct A {\n    pub b: u8,\n}",
        0,
    );
    check("pub struct A;", 1);
    check("//! A file.\npub struct A;", 1);
    check(
        "impl A {\n    /// Text.\n    pub fn b() {}\n    pub fn c() {}\n}",
        1,
    );
    check("pub mod a;\npub use a::B;\npub(crate) fn c() {}", 0);
    check("/// Which.\npub fn a() {}", 1);
}
