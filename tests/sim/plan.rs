//! What one seed decides before the run begins: the service's settings, the
//! tenants, the records, and how much goes wrong.

use crate::chance::Chance;
use crate::reach::Way;
use ringback::engine::event::{EngineSettings, Event};
use ringback::model::position::{Partition, Topic, TopicNames};
use ringback::model::tenant::{Secret, Tenant, TenantId, Tenants};
use ringback::model::time::Delay;
use std::collections::BTreeSet;
use std::time::Duration;

pub const MS: u64 = 1_000;
pub const SECOND: u64 = 1_000 * MS;

/// Virtual time stands still while a process works.
pub const WAKE: Event = Event::Wake {
    worked: Duration::ZERO,
};

/// The default schedule.
const LONG: &[u64] = &[
    10_000, 10_000, 60_000, 60_000, 600_000, 600_000, 3_600_000, 3_600_000, 21_600_000,
];

/// How a tenant's receiver behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    /// Answers 200 within 50 ms.
    Good,
    /// Answers 200 after half a second to 4.9 s.
    Slow,
    /// Never answers.
    Dead,
    /// Answers 503 so many times for each record, then 200.
    FailsFirst(u32),
    /// Up and down in turns of this length.
    Flapping { turn_us: u64 },
    /// Nothing listens.
    Refuses,
    /// Answers 429 or 503 and asks for time, every third attempt 200.
    Throttles,
    /// Anything.
    Moody,
}

/// A tenant, as the file has it at first.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    pub name: String,
    pub manner: Manner,
    pub max_in_flight: u32,
    pub enabled: bool,
    /// Whether the file has it now.
    pub listed: bool,
}

/// What becomes of a committed map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// Another program's text.
    Foreign,
    /// A later version of ours.
    Version,
    /// A character is another one.
    Checksum,
    /// The offset is another one, and the map is as it was.
    OtherOffset,
    /// Only its first half is there.
    Cut,
    /// It speaks of offsets that the log does not have.
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

    /// What it is counted by.
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

/// What an operator does while all replicas are stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Resets the source topic's offsets: a replay, or records passed over.
    ResetSource,
    /// Resets a delay topic to its beginning by hand.
    ResetDelay,
    /// Resets what was found beyond its log's end.
    ResetBeyondEnd,
    /// The group stood empty for so long that its offsets are gone.
    Expire,
    /// Deletes a topic and makes it again.
    MakeAgain,
    /// Another program commits under the group's name.
    Damage(Damage),
}

/// Something that goes wrong, or that operators do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// kill -9, and a start so much later; meanwhile a map may be damaged.
    Crash {
        replica: usize,
        down_us: u64,
        damage: Option<Damage>,
    },
    /// Partitions change their owners.
    Rebalance,
    /// The process is stopped and goes on; beyond the session timeout it is a zombie.
    Pause { replica: usize, for_us: u64 },
    /// The process is stopped, another one takes its name, then it goes on.
    Replace { replica: usize, for_us: u64 },
    /// SIGTERM, and a start so much later.
    Restart { replica: usize, down_us: u64 },
    /// The consumer fails.
    ConsumerFails { replica: usize },
    /// The replica does not reach Kafka for so long.
    Cut { replica: usize, for_us: u64 },
    /// Brokers are away, all or the coordinator.
    Away { way: Way, for_us: u64 },
    /// The tenants file changes.
    TenantsChange,
    /// A topic gets one partition more.
    Grow,
    /// Retention deletes the beginning of a log.
    DeleteRecords,
    /// A topic is deleted and made again, the service running.
    MakeAgain,
    /// The operator stops all, does something, and starts all.
    Maintain(Task),
}

/// How often in a thousand something happens to a write, or to a handing over.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub commit_slow: u64,
    pub commit_unsure: u64,
    pub move_slow: u64,
    pub move_refused: u64,
    pub move_unsure: u64,
    pub start_late: u64,
    pub stale_event: u64,
    /// An event after which the runner's turn goes on.
    pub turn: u64,
}

