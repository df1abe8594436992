//! The simulator: the engine in virtual time in a world with faults, all derived
//! from one seed. A failing seed prints its breach, its step and the last events.
//! It is then added to [`FAILED_ONCE`], which always runs.

#[path = "../laws/mod.rs"]
mod laws;

mod broker;
mod chance;
mod coordinator;
mod kafka;
mod load;
mod load_tenant;
mod members;
mod operator;
mod outside;
mod overload;
mod plan;
mod planted;
mod reach;
mod receivers;
mod refusing;
mod replica;
mod sessions;
mod sim_event;
mod trace;
mod turns;
mod world;
mod writes;

use chance::Chance;
use laws::{Breach, Law};
use plan::Plan;
use planted::Planted;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use trace::Trace;
use world::{Summary, World};

/// Seeds that failed once; each showed a bug of the engine or of a checker.
const FAILED_ONCE: &[u64] = &[27, 105, 190, 1_485, 1_596, 1_832, 3_259, 32_417, 34_836];

/// The number of seeds of a run without `RINGBACK_SIM_SEEDS`: about a minute and a
/// half on two cores.
const SEEDS: u64 = 12_000;

/// Every one of these must occur in a run of that many seeds.
const MUST_HAPPEN: &[&str] = &[
    "attempts_exhausted",
    "attempts_unconfirmed",
    "base_beyond_log",
    "brokers_away",
    "commit_arrives_late",
    "commit_of_former_topic",
    "commit_queued",
    "commit_unsure",
    "consumer_fault",
    "coordinator_away",
    "crash",
    "cut",
    "cut_off",
    "delay_topic_reset",
    "delayed",
    "delivered",
    "destination_refused",
    "diverted",
    "drained",
    "fenced",
    "fenced_instance",
    "illegal_generation",
    "in_doubt",
    "lease_over",
    "left_open",
    "log_start_moved",
    "lost",
    "map_checksum_broken",
    "map_cut",
    "map_end_beyond_log",
    "map_for_other_offset",
    "map_foreign",
    "map_of_other_version",
    "member_replaced",
    "metadata_rejected",
    "move_unsure",
    "name_in_use",
    "no_tenant_id",
    "offset_out_of_range",
    "offset_set",
    "offsets_expired",
    "orphaned",
    "partition_stopped",
    "paused",
    "producer_fenced",
    "producer_renewed",
    "rebalance",
    "rebalance_in_progress",
    "records_lost",
    "replaced",
    "reset_beyond_end",
    "revoked",
    "session_timeout",
    "session_waits",
    "skipped",
    "source_reset",
    "stale_event",
    "tenant_limit_changed",
    "tenant_removed_or_listed",
    "tenant_switched",
    "too_large",
    "too_old",
    "topic_grew",
    "topic_made_again",
    "topic_recreated",
    "transaction_timed_out",
    "undecodable",
    "unknown_member",
    "waits_for_pending",
    "write_refused",
];

/// The number of threads that run seeds.
const THREADS: u64 = 2;

/// Makes the plan of a run from its seed.
type Planner = fn(&mut Chance) -> Plan;

fn run(
    seed: u64,
    planner: Planner,
    planted: Option<Planted>,
    trace: &Trace,
) -> Result<Summary, Breach> {
    let mut chance = Chance::new(seed);
    let plan = planner(&mut chance);
    let world = World::new(plan, chance, planted, trace.clone());
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        Err(law_of(&text).breach(format!("the engine's own assertion: {text}")))
    })
}

/// Returns the law that an assertion names.
fn law_of(text: &str) -> Law {
    let all = [
        Law::L1,
        Law::L2,
        Law::L3,
        Law::L4,
        Law::L5,
        Law::L6,
        Law::L8,
        Law::L9,
    ];
    let named = all
        .into_iter()
        .find(|law| text.contains(&format!("{law:?}")));
    named.unwrap_or(Law::L7)
}

