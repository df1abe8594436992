//! Aligned columns for people. Texts from outside are made safe for a terminal.
//! Pure.

use crate::receive::terminal::{padded, safe};

/// Returns the rows under their headings, in aligned columns.
///
/// # Panics
/// A row has more cells than there are headings.
pub fn aligned(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings.iter().map(|&heading| heading.to_owned()).collect();
    let rows = rows
        .iter()
        .map(|row| row.iter().map(|cell| safe(cell)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(headings).chain(rows).collect();
    let mut widths = vec![0; lines[0].len()];
    for line in &lines {
        for (at, cell) in line.iter().enumerate() {
            widths[at] = widths[at].max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| padded(cell, *width));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long\u{1b}".to_owned(), String::new()],
        ];
        let expected = "ID          N\na           1\nlong\\u001b\n";
        assert_eq!(aligned(&["ID", "N"], &rows), expected);
    }
}
