//! The plan of a run, made from the seed: the service's settings, the tenants,
//! the records, and the faults.

use crate::chance::Chance;
use crate::operator::more_faults;
use crate::reach::Way;
use ringback::engine::event::{EngineSettings, Event};
use ringback::model::destination::RefusalReason;
use ringback::model::position::{Partition, Topic, TopicNames};
use ringback::model::tenant::{Secret, Tenant, TenantId, Tenants};
use ringback::model::time::Delay;
use std::collections::BTreeSet;
use std::time::Duration;

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MS;

/// A wake-up of the engine. Virtual time does not pass while a process works.
pub const WAKE: Event = Event::Wake {
    worked: Duration::ZERO,
};

/// The default schedule.
const LONG: &[u64] = &[
    10_000, 10_000, 60_000, 60_000, 600_000, 600_000, 3_600_000, 3_600_000, 21_600_000,
];

/// The behaviour of a tenant's receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Answers 200 within 50 ms.
    Good,
    /// Answers 200 after half a second to 4.9 s.
    Slow,
    /// Never answers.
    Dead,
    /// Answers 503 this many times for each record, then 200.
    FailsFirst(u32),
    /// Up and down in turn, each for this long.
    Flapping { turn_us: u64 },
    /// Refuses every connection.
    Refuses,
    /// Answers 429 or 503 with Retry-After; every third attempt gets 200.
    Throttles,
    /// Answers at random.
    Moody,
}

/// A tenant of the tenants file.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    pub name: String,
    pub behaviour: Behaviour,
    pub max_in_flight: u32,
    pub enabled: bool,
    /// Whether the file lists it now.
    pub listed: bool,
}

/// A damage to a committed map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// The text of another program.
    Foreign,
    /// A later version of the format.
    Version,
    /// One character differs.
    Checksum,
    /// The offset differs, the map does not.
    OtherOffset,
    /// Only the first half is left.
    Cut,
    /// It lists offsets that the log does not have.
    EndBeyond,
    /// The offset itself lies beyond the log's end.
    BaseBeyondEnd,
}

impl Damage {
    const ALL: &[Self] = &[
        Self::Foreign,
        Self::Version,
        Self::Checksum,
        Self::OtherOffset,
        Self::Cut,
        Self::EndBeyond,
        Self::BaseBeyondEnd,
    ];

    /// Returns the name of its counter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Foreign => "map_foreign",
            Self::Version => "map_of_other_version",
            Self::Checksum => "map_checksum_broken",
            Self::OtherOffset => "map_for_other_offset",
            Self::Cut => "map_cut",
            Self::EndBeyond => "map_end_beyond_log",
            Self::BaseBeyondEnd => "base_beyond_log",
        }
    }
}

/// A task of an operator while all replicas are stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Resets the source topic's offsets: a replay, or skipped records.
    ResetSource,
    /// Resets a delay topic to its beginning by hand.
    ResetDelay,
    /// Resets an offset beyond its log's end.
    ResetBeyondEnd,
    /// The group was empty for so long that Kafka dropped its offsets.
    Expire,
    /// Deletes a topic and makes it again.
    MakeAgain,
    /// Another program commits under the group's name.
    Damage(Damage),
}

/// A fault, or an operator's action during the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9 and a later restart; meanwhile a map may be damaged.
    Crash {
        replica: usize,
        down_us: u64,
        damage: Option<Damage>,
    },
    /// Partitions move to other members.
    Rebalance,
    /// The process is paused; after the session timeout it is a zombie.
    Pause { replica: usize, for_us: u64 },
    /// The process is paused, another one takes its name, then the first
    /// continues.
    Replace { replica: usize, for_us: u64 },
    /// SIGTERM and a later restart.
    Restart { replica: usize, down_us: u64 },
    /// The consumer fails.
    ConsumerFails { replica: usize },
    /// The replica cannot reach Kafka for this long.
    Cut { replica: usize, for_us: u64 },
    /// All brokers or only the coordinator are down.
    Away { way: Way, for_us: u64 },
    /// A destination of moves refuses records: the delays in their order, then the
    /// dead letters, also for a larger number.
    Refuse {
        destination: usize,
        reason: RefusalReason,
        for_us: u64,
    },
    /// The tenants file changes.
    TenantsChange,
    /// Changed passwords or certificates of Kafka are in force.
    NewSettings { replica: usize },
    /// A topic gets another partition.
    Grow,
    /// Retention deletes the beginning of a log.
    DeleteRecords,
    /// A topic is recreated while the service runs.
    MakeAgain,
    /// The operator stops all replicas, performs a task, and starts them.
    Maintain(Task),
}

