//! Makes texts from outside safe to print. No control character reaches the
//! terminal, and no character that changes the direction of writing. Pure.

use std::fmt::Write as _;

/// Whether a character can deceive a terminal or a reader: control characters
/// (C0, DEL, C1), line separators, and marks of writing direction.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Returns the text on one line, unsafe characters as JSON's `\u` escapes.
#[must_use]
pub fn safe(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            write!(shown, "\\u{:04x}", u32::from(c)).expect("a String takes any text");
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Returns at most `chars_max` characters of the text, made safe, and the number
/// of characters that follow.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => safe(text),
        Some((end, _)) => {
            let more = text[end..].chars().count();
            format!("{}… and {more} characters more", safe(&text[..end]))
        }
    }
}

/// Returns JSON on one line. A raw line break stands only between its tokens.
/// Every other unsafe character is in a string, where its escape means the same.
#[must_use]
pub fn json_line(json: &str) -> String {
    safe(&json.replace(['\n', '\r', '\t'], " "))
}

/// Returns the text, followed by spaces up to `width` columns.
///
/// A terminal gives two columns to characters of East Asia and to emoji. One for
/// all others is near enough for a margin.
#[must_use]
pub fn padded(text: &str, width: usize) -> String {
    let wide = |c: char| matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    let columns: usize = text.chars().map(|c| 1 + usize::from(wide(c))).sum();
    format!("{text}{:1$}", "", width.saturating_sub(columns))
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
    fn json_on_one_line_means_the_same() {
        let json = "{\"a\":\r\n\t[1,\n\"\u{9b}\u{202e}x\"]}";
        let line = json_line(json);
        assert!(!line.contains(is_unsafe), "{line}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&line), read(json));
    }

    #[test]
    fn wide_characters_take_two_columns() {
        for (text, spaces) in [
            ("", 5),
            ("acw", 2),
            ("通话", 1),
            ("a通", 2),
            ("通话通话", 0),
        ] {
            assert_eq!(padded(text, 5), text.to_owned() + &" ".repeat(spaces));
        }
    }
}
