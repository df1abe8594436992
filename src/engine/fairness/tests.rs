//! Tests of lanes and admission without the engine.

use super::Admission::{Admit, Divert, StopReading, WaitBriefly};
use super::Occupancy::{High, Low};
use super::admission::{FAILS_FROM, GRACE, SAME_WAVE};
use super::lanes::{LANE_RECORDS_MAX, Lane, PAUSE_MAX, RECENT};
use super::limit::TenantStatus;
use super::overdue::WAIT_MAX;
use super::slots::SLOT_BYTES;
use super::{Ladder, LaneId, Lanes, Round, rate};
use crate::model::attempt::ErrorClass;
use crate::model::position::{Offset, Position, Topic};
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use std::time::Duration;

const NOW: UnixMillis = UnixMillis(1_000);
const LONGEST: Duration = Duration::from_secs(21_600);
/// An answer time.
const QUICK: Duration = Duration::from_millis(20);

fn position(offset: i64) -> Position {
    Topic::Source.partition(0).at(Offset(offset))
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("valid tenant id")
}

#[test]
fn lanes_take_turns() {
    let mut lanes = Lanes::new(100, PAUSE_MAX, LONGEST);
    let (a, b) = (lanes.lane(&tenant("a"), 10), lanes.lane(&tenant("b"), 10));
    for offset in 0..4 {
        lanes.push(a, position(offset), 1, NOW);
    }
    lanes.push(b, position(10), 1, NOW);
    let order: Vec<i64> = std::iter::from_fn(|| lanes.choose(|_| true))
        .map(|(_, p)| p.offset.0)
        .collect();
    assert_eq!(order, [0, 10, 1, 2, 3]);
}

#[test]
fn a_tenant_at_its_limit_fills_its_lane_and_no_more() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let dead = lanes.lane(&tenant("dead"), 2);
    for offset in 0..2 {
        lanes.push(dead, position(offset), 1, NOW);
        lanes.choose(|_| true).expect("a free slot");
    }
    for offset in 0..LANE_RECORDS_MAX as i64 {
        assert_eq!(lanes.admission(dead, Low, NOW), Admit);
        lanes.push(dead, position(10 + offset), 1, NOW);
    }
    assert_eq!(lanes.choose(|_| true), None);
    assert_eq!(lanes.admission(dead, Low, NOW), WaitBriefly);
    let later = NOW.plus(GRACE);
    assert_eq!(lanes.admission(dead, Low, later), Divert);
}

#[test]
fn many_dead_lanes_leave_capacity_for_healthy_ones() {
    let mut lanes = Lanes::new(2_048, PAUSE_MAX, LONGEST);
    for index in 0..100 {
        let dead = lanes.lane(&tenant(&format!("dead{index}")), 1);
        lanes.push(dead, position(0), 1, NOW);
        lanes.choose(|_| true).expect("a free slot");
        while lanes.admission(dead, Low, NOW) == Admit {
            lanes.push(dead, position(1), 1, NOW);
        }
    }
    let healthy = lanes.lane(&tenant("healthy"), 64);
    assert_eq!(lanes.admission(healthy, Low, NOW), Admit);
    assert_eq!(lanes.admission(healthy, High, NOW), Admit);
}

#[test]
fn the_process_limit_stops_reading_and_diverts_nothing() {
    let mut lanes = Lanes::new(2, PAUSE_MAX, LONGEST);
    let lane = lanes.lane(&tenant("a"), 64);
    for offset in 0..2 {
        lanes.push(lane, position(offset), 1, NOW);
        lanes.choose(|_| true).expect("a free slot");
    }
    for offset in 0..2 {
        assert_eq!(lanes.admission(lane, Low, NOW), Admit);
        lanes.push(lane, position(offset + 2), 1, NOW);
    }
    assert_eq!(lanes.admission(lane, Low, NOW), StopReading);
    assert_eq!(lanes.choose(|_| true), None);
}

