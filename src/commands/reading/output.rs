//! Results on standard output: rows of a table, or one JSON object per line. Rows
//! are printed as they come, so memory does not grow with their number. A reader
//! that has gone away (`| head`) ends the output without an error.

use crate::cli::output::OutputFormat;
use crate::receive::terminal::safe;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::ops::ControlFlow;

/// The text of a value that is missing.
pub const MISSING: &str = "-";

/// Standard output in the format that was asked for.
pub struct Output {
    format: OutputFormat,
    stream: io::BufWriter<io::Stdout>,
    is_closed: bool,
}

impl Output {
    /// Returns an output in a format.
    #[must_use]
    pub fn new(format: OutputFormat) -> Self {
        Self {
            format,
            stream: io::BufWriter::new(io::stdout()),
            is_closed: false,
        }
    }

    /// Returns the format.
    #[must_use]
    pub fn format(&self) -> OutputFormat {
        self.format
    }

    /// Breaks when nothing reads the output any more: the command may then end.
    pub fn flow(&self) -> ControlFlow<()> {
        match self.is_closed {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Prints an object as one line of JSON.
    pub fn json(&mut self, object: &impl Serialize) {
        let line = serde_json::to_string(object).expect("strings, numbers and lists are JSON");
        self.line(&line);
    }

    /// Prints a line of text from outside, made safe for a terminal.
    pub fn safe_line(&mut self, line: &str) {
        self.line(safe(line));
    }

    /// Prints a line as it is.
    pub fn line(&mut self, line: impl Display) {
        if writeln!(self.stream, "{line}").is_err() {
            self.is_closed = true;
        }
    }

    /// Prints what is buffered.
    pub fn flush(&mut self) {
        if self.stream.flush().is_err() {
            self.is_closed = true;
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The columns of a table: heads, and the widths to which cells are filled up.
pub struct Columns(pub &'static [(&'static str, usize)]);

impl Columns {
    /// Returns the line of heads.
    #[must_use]
    pub fn heads(&self) -> String {
        self.row(self.0.iter().map(|(head, _)| (*head).to_owned()))
    }

    /// Returns a line of cells, made safe for a terminal. A longer cell moves the rest
    /// of its line.
    #[must_use]
    pub fn row(&self, cells: impl IntoIterator<Item = String>) -> String {
        let mut line = String::new();
        for (cell, (_, width)) in cells.into_iter().zip(self.0) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let cell = safe(&cell);
            line.push_str(&cell);
            let missing = width.saturating_sub(cell.chars().count());
            line.extend(std::iter::repeat_n(' ', missing));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Returns the text of a value, or [`MISSING`].
#[must_use]
pub fn or_missing(value: Option<impl Display>) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_below_their_heads_and_lines_have_no_trailing_spaces() {
        let columns = Columns(&[("TENANT", 8), ("N", 3), ("LAST", 4)]);
        let row = |cells: [&str; 3]| columns.row(cells.map(str::to_owned));
        assert_eq!(columns.heads(), "TENANT    N    LAST");
        assert_eq!(row(["租户", "12", ""]), "租户        12");
        assert_eq!(row(["longer-than-8", "1", "x"]), "longer-than-8  1    x");
        assert_eq!(row(["a\u{1b}[2J", "1", "x"]), "a\\u001b[2J  1    x");
        assert_eq!(or_missing(None::<u8>), "-");
    }
}
