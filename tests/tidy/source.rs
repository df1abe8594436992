//! A Rust source as tokens, comments and lines. Never knows a rule.

/// A kind of token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Word,
    /// A string literal without its quotes.
    Text,
    /// One character; `::` and `->` are one token.
    Mark,
    /// A comment with its slashes.
    Comment,
}

/// A token of a source.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    /// From 1.
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        matches!(self.kind, Kind::Word | Kind::Mark) && self.text == text
    }

    /// Whether it is a `///` or `//!` comment.
    pub fn is_doc(&self) -> bool {
        let doc = self.text.starts_with("///") && !self.text.starts_with("////");
        self.kind == Kind::Comment && (doc || self.text.starts_with("//!"))
    }
}

/// A Rust file.
pub struct Source {
    /// From the root of the repository.
    pub path: String,
    pub text: String,
    pub tokens: Vec<Token>,
    /// The tokens outside test modules, without comments.
    pub code: Vec<Token>,
    /// The lines without those of test modules.
    pub lines: usize,
}

impl Source {
    pub fn new(path: String, text: String) -> Self {
        let tokens = tokens(&text);
        let (outside, test_lines) = outside_tests(&tokens);
        let lines = text.lines().count() - test_lines;
        let code = outside
            .into_iter()
            .filter(|token| token.kind != Kind::Comment)
            .collect();
        Self {
            path,
            text,
            tokens,
            code,
            lines,
        }
    }

    /// The module of the crate that this file belongs to.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.trim_end_matches(".rs"))
    }

    pub fn is_under(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path.starts_with(place))
    }

    /// Whether it is a test module of the crate in a file of its own.
    pub fn is_test(&self) -> bool {
        let in_tests = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        self.path.starts_with("src/") && in_tests
    }

    /// The code of each line, numbered, with string literals and without comments.
    pub fn code_lines(&self) -> Vec<(usize, String)> {
        let mut lines: Vec<(usize, String)> = Vec::new();
        let mut before: Option<&Token> = None;
        for token in &self.code {
            if lines.last().is_none_or(|(number, _)| *number != token.line) {
                lines.push((token.line, String::new()));
                before = None;
            }
            let (_, line) = lines.last_mut().expect("one was just added");
            let two_words = before.is_some_and(|t| t.kind == Kind::Word && token.kind == t.kind);
            if two_words {
                line.push(' ');
            }
            match token.kind {
                Kind::Text => line.push_str(&format!("\"{}\"", token.text)),
                _ => line.push_str(&token.text),
            }
            before = Some(token);
        }
        lines
    }
}

/// Splits a text into tokens.
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (kind, length) = next(rest, first);
        let (whole, after) = rest.split_at(length);
        if let Some(kind) = kind {
            let text = match kind {
                Kind::Text => whole.trim_matches(|c| matches!(c, 'r' | 'b' | 'c' | '#')),
                _ => whole,
            };
            let text = match kind {
                Kind::Text => text.trim_matches('"').to_owned(),
                _ => text.to_owned(),
            };
            found.push(Token { kind, text, line });
        }
        line += whole.matches('\n').count();
        rest = after;
    }
    found
}

/// The next token's kind, none for white space, and its length.
fn next(rest: &str, first: char) -> (Option<Kind>, usize) {
    let run = |is: fn(char) -> bool| rest.find(|c| !is(c)).unwrap_or(rest.len());
    if first.is_whitespace() {
        return (None, run(char::is_whitespace));
    }
    if rest.starts_with("//") {
        return (Some(Kind::Comment), rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        let end = rest.find("*/").map_or(rest.len(), |at| at + 2);
        return (Some(Kind::Comment), end);
    }
    if let Some(length) = raw_string(rest).or_else(|| string(rest)) {
        return (Some(Kind::Text), length);
    }
    if first == '\'' {
        return (Some(Kind::Mark), quoted(rest));
    }
    if first.is_alphanumeric() || first == '_' {
        return (Some(Kind::Word), run(|c| c.is_alphanumeric() || c == '_'));
    }
    let two = rest.starts_with("::") || rest.starts_with("->") || rest.starts_with("=>");
    let length = if two { 2 } else { first.len_utf8() };
    (Some(Kind::Mark), length)
}

/// The length of the string literal that the text begins with.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest
        .find('"')
        .filter(|at| matches!(&rest[..*at], "" | "b" | "c"))?;
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(prefix + 1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// The length of the raw string literal that the text begins with.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.find(|c| c != '#')?;
    let inside = after[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - inside.len();
    Some(
        inside
            .find(&close)
            .map_or(rest.len(), |at| start + at + close.len()),
    )
}

/// The length of a character literal, or of a lifetime's tick.
fn quoted(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let after = at + c.len_utf8();
            rest[after..]
                .find('\'')
                .map_or(rest.len(), |end| after + end + 1)
        }
        (_, Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// The tokens outside `#[cfg(test)]` items, and how many lines those have.
fn outside_tests(tokens: &[Token]) -> (Vec<Token>, usize) {
    const TEST: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut outside = Vec::new();
    let (mut at, mut test_lines) = (0, 0);
    while at < tokens.len() {
        let here = &tokens[at..];
        let is_test = here.len() > TEST.len() && here.iter().zip(TEST).all(|(t, text)| t.is(text));
        if is_test {
            let end = at + end_of_item(here);
            test_lines += tokens[end - 1].line - tokens[at].line + 1;
            at = end;
        } else {
            outside.push(tokens[at].clone());
            at += 1;
        }
    }
    (outside, test_lines)
}

/// The tokens of the item that the tokens begin with: up to its `;` or last `}`.
pub fn end_of_item(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        if ["{", "(", "["].iter().any(|open| token.is(open)) {
            depth += 1;
        } else if ["}", ")", "]"].iter().any(|close| token.is(close)) {
            depth = depth.saturating_sub(1);
            if depth == 0 && token.is("}") {
                return at + 1;
            }
        } else if depth == 0 && token.is(";") {
            return at + 1;
        }
    }
    tokens.len()
}

#[test]
fn strings_comments_and_ticks_are_told_from_code() {
    let code =
        "fn a<'a>(x: &'a str) -> char { '\"' } // no \"b\"\nlet c = r#\"d\"e\"#; b\"f\\\"g\";";
    let found = tokens(code);
    let of = |kind: Kind| -> Vec<&str> {
        let all = found.iter().filter(|token| token.kind == kind);
        all.map(|token| token.text.as_str()).collect()
    };
    assert_eq!(of(Kind::Text), ["d\"e", "f\\\"g"]);
    assert_eq!(of(Kind::Comment), ["// no \"b\""]);
    assert_eq!(
        of(Kind::Word),
        ["fn", "a", "a", "x", "a", "str", "char", "let", "c"]
    );
    assert_eq!(found.last().map(|token| token.line), Some(2));
}
