//! What overloaded, dead and flooding tenants cost: themselves a bounded number
//! of writes, the others nothing. Each a load in virtual time.

use crate::load::{Load, Party, Told, settings};
use std::time::Duration;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// So many records a second for this long, for tenants chosen by the record's number.
fn publish(load: &mut Load, per_s: i64, for_ms: i64, tenant: impl Fn(i64) -> usize) {
    for number in 0..for_ms * per_s / 1_000 {
        load.publish(number * 1_000 / per_s, tenant(number));
    }
}

fn sum(told: &[Told]) -> Told {
    told.iter().fold(Told::default(), |mut all, one| {
        all.published += one.published;
        all.attempts += one.attempts;
        all.delivered += one.delivered;
        all.diverted += one.diverted;
        all.delayed += one.delayed;
        all.dead_lettered += one.dead_lettered;
        all.waits_ms.extend(&one.waits_ms);
        all
    })
}

/// Every record of these was delivered at the first attempt, without a move.
#[track_caller]
fn assert_untouched(healthy: &[Told], p99_ms: i64) -> Told {
    let all = sum(healthy);
    assert_eq!((all.delivered, all.writes()), (all.published, 0));
    let (p99, p999) = (all.wait_ms(0.99), all.wait_ms(0.999));
    assert!(
        p99 <= p99_ms && p999 <= 250,
        "p99 {p99} ms, p99.9 {p999} ms"
    );
    all
}

/// A tenant that takes 8 records/s gets 40 for ten minutes, beside twenty that
/// get one each.
#[track_caller]
fn five_times_too_much(overloaded: Party) -> Told {
    let mut parties = vec![overloaded];
    parties.extend((0..20).map(|_| Party::steady(20, Some(200))));
    let mut load = Load::new(settings(1_024), 4, parties);
    publish(&mut load, 60, 10 * MINUTE, |n| match n % 3 {
        0 => 1 + (n / 3) as usize % 20,
        _ => 0,
    });
    load.run_to_end(24 * HOUR);
    let told = load.told[0].clone();
    println!(
        "{} writes for {} records, {} attempts, all by {} min",
        told.writes(),
        told.published,
        told.attempts,
        load.now_ms() / MINUTE
    );
    assert_eq!(told.delivered, told.published, "{told:?}");
    assert_untouched(&load.told[1..], 50);
    told
}

#[test]
fn a_tenant_that_gets_five_times_what_it_takes_costs_four_writes_a_record() {
    let mut slow = Party::steady(1_000, Some(200));
    slow.max_in_flight = 8;
    let told = five_times_too_much(slow);
    assert!(
        told.writes() <= 4 * told.delivered,
        "{} writes",
        told.writes()
    );
}

/// The same where it answers at once: 200 to eight a second, 429 to the rest.
#[test]
fn a_tenant_that_answers_429_to_what_is_too_much_costs_four_writes_a_record() {
    let mut second = (0, 0);
    let answers = move |now_ms: i64, _| {
        let this = now_ms / 1_000;
        second = if second.0 == this {
            (this, second.1 + 1)
        } else {
            (this, 1)
        };
        let status = if second.1 <= 8 { 200 } else { 429 };
        (Duration::from_millis(20), Some(status))
    };
    let told = five_times_too_much(Party {
        max_in_flight: 64,
        answers: Box::new(answers),
    });
    assert!(
        told.writes() <= 4 * told.delivered,
        "{} writes",
        told.writes()
    );
}

#[test]
fn half_of_all_tenants_hang_and_the_other_half_does_not_notice() {
    for hanging in [0, 1, 50] {
        let party = |n| Party::steady(5, (n >= hanging).then_some(200));
        let mut load = Load::new(settings(1_024), 12, (0..100).map(party).collect());
        publish(&mut load, 500, MINUTE, |n| n as usize % 100);
        load.run(MINUTE + 10_000);
        let all = assert_untouched(&load.told[hanging..], 20);
        println!(
            "{hanging} hang: p99 {} ms, p99.9 {} ms",
            all.wait_ms(0.99),
            all.wait_ms(0.999)
        );
        let dead = sum(&load.told[..hanging]);
        assert!(
            dead.attempts <= 25 * hanging,
            "{} attempts at the dead",
            dead.attempts
        );
    }
}

