//! A process that dies again and again as soon as it has sent something: its
//! records' budgets must outlast it.

use crate::support::dead_letters;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::{Duration, Instant};

const KILLS: usize = 50;
const TENANTS: usize = 10;
const RECORDS_EACH: usize = 60;
/// Of the source, and of each of the two delay topics that come due meanwhile.
const PARTITIONS: usize = 4;
/// A charged record waits 10 s, 10 s, then a minute. So a minute charges it three
/// times, or four where the last charge falls on the minute's end.
const CHARGES_MAX: i64 = 4;

/// What the first process may have reserved, which has seen no crash yet: the
/// eight attempts that a lane begins with, for each tenant.
const FIRST_PROCESS: usize = 8 * TENANTS;

#[test]
fn fifty_kills_within_a_minute_dead_letter_nothing_and_charge_few() {
    let plan = Plan {
        partitions: PARTITIONS as u32,
        delays: "10s,10s,1m,1m,10m,10m,1h,1h,6h",
        delay_min: Duration::from_secs(10),
        ..Plan::default()
    };
    let mut scene = Scene::new("crash-loop", plan);
    for tenant in 0..TENANTS {
        // All that is reserved is in doubt: nothing is answered before the end.
        let tenant = format!("t{tenant}");
        scene.tenant(&tenant, Behaviour::Slow(Duration::from_secs(3)));
        scene.publish(&tenant, RECORDS_EACH);
    }
    scene.flush();
    let started = Instant::now();
    for _ in 0..KILLS {
        let before = scene.receiver.count();
        let ringback = scene.start("a", &[]);
        wait::until("something to be sent", || scene.receiver.count() > before);
        ringback.kill();
    }
    let took = started.elapsed();

    let charges = charges(&scene);
    let posts = scene.receiver.posts();
    let most = posts.values().map(Vec::len).max().unwrap_or(0);
    println!(
        "{KILLS} kills in {took:?}: {} POSTs, {most} of one record at most, {} charges, {} for one record",
        scene.receiver.count(),
        charges.len(),
        charges.iter().max().unwrap_or(&0),
    );
    assert_eq!(scene.dead_letters().len(), 0, "nothing is dead-lettered");
    assert!(most <= 10, "{most} POSTs of one record");
    // Counted for a minute, however slow the machine.
    let minutes = 1 + took.as_secs() as i64 / 60;
    let highest = charges.iter().max().copied().unwrap_or(0);
    assert!(
        highest <= CHARGES_MAX * minutes,
        "one was charged {highest} times"
    );
    // From the second process on, one attempt for each partition at a time.
    let allowed = FIRST_PROCESS + KILLS * 3 * PARTITIONS;
    assert!(
        charges.len() <= allowed,
        "{} charges, allowed {allowed}",
        charges.len()
    );
}

/// Each charge that lies in a delay topic, as the attempts made with it.
fn charges(scene: &Scene<'_>) -> Vec<i64> {
    let mut charges = Vec::new();
    for delay in ["10s", "1m", "10m"] {
        for copy in dead_letters::read(scene.broker, &scene.delay_topic(delay)) {
            if copy.header("ringback-error") == "in_doubt" {
                charges.push(copy.number("ringback-attempts-made"));
            }
        }
    }
    charges
}