#[test]
fn a_record_that_is_not_eligible_keeps_its_place() {
    let mut lanes = Lanes::new(10, PAUSE_MAX, LONGEST);
    let lane = lanes.lane(&tenant("a"), 10);
    lanes.push(lane, position(1), 1, NOW);
    lanes.push(lane, position(2), 1, NOW);
    assert_eq!(
        lanes.choose(|(p, _)| p.offset.0 == 2),
        Some((lane, position(2)))
    );
    assert_eq!(lanes.choose(|(p, _)| p.offset.0 == 2), None);
    assert_eq!(lanes.choose(|_| true), Some((lane, position(1))));
}

#[test]
fn limited_and_recently_attempted_tenants_are_reported() {
    let mut lanes = Lanes::new(100, PAUSE_MAX, LONGEST);
    let [a, b] = ["a", "b"].map(|name| lanes.lane(&tenant(name), 1));
    let later = NOW.plus(RECENT);
    let first = Round::default();
    lanes.failed(a, first, (ErrorClass::Dns, Duration::ZERO), NOW);
    lanes.first_attempt(a, false, NOW);
    lanes.failed(a, first, (ErrorClass::Http5xx, Duration::ZERO), later);
    lanes.failed(b, first, (ErrorClass::Connect, Duration::ZERO), later);
    lanes.first_attempt(b, false, later);
    assert_eq!(lanes.attempted(NOW).failed, 2);
    assert_eq!(lanes.attempted(later).failed, 1, "a's is long ago");
    lanes.delivered(b, first, QUICK, later);
    lanes.first_attempt(b, true, later);
    assert_eq!(lanes.attempted(later).delivered, 1);

    assert_eq!(lanes.limited(), []);
    for (id, offset) in [(a, 1), (a, 2), (b, 3), (b, 4), (b, 5)] {
        lanes.push(id, position(offset), 1, NOW);
    }
    lanes.choose(|_| true).expect("a's turn");
    lanes.choose(|_| true).expect("b's turn");
    assert_eq!(lanes.limited(), [tenant("b")], "a counts as failing");
    lanes.delivered(a, lanes.round(a), QUICK, later);
    assert_eq!(lanes.limited(), [tenant("b"), tenant("a")]);
}

#[test]
fn records_wait_for_a_tenant_at_its_limit_or_that_hangs_but_not_for_a_full_process() {
    let mut lanes = Lanes::new(2, PAUSE_MAX, LONGEST);
    let [a, b] = ["a", "b"].map(|name| lanes.lane(&tenant(name), 1));
    for (id, offset) in [(a, 1), (a, 2), (b, 3)] {
        lanes.push(id, position(offset), 1, NOW);
    }
    assert!(!lanes.waits_for_tenant(a), "none started yet");
    lanes.choose(|_| true).expect("a's turn");
    assert!(lanes.waits_for_tenant(a), "its limit is 1");
    assert!(!lanes.waits_for_tenant(b), "the process delays it");
    assert!(lanes.is_waited_for(&tenant("a")));
    assert!(!lanes.is_waited_for(&tenant("c")), "it has no lane");
    lanes.choose(|_| true).expect("b's turn");
    time_out(&mut lanes, b);
    assert!(lanes.waits_for_tenant(b), "it hangs");
}

/// Returns a lane with this many records, all started that may start.
fn hanging(lanes: &mut Lanes, name: &str, attempts: i64) -> LaneId {
    let id = lanes.lane(&tenant(name), 64);
    for offset in 0..attempts {
        lanes.push(id, position(offset), 1, NOW);
    }
    while lanes.choose(|_| true).is_some() {}
    id
}

fn time_out(lanes: &mut Lanes, id: LaneId) {
    let round = lanes.round(id);
    lanes.release(id, 1);
    lanes.failed(
        id,
        round,
        (ErrorClass::Timeout, Duration::from_secs(5)),
        NOW,
    );
}

