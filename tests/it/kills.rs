//! kill -9 again and again under load, restarted under the same name.
//! `IT_KILLS=10 tests/run --test it kills -- --nocapture` is the long run.

use crate::support::ledger::{Account, Ledger};
use crate::support::publisher::Publisher;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::{sample, wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TENANTS: usize = 20;
const RECORDS_PER_SECOND: u32 = 500;
const FAILING_PERMILLE: u64 = 300;
/// POSTs after a success that each kill may cause: those in flight, and those
/// answered in the 50 ms before their commit. Those answered during one transaction
/// come on top: it takes 20 ms, and far longer on a busy machine.
const AFTER_SUCCESS_MAX: usize = 40;
/// Of all restarts half send again within this time, and a second for a busy machine.
const FIRST_POST_MAX: Duration = Duration::from_secs(2);

/// One kill: when, and how soon after its start the next process sent.
struct Kill {
    at: Instant,
    first_post: Duration,
    /// How long one transaction of the process before took.
    move_seconds: f64,
}

#[test]
fn kills_under_load_lose_nothing_and_exceed_no_budget() {
    let kills: usize = std::env::var("IT_KILLS").map_or(4, |n| n.parse().expect("a number"));
    let plan = Plan {
        partitions: 12,
        delays: "500ms,1s",
        delay_min: Duration::from_millis(500),
        ..Plan::default()
    };
    let mut scene = Scene::new("kills", plan);
    for number in 0..TENANTS {
        let behaviour = Behaviour::FailShare {
            permille: FAILING_PERMILLE,
            seed: 7,
        };
        scene.tenant(&format!("t{number}"), behaviour);
    }
    let stop = AtomicBool::new(false);
    let (ledger, log) = std::thread::scope(|threads| {
        let (publisher, topic) = (scene.publisher(), scene.topic.as_str());
        let publishing = threads.spawn(|| publish(publisher, topic, &stop));
        let stopper = StopOnDrop(&stop);
        let log = kill_and_restart(&scene, kills);
        drop(stopper);
        (publishing.join().expect("publishing does not fail"), log)
    });
    scene.ledger = ledger;
    let last = scene.run("a");
    scene.until_settled();
    last.until("no lag", |metrics| {
        metrics.count("ringback_unfinished_records", &[]) == 0
    });
    let account = scene.account();
    report(&account, &log);
    account.assert_kept();
    let moves: f64 = log.iter().map(|kill| kill.move_seconds).sum();
    let during_moves = (moves * f64::from(RECORDS_PER_SECOND)) as usize;
    assert!(
        account.after_success.len() <= AFTER_SUCCESS_MAX * kills + during_moves,
        "and {during_moves} during transactions\n{account}"
    );
    let mut first_posts: Vec<Duration> = log.iter().map(|kill| kill.first_post).collect();
    first_posts.sort_unstable();
    let median = first_posts[first_posts.len() / 2];
    assert!(median <= FIRST_POST_MAX, "first POSTs after {median:?}");
    last.drain();
}

/// Ends the publisher also when a check fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes at a steady rate until it is stopped.
fn publish(publisher: &Publisher, topic: &str, stop: &AtomicBool) -> Ledger {
    let mut ledger = Ledger::default();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = started.elapsed().as_millis() * u128::from(RECORDS_PER_SECOND) / 1_000;
        while (ledger.len() as u128) < due {
            let number = ledger.len();
            let (id, tenant) = (format!("kills-{number}"), format!("t{}", number % TENANTS));
            let value = sample::record(&id, &tenant);
            ledger.publish(&id, &tenant, &sample::wrapped(&value));
            publisher.send(topic, Some(id.as_bytes()), Some(&value), &[]);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    publisher.flush();
    ledger
}

fn kill_and_restart(scene: &Scene<'_>, kills: usize) -> Vec<Kill> {
    let mut log = Vec::new();
    let mut killed = None;
    for _ in 0..=kills {
        let before = scene.receiver.count();
        let ringback = scene.start("a", &[]);
        wait::until("the first POST", || scene.receiver.count() > before);
        if let Some((at, move_seconds)) = killed {
            let first_post = ringback.started.elapsed();
            log.push(Kill {
                at,
                first_post,
                move_seconds,
            });
        }
        // Some two seconds of work, so that retries of before are under way.
        wait::until("POSTs", || scene.receiver.count() > before + 1_400);
        let metrics = ringback.metrics();
        let moves = metrics.sum("ringback_move_seconds_count", &[]).max(1.0);
        let move_seconds = metrics.sum("ringback_move_seconds_sum", &[]) / moves;
        killed = Some((Instant::now(), move_seconds));
        ringback.kill();
    }
    log
}

fn report(account: &Account, log: &[Kill]) {
    println!("{account}");
    for (number, kill) in log.iter().enumerate() {
        let next = log.get(number + 1).map(|k| k.at);
        let after = account.after_success.iter();
        let mine = after.filter(|at| **at >= kill.at && next.is_none_or(|next| **at < next));
        println!(
            "  kill {:>2}: {:>3} POSTs after a success, first POST {:>5} ms after the restart",
            number + 1,
            mine.count(),
            kill.first_post.as_millis()
        );
    }
}
