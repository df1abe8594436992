//! `tests/soak/run [RECORDS] [KILLS]`: a replay and a redrive of many records, each
//! killed at random moments and resumed. Exits 1 where a record was not copied exactly
//! once, or where the dry run counted something else.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

#[path = "mod.rs"]
mod soak;

use soak::killed::{self, Killed, Report};
use std::process::ExitCode;
use std::time::Duration;
use support::scene::{Plan, Scene};

fn main() -> ExitCode {
    let typed = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let numbers: Result<Vec<u64>, _> = typed.map(|argument| argument.parse()).collect();
    let (records, kills) = match numbers.as_deref() {
        Ok([]) => (100_000, 10),
        Ok([records]) => (*records, 10),
        Ok([records, kills]) => (*records, *kills),
        _ => {
            eprintln!("tests/soak/run [RECORDS] [KILLS]");
            return ExitCode::from(2);
        }
    };
    let is_good = replay(records, kills) & redrive(records, kills);
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Every fifth record is of a tenant that is not selected.
fn replay(records: u64, kills: u64) -> bool {
    let scene = Scene::new("soak-replay", Plan::default());
    for number in 0..records + records / 4 {
        let tenant = match number % 5 {
            4 => "other".to_owned(),
            other => format!("t{other}"),
        };
        let id = format!("r-{number}");
        let value = support::sample::record(&id, &tenant);
        scene.send(&scene.topic, Some(id.as_bytes()), Some(&value), &[]);
    }
    scene.flush();
    let words = ["replay", "--tenant", "t0,t1,t2,t3"];
    let run = run(&words, records, kills);
    judge("replay", records, &killed::run(&scene, &run))
}

fn redrive(records: u64, kills: u64) -> bool {
    let scene = Scene::new("soak-redrive", Plan::default());
    let topic = format!("{}.dead-letter", scene.topic);
    for number in 0..records + records / 4 {
        let id = format!("d-{number}");
        let value = support::sample::record(&id, &format!("t{}", number % 3));
        let origin = format!("{}/0/{number}", scene.topic);
        let reason = match number % 5 {
            4 => "too_old",
            _ => "attempts_exhausted",
        };
        let headers = [
            ("ringback-attempts-made", "10"),
            ("ringback-confirmed", "10"),
            ("ringback-error", "http_5xx"),
            ("ringback-last-at", "1764504000000"),
            ("ringback-diverts", "0"),
            ("ringback-origin", origin.as_str()),
            ("ringback-published-at", "1764504000000"),
            ("ringback-reason", reason),
        ];
        scene.send(&topic, Some(id.as_bytes()), Some(&value), &headers);
    }
    scene.flush();
    let words = ["dead-letter", "redrive", "--reason", "attempts_exhausted"];
    let run = run(&words, records, kills);
    judge("redrive", records, &killed::run(&scene, &run))
}

/// The rate lets the job last as long as its kills.
fn run<'a>(words: &'a [&'a str], records: u64, kills: u64) -> Killed<'a> {
    let after_max = Duration::from_secs(4);
    Killed {
        words,
        job: "soak",
        rate: (records / (kills.max(1) * 2)).max(1),
        kills,
        after_max,
    }
}

fn judge(name: &str, records: u64, report: &Report) -> bool {
    println!("{name}: {report:#?}");
    let wanted = usize::try_from(records).expect("they were published");
    let is_good = report.counted == records
        && report.sent == records
        && report.copies == wanted
        && report.distinct == wanted
        && report.counted_by_tenant == report.copies_by_tenant;
    println!(
        "{name}: {}",
        if is_good { "each record once" } else { "WRONG" }
    );
    is_good
}