#[test]
fn the_dead_together_hold_a_quarter_of_the_slots() {
    let mut lanes = Lanes::new(64, PAUSE_MAX, LONGEST);
    for number in 0..200 {
        let id = hanging(&mut lanes, &format!("dead{number}"), 1);
        for _ in 0..4 {
            if lanes.lanes[id.0].active > 0 {
                time_out(&mut lanes, id);
                lanes.push(id, position(0), 1, NOW);
                lanes.end_pauses(NOW.plus(PAUSE_MAX));
                while lanes.choose(|_| true).is_some() {}
            }
        }
    }
    for number in 0..200 {
        hanging(&mut lanes, &format!("new{number}"), 1);
    }
    let active = |status| {
        let of = |lane: &&Lane| lane.limit.status() == status;
        let lanes = lanes.lanes.iter().filter(of);
        lanes.map(|lane| lane.active).sum::<usize>()
    };
    assert_eq!(
        (active(TenantStatus::Hanging), active(TenantStatus::Untried)),
        (16, 32)
    );
    let healthy = lanes.lane(&tenant("healthy"), 64);
    lanes.change_limit(healthy, NOW, |limit| limit.delivered(Round::default()));
    for offset in 0..8 {
        assert_eq!(lanes.admission(healthy, Low, NOW), Admit);
        lanes.push(healthy, position(offset), 1, NOW);
        let chosen = lanes
            .choose(|_| true)
            .expect("a slot for those that answer");
        assert_eq!(chosen.0, healthy);
    }
}

#[test]
fn a_tenant_at_the_floor_keeps_its_queue_and_diverts_without_delay() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let dead = hanging(&mut lanes, "dead", 300);
    assert_eq!(lanes.admission(dead, Low, NOW), WaitBriefly);
    for _ in 0..3 {
        time_out(&mut lanes, dead);
    }
    assert_eq!(lanes.admission(dead, Low, NOW), Divert);
    let other = lanes.lane(&tenant("other"), 1);
    lanes.push(other, position(0), 1, NOW);
    lanes.choose(|_| true).expect("a free slot");
    assert_eq!(lanes.admission(other, Low, NOW), Admit);
    assert_eq!(lanes.admission(other, High, NOW), WaitBriefly);
}

/// The slow tenant's queue is full and one of its attempts ends. That is no
/// reason to stop reading for all tenants.
#[test]
fn one_answer_of_an_overloaded_tenant_stops_no_other() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let slow = hanging(&mut lanes, "slow", 8 + LANE_RECORDS_MAX as i64);
    lanes.admission(slow, Low, NOW);
    let later = NOW.plus(GRACE);
    lanes.admission(slow, Low, later);
    let later = later.plus(Duration::from_millis(50));
    lanes.release(slow, 1);
    lanes.delivered(slow, Round::default(), QUICK, later);
    assert_eq!(lanes.admission(slow, Low, later), Divert);
}

#[test]
fn waiting_lanes_get_a_turn_between_two_starts_of_one() {
    let mut lanes = Lanes::new(1_000, PAUSE_MAX, LONGEST);
    let ids: Vec<LaneId> = (0..9)
        .map(|n| lanes.lane(&tenant(&format!("t{n}")), 64))
        .collect();
    for (n, id) in ids.iter().enumerate() {
        match n % 3 {
            0 => {}
            1 => lanes.change_limit(*id, NOW, |limit| limit.delivered(Round::default())),
            _ => lanes.change_limit(*id, NOW, |limit| {
                limit.failed(Round::default(), ErrorClass::Timeout, GRACE);
            }),
        }
        for offset in 0..4 {
            lanes.push(*id, position(offset), 1, NOW);
        }
    }
    for _ in 0..4 {
        let mut started: Vec<LaneId> = ids
            .iter()
            .map(|_| lanes.choose(|_| true).expect("a free slot").0)
            .collect();
        started.sort();
        assert_eq!(started, ids);
    }
}

#[test]
fn a_dead_tenant_is_tried_again_when_its_record_is_due_again() {
    let delay = Duration::from_millis(200);
    let mut lanes = Lanes::new(64, delay, LONGEST);
    let dead = hanging(&mut lanes, "dead", 8);
    for _ in 0..7 {
        time_out(&mut lanes, dead);
    }
    lanes.push(dead, position(9), 1, NOW);
    time_out(&mut lanes, dead);
    assert_eq!(lanes.choose(|_| true), None);
    let until = lanes.next_pause_end().expect("it pauses");
    assert_eq!(until, NOW.plus(delay));
    lanes.end_pauses(NOW.plus(delay - Duration::from_millis(1)));
    assert_eq!(lanes.choose(|_| true), None);
    lanes.end_pauses(until);
    assert_eq!(lanes.choose(|_| true), Some((dead, position(9))));
    lanes.release(dead, 1);
    lanes.delivered(dead, lanes.round(dead), QUICK, until);
    lanes.push(dead, position(10), 1, NOW);
    assert!(lanes.choose(|_| true).is_some(), "it answers again");
}

