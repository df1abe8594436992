//! The chaos program's own tests: planted breaches in its ledger, each of which
//! must be seen while what is allowed must not; arguments; plans.

use crate::chaos::arguments::{Arguments, Faults, HELP};
use crate::chaos::ledger::{Account, DeadLetter, Evidence, Fault, FaultKind};
use crate::chaos::plan::{Plan, PlannedFault};
use crate::chaos::receiver::ReceivedPost;
use crate::chaos::records::{self, Kind};
use crate::chaos::report::Report;
use crate::chaos::world;
use std::collections::HashMap;
use std::time::{Duration, Instant};

const DELAY: Duration = Duration::from_millis(500);

/// A plain record's POST so long after the start.
fn seen(start: Instant, ms: u64, attempt: u8, status: u16) -> ReceivedPost {
    ReceivedPost {
        at: start + Duration::from_millis(ms),
        replica: 0,
        attempt,
        status,
        exact: true,
    }
}

fn kill(start: Instant, ms: u64) -> Fault {
    let at = start + Duration::from_millis(ms);
    Fault {
        kind: FaultKind::Kill,
        replica: Some(0),
        tenant: None,
        at,
        over: at,
        recovery: None,
    }
}

/// The breaches that are found where record 0 had these POSTs and dead letters.
fn breaches(
    posts: Vec<ReceivedPost>,
    dead_letters: &[DeadLetter],
    faults: &[Fault],
) -> Vec<String> {
    let posts = HashMap::from([(0, posts)]);
    let account = Account::of(&Evidence {
        published: 1,
        posts: &posts,
        strays: 0,
        dead_letters,
        faults,
        delays: &[DELAY, DELAY * 2],
    });
    Report::judged(account, faults.to_vec(), &Arguments::default())
        .breaches()
        .to_vec()
}

#[track_caller]
fn check(found: &[String], expected: &[&str]) {
    let kinds: Vec<&str> = found
        .iter()
        .map(|b| b.split(':').next().unwrap_or(b))
        .collect();
    assert_eq!(kinds, expected, "{found:?}");
}

fn dead(reason: &str) -> DeadLetter {
    DeadLetter {
        number: 0,
        reason: reason.to_owned(),
        exact: true,
    }
}

#[test]
fn a_clean_run_has_no_breach() {
    let start = Instant::now();
    let posts = vec![
        seen(start, 0, 1, 503),
        seen(start, 500, 2, 503),
        seen(start, 1_500, 3, 200),
    ];
    check(&breaches(posts, &[], &[]), &[]);
    let failed = (1..=10).map(|n| seen(start, u64::from(n) * 1_000, n, 503));
    check(
        &breaches(failed.collect(), &[dead("attempts_exhausted")], &[]),
        &[],
    );
}

#[test]
fn a_lost_record_is_seen() {
    let start = Instant::now();
    check(&breaches(vec![], &[], &[]), &["lost"]);
    check(&breaches(vec![seen(start, 0, 1, 503)], &[], &[]), &["lost"]);
}

#[test]
fn a_doubled_post_is_seen_and_a_kill_explains_only_what_it_can() {
    let start = Instant::now();
    let doubled = || vec![seen(start, 0, 1, 200), seen(start, 600, 2, 200)];
    check(
        &breaches(doubled(), &[], &[]),
        &["POSTs after a success that no fault explains"],
    );
    check(&breaches(doubled(), &[], &[kill(start, 20)]), &[]);
    // Before the success, or after the repetition.
    let late = vec![seen(start, 2_000, 1, 200), seen(start, 9_000, 2, 200)];
    let long_before = kill(start, 0);
    check(
        &breaches(late, &[], &[long_before]),
        &["POSTs after a success that no fault explains"],
    );
    check(
        &breaches(doubled(), &[], &[kill(start, 700)]),
        &["POSTs after a success that no fault explains"],
    );
    let of_another = Fault {
        replica: Some(1),
        tenant: None,
        ..kill(start, 20)
    };
    check(
        &breaches(doubled(), &[], &[of_another]),
        &["POSTs after a success that no fault explains"],
    );
    let same_attempt = vec![seen(start, 0, 1, 503), seen(start, 5_000, 1, 200)];
    check(
        &breaches(same_attempt, &[], &[]),
        &["early", "an attempt's number twice"],
    );
}

#[test]
fn more_after_successes_than_the_kills_allow_are_seen() {
    let start = Instant::now();
    let posts: HashMap<u64, Vec<ReceivedPost>> = (14..)
        .filter(|n| records::kind(*n) == Kind::Plain)
        .take(41)
        .map(|n| (n, vec![seen(start, 0, 1, 200), seen(start, 600, 2, 200)]))
        .collect();
    let published = posts.keys().max().expect("some") + 1;
    let faults = [kill(start, 20)];
    let mut account = Account::of(&Evidence {
        published,
        posts: &posts,
        strays: 0,
        dead_letters: &[],
        faults: &faults,
        delays: &[DELAY],
    });
    account.lost.clear();
    let report = Report::judged(account, faults.to_vec(), &Arguments::default());
    check(report.breaches(), &["POSTs after a success"]);
}