/// Runs a failed seed again and returns the events before the breach.
fn report(seed: u64, breach: &Breach) -> String {
    let trace = Trace::on(number("RINGBACK_SIM_LINES"));
    let again = run(seed, Plan::new, None, &trace);
    let same = if again.as_ref() == Err(breach) {
        ""
    } else {
        "\n(NOT the same in a second run: something does not depend on the seed alone)"
    };
    format!(
        "seed {seed}, step {}: {:?} {}{same}\n{}",
        trace.last_step(),
        breach.law,
        breach.what,
        trace.lines()
    )
}

/// The totals of a number of runs.
#[derive(Default)]
struct Total {
    seeds: u64,
    sum: Summary,
    breaches: Vec<(u64, Breach)>,
}

fn run_all(first: u64, count: u64) -> Total {
    let next = AtomicU64::new(0);
    let listed = FAILED_ONCE.len() as u64;
    let work = || {
        let mut total = Total::default();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let seed = match FAILED_ONCE.get(index as usize) {
                Some(seed) => *seed,
                None if index < listed + count => first + index - listed,
                None => return total,
            };
            total.seeds += 1;
            match run(seed, Plan::new, None, &Trace::off()) {
                Ok(summary) => total.sum.add(&summary),
                Err(breach) => total.breaches.push((seed, breach)),
            }
        }
    };
    let totals: Vec<Total> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Total>| thread.join();
        let joined: Result<_, _> = threads.into_iter().map(join).collect();
        joined.expect("panics are caught in each run")
    });
    totals.into_iter().fold(Total::default(), |mut all, one| {
        all.seeds += one.seeds;
        all.sum.add(&one.sum);
        all.breaches.extend(one.breaches);
        all
    })
}

/// Prints the totals, and how often each event occurred.
fn print_totals(total: &Total) {
    let sum = &total.sum;
    println!(
        "{} seeds, {} steps, {} virtual hours, {} records, {} POSTs ({} after a success), {} dead letters",
        total.seeds,
        sum.steps,
        sum.virtual_s / 3_600,
        sum.records,
        sum.posts,
        sum.posts_after_success,
        sum.dead_letters
    );
    for (what, times) in &sum.seen {
        println!("{times:>10} {what}");
    }
}

/// Returns a number from the environment. `tests/sim/run` or a person sets it.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_law_holds_whatever_goes_wrong() {
    let first = number("RINGBACK_SIM_FIRST").unwrap_or(1);
    let count = number("RINGBACK_SIM_SEEDS").unwrap_or(SEEDS);
    let mut total = run_all(first, count);
    print_totals(&total);
    total.breaches.sort_by_key(|(seed, _)| *seed);
    let shown = total.breaches.iter().take(5);
    let reports: Vec<String> = shown.map(|(seed, breach)| report(*seed, breach)).collect();
    let list = total.breaches.iter();
    let list: Vec<String> = list
        .map(|(seed, breach)| format!("seed {seed}: {:?} {:.200}", breach.law, breach.what))
        .collect();
    if count >= SEEDS {
        let seen = &total.sum.seen;
        let never = MUST_HAPPEN.iter().filter(|what| !seen.contains_key(*what));
        let never: Vec<_> = never.collect();
        assert!(never.is_empty(), "never happened: {never:?}");
    }
    assert!(
        total.breaches.is_empty(),
        "{} of {} seeds broke a law\n{}\n\n{}",
        list.len(),
        total.seeds,
        list.join("\n"),
        reports.join("\n\n")
    );
}