#[test]
fn a_large_record_takes_the_slots_of_its_bytes() {
    let mut lanes = Lanes::new(32, PAUSE_MAX, LONGEST);
    let [a, b, c] = ["a", "b", "c"].map(|name| lanes.lane(&tenant(name), 64));
    let ids = [a, b, c];
    for id in ids {
        lanes.change_limit(id, NOW, |limit| limit.delivered(Round::default()));
    }
    // Two slots are a sixteenth; no record takes more.
    let large = 64 << 20;
    for offset in 0..8 {
        lanes.push(a, position(offset), 2 * SLOT_BYTES, NOW);
        lanes.push(b, position(10 + offset), large, NOW);
    }
    for _ in 0..16 {
        lanes.choose(|_| true).expect("there are 32 slots");
    }
    lanes.push(c, position(20), 1, NOW);
    assert_eq!(lanes.choose(|_| true), None, "all are held");
    lanes.release(b, large);
    lanes.put_back(b, position(17), large, NOW);
    assert_eq!(lanes.choose(|_| true), Some((c, position(20))));
    assert_eq!(lanes.choose(|_| true), Some((b, position(17))), "one more");
    lanes.failed(b, Round::default(), (ErrorClass::Timeout, GRACE), NOW);
    for _ in 0..8 {
        lanes.release(a, 2 * SLOT_BYTES);
        lanes.release(b, large);
    }
    lanes.release(c, 1);
    assert!(ids.iter().all(|id| lanes.lanes[id.0].slots == 0));
    assert!(!lanes.slots.are_full());
}

#[test]
fn lanes_paused_by_a_429_continue_in_the_order_of_their_pauses() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let ids = ["a", "b"].map(|name| lanes.lane(&tenant(name), 64));
    let too_many = (ErrorClass::Http429, Duration::from_millis(20));
    for id in ids {
        lanes.push(id, position(1), 1, NOW);
        lanes.push(id, position(2), 1, NOW);
    }
    for id in ids {
        assert_eq!(lanes.choose(|_| true), Some((id, position(1))));
    }
    let [a, b] = ids;
    for _ in 0..2 {
        lanes.failed(a, lanes.round(a), too_many, NOW);
    }
    lanes.failed(b, lanes.round(b), too_many, NOW);
    assert_eq!(lanes.choose(|_| true), None);
    lanes.delivered(a, Round::default(), QUICK, NOW);
    assert_eq!(lanes.choose(|_| true), None, "that one started before");
    let ends = [50, 100].map(|ms| NOW.plus(Duration::from_millis(ms)));
    for (end, id) in ends.into_iter().zip([b, a]) {
        while lanes.next_pause_end().is_some_and(|next| next < end) {
            lanes.end_pauses(lanes.next_pause_end().expect("just seen"));
        }
        assert_eq!(lanes.choose(|_| true), None);
        lanes.end_pauses(end);
        assert_eq!(lanes.choose(|_| true), Some((id, position(2))));
    }
}