#[test]
fn a_flood_of_one_slow_tenant_delays_no_other() {
    let mut parties = vec![Party::steady(1_000, Some(200))];
    parties.extend((1..100).map(|_| Party::steady(5, Some(200))));
    let mut load = Load::new(settings(1_024), 12, parties);
    publish(&mut load, 500, MINUTE, |n| match n % 10 {
        0 => 1 + (n / 10) as usize % 99,
        _ => 0,
    });
    load.run(MINUTE + 10_000);
    let all = assert_untouched(&load.told[1..], 25);
    println!(
        "flood: p99 {} ms, p99.9 {} ms",
        all.wait_ms(0.99),
        all.wait_ms(0.999)
    );
    assert!(
        load.told[0].delivered > 60 * 50,
        "{:?}",
        load.told[0].delivered
    );
}

/// In one partition, where dead and healthy ones stand behind each other.
#[test]
fn a_crowd_of_dead_tenants_takes_neither_the_sockets_nor_the_map() {
    const CROWD: usize = 2_000;
    let party = |n| Party::steady(20, (n % 2 == 0).then_some(200));
    let mut load = Load::new(settings(256), 1, (0..CROWD).map(party).collect());
    publish(&mut load, 400, 5 * MINUTE, |n| n as usize % CROWD);
    load.run(5 * MINUTE + 30_000);
    assert!(load.in_flight_most <= 256, "{}", load.in_flight_most);
    let healthy: Vec<Told> = load.told.iter().step_by(2).cloned().collect();
    let all = sum(&healthy);
    let late: usize = healthy
        .iter()
        .map(|told| {
            told.waits_ms
                .iter()
                .skip(30)
                .filter(|ms| **ms > 250)
                .count()
        })
        .sum();
    println!(
        "crowd: {} of {} delivered, {} diverted, p50 {} ms, p99 {} ms, late {late}",
        all.delivered,
        all.published,
        all.diverted,
        all.wait_ms(0.5),
        all.wait_ms(0.99)
    );
    assert_eq!(all.delivered, all.published);
    assert_eq!(
        late, 0,
        "once they are known, the dead cost the others nothing"
    );
}

/// A burst that a healthy tenant takes in a second is not sent round by a delay.
#[test]
fn a_burst_of_a_healthy_tenant_is_not_diverted() {
    for answer_ms in [5, 20] {
        let mut load = Load::new(
            settings(1_024),
            4,
            vec![Party::steady(answer_ms, Some(200))],
        );
        for _ in 0..1_000 {
            load.publish(1_000, 0);
        }
        load.run(MINUTE);
        let told = &load.told[0];
        println!("burst at {answer_ms} ms: {} diverted", told.diverted);
        assert_eq!(told.delivered, 1_000);
        assert_eq!(told.diverted, 0);
    }
}

/// After a start nothing is known of anyone, and what was published meanwhile
/// comes at once.
#[test]
fn a_backlog_of_many_healthy_tenants_is_not_diverted() {
    const CROWD: usize = 4_000;
    let parties = (0..CROWD).map(|_| Party::steady(20, Some(200))).collect();
    let mut load = Load::new(settings(256), 4, parties);
    (0..CROWD).for_each(|tenant| load.publish(1_000, tenant));
    load.run(MINUTE);
    let all = sum(&load.told);
    println!(
        "backlog of {CROWD} tenants: {} diverted, all tried within {} ms",
        all.diverted,
        all.wait_ms(1.0)
    );
    assert_eq!((all.delivered, all.diverted), (CROWD, 0));
}

/// All in one partition, where as many attempts as there may be of tenants that
/// are not known leave no room to wait.
#[test]
fn a_wave_of_dead_newcomers_does_not_hold_those_behind_it() {
    const HEALTHY: usize = 100;
    const DEAD: usize = 3_000;
    let healthy = (0..HEALTHY).map(|_| Party::steady(20, Some(200)));
    let dead = (0..DEAD).map(|_| Party::steady(0, None));
    let mut load = Load::new(settings(1_024), 1, healthy.chain(dead).collect());
    publish(&mut load, 500, MINUTE / 2, |n| n as usize % HEALTHY);
    for number in 0..DEAD {
        load.publish(10_000 + 2 * number as i64, HEALTHY + number);
    }
    load.run(MINUTE);
    let all = assert_untouched(&load.told[..HEALTHY], 50);
    println!(
        "behind {DEAD} dead newcomers: p99 {} ms, p99.9 {} ms",
        all.wait_ms(0.99),
        all.wait_ms(0.999)
    );
}

/// What a map lists has its place in it, also where no other record has one.
#[test]
fn a_partition_whose_map_is_full_goes_on() {
    for listed in [999, 1_000, 1_001, 1_500] {
        let parties = (0..10).map(|_| Party::steady(20, Some(200))).collect();
        let mut load = Load::after_a_kill(settings(1_024), 2, parties, listed);
        load.run(MINUTE);
        let all = sum(&load.told);
        assert_eq!((all.published, all.delivered), (2 * listed, 2 * listed));
    }
}