#[test]
fn one_seed_decides_all() {
    for seed in 1..6 {
        let runs: Vec<_> = (0..2)
            .map(|_| run(seed, Plan::new, None, &Trace::off()))
            .collect();
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}

/// The default schedule survives fifty kills within a minute: no record reaches
/// the dead letters, however many attempts the kills charge.
#[test]
fn crash_loops_with_the_default_schedule_dead_letter_nothing() {
    for seed in 0..60 {
        let summary = run(seed, Plan::crash_loop, None, &Trace::off());
        let summary = summary.unwrap_or_else(|breach| panic!("seed {seed}: {breach:?}"));
        let seen = |what| summary.seen.get(what).copied().unwrap_or(0);
        assert!(seen("crash") >= 10, "seed {seed}: {summary:?}");
        let ended = seen("attempts_exhausted") + seen("attempts_unconfirmed");
        assert_eq!(ended, 0, "seed {seed}: {summary:?}");
    }
}

/// Checks that some of the first seeds show the planted breach and that none
/// shows another.
#[track_caller]
fn caught_in(planner: Planner, planted: Planted, law: Law, seeds: Range<u64>) {
    let mut found = 0;
    for seed in seeds {
        match run(seed, planner, Some(planted), &Trace::off()) {
            Ok(_) => {}
            Err(breach) if breach.law == law => found += 1,
            Err(breach) => panic!("seed {seed}, {planted:?}: {breach:?} instead of {law:?}"),
        }
        if found == 3 {
            return;
        }
    }
    panic!("{planted:?} was caught {found} times");
}

#[track_caller]
fn caught(planted: Planted, law: Law) {
    caught_in(Plan::new, planted, law, 1..80);
}

#[test]
fn a_lane_that_is_passed_by_is_caught() {
    caught_in(Plan::busy, Planted::Starve, Law::L6, 1..80);
}

#[test]
fn a_refused_commit_that_grants_is_caught() {
    caught_in(Plan::new, Planted::GrantRefused, Law::L3, 1..2_000);
}

#[test]
fn an_aborted_move_that_counts_is_caught() {
    caught_in(Plan::new, Planted::MoveAborted, Law::L1, 1..2_000);
}

#[test]
fn trust_in_another_programs_map_is_caught() {
    caught_in(Plan::new, Planted::TrustForeign, Law::L1, 1..2_000);
}

#[test]
fn copies_that_may_have_been_sent_and_are_sent_again_are_caught() {
    caught_in(Plan::new, Planted::SendTooOld, Law::L3, 1..4_000);
}

#[test]
fn a_record_passed_over_is_caught() {
    caught(Planted::PassOver, Law::L1);
}

#[test]
fn a_base_that_goes_back_is_caught() {
    caught(Planted::GoBack, Law::L2);
}

#[test]
fn a_second_write_for_a_partition_is_caught() {
    caught(Planted::WriteTwice, Law::L2);
}

#[test]
fn an_attempt_without_reservation_is_caught() {
    caught(Planted::Unreserve, Law::L3);
}

#[test]
fn a_second_attempt_from_one_residence_is_caught() {
    caught(Planted::StartTwice, Law::L3);
}

#[test]
fn an_attempt_with_the_wrong_number_is_caught() {
    caught(Planted::Miscount, Law::L3);
}

#[test]
fn an_attempt_after_its_lease_is_caught() {
    caught(Planted::Outlast, Law::L3);
}

#[test]
fn an_attempt_from_a_residence_in_doubt_is_caught() {
    caught(Planted::Trust, Law::L3);
}

#[test]
fn a_record_that_holds_its_offset_back_is_caught() {
    caught_in(Plan::busy, Planted::Retain, Law::L10, 1..80);
}

#[test]
fn a_copy_with_other_bytes_is_caught() {
    caught(Planted::Garble, Law::L1);
}

#[test]
fn an_early_attempt_is_caught() {
    caught(Planted::Hurry, Law::L4);
}

#[test]
fn too_long_metadata_is_caught() {
    caught(Planted::Lengthen, Law::L5);
}

#[test]
fn asking_for_more_than_fits_is_caught() {
    caught(Planted::Greed, Law::L5);
    caught(Planted::Hoard, Law::L5);
}

#[test]
fn records_that_never_end_are_caught() {
    caught(Planted::Swallow, Law::L7);
}

#[test]
fn a_write_for_a_released_partition_is_caught() {
    caught(Planted::Linger, Law::L8);
}

#[test]
fn a_drain_that_never_ends_is_caught() {
    caught(Planted::Stay, Law::L9);
}