/// After a start all tenants are untried.
#[test]
fn untried_tenants_wait_for_those_that_answer_and_not_for_those_that_hang() {
    let mut lanes = Lanes::new(64, PAUSE_MAX, LONGEST);
    let fill = |lanes: &mut Lanes, now| {
        for n in 0.. {
            while lanes.choose(|_| true).is_some() {}
            let id = lanes.lane(&tenant(&format!("t{}", lanes.lanes.len())), 64);
            match lanes.admission(id, Low, now) {
                Admit => lanes.push(id, position(n), 1, NOW),
                other => return other,
            }
        }
        unreachable!("the lanes are bounded");
    };
    let answer = |lanes: &mut Lanes, count, now| {
        for _ in 0..count {
            let tried = lanes.lanes.iter().position(|lane| lane.active > 0);
            let id = LaneId(tried.expect("some are tried"));
            lanes.release(id, 1);
            lanes.delivered(id, Round::default(), QUICK, now);
            while lanes.choose(|_| true).is_some() {}
        }
    };
    assert_eq!(fill(&mut lanes, NOW), WaitBriefly);
    let now = NOW.plus(GRACE);
    assert_eq!(fill(&mut lanes, now), Divert, "none has answered");
    answer(&mut lanes, 100, now);
    assert_eq!(fill(&mut lanes, now), Divert, "too few");
    answer(&mut lanes, 100, now);
    assert_eq!(fill(&mut lanes, now), WaitBriefly);
    let later = now.plus(2 * rate::WINDOW);
    assert_eq!(fill(&mut lanes, later), Divert);
    let much_later = later.plus(SAME_WAVE);
    assert_eq!(fill(&mut lanes, much_later), WaitBriefly, "another wave");
}

/// Its further attempts may not use the half that is for first attempts, even if
/// no other tenant needs it.
#[test]
fn a_untried_tenant_alone_keeps_its_queue() {
    let mut lanes = Lanes::new(8, PAUSE_MAX, LONGEST);
    let alone = hanging(&mut lanes, "alone", 8);
    assert_eq!(lanes.lanes[alone.0].active, 4);
    let later = NOW.plus(GRACE);
    for now in [NOW, later] {
        assert_eq!(lanes.admission(alone, Low, now), Admit);
        lanes.push(alone, position(8), 1, NOW);
    }
    lanes.release(alone, 1);
    lanes.delivered(alone, Round::default(), QUICK, later);
    while lanes.choose(|_| true).is_some() {}
    assert_eq!(lanes.lanes[alone.0].active, 8, "its limit");
}

/// Returns a tenant that hangs with one attempt at a time, which is in progress.
fn dead(lanes: &mut Lanes) -> LaneId {
    let id = hanging(lanes, "dead", 1);
    for _ in 0..3 {
        time_out(lanes, id);
        lanes.end_pauses(NOW.plus(PAUSE_MAX));
        lanes.push(id, position(0), 1, NOW);
        lanes.choose(|_| true).expect("its turn");
        lanes.attempt_starts(id);
        lanes.attempt_ended(id);
    }
    lanes.attempt_starts(id);
    id
}

#[test]
fn one_record_waits_for_a_dead_tenant_and_the_others_stay_away_for_their_estimate() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let dead = dead(&mut lanes);
    assert_eq!(lanes.admission(dead, Low, NOW), Admit);
    lanes.push(dead, position(1), 1, NOW);
    assert_eq!(lanes.admission(dead, Low, NOW), Divert);
    let wait = Duration::from_secs(30);
    let ladder = Ladder::Stays;
    assert_eq!(lanes.divert(dead, NOW), super::Divert { ladder, wait });
}

#[test]
fn records_wait_where_a_divert_would_bring_them_back_before_their_turn() {
    let longest = Duration::from_secs(10);
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, longest);
    let dead = dead(&mut lanes);
    for offset in 1..100 {
        assert_eq!(lanes.admission(dead, Low, NOW), Admit);
        lanes.push(dead, position(offset), 1, NOW);
    }
}

#[test]
fn a_record_that_waits_for_its_tenant_for_30_s_leaves_the_lane() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let dead = dead(&mut lanes);
    lanes.push(dead, position(1), 1, NOW);
    lanes.push(dead, position(2), 1, NOW.plus(GRACE));
    let at = lanes.next_watch().expect("a record waits");
    assert_eq!(lanes.pop_overdue(UnixMillis(at.0 - 1)), None);
    assert_eq!(lanes.pop_overdue(at), Some((dead, position(1))));
    assert_eq!(lanes.pop_overdue(at), None, "it waits for less");
    let next = lanes.next_watch().expect("another record waits");
    assert_eq!(next, at.plus(Duration::from_secs(1)));
    assert_eq!(lanes.pop_overdue(next), Some((dead, position(2))));
    assert_eq!((lanes.pop_overdue(next), lanes.next_watch()), (None, None));
}

