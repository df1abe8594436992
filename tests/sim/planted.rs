//! Planted breaches: a wrapper between an engine and its world that tampers
//! with events or actions, to show that each law's checker sees it.

use crate::laws::map;
use ringback::engine::event::{Action, Event};
use ringback::model::position::{NextOffset, Offset};
use ringback::model::time::UnixMillis;
use ringback::model::write::{CommitOrder, Snapshot, WriteId};
use std::time::Duration;

/// A way to break a law.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// L1: the first unfinished record of a map is left out.
    PassOver,
    /// L2: a base goes back by one.
    GoBack,
    /// L2: a commit is sent twice.
    WriteTwice,
    /// L3: a map loses its reservations.
    Unreserve,
    /// L3: an attempt starts twice.
    StartTwice,
    /// L3: an attempt says that it is another one.
    Miscount,
    /// L4: delayed records look older than they are.
    Hurry,
    /// L5: metadata that Kafka would refuse.
    Lengthen,
    /// L5: far more records are asked for than fit.
    Greed,
    /// L7: commits are lost without an answer.
    Swallow,
    /// L8: a revoked partition is written for after it was given back.
    Linger,
    /// L9: the end never comes.
    Stay,
}

/// What tampers with one engine's traffic, or does not.
pub struct Clumsy {
    planted: Option<Planted>,
    last: Option<Snapshot>,
}

impl Clumsy {
    /// With this breach, if one is wanted.
    pub fn new(planted: Option<Planted>) -> Self {
        Self {
            planted,
            last: None,
        }
    }

    /// An event on its way to the engine.
    pub fn twist_event(&mut self, mut event: Event) -> Event {
        if let (Some(Planted::Hurry), Event::Record { record, .. }) = (self.planted, &mut event)
            && record.position.partition.topic.delay().is_some()
        {
            let early = |at: UnixMillis| at.minus(Duration::from_secs(30 * 3_600));
            record.timestamp = early(record.timestamp);
        }
        event
    }

    /// An action on its way to the world.
    pub fn twist(&mut self, action: Action) -> Vec<Action> {
        let Some(planted) = self.planted else {
            return vec![action];
        };
        match (planted, action) {
            (Planted::WriteTwice, Action::Commit(order)) => {
                vec![Action::Commit(order.clone()), Action::Commit(order)]
            }
            (Planted::Swallow, Action::Commit(_)) => Vec::new(),
            (Planted::Stay, Action::Stop) => Vec::new(),
            (Planted::StartTwice, Action::StartAttempt(order)) => {
                vec![
                    Action::StartAttempt(order.clone()),
                    Action::StartAttempt(order),
                ]
            }
            (Planted::Miscount, Action::StartAttempt(mut order)) => {
                order.attempt = order.attempt % 10 + 1;
                vec![Action::StartAttempt(order)]
            }
            (
                Planted::Greed,
                Action::Fetch {
                    generation,
                    partition,
                    ..
                },
            ) => {
                let records = 1_000_000;
                vec![Action::Fetch {
                    generation,
                    partition,
                    records,
                }]
            }
            (
                Planted::Linger,
                Action::FinishRevoke {
                    generation,
                    partitions,
                },
            ) => {
                let late = self.last.clone();
                let late = late.filter(|snapshot| partitions.contains(&snapshot.partition));
                let mut actions = vec![Action::FinishRevoke {
                    generation,
                    partitions,
                }];
                actions.extend(late.map(|snapshot| {
                    Action::Commit(CommitOrder {
                        write: WriteId(u64::MAX),
                        snapshots: vec![snapshot],
                    })
                }));
                actions
            }
            (planted, Action::Commit(mut order)) => {
                for snapshot in &mut order.snapshots {
                    falsify(planted, snapshot);
                    self.last = Some(snapshot.clone());
                }
                vec![Action::Commit(order)]
            }
            (planted, Action::Move(mut order)) => {
                for snapshot in &mut order.snapshots {
                    falsify(planted, snapshot);
                }
                vec![Action::Move(order)]
            }
            (_, action) => vec![action],
        }
    }
}

fn falsify(planted: Planted, snapshot: &mut Snapshot) {
    let Ok(mut map) = map::decode(snapshot, None) else {
        return;
    };
    match planted {
        Planted::PassOver => {
            map.unfinished.pop_first();
            let first = map.unfinished.keys().next().copied();
            map.base = first.map_or(map.end, NextOffset::at);
        }
        Planted::GoBack if map.unfinished.is_empty() && map.base.0 > 0 => {
            let before = Offset(map.base.0 - 1);
            map.unfinished.insert(before, false);
            map.base = NextOffset::at(before);
        }
        Planted::Unreserve => map.unfinished.values_mut().for_each(|mark| *mark = false),
        Planted::Lengthen => {
            snapshot.metadata = "x".repeat(4_097);
            return;
        }
        _ => return,
    }
    snapshot.base = map.base;
    snapshot.metadata = map::encode(&map, None);
}
