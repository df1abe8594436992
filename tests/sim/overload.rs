//! The cost of overloaded, dead and flooding tenants: a bounded number of writes
//! for themselves, nothing for the others. Each test is a load in virtual time.

use crate::load::{Load, settings};
use crate::load_tenant::{LoadTenant, TenantResult};
use std::time::Duration;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// An alert fires when a record is older and does not wait for its tenant.
const MINUTE_OF_ALERT: Duration = Duration::from_secs(60);

/// Publishes `per_s` records a second for `for_ms`; `tenant` chooses the tenant
/// by the record's number.
fn publish(load: &mut Load, per_s: i64, for_ms: i64, tenant: impl Fn(i64) -> usize) {
    for number in 0..for_ms * per_s / 1_000 {
        load.publish(number * 1_000 / per_s, tenant(number));
    }
}

fn sum(results: &[TenantResult]) -> TenantResult {
    results
        .iter()
        .fold(TenantResult::default(), |mut all, one| {
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

/// Checks that every record of these tenants was delivered at the first attempt,
/// without a move.
#[track_caller]
fn assert_untouched(healthy: &[TenantResult], p99_ms: i64) -> TenantResult {
    let all = sum(healthy);
    assert_eq!((all.delivered, all.writes()), (all.published, 0));
    let (p99, p999) = (all.wait_ms(0.99), all.wait_ms(0.999));
    assert!(
        p99 <= p99_ms && p999 <= 250,
        "p99 {p99} ms, p99.9 {p999} ms"
    );
    all
}

/// Publishes 40 records/s for ten minutes to a tenant that takes 8, and one each
/// to twenty others.
#[track_caller]
fn five_times_too_much(overloaded: LoadTenant) -> TenantResult {
    let mut tenants = vec![overloaded];
    tenants.extend((0..20).map(|_| LoadTenant::steady(20, Some(200))));
    let mut load = Load::new(settings(1_024), 4, tenants);
    publish(&mut load, 60, 10 * MINUTE, |n| match n % 3 {
        0 => 1 + (n / 3) as usize % 20,
        _ => 0,
    });
    load.run_to_end(24 * HOUR);
    let result = load.results[0].clone();
    println!(
        "{} writes for {} records, {} attempts, all by {} min",
        result.writes(),
        result.published,
        result.attempts,
        load.now_ms() / MINUTE
    );
    assert_eq!(result.delivered, result.published);
    assert_untouched(&load.results[1..], 50);
    result
}

#[test]
fn a_tenant_that_gets_five_times_what_it_takes_costs_four_writes_a_record() {
    let mut slow = LoadTenant::steady(1_000, Some(200));
    slow.max_in_flight = 8;
    let result = five_times_too_much(slow);
    assert!(
        result.writes() <= 4 * result.delivered,
        "{} writes",
        result.writes()
    );
}

/// The tenant answers at once: 200 to eight attempts a second, 429 to the others.
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
    let result = five_times_too_much(LoadTenant {
        max_in_flight: 64,
        answers: Box::new(answers),
    });
    assert!(
        result.writes() <= 4 * result.delivered,
        "{} writes",
        result.writes()
    );
}

#[test]
fn half_of_all_tenants_hang_and_the_other_half_is_not_delayed() {
    for hanging in [0, 1, 50] {
        let tenant = |n| LoadTenant::steady(5, (n >= hanging).then_some(200));
        let mut load = Load::new(settings(1_024), 12, (0..100).map(tenant).collect());
        publish(&mut load, 500, MINUTE, |n| n as usize % 100);
        load.run(MINUTE + 10_000);
        let all = assert_untouched(&load.results[hanging..], 20);
        println!(
            "{hanging} hang: p99 {} ms, p99.9 {} ms",
            all.wait_ms(0.99),
            all.wait_ms(0.999)
        );
        let dead = sum(&load.results[..hanging]);
        assert!(
            dead.attempts <= 25 * hanging,
            "{} attempts at the dead",
            dead.attempts
        );
    }
}

/// One tenant of fifty accepts and never answers for an hour, and answers then.
#[test]
fn a_hanging_tenant_holds_no_offset_back_and_gets_its_records_soon_after() {
    const TENANTS: i64 = 50;
    let mut tenants: Vec<_> = (1..TENANTS)
        .map(|_| LoadTenant::steady(5, Some(200)))
        .collect();
    let answers = |now_ms, _| {
        let status = (now_ms >= HOUR).then_some(200);
        (Duration::from_millis(20), status)
    };
    tenants.push(LoadTenant {
        max_in_flight: 64,
        answers: Box::new(answers),
    });
    let mut load = Load::new(settings(1_024), 12, tenants);
    publish(&mut load, TENANTS, HOUR - 1_000, |n| (n % TENANTS) as usize);
    let (mut behind, mut alerted) = (0, Duration::ZERO);
    for second in 1..HOUR / 1_000 {
        load.run(second * 1_000);
        behind = behind.max(load.behind_ms());
        alerted = alerted.max(load.oldest_waiting());
    }
    load.run(HOUR - 1);
    let hanging = load.results.last().expect("it is the last").clone();
    let (in_lane, diverted) = (hanging.longest_in_lane_ms, hanging.diverted);
    println!("{in_lane} ms in its lane, {diverted} diverts, {behind} ms behind, {alerted:?}");
    assert!(behind <= 60_000, "{behind} ms behind");
    assert!(alerted < MINUTE_OF_ALERT, "{alerted:?}");
    assert!(in_lane <= 30_000, "{in_lane} ms");
    let minutes = HOUR / MINUTE;
    let diverted_max = hanging.published * minutes as usize / 2;
    assert!(diverted <= diverted_max, "a record is back each minute");
    load.run(HOUR + 90_000);
    assert_untouched(&load.results[..load.results.len() - 1], 25);
    let hanging = load.results.last().expect("it is the last");
    let left = hanging.published - hanging.delivered - hanging.dead_lettered;
    println!("{left} of {} are left after 90 s", hanging.published);
    // The probes failed, and their records may have their longer delays before them.
    let probes = hanging.attempts - hanging.delivered;
    assert!(left <= probes, "{left} are left after {probes} probes");
}

#[test]
fn a_flood_of_one_slow_tenant_delays_no_other() {
    let mut tenants = vec![LoadTenant::steady(1_000, Some(200))];
    tenants.extend((1..100).map(|_| LoadTenant::steady(5, Some(200))));
    let mut load = Load::new(settings(1_024), 12, tenants);
    publish(&mut load, 500, MINUTE, |n| match n % 10 {
        0 => 1 + (n / 10) as usize % 99,
        _ => 0,
    });
    load.run(MINUTE + 10_000);
    let all = assert_untouched(&load.results[1..], 25);
    println!(
        "flood: p99 {} ms, p99.9 {} ms",
        all.wait_ms(0.99),
        all.wait_ms(0.999)
    );
    assert!(
        load.results[0].delivered > 60 * 50,
        "{:?}",
        load.results[0].delivered
    );
}

/// All tenants share one partition, dead and healthy ones in turn.
#[test]
fn many_dead_tenants_take_neither_all_slots_nor_the_whole_map() {
    const TENANTS: usize = 2_000;
    let tenant = |n| LoadTenant::steady(20, (n % 2 == 0).then_some(200));
    let mut load = Load::new(settings(256), 1, (0..TENANTS).map(tenant).collect());
    publish(&mut load, 400, 5 * MINUTE, |n| n as usize % TENANTS);
    load.run(5 * MINUTE + 30_000);
    assert!(load.in_flight_most <= 256, "{}", load.in_flight_most);
    let healthy: Vec<TenantResult> = load.results.iter().step_by(2).cloned().collect();
    let all = sum(&healthy);
    let late: usize = healthy
        .iter()
        .map(|result| {
            result
                .waits_ms
                .iter()
                .skip(30)
                .filter(|ms| **ms > 250)
                .count()
        })
        .sum();
    println!(
        "dead half: {} of {} delivered, {} diverted, p50 {} ms, p99 {} ms, late {late}",
        all.delivered,
        all.published,
        all.diverted,
        all.wait_ms(0.5),
        all.wait_ms(0.99)
    );
    assert_eq!(all.delivered, all.published);
    assert_eq!(
        late, 0,
        "once the dead tenants are tried, they delay no other"
    );
}

/// A healthy tenant takes this burst within a second.
#[test]
fn a_burst_of_a_healthy_tenant_is_not_diverted() {
    for answer_ms in [5, 20] {
        let mut load = Load::new(
            settings(1_024),
            4,
            vec![LoadTenant::steady(answer_ms, Some(200))],
        );
        for _ in 0..1_000 {
            load.publish(1_000, 0);
        }
        load.run(MINUTE);
        let result = &load.results[0];
        println!("burst at {answer_ms} ms: {} diverted", result.diverted);
        assert_eq!(result.delivered, 1_000);
        assert_eq!(result.diverted, 0);
    }
}

/// A tenant that delivers keeps its records in its lane, however slow it is, also if it
/// refuses some at once. The rest of the burst is diverted, and climbs.
#[test]
fn a_slow_tenant_takes_a_lane_of_its_burst_at_its_own_rate() {
    for refuses_each in [1_000, 10, 3] {
        let mut attempts = 0;
        let slow = LoadTenant {
            max_in_flight: 1,
            answers: Box::new(move |_, _| {
                attempts += 1;
                match attempts % refuses_each {
                    0 => (Duration::from_millis(20), Some(404)),
                    _ => (Duration::from_millis(3_000), Some(200)),
                }
            }),
        };
        let mut load = Load::new(settings(1_024), 4, vec![slow]);
        (0..400).for_each(|_| load.publish(1_000, 0));
        load.run_to_end(HOUR);
        let in_an_hour = load.results[0].delivered;
        load.run_to_end(48 * HOUR);
        let result = &load.results[0];
        let (minutes, writes) = (load.now_ms() / MINUTE, result.writes());
        println!(
            "a burst of 400 at 20 a minute, 1 of {refuses_each} refused: {in_an_hour} in an \
             hour, {minutes} min, {writes} writes"
        );
        assert!(in_an_hour >= 256, "{in_an_hour} in an hour");
        assert_eq!(result.delivered, 400, "by {minutes} min");
    }
}

/// After a start every tenant is untried, and the backlog comes at once.
#[test]
fn a_backlog_of_many_healthy_tenants_is_not_diverted() {
    const TENANTS: usize = 4_000;
    let tenants = (0..TENANTS)
        .map(|_| LoadTenant::steady(20, Some(200)))
        .collect();
    let mut load = Load::new(settings(256), 4, tenants);
    (0..TENANTS).for_each(|tenant| load.publish(1_000, tenant));
    load.run(MINUTE);
    let all = sum(&load.results);
    println!(
        "backlog of {TENANTS} tenants: {} diverted, all tried within {} ms",
        all.diverted,
        all.wait_ms(1.0)
    );
    assert_eq!((all.delivered, all.diverted), (TENANTS, 0));
}

/// Attempts are reserved for longer than they last. The limits of tenants and the lanes
/// are then full because of Kafka, and not because of the tenants.
#[test]
fn a_backlog_behind_a_far_kafka_is_not_diverted() {
    const TENANTS: usize = 100;
    const RECORDS: usize = 60_000;
    for round_trip_ms in [0, 5, 10, 20, 50] {
        let tenants = (0..TENANTS)
            .map(|_| LoadTenant::steady(1, Some(200)))
            .collect();
        let mut load = Load::new(settings(1_024), 12, tenants);
        load.round_trip_ms = round_trip_ms;
        (0..RECORDS).for_each(|n| load.publish(1_000, n % TENANTS));
        load.run_to_end(10 * MINUTE);
        let all = sum(&load.results);
        println!(
            "backlog, Kafka {round_trip_ms} ms away: {} diverted, all tried within {} ms",
            all.diverted,
            all.wait_ms(1.0)
        );
        assert_eq!((all.delivered, all.diverted), (RECORDS, 0));
    }
}

/// All tenants share one partition. The untried ones use all attempts that
/// untried tenants may have, so the others cannot wait.
#[test]
fn many_dead_untried_tenants_do_not_delay_the_records_behind_them() {
    const HEALTHY: usize = 100;
    const DEAD: usize = 3_000;
    let healthy = (0..HEALTHY).map(|_| LoadTenant::steady(20, Some(200)));
    let dead = (0..DEAD).map(|_| LoadTenant::steady(0, None));
    let mut load = Load::new(settings(1_024), 1, healthy.chain(dead).collect());
    publish(&mut load, 500, MINUTE / 2, |n| n as usize % HEALTHY);
    for number in 0..DEAD {
        load.publish(10_000 + 2 * number as i64, HEALTHY + number);
    }
    load.run(MINUTE);
    let all = assert_untouched(&load.results[..HEALTHY], 50);
    println!(
        "behind {DEAD} dead untried tenants: p99 {} ms, p99.9 {} ms",
        all.wait_ms(0.99),
        all.wait_ms(0.999)
    );
}

/// A record that the map lists is taken even when the map is full.
#[test]
fn a_partition_whose_map_is_full_goes_on() {
    for listed in [999, 1_000, 1_001, 1_500] {
        let tenants = (0..10).map(|_| LoadTenant::steady(20, Some(200))).collect();
        let mut load = Load::after_a_kill(settings(1_024), 2, tenants, listed);
        load.run(MINUTE);
        let all = sum(&load.results);
        assert_eq!((all.published, all.delivered), (2 * listed, 2 * listed));
    }
}