#[test]
fn a_record_that_waits_for_kafka_or_the_process_stays_in_its_lane() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let lane = hanging(&mut lanes, "healthy", 9);
    let at = lanes.next_watch().expect("a record waits");
    assert_eq!(
        lanes.pop_overdue(at),
        None,
        "all attempts are being reserved"
    );
    let next = lanes.next_watch().expect("it still waits");
    assert_eq!(next, at.plus(Duration::from_secs(1)));
    (0..8).for_each(|_| lanes.attempt_starts(lane));
    assert_eq!(lanes.pop_overdue(next), Some((lane, position(8))));
}

#[test]
fn a_slow_tenant_keeps_its_lane_until_many_attempts_in_a_row_fail_at_once() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let slow = lanes.lane(&tenant("slow"), 1);
    for offset in 0..61 {
        lanes.push(slow, position(offset), 1, NOW);
    }
    lanes.choose(|_| true).expect("its turn");
    lanes.attempt_starts(slow);
    let at = lanes
        .next_watch()
        .expect("a record waits")
        .plus(rate::WINDOW);
    let refusal = (ErrorClass::Http4xx, QUICK);
    for _ in 0..2 {
        lanes.delivered(slow, Round::default(), Duration::from_secs(5), at);
        for _ in 1..FAILS_FROM {
            lanes.failed(slow, Round::default(), refusal, at);
            assert_eq!(lanes.admission(slow, Low, at), Admit);
            assert_eq!(lanes.pop_overdue(at), None);
        }
    }
    lanes.failed(slow, Round::default(), refusal, at);
    assert!(lanes.estimated_wait(slow, at) > WAIT_MAX);
    assert_eq!(lanes.admission(slow, Low, at), Divert);
    let at = lanes.next_watch().expect("records wait");
    assert_eq!(lanes.pop_overdue(at), Some((slow, position(1))));
}

#[test]
fn the_estimate_is_the_time_of_an_attempt_by_the_limit_or_the_rate_under_429() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let slow = hanging(&mut lanes, "slow", 9);
    assert_eq!(lanes.estimated_wait(slow, NOW), Duration::ZERO, "untried");
    lanes.delivered(slow, Round::default(), Duration::from_secs(4), NOW);
    // Two records, four seconds, eight at once.
    assert_eq!(lanes.estimated_wait(slow, NOW), Duration::from_secs(1));

    let paced = hanging(&mut lanes, "paced", 1);
    let too_many = (ErrorClass::Http429, QUICK);
    for _ in 0..6 {
        lanes.failed(paced, lanes.round(paced), too_many, NOW);
    }
    let slowest = Duration::from_secs(1) + QUICK;
    assert!(lanes.estimated_wait(paced, NOW) <= slowest);
    (0..14).for_each(|_| lanes.delivered(paced, Round::default(), QUICK, NOW));
    let rate = Duration::from_secs(5) / 20;
    assert_eq!(lanes.estimated_wait(paced, NOW), rate);
}

#[test]
fn records_of_a_dead_tenant_climb_once_its_diverts_exceed_their_share() {
    let mut lanes = Lanes::new(1_024, PAUSE_MAX, LONGEST);
    let dead = dead(&mut lanes);
    let ladder = |lanes: &mut Lanes, id, now| lanes.divert(id, now).ladder;
    for _ in 0..2_000 {
        assert_eq!(ladder(&mut lanes, dead, NOW), Ladder::Stays);
    }
    assert_eq!(ladder(&mut lanes, dead, NOW), Ladder::Climbs);
    let later = NOW.plus(Duration::from_secs(10));
    assert_eq!(ladder(&mut lanes, dead, later), Ladder::Stays);
    let other = hanging(&mut lanes, "other", 1);
    time_out(&mut lanes, other);
    for _ in 0..1_000 {
        assert_eq!(ladder(&mut lanes, other, later), Ladder::Stays);
    }
    assert_eq!(
        ladder(&mut lanes, other, later),
        Ladder::Climbs,
        "half each"
    );
}
