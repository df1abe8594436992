//! Rebalances cost little: replicas come, leave and die under load, and the
//! partitions' records go on being sent.

use crate::support::dead_letters::{self, FoundRecord};
use crate::support::ledger::Ledger;
use crate::support::metrics::Metrics;
use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::receiver::{Behaviour, Posts};
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::{http, sample, wait};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 6;
const TENANTS: usize = 12;
const RECORDS_PER_SECOND: u128 = 48;
const SESSION: Duration = Duration::from_secs(10);
/// The process's transactions time out after this long; the broker of the
/// tests looks every second.
const TRANSACTION: Duration = Duration::from_secs(10);
const SCAN: Duration = Duration::from_secs(1);
/// For a busy machine, beside what is promised.
const BUSY: Duration = Duration::from_secs(1);

/// A scene with tenants that all do the same, as many as there are behaviours.
fn scene(name: &str, partitions: u32, behaviour: impl Fn(usize) -> Behaviour) -> Scene<'static> {
    let plan = Plan {
        partitions,
        delays: "1s",
        delay_min: Duration::from_secs(1),
        ..Plan::default()
    };
    let mut scene = Scene::new(name, plan);
    for tenant in 0..TENANTS {
        scene.tenant(&format!("t{tenant}"), behaviour(tenant));
    }
    scene
}

/// In turns, so that each partition gets some all the time, and of every tenant.
fn partition_of(number: usize) -> u32 {
    (number + number / TENANTS) as u32 % PARTITIONS
}

/// Publishes at a steady rate, each partition in its turn, while `work` runs;
/// returns what was published and until when.
fn under_load<T>(scene: &mut Scene<'_>, work: impl FnOnce(&Scene<'_>) -> T) -> (T, Instant) {
    let stop = AtomicBool::new(false);
    let (done, ledger, until) = std::thread::scope(|threads| {
        let scene = &*scene;
        let publishing = threads.spawn(|| publish(scene, &stop));
        let stopper = StopOnDrop(&stop);
        let done = work(scene);
        drop(stopper);
        let (ledger, until) = publishing.join().expect("publishing does not fail");
        (done, ledger, until)
    });
    scene.ledger = ledger;
    (done, until)
}

/// Ends the publisher also when a check fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn publish(scene: &Scene<'_>, stop: &AtomicBool) -> (Ledger, Instant) {
    let mut ledger = Ledger::default();
    let started = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let due = started.elapsed().as_millis() * RECORDS_PER_SECOND / 1_000;
        while (ledger.len() as u128) < due {
            let number = ledger.len();
            let (id, tenant) = (number.to_string(), format!("t{}", number % TENANTS));
            let value = sample::record(&id, &tenant);
            ledger.publish(&id, &tenant, &sample::wrapped(&value));
            let partition = partition_of(number) % scene.plan.partitions;
            let (key, value) = (Some(id.as_bytes()), Some(value.as_slice()));
            let publisher = scene.publisher();
            publisher.send_to(&scene.topic, Some(partition as i32), key, value, &[]);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let until = Instant::now();
    scene.flush();
    (ledger, until)
}

/// The longest time in which no record of one partition was sent for the first
/// time, from the first POST until then.
fn idle_max(posts: &Posts, partitions: u32, until: Instant) -> Duration {
    let mut times = vec![Vec::new(); partitions as usize];
    for (id, posts) in posts {
        let number: usize = id.parse().expect("ids are numbers");
        let first = posts.iter().find(|post| post.attempt == 1);
        let place = partition_of(number) % partitions;
        times[place as usize].extend(first.map(|post| post.at));
    }
    let mut longest = Duration::ZERO;
    for times in &mut times {
        times.sort_unstable();
        times.retain(|at| *at < until);
        times.push(until);
        let gaps = times.windows(2).map(|two| two[1] - two[0]);
        longest = gaps.max().unwrap_or(Duration::MAX).max(longest);
    }
    longest
}

/// Waits until these own all partitions between them, and each has some.
fn until_shared(replicas: &[&Ringback], partitions: u64) {
    wait::until("every replica to own partitions", || {
        // One that has just been started answers nothing yet.
        let assigned = |replica: &&Ringback| {
            let (_, text) = http::get(replica.port(), "/metrics")?;
            Some(Metrics::parse(&text).count("ringback_assigned_partitions", &[]))
        };
        let counts: Vec<u64> = replicas.iter().filter_map(assigned).collect();
        counts.iter().sum::<u64>() == partitions
            && counts.len() == replicas.len()
            && !counts.contains(&0)
    });
}

/// Waits until so many more records were delivered.
fn until_delivered_more(scene: &Scene<'_>, more: usize) {
    let before = scene.receiver.successes();
    wait::until("deliveries", || scene.receiver.successes() >= before + more);
}