/// How often in a thousand a fault hits a write or a revocation.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub commit_slow: u64,
    pub commit_unsure: u64,
    pub move_slow: u64,
    pub move_refused: u64,
    pub move_unsure: u64,
    pub start_late: u64,
    pub stale_event: u64,
    /// The runner's turn continues after an event.
    pub turn: u64,
}

impl Rates {
    /// No faults.
    pub const CALM: Self = Self {
        commit_slow: 0,
        commit_unsure: 0,
        move_slow: 0,
        move_refused: 0,
        move_unsure: 0,
        start_late: 0,
        stale_event: 0,
        turn: 0,
    };
}

/// The plan of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: EngineSettings,
    pub replicas: usize,
    pub skews_ms: Vec<i64>,
    pub topic_ids: bool,
    pub delayed_bytes_max: usize,
    pub partitions: Vec<(Partition, i64)>,
    pub tenants: Vec<TenantPlan>,
    pub records: u64,
    /// Of a thousand records, this many more belong to the first tenant.
    pub flood_share: u64,
    pub publish_us: u64,
    pub faults: Vec<(u64, Fault)>,
    pub faults_end_us: u64,
    pub rates: Rates,
    pub scan_us: u64,
}

impl Plan {
    /// Returns the plan of a seed. One in eight is calm: without faults.
    pub fn new(chance: &mut Chance) -> Self {
        let calm = chance.permille(125);
        // A flood fills lanes, so records are diverted. With short delays they
        // would circulate endlessly. With many attempts, those of a dead tenant do, too.
        let flood = chance.permille(40);
        let settings = settings(chance, flood);
        let replicas = if calm {
            1
        } else {
            chance.pick(&[1, 1, 2, 2, 3])
        };
        let publish_us = chance.between(1, if flood { 2 } else { 20 }) * SECOND;
        let faults_end_us = publish_us + chance.between(5, 120) * SECOND;
        let large = chance.permille(100);
        Self {
            replicas,
            // One replica more, for the process that takes another's name.
            skews_ms: (0..=replicas)
                .map(|_| chance.between(0, 600) as i64 - 300)
                .collect(),
            topic_ids: chance.permille(800),
            delayed_bytes_max: if large { 3_000 } else { usize::MAX },
            partitions: partitions(chance, &settings),
            tenants: tenants(chance, if flood { 2 } else { 5 }),
            records: match flood {
                true => 500,
                false => chance.pick(&[5, 20, 60, 150]),
            },
            flood_share: chance.pick(&[0, 0, 600, 950]),
            publish_us,
            faults: if calm {
                Vec::new()
            } else {
                faults(chance, replicas, faults_end_us)
            },
            faults_end_us,
            rates: if calm { Rates::CALM } else { rates(chance) },
            scan_us: chance.pick(&[SECOND, 10 * SECOND]),
            settings,
        }
    }

    /// Returns a plan in which one replica dies fifty times within a minute, with
    /// the default schedule. Receivers answer, some late. There are no other
    /// faults.
    pub fn crash_loop(chance: &mut Chance) -> Self {
        let mut plan = Self::new(chance);
        plan.settings = EngineSettings {
            attempts: 10,
            delays: delays(LONG),
            in_flight_max: 1_024,
            record_bytes_max: 1 << 20,
            ..plan.settings
        };
        plan.partitions = partitions(chance, &plan.settings);
        plan.delayed_bytes_max = usize::MAX;
        for tenant in &mut plan.tenants {
            tenant.behaviour =
                chance.pick(&[Behaviour::Good, Behaviour::Slow, Behaviour::FailsFirst(1)]);
        }
        plan.records = 150;
        plan.publish_us = 60 * SECOND;
        plan.faults_end_us = 70 * SECOND;
        plan.rates = Rates::CALM;
        let crash = |_| {
            let down_us = chance.pick(&[50 * MS, 300 * MS]);
            let fault = Fault::Crash {
                replica: 0,
                down_us,
                damage: None,
            };
            (chance.below(60 * SECOND), fault)
        };
        plan.faults = (0..50).map(crash).collect();
        plan
    }

