//! Texts from outside, made safe to show: no control character reaches the
//! terminal, and none that turns the direction of writing. Pure.

use std::fmt::Write as _;

/// What a terminal or a reader could be deceived with: control characters
/// (C0, DEL, C1), line separators, and marks of writing direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text on one line, what is unsafe in it as JSON's `\u` escapes.
#[must_use]
pub fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut shown, c);
    }
    shown
}

/// At most so many characters of the text, made safe, and how many more there are.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> String {
    let mut rest = text.chars();
    let mut shown = String::new();
    for c in rest.by_ref().take(chars_max) {
        push(&mut shown, c);
    }
    let more = rest.count();
    if more > 0 {
        write!(shown, "… and {more} characters more").expect("a String takes any text");
    }
    shown
}

/// JSON on one line. A raw line break can only stand between its tokens, every
/// other unsafe character only in a string, where `\u` says the same.
#[must_use]
pub fn json_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c => push(&mut line, c),
        }
    }
    line
}

fn push(shown: &mut String, c: char) {
    if is_unsafe(c) {
        write!(shown, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
    } else {
        shown.push(c);
    }
}

/// Columns that a terminal gives the text: two for the characters of East Asia
/// and for emoji, one for all others, which is near enough for a margin.
#[must_use]
pub fn columns(text: &str) -> usize {
    let wide = |c: char| matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    text.chars().map(|c| 1 + usize::from(wide(c))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_left() {
        assert_eq!(
            safe("a\u{1b}[31m\u{7}\r\nb\u{7f}\u{9b}0m"),
            "a\\u001b[31m\\u0007\\u000d\\u000ab\\u007f\\u009b0m"
        );
        assert_eq!(safe("\u{202e}开始>转人工"), "\\u202e开始>转人工");
        assert_eq!(cut("通话记录\u{1b}", 2), "通话… and 3 characters more");
        assert_eq!(cut("通话", 2), "通话");
    }

    #[test]
    fn json_on_one_line_says_the_same() {
        let json = "{\"a\":\r\n\t[1,\n\"\u{9b}\u{202e}x\"]}";
        let line = json_line(json);
        assert!(!line.contains(is_unsafe), "{line}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&line), read(json));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        for (text, expected) in [("", 0), ("acw", 3), ("通话", 4), ("a通", 3)] {
            assert_eq!(columns(text), expected, "{text}");
        }
    }
}