#[test]
fn early_and_altered_and_eleventh_posts_are_seen() {
    let start = Instant::now();
    let early = vec![seen(start, 0, 1, 503), seen(start, 470, 2, 200)];
    check(&breaches(early, &[], &[]), &["early"]);
    // Attempt 2 was charged: both delays must have passed.
    let early = vec![seen(start, 0, 1, 503), seen(start, 1_400, 3, 200)];
    check(&breaches(early, &[], &[]), &["early"]);
    let altered = ReceivedPost {
        exact: false,
        ..seen(start, 0, 1, 200)
    };
    check(&breaches(vec![altered], &[], &[]), &["body mismatches"]);
    let eleven = (1..=11).map(|n| seen(start, u64::from(n) * 1_000, n, 503));
    check(
        &breaches(eleven.collect(), &[dead("attempts_exhausted")], &[]),
        &["over ten POSTs", "an attempt's number twice"],
    );
}

#[test]
fn dead_letters_that_cannot_be_are_seen() {
    check(
        &breaches(vec![], &[dead("too_old")], &[]),
        &["wrong dead letters"],
    );
    let twice = [dead("attempts_exhausted"), dead("attempts_exhausted")];
    check(&breaches(vec![], &twice, &[]), &["dead-lettered twice"]);
    let altered = DeadLetter {
        exact: false,
        ..dead("attempts_exhausted")
    };
    check(&breaches(vec![], &[altered], &[]), &["wrong dead letters"]);
    let unknown = DeadLetter {
        number: 9,
        ..dead("attempts_exhausted")
    };
    check(
        &breaches(vec![], &[unknown], &[]),
        &["lost", "POSTs or dead letters of unpublished records"],
    );
}

#[test]
fn a_plan_follows_from_its_seed_and_has_every_fault() {
    let arguments = Arguments {
        kills: 7,
        ..Arguments::default()
    };
    let plan = Plan::new(&arguments);
    assert_eq!(plan, Plan::new(&arguments));
    let other = Arguments {
        seed: 2,
        ..arguments
    };
    assert_ne!(plan, Plan::new(&other));
    let all = || plan.replicas.iter().flatten().map(|p| p.fault);
    let kills = all().filter(|blow| format!("{blow:?}").starts_with("Kill"));
    assert_eq!(kills.count(), 7);
    for found in [
        all().any(|b| matches!(b, PlannedFault::Stop { .. })),
        all().any(|b| b == PlannedFault::Drain),
        all().any(|b| matches!(b, PlannedFault::KillInTransaction { .. })),
        all().any(|b| matches!(b, PlannedFault::KillAbsent { .. })),
        all().any(|b| matches!(b, PlannedFault::CutKafka { .. })),
        all().any(|b| matches!(b, PlannedFault::CutReceivers { .. })),
        !plan.brokers.is_empty(),
    ] {
        assert!(found, "{plan:?}");
    }
}

fn parse(text: &str) -> Result<Arguments, Vec<String>> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    Arguments::parse(&words)
}

#[test]
fn an_argument_that_is_left_out_has_its_default() {
    assert_eq!(parse(""), Ok(Arguments::default()));
    let asked = parse("--kills 300 --brokers 3").expect("allowed");
    assert_eq!((asked.kills, asked.brokers, asked.rate), (300, 3, 400));
    assert_eq!(
        parse(asked.command().trim_start_matches("tests/chaos/run")),
        Ok(asked)
    );
}

#[test]
fn the_help_names_every_argument() {
    let command = Arguments::default().command();
    for argument in command.split(' ').filter(|word| word.starts_with("--")) {
        assert!(HELP.contains(&format!("\n  {argument} ")), "{argument}");
    }
}

#[test]
fn each_mistake_is_named_with_what_is_allowed() {
    assert_eq!(
        parse("--kills x --brokers 2 --speed 3 --faults some --rate").map_err(|m| m.join("\n")),
        Err("--kills x: allowed is 0 to 10000\n\
             --brokers 2: allowed is 1 or 3\n\
             --speed: not an argument of this program\n\
             3: not an argument of this program\n\
             --faults some: allowed is processes or all\n\
             --rate : allowed is 10 to 2000"
            .to_owned())
    );
}

#[test]
fn chaos_for_a_minute_keeps_every_promise() {
    let report = world::run(&Arguments {
        kills: 8,
        seed: 4,
        replicas: 2,
        // Where the only broker dies, Kafka itself may forget the offsets of a
        // committed transaction, see "What Kafka itself may break" in the runbook.
        brokers: 3,
        rate: 100,
        faults: Faults::Processes,
        // Beside other tests a transaction may take ten times as long.
        repeats: 400,
    });
    println!("{report}");
    assert!(report.breaches().is_empty(), "{report}");
}