    /// Returns a plan with several tenants that answer at once, and several
    /// starts in most commits.
    pub fn busy(chance: &mut Chance) -> Self {
        let mut plan = Self::new(chance);
        plan.settings.in_flight_max = 1_024;
        plan.settings.commit_interval = Duration::from_millis(200);
        plan.replicas = 1;
        plan.tenants = (0..3)
            .map(|number| TenantPlan {
                name: format!("t{number}"),
                behaviour: Behaviour::Good,
                max_in_flight: 64,
                enabled: true,
                listed: true,
            })
            .collect();
        plan.partitions
            .retain(|(p, _)| p.topic != Topic::Source || p.number == 0);
        plan.records = 300;
        plan.flood_share = 0;
        plan.publish_us = 10 * SECOND;
        plan.faults = Vec::new();
        plan.rates = Rates::CALM;
        plan
    }

    /// Returns whether the plan has no faults.
    pub fn is_calm(&self) -> bool {
        self.faults.is_empty() && self.rates.commit_slow == 0
    }

    /// Returns the deadline for all records after the last fault. Arithmetic: every
    /// attempt of every record takes its 5 s. All run one after another, as for one
    /// dead tenant, with all waits. The deadline is twice that.
    pub fn patience(&self, records: u64) -> Duration {
        let attempts = u64::from(self.settings.attempts) * records;
        let pause = self.settings.delays.iter().min().expect("one at least");
        let pause = pause.duration().min(Duration::from_secs(10));
        let busy = (Duration::from_secs(5) + pause) * attempts as u32;
        let longest = self.settings.delays.iter().max().expect("one at least");
        let waits = longest.duration() * 20;
        2 * busy + 2 * waits + Duration::from_secs(300)
    }
}

fn settings(chance: &mut Chance, flood: bool) -> EngineSettings {
    let delays = delays(match chance.below(4) {
        1 if flood => &[60_000, 3_600_000],
        _ if flood => LONG,
        0 => &[200],
        1 => &[100, 100, 1_000, 5_000],
        2 => LONG,
        _ => &[2_000, 300],
    });
    let attempts = chance.pick(&[10, 10, 10, 3, 1]);
    EngineSettings {
        instance: String::new(),
        topics: TopicNames::new("call-ended"),
        attempts: if flood { attempts.min(3) } else { attempts },
        delays,
        in_flight_max: chance.pick(&[1, 4, 32, 1_024]),
        commit_interval: Duration::from_millis(chance.pick(&[0, 2, 20])),
        record_bytes_max: chance.pick(&[4_096, 1 << 20]),
        drain_timeout: Duration::from_secs(chance.pick(&[1, 10, 10])),
    }
}

pub fn delays(ms: &[u64]) -> Vec<Delay> {
    let delay = |ms: &u64| Delay::new(Duration::from_millis(*ms)).expect("in range");
    ms.iter().map(delay).collect()
}

pub fn partitions(chance: &mut Chance, settings: &EngineSettings) -> Vec<(Partition, i64)> {
    let delays: BTreeSet<Delay> = settings.delays.iter().copied().collect();
    let topics = [Topic::Source, Topic::DeadLetter]
        .into_iter()
        .chain(delays.into_iter().map(Topic::Delay));
    let mut all = Vec::new();
    for topic in topics {
        for number in 0..chance.pick(&[1, 2, 3]) {
            let start = chance.pick(&[0, 0, 17, 1 << 33]);
            all.push((topic.partition(number), start));
        }
    }
    all
}