impl Rates {
    /// Nothing goes wrong.
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

/// All that a seed decides before the run.
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
    /// Of a thousand records, so many more are the first tenant's.
    pub flood_share: u64,
    pub publish_us: u64,
    pub faults: Vec<(u64, Fault)>,
    pub faults_end_us: u64,
    pub rates: Rates,
    pub scan_us: u64,
}

impl Plan {
    /// The plan of a seed. One in eight is calm: nothing goes wrong in it.
    pub fn new(chance: &mut Chance) -> Self {
        let calm = chance.permille(125);
        // A flood fills lanes, so that records are diverted; short delays would
        // only make them go round and round.
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
            // One more for the process that takes another's name.
            skews_ms: (0..=replicas)
                .map(|_| chance.between(0, 600) as i64 - 300)
                .collect(),
            topic_ids: chance.permille(800),
            delayed_bytes_max: if large { 3_000 } else { usize::MAX },
            partitions: partitions(chance, &settings),
            tenants: tenants(chance, if flood { 2 } else { 5 }),
            records: if flood {
                900
            } else {
                chance.pick(&[5, 20, 60, 150])
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

    /// One replica dies fifty times within a minute, with the default schedule;
    /// receivers answer, some late. Nothing else goes wrong.
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
            tenant.manner = chance.pick(&[Manner::Good, Manner::Slow, Manner::FailsFirst(1)]);
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

    /// Several tenants that answer at once, and several starts in most commits.
    pub fn busy(chance: &mut Chance) -> Self {
        let mut plan = Self::new(chance);
        plan.settings.in_flight_max = 1_024;
        plan.settings.commit_interval = Duration::from_millis(200);
        plan.replicas = 1;
        plan.tenants = (0..3)
            .map(|number| TenantPlan {
                name: format!("t{number}"),
                manner: Manner::Good,
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

    /// Whether nothing goes wrong.
    pub fn is_calm(&self) -> bool {
        self.faults.is_empty() && self.rates.commit_slow == 0
    }

    /// By when everything has ended once faults have: twice what it would take
    /// if every attempt of every record took its 5 s and ran one after another,
    /// as those of one dead tenant do, with all waits.
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
    EngineSettings {
        topics: TopicNames::new("call-ended"),
        attempts: chance.pick(&[10, 10, 10, 3, 1]),
        delays,
        in_flight_max: chance.pick(&[1, 4, 32, 1_024]),
        commit_interval: Duration::from_millis(chance.pick(&[0, 2, 20])),
        record_bytes_max: chance.pick(&[4_096, 1 << 20]),
        drain_timeout: Duration::from_secs(chance.pick(&[1, 10, 10])),
    }
}

fn delays(ms: &[u64]) -> Vec<Delay> {
    let delay = |ms: &u64| Delay::new(Duration::from_millis(*ms)).expect("in range");
    ms.iter().map(delay).collect()
}

fn partitions(chance: &mut Chance, settings: &EngineSettings) -> Vec<(Partition, i64)> {
    let delays: BTreeSet<Delay> = settings.delays.iter().copied().collect();
    let topics = [Topic::Source, Topic::DeadLetter]
        .into_iter()
        .chain(delays.into_iter().map(Topic::Delay));
    let mut all = Vec::new();
    for topic in topics {
        for number in 0..chance.pick(&[1, 2, 3]) {
            let start = chance.pick(&[0, 0, 17, 1 << 33]);
            all.push((Partition { topic, number }, start));
        }
    }
    all
}

fn tenants(chance: &mut Chance, most: u64) -> Vec<TenantPlan> {
    (0..chance.between(1, most))
        .map(|number| TenantPlan {
            name: format!("t{number}"),
            manner: match chance.below(9) {
                0 | 1 => Manner::Good,
                2 => Manner::Slow,
                3 => Manner::Dead,
                4 => Manner::FailsFirst(chance.between(1, 10) as u32),
                5 => Manner::Flapping {
                    turn_us: chance.between(1, 30) * SECOND,
                },
                6 => Manner::Refuses,
                7 => Manner::Throttles,
                _ => Manner::Moody,
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

/// From nothing to some of each kind; a seed in ten has a crash loop.
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

/// One replica dies again and again, up to fifty times within a minute.
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

/// The tenants file as it stands.
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
            enabled: plan.enabled,
        })
        .collect()
}
