//! How far a command is, on standard error: a bar on a terminal, plain lines
//! elsewhere. Standard output has results only.

use crate::clock;
use crate::kafka::scan::ScanProgress;
use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle,
};
use std::io::{self, IsTerminal as _};
use std::time::Duration;

/// The interval between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of a scan.
pub struct ProgressShow {
    bar: ProgressBar,
    is_terminal: bool,
    started: Duration,
    last_line: Duration,
}

impl ProgressShow {
    /// Shows nothing done of nothing.
    #[must_use]
    pub fn start() -> Self {
        let is_terminal = io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(0),
            if is_terminal {
                ProgressDrawTarget::stderr()
            } else {
                ProgressDrawTarget::hidden()
            },
        );
        let style = "{bar:30} {percent}%  {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
        let now = clock::elapsed();
        Self {
            bar,
            is_terminal,
            started: now,
            last_line: now,
        }
    }

    /// Shows how far the scan is. `more` says more in a few words, or nothing.
    pub fn show(&mut self, progress: ScanProgress, more: &str) {
        if self.is_terminal {
            self.bar.set_length(progress.offsets_total);
            self.bar.set_position(progress.offsets);
            self.bar.set_message(counts(progress, more));
            return;
        }
        let now = clock::elapsed();
        if now.saturating_sub(self.last_line) < LINE_EVERY {
            return;
        }
        self.last_line = now;
        let passed = now.saturating_sub(self.started);
        let percent = progress.offsets * 100 / progress.offsets_total.max(1);
        let left = left(passed, progress).map_or_else(String::new, |left| {
            format!(", about {} left", HumanDuration(left))
        });
        self.say(&format!("{percent}%: {}{left}", counts(progress, more)));
    }

    /// Prints results without breaking the bar.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Ends the bar, and says what was read.
    pub fn finish(self, progress: ScanProgress, more: &str) {
        self.bar.finish_and_clear();
        let passed = clock::elapsed().saturating_sub(self.started);
        let seconds = passed.as_secs_f64();
        self.say(&format!(
            "read {} in {seconds:.1} s",
            counts(progress, more)
        ));
    }

    fn say(&self, text: &str) {
        crate::commands::say(&mut io::stderr(), &format!("ringback: {text}\n"));
    }
}

fn counts(progress: ScanProgress, more: &str) -> String {
    let (records, bytes) = (HumanCount(progress.records), HumanBytes(progress.bytes));
    format!("{records} records, {bytes}{more}")
}

/// Returns how long the rest takes at the speed so far.
fn left(passed: Duration, progress: ScanProgress) -> Option<Duration> {
    let open = progress.offsets_total.saturating_sub(progress.offsets);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let share = open as f64 / (progress.offsets > 0).then_some(progress.offsets)? as f64;
    Duration::try_from_secs_f64(passed.as_secs_f64() * share).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_its_share() {
        let at = |offsets| ScanProgress {
            offsets,
            offsets_total: 400,
            ..ScanProgress::default()
        };
        let passed = Duration::from_secs(10);
        assert_eq!(left(passed, at(100)), Some(Duration::from_secs(30)));
        assert_eq!(left(passed, at(400)), Some(Duration::ZERO));
        assert_eq!(left(passed, at(0)), None);
    }
}