fn tenants(chance: &mut Chance, most: u64) -> Vec<TenantPlan> {
    (0..chance.between(1, most))
        .map(|number| TenantPlan {
            name: format!("t{number}"),
            behaviour: match chance.below(9) {
                0 | 1 => Behaviour::Good,
                2 => Behaviour::Slow,
                3 => Behaviour::Dead,
                4 => Behaviour::FailsFirst(chance.between(1, 10) as u32),
                5 => Behaviour::Flapping {
                    turn_us: chance.between(1, 30) * SECOND,
                },
                6 => Behaviour::Refuses,
                7 => Behaviour::Throttles,
                _ => Behaviour::Moody,
            },
            max_in_flight: chance.pick(&[1, 4, 64]),
            enabled: chance.permille(900),
            listed: true,
        })
        .collect()
}

fn rates(chance: &mut Chance) -> Rates {
    let mut rate = |often: u64| chance.pick(&[0, 0, often / 4, often]);
    Rates {
        commit_slow: rate(40).max(1),
        commit_unsure: rate(20),
        move_slow: rate(100),
        move_refused: rate(100),
        move_unsure: rate(60),
        start_late: rate(50),
        stale_event: rate(50),
        turn: rate(600),
    }
}

/// Returns none to several faults of each kind; one seed in ten has a crash loop.
fn faults(chance: &mut Chance, replicas: usize, end_us: u64) -> Vec<(u64, Fault)> {
    let mut faults: Vec<(u64, Fault)> = (0..chance.below(14))
        .map(|_| {
            let fault = fault(chance, replicas);
            (chance.below(end_us), fault)
        })
        .collect();
    if chance.permille(100) {
        faults.extend(crash_loop(chance, replicas, end_us));
    }
    faults.extend(more_faults(chance, replicas, end_us));
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn fault(chance: &mut Chance, replicas: usize) -> Fault {
    let replica = chance.index(replicas);
    let down_us = chance.pick(&[100 * MS, 900 * MS, 4 * SECOND, 15 * SECOND]);
    let for_us = chance.pick(&[300 * MS, 2_500 * MS, 8 * SECOND, 25 * SECOND]);
    match chance.below(20) {
        0..=3 => Fault::Crash {
            replica,
            down_us,
            damage: chance.permille(150).then(|| chance.pick(Damage::ALL)),
        },
        4..=6 => Fault::Rebalance,
        7 | 8 => Fault::Pause { replica, for_us },
        9 => Fault::Replace { replica, for_us },
        10 => Fault::Restart { replica, down_us },
        11 => Fault::ConsumerFails { replica },
        12 => Fault::Cut { replica, for_us },
        13 => Fault::Away {
            way: chance.pick(&[Way::Logs, Way::Coordinator]),
            for_us: chance.pick(&[for_us, 120 * SECOND]),
        },
        14 => Fault::TenantsChange,
        15 => Fault::Grow,
        16 => Fault::DeleteRecords,
        17 => Fault::MakeAgain,
        _ => Fault::Maintain(match chance.below(5) {
            0 => Task::ResetSource,
            1 => Task::ResetDelay,
            2 => Task::Expire,
            3 => Task::MakeAgain,
            _ => Task::Damage(chance.pick(Damage::ALL)),
        }),
    }
}

/// Returns repeated crashes of one replica, up to fifty within a minute.
fn crash_loop(chance: &mut Chance, replicas: usize, end_us: u64) -> Vec<(u64, Fault)> {
    let replica = chance.index(replicas);
    let begin = chance.below(end_us);
    let times = chance.between(5, 50);
    (0..times)
        .map(|_| {
            let down_us = chance.pick(&[50 * MS, 300 * MS]);
            let fault = Fault::Crash {
                replica,
                down_us,
                damage: None,
            };
            (begin + chance.below(60 * SECOND), fault)
        })
        .collect()
}

/// Returns the current tenants file.
pub fn tenants_file(plans: &[TenantPlan]) -> Tenants {
    plans
        .iter()
        .filter(|plan| plan.listed)
        .map(|plan| Tenant {
            id: TenantId::new(&plan.name).expect("a short name"),
            url: Secret(format!("http://{}.invalid/", plan.name)),
            secrets: Vec::new(),
            headers: Vec::new(),
            max_in_flight: plan.max_in_flight,
            timeout: None,
            enabled: plan.enabled,
        })
        .collect()
}
