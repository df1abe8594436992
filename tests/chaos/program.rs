//! `tests/chaos/run`: the chaos program. Exits 0 if every promise was kept, 1 on
//! a breach or a failure of the run itself, 2 on wrong arguments.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

#[path = "mod.rs"]
mod chaos;

use chaos::arguments::{Arguments, HELP};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut typed: Vec<String> = std::env::args().skip(1).collect();
    // Added by cargo.
    typed.retain(|argument| argument != "--bench");
    if typed.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::parse(&typed) {
        Ok(arguments) => arguments,
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("{mistake}");
            }
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    // A failed check panics; the unwinding ends every started process.
    let run = std::panic::catch_unwind(|| chaos::world::run(&arguments));
    let Ok(report) = run else {
        eprintln!("the run failed; repeat it with: {}", arguments.command());
        return ExitCode::FAILURE;
    };
    println!("{report}");
    match report.breaches().is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
