//! The report of a run: the ledger, the bounds and the breaches.

use super::arguments::Arguments;
use super::ledger::{Account, COMMITTED_AFTER, Fault, FaultKind, MARGIN};
use std::fmt;
use std::time::Duration;

/// The rate of [`Arguments::repeats`].
const AT_RATE: u64 = 400;
/// The number of shown faults with most POSTs after a success.
const WORST: usize = 6;

/// The report of a run.
pub struct Report {
    account: Account,
    faults: Vec<Fault>,
    after_success_max: u64,
    breaches: Vec<String>,
    /// Records whose POSTs are shown.
    examples: Vec<u64>,
    traces: Vec<String>,
    /// The times of first attempts beside each kind of fault.
    latencies: Vec<String>,
    /// How late the program's own threads were.
    late: Vec<String>,
    arguments: Arguments,
    took: Duration,
}

impl Report {
    /// Returns the report of an account.
    pub fn judged(account: Account, faults: Vec<Fault>, arguments: &Arguments) -> Self {
        let each = (arguments.repeats * arguments.rate)
            .div_ceil(AT_RATE)
            .max(10);
        let sudden = faults.iter().filter(|f| f.kind.is_sudden());
        let mut report = Self {
            after_success_max: each * sudden.count() as u64,
            account,
            faults,
            breaches: Vec::new(),
            examples: Vec::new(),
            traces: Vec::new(),
            latencies: Vec::new(),
            late: Vec::new(),
            arguments: *arguments,
            took: Duration::ZERO,
        };
        report.judge();
        report
    }

    /// Adds the duration of the run.
    pub fn after(mut self, took: Duration) -> Self {
        self.took = took;
        self
    }

    /// Adds a breach that is not in the ledger.
    pub fn add_breach(&mut self, breach: String) {
        self.breaches.push(breach);
    }

    /// Adds the times of first attempts, a line for each kind of fault.
    pub fn add_latencies(&mut self, latencies: Vec<String>) {
        self.latencies = latencies;
    }

    /// Adds how late the program's own threads were at worst: POSTs may seem that
    /// late.
    pub fn add_lateness(&mut self, late: Vec<String>) {
        self.late = late;
    }

    /// Adds the POSTs of each record that is an example of a breach.
    pub fn add_traces(&mut self, story: impl Fn(u64) -> String) {
        self.traces = self.examples.iter().map(|number| story(*number)).collect();
    }

    /// Returns all breaches.
    pub fn breaches(&self) -> &[String] {
        &self.breaches
    }

    fn judge(&mut self) {
        let account = &self.account;
        let unexplained = "POSTs after a success that no fault explains";
        for (what, numbers) in [
            ("lost", &account.lost),
            ("over ten POSTs", &account.over_ten),
            ("body mismatches", &account.mismatches),
            ("early", &account.early),
            ("an attempt's number twice", &account.repeated),
            ("dead-lettered twice", &account.dead_twice),
            ("wrong dead letters", &account.dead_wrong),
            (unexplained, &account.unexplained),
        ] {
            if !numbers.is_empty() {
                let few: Vec<_> = numbers.iter().copied().take(5).collect();
                self.examples.extend(&few);
                let count = numbers.len();
                self.breaches
                    .push(format!("{what}: {count}, records {few:?}"));
            }
        }
        if account.unknown > 0 {
            let what = "POSTs or dead letters of unpublished records";
            self.breaches.push(format!("{what}: {}", account.unknown));
        }
        let repeated = self.after_success();
        if repeated > self.after_success_max {
            let max = self.after_success_max;
            self.breaches.push(format!(
                "POSTs after a success: {repeated}, the bound is {max}"
            ));
        }
    }

