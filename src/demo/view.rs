//! The demo's output: progress, and the summary with its checks. On a terminal
//! progress is rewritten in place; otherwise it is one line a second. Decides
//! only whether numbers add up. Runs on the main thread.

use super::tenants::Role;
use super::witness::{Tally, Witness};
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// The service's own numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records that Kafka has acknowledged.
    pub published: u64,
    pub delivered: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
}

impl Counts {
    /// Returns the number of finished records.
    #[must_use]
    pub fn ended(self) -> u64 {
        self.delivered + self.dead_lettered + self.skipped
    }
}

/// Returns the interval of progress.
#[must_use]
pub fn interval() -> Duration {
    if io::stdout().is_terminal() {
        Duration::from_millis(200)
    } else {
        Duration::from_secs(1)
    }
}

/// Shows progress.
#[derive(Default)]
pub struct DemoProgress {
    /// Number of lines on the terminal that the next block replaces.
    lines: usize,
}

impl DemoProgress {
    /// Returns the progress after this time.
    #[must_use]
    pub fn show(
        &mut self,
        elapsed: Duration,
        note: &str,
        counts: Counts,
        witness: &Witness,
    ) -> String {
        if !io::stdout().is_terminal() {
            return plain(elapsed, note, counts);
        }
        let mut text = String::new();
        if self.lines > 0 {
            write!(text, "\x1b[{}A", self.lines).expect("a String takes any text");
        }
        let block = block(elapsed, note, counts, witness);
        self.lines = block.lines().count();
        for line in block.lines() {
            writeln!(text, "\x1b[2K{line}").expect("a String takes any text");
        }
        text
    }
}

fn plain(elapsed: Duration, note: &str, counts: Counts) -> String {
    let Counts {
        published,
        delivered,
        dead_lettered,
        skipped,
    } = counts;
    let waiting = published.saturating_sub(counts.ended());
    format!(
        "{:>4.1} s  {note}: published {published}, delivered {delivered}, \
         dead-lettered {dead_lettered}, skipped {skipped}, waiting {waiting}\n",
        elapsed.as_secs_f64()
    )
}

fn block(elapsed: Duration, note: &str, counts: Counts, witness: &Witness) -> String {
    let mut text = plain(elapsed, note, counts);
    for role in Role::ALL {
        let tally = witness.tally(role);
        let line = format!(
            "        {:<12} {:>3} published  {:>3} delivered  {:>4} POSTs   {}",
            role.name(),
            tally.published,
            tally.delivered,
            tally.posts,
            role.does(),
        );
        writeln!(text, "{line}").expect("a String takes any text");
    }
    text
}

/// Returns the summary: a table and the checks; and whether all checks hold.
#[must_use]
pub fn summary(total: u64, counts: Counts, witness: &Witness) -> (String, bool) {
    let mut text = String::from("\n");
    let mut all = Tally::default();
    for role in Role::ALL {
        let tally = witness.tally(role);
        all = all + tally;
        row(&mut text, role.name(), tally);
    }
    row(&mut text, "all", all);
    let mut right = true;
    text.push('\n');
    for (holds, what) in checks(total, counts, all, witness) {
        right &= holds;
        let verdict = if holds { "ok   " } else { "WRONG" };
        writeln!(text, "{verdict} {what}").expect("a String takes any text");
    }
    for fault in witness.faults().iter().take(10) {
        writeln!(text, "      {fault}").expect("a String takes any text");
    }
    (text, right)
}

fn row(text: &mut String, name: &str, tally: Tally) {
    let Tally {
        published,
        delivered,
        posts,
        posts_most,
        ..
    } = tally;
    writeln!(
        text,
        "{name:<12} {published:>4} published  {delivered:>4} delivered  {posts:>5} POSTs, \
         at most {posts_most} for one record"
    )
    .expect("a String takes any text");
}

/// Returns each check with its numbers, and whether it holds.
fn checks(total: u64, counts: Counts, all: Tally, witness: &Witness) -> [(bool, String); 6] {
    let Counts {
        published,
        delivered,
        dead_lettered,
        skipped,
    } = counts;
    let never_2xx = all.posted - all.delivered;
    let never_posted = all.published - all.posted;
    [
        (
            counts.ended() == total,
            format!("{} of {total} records are finished", counts.ended()),
        ),
        (
            published == counts.ended() && published == all.published,
            format!(
                "published {published} = delivered {delivered} + dead-lettered {dead_lettered} \
                 + skipped {skipped}"
            ),
        ),
        (
            delivered == all.delivered,
            format!(
                "the receiver answered 2xx for {} records, delivered {delivered}",
                all.delivered
            ),
        ),
        (
            dead_lettered == never_2xx,
            format!("it never answered 2xx for {never_2xx} records, dead-lettered {dead_lettered}"),
        ),
        (
            skipped == never_posted,
            format!("it never saw {never_posted} records, skipped {skipped}"),
        ),
        (
            witness.faults().is_empty(),
            "at most 10 POSTs for a record, none after its 2xx, every body as published".to_owned(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness() -> Witness {
        let mut witness = Witness::default();
        for (id, role) in [
            ("a", Role::Healthy),
            ("b", Role::Dead),
            ("c", Role::NoCallback),
        ] {
            witness.publish(role, id, b"v");
        }
        witness.posted(Role::Healthy, "a", "1", b"v");
        witness.delivered("a");
        witness.posted(Role::Dead, "b", "1", b"v");
        witness
    }

    const RIGHT: Counts = Counts {
        published: 3,
        delivered: 1,
        dead_lettered: 1,
        skipped: 1,
    };

    #[test]
    fn the_summary_is_right_only_if_every_number_adds_up() {
        assert!(summary(3, RIGHT, &witness()).1);
        let wrong = [
            Counts {
                published: 4,
                ..RIGHT
            },
            Counts {
                delivered: 2,
                ..RIGHT
            },
            Counts {
                delivered: 2,
                dead_lettered: 0,
                ..RIGHT
            },
            Counts {
                dead_lettered: 0,
                skipped: 2,
                ..RIGHT
            },
        ];
        for counts in wrong {
            let (text, right) = summary(3, counts, &witness());
            assert!(!right && text.contains("WRONG"), "{counts:?}");
        }
        let mut after = witness();
        after.posted(Role::Healthy, "a", "2", b"v");
        assert!(!summary(3, RIGHT, &after).1);
        assert!(!summary(4, RIGHT, &witness()).1);
    }
}
