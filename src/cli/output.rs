//! The output formats of the commands that read.

use clap::ValueEnum;

/// The form in which a command prints what it found.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutputFormat {
    /// Aligned columns, for people.
    Table,
    /// One JSON object per line, for programs.
    Json,
}