    fn after_success(&self) -> u64 {
        self.account.after_success.values().sum::<usize>() as u64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = &self.account;
        let row = |f: &mut fmt::Formatter<'_>, what: &str, count: u64| {
            writeln!(f, "  {what:<44}{count:>8}")
        };
        writeln!(f, "ledger after {} s", self.took.as_secs())?;
        row(f, "published", account.published)?;
        row(f, "POSTs", account.posts as u64)?;
        row(f, "delivered", account.delivered)?;
        row(f, "without a callback", account.skipped)?;
        for (reason, count) in &account.dead {
            row(f, &format!("dead-lettered, {reason}"), *count)?;
        }
        row(f, "  also delivered", account.dead_and_delivered)?;
        row(f, "lost", account.lost.len() as u64)?;
        row(f, "over ten POSTs", account.over_ten.len() as u64)?;
        row(f, "body mismatches", account.mismatches.len() as u64)?;
        let early = format!("early (by more than {} ms)", MARGIN.as_millis());
        row(f, &early, account.early.len() as u64)?;
        row(
            f,
            "an attempt's number twice",
            account.repeated.len() as u64,
        )?;
        row(f, "dead-lettered twice", account.dead_twice.len() as u64)?;
        row(f, "wrong dead letters", account.dead_wrong.len() as u64)?;
        row(f, "late POSTs of stopped or cut-off replicas", account.late)?;
        row(f, "POSTs after a success", self.after_success())?;
        row(f, "  their bound", self.after_success_max)?;
        row(
            f,
            "  that no fault explains",
            account.unexplained.len() as u64,
        )?;
        self.write_faults(f)?;
        self.write_worst(f)?;
        let idle = account.idle_max.as_millis();
        writeln!(
            f,
            "longest time without a first attempt from one partition: {idle} ms"
        )?;
        writeln!(f, "publish to first POST, records of healthy tenants:")?;
        for line in &self.latencies {
            writeln!(f, "  {line}")?;
        }
        for late in &self.late {
            writeln!(f, "own threads, greatest lateness: {late}")?;
        }
        writeln!(f, "repeat with: {}", self.arguments.command())?;
        if self.breaches.is_empty() {
            return writeln!(f, "every promise was kept");
        }
        for breach in &self.breaches {
            writeln!(f, "BREACH {breach}")?;
        }
        for trace in &self.traces {
            writeln!(f, "{trace}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "faults                  count   POSTs after a success     ms from its end to the     ms its partitions\n\
             {:>51}     replica's first POST       stood still",
            "all   most for one"
        )?;
        let mut kinds: Vec<FaultKind> = self.faults.iter().map(|fault| fault.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            let of_kind = || {
                let all = self.faults.iter().enumerate();
                all.filter(move |(_, fault)| fault.kind == kind)
            };
            let after = |place: usize| *self.account.after_success.get(&place).unwrap_or(&0);
            let all: usize = of_kind().map(|(place, _)| after(place)).sum();
            let most = of_kind().map(|(place, _)| after(place)).max();
            let recoveries = of_kind().filter_map(|(_, fault)| fault.recovery);
            let still = of_kind().filter_map(|(place, _)| self.account.standstill.get(&place));
            let name = format!("{kind:?}");
            writeln!(
                f,
                "  {name:<20}{:>7}{all:>16}{:>15}     {:<27}{}",
                of_kind().count(),
                most.unwrap_or(0),
                spread(recoveries.collect()),
                spread(still.copied().collect())
            )?;
        }
        Ok(())
    }
}

impl Report {
    /// Writes the faults with most POSTs after a success, beside the successes
    /// that may have been uncommitted.
    fn write_worst(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut worst: Vec<(usize, usize)> = self
            .account
            .after_success
            .iter()
            .map(|(place, count)| (*count, *place))
            .collect();
        worst.sort_unstable();
        let before = COMMITTED_AFTER.as_millis();
        writeln!(
            f,
            "most POSTs after a success for one fault, beside the successes in the {before} ms before it:"
        )?;
        for (count, place) in worst.iter().rev().take(WORST) {
            let fault = &self.faults[*place];
            let at = fault.at.duration_since(self.faults[0].at).as_secs_f32();
            let before = self.account.just_before.get(place).unwrap_or(&0);
            let kind = format!("{:?}", fault.kind);
            writeln!(
                f,
                "  {count:>5} beside {before:>5}: {kind}, {at:.1} s after the first fault"
            )?;
        }
        Ok(())
    }
}

/// Returns the median and the maximum.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    match times.last() {
        None => "-".to_owned(),
        Some(longest) => {
            let median = times[times.len() / 2].as_millis();
            format!("p50 {median}, max {}", longest.as_millis())
        }
    }
}