#[test]
fn scaling_from_one_to_three_and_back_repeats_nothing_and_no_partition_stands_still() {
    const SOME: usize = 150;
    let wait_ms = [20, 400, 1_900];
    let slow = |tenant: usize| Behaviour::Slow(Duration::from_millis(wait_ms[tenant % 3]));
    let mut scene = scene("scaling", PARTITIONS, slow);
    let all = u64::from(PARTITIONS) * 2;
    let first = scene.run("a");
    let ((), until) = under_load(&mut scene, |scene| {
        until_delivered_more(scene, SOME);
        let (second, third) = (scene.start("b", &[]), scene.start("c", &[]));
        until_shared(&[&first, &second, &third], all);
        until_delivered_more(scene, SOME);
        third.drain();
        until_shared(&[&first, &second], all);
        until_delivered_more(scene, SOME);
        second.drain();
        until_shared(&[&first], all);
        until_delivered_more(scene, SOME);
    });
    scene.until_delivered();
    let idle = idle_max(&scene.receiver.posts(), PARTITIONS, until);
    println!("longest time without a first attempt from one partition: {idle:?}");
    scene.account().assert_exact();
    assert!(
        idle <= Duration::from_secs(3) + BUSY,
        "stood still for {idle:?}"
    );
    first.drain();
}

#[test]
fn a_killed_replica_that_stays_away_is_taken_over_after_its_session() {
    let mut scene = scene("takeover", PARTITIONS, |_| Behaviour::Ok);
    let (first, second) = (scene.run("a"), scene.run("b"));
    let all = u64::from(PARTITIONS) * 2;
    until_shared(&[&first, &second], all);
    let (_, until) = under_load(&mut scene, |scene| {
        until_delivered_more(scene, 100);
        second.kill();
        until_shared(&[&first], all);
        until_delivered_more(scene, 100);
    });
    scene.until_delivered();
    let idle = idle_max(&scene.receiver.posts(), PARTITIONS, until);
    println!("longest time without a first attempt from one partition: {idle:?}");
    scene.account().assert_kept();
    let promised = SESSION + Duration::from_secs(5);
    assert!(idle <= promised + BUSY, "stood still for {idle:?}");
    first.drain();
}

#[test]
fn a_replica_killed_within_a_transaction_holds_the_others_delayed_records_no_longer_than_that() {
    // One partition each: one replica owns the source and moves into the delay
    // topic, which the other owns.
    let mut scene = scene("frozen", 1, |_| Behaviour::FailFirst(1));
    let broker = scene.broker.address();
    let ways = [Proxy::start(&[broker]), Proxy::start(&[broker])];
    let start = |name: &str, way: &Proxy| scene.start_behind(way, name, &[]);
    let mut replicas = vec![start("a", &ways[0]), start("b", &ways[1])];
    until_shared(&[&replicas[0], &replicas[1]], 2);
    let (other, until) = under_load(&mut scene, |scene| {
        until_delivered_more(scene, 100);
        let end = Wanted::request(&[Api::END_TXN]);
        let traps = ways.each_ref().map(|way| way.trap(Fate::Hold, end.clone()));
        wait::until("the end of a transaction", || {
            traps.iter().any(|trap| trap.caught() > 0)
        });
        let moves = traps.iter().position(|trap| trap.caught() > 0);
        let killed = replicas.remove(moves.expect("just seen"));
        killed.kill();
        let other = replicas.remove(0);
        until_shared(&[&other], 2);
        until_delivered_more(scene, 100);
        other
    });
    scene.until_delivered();
    scene.account().assert_kept();
    let frozen = TRANSACTION + SCAN + Duration::from_secs(1);
    let late = lateness_max(&scene);
    println!("delayed attempts at most {late:?} late");
    assert!(late <= frozen + BUSY, "{late:?} late");
    // What the dead one was sending waits for its session and its transaction.
    let idle = idle_max(&scene.receiver.posts(), 1, until);
    println!("longest time without a first attempt: {idle:?}");
    let promised = SESSION + Duration::from_secs(5) + TRANSACTION + SCAN;
    assert!(idle <= promised + BUSY, "stood still for {idle:?}");
    other.drain();
}

/// How late the latest of the attempts from the delay topic was, by the
/// broker's time of the copy that it was made from.
fn lateness_max(scene: &Scene<'_>) -> Duration {
    let posts = scene.receiver.posts();
    let late = |copy: &FoundRecord| {
        let made = copy.number("ringback-attempts-made");
        let posts = posts.get(&copy.id()?)?;
        let next = posts.iter().find(|p| i64::from(p.attempt) == made + 1)?;
        let due_ms = copy.at_ms + scene.plan.delay_min.as_millis() as i64;
        let late_ms = next.at_us as i64 / 1_000 - due_ms;
        Some(Duration::from_millis(late_ms.max(0).unsigned_abs()))
    };
    let copies = dead_letters::read(scene.broker, &scene.delay_topic("1s"));
    copies
        .iter()
        .filter_map(late)
        .max()
        .expect("some were delayed")
}
