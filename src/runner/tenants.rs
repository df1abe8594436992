//! The thread that loads changed tenants: parsing many takes longer than a turn of
//! the main loop may. Decides nothing.

use super::threads::spawn;
use crate::clock;
use crate::config::ConfiguredTenants;
use crate::config::mistake::Mistake;
use crate::config::topic_tenants::TopicTenants;
use crate::config::watch::{ReloadResult, TenantsWatch};
use crate::kafka::Job;
use crate::kafka::current::CurrentSettings;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::tenants_topic::{TenantsTopic, TenantsTopicError, TopicEntry};
use crate::model::overview::RefusedTenant;
use crate::model::tenant::Tenants;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The interval between two checks of the files, and the maximum wait for an entry.
const EACH: Duration = Duration::from_millis(250);
/// The pause before a topic that cannot be read is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// The maximum time for which entries are collected into one change.
const COLLECT_MAX: Duration = Duration::from_millis(100);
/// The maximum number of mistakes in one report.
const MISTAKES_MAX: usize = 1_000;

/// The tenants in force, and the reports of the thread. The thread ends when this is
/// dropped.
pub struct TenantsReloads {
    in_force: Arc<Tenants>,
    refused: Arc<[RefusedTenant]>,
    refused_count: usize,
    /// Why the tenants are not loaded yet.
    waits_for: Option<String>,
    orders: std::sync::mpsc::Sender<ReadAgain>,
    reports: mpsc::UnboundedReceiver<TenantsReport>,
}

/// The order to read the tenants although they have not changed.
struct ReadAgain;

/// A report of the thread.
pub enum TenantsReport {
    /// The files have changed.
    Reload(ReloadResult),
    /// The topic was read to its end, or has new entries.
    Topic(TopicChange),
    /// The topic cannot be read now.
    Waiting(String),
    /// The service must not start with this topic, with what to do.
    Wrong(String),
}

/// The tenants of the topic after new entries.
pub struct TopicChange {
    pub tenants: Arc<Tenants>,
    /// Entries that changed a tenant.
    pub changed: usize,
    /// The mistakes of the new entries.
    pub mistakes: Vec<Mistake>,
    pub refused: Arc<[RefusedTenant]>,
    pub refused_count: usize,
}

impl TenantsReloads {
    /// Starts the thread. The tenants of a topic are loaded later.
    ///
    /// Panics: where the system refuses it, as [`spawn`] does.
    pub fn start(tenants: ConfiguredTenants, kafka: &Arc<CurrentSettings>) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let (orders, ordered) = std::sync::mpsc::channel();
        let (in_force, waits_for, run): (_, _, Box<dyn FnOnce() + Send>) = match tenants {
            ConfiguredTenants::Files(watch) => {
                let in_force = Arc::clone(watch.in_force());
                let run = move || watch_files(watch, &ordered, &sender);
                (in_force, None, Box::new(run))
            }
            ConfiguredTenants::Topic(tenants) => {
                let waits_for = format!("reading the tenants topic '{}'", tenants.topic());
                let follower = Follower {
                    tenants,
                    kafka: Arc::clone(kafka),
                    opened_with: kafka.get(),
                    phase: Phase::Starting,
                    changed: 0,
                    mistakes: Vec::new(),
                    sender,
                };
                let run = move || follower.run(&ordered);
                (Arc::default(), Some(waits_for), Box::new(run))
            }
        };
        spawn(Job {
            name: "tenants",
            run,
        });
        Self {
            in_force,
            refused: Arc::default(),
            refused_count: 0,
            waits_for,
            orders,
            reports,
        }
    }

    /// Orders the thread to read the tenants and to report them, changed or not.
    pub fn read_again(&self) {
        // The thread ends only when this is dropped.
        let _ = self.orders.send(ReadAgain);
    }

    /// Returns the tenants in force.
    pub fn in_force(&self) -> &Arc<Tenants> {
        &self.in_force
    }

    /// Returns the tenants whose last entry in the topic is refused: at most 50, and
    /// their number.
    pub fn refused(&self) -> (Arc<[RefusedTenant]>, usize) {
        (Arc::clone(&self.refused), self.refused_count)
    }

    /// Returns why the tenants are not loaded yet, if they are not.
    pub fn waits_for(&self) -> Option<&str> {
        self.waits_for.as_deref()
    }

    /// Waits for the next report.
    ///
    /// Panics: where the thread has ended. No change would come into force any more.
    pub async fn next(&mut self) -> TenantsReport {
        let report = self.reports.recv().await;
        let report = report.expect("the thread of the tenants ends after the service");
        match &report {
            TenantsReport::Reload(ReloadResult::Ok(new)) => self.in_force = Arc::clone(new),
            TenantsReport::Topic(change) => {
                self.in_force = Arc::clone(&change.tenants);
                self.refused = Arc::clone(&change.refused);
                self.refused_count = change.refused_count;
                self.waits_for = None;
            }
            TenantsReport::Waiting(why) => {
                if let Some(waits_for) = &mut self.waits_for {
                    waits_for.clone_from(why);
                }
            }
            TenantsReport::Reload(ReloadResult::Refused(_)) | TenantsReport::Wrong(_) => {}
        }
        report
    }
}

fn watch_files(
    mut watch: TenantsWatch,
    ordered: &Receiver<ReadAgain>,
    sender: &mpsc::UnboundedSender<TenantsReport>,
) {
    let mut replaced = Replaced::default();
    loop {
        match ordered.recv_timeout(EACH) {
            Ok(ReadAgain) => {
                // One read answers all orders before it.
                ordered.try_iter().for_each(drop);
                watch.read_again();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        replaced.drop_unused();
        if let Some(result) = watch.check() {
            if let ReloadResult::Ok(new) = &result {
                replaced.keep(new);
            }
            // After the service has ended, the receiver is gone.
            let _ = sender.send(TenantsReport::Reload(result));
        }
    }
}

/// Earlier tenants that the main thread may still use. The last holder drops them,
/// which takes some milliseconds for many tenants: that must be this thread.
#[derive(Default)]
struct Replaced(Vec<Arc<Tenants>>);

impl Replaced {
    fn keep(&mut self, new: &Arc<Tenants>) {
        self.0.push(Arc::clone(new));
    }

    fn drop_unused(&mut self) {
        self.0.retain(|tenants| Arc::strong_count(tenants) > 1);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The end of the topic was never reached.
    Starting,
    /// The topic is read again from its start.
    Rereading,
    Following,
}

/// Follows the tenants topic.
struct Follower {
    tenants: TopicTenants,
    kafka: Arc<CurrentSettings>,
    /// With which the topic was opened.
    opened_with: Arc<KafkaSettings>,
    phase: Phase,
    /// Entries since the last report that changed a tenant.
    changed: usize,
    /// Mistakes since the last report, at most [`MISTAKES_MAX`].
    mistakes: Vec<Mistake>,
    sender: mpsc::UnboundedSender<TenantsReport>,
}

impl Follower {
    fn run(mut self, ordered: &Receiver<ReadAgain>) {
        let mut replaced = Replaced::default();
        let mut topic = None;
        loop {
            match ordered.try_recv() {
                Ok(ReadAgain) => {
                    ordered.try_iter().for_each(drop);
                    topic = None;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            if self.kafka.differ_from(&self.opened_with) {
                topic = None;
            }
            replaced.drop_unused();
            let report = match &mut topic {
                None => match self.open() {
                    Ok(opened) => {
                        topic = Some(opened);
                        continue;
                    }
                    Err(report) => Some(report),
                },
                Some(open) => self.follow(open),
            };
            if let Some(TenantsReport::Topic(change)) = &report {
                replaced.keep(&change.tenants);
            }
            let pauses = topic.is_none();
            if let Some(report) = report {
                // After the service has ended, the receiver is gone.
                let _ = self.sender.send(report);
            }
            if pauses {
                std::thread::sleep(REOPEN_AFTER);
            }
        }
    }

    fn open(&mut self) -> Result<TenantsTopic, TenantsReport> {
        self.opened_with = self.kafka.get();
        let opened = TenantsTopic::open(&self.opened_with, self.tenants.topic());
        let opened = opened.map_err(|error| match error {
            TenantsTopicError::Wrong(why) if self.phase == Phase::Starting => {
                TenantsReport::Wrong(why)
            }
            TenantsTopicError::Wrong(why) | TenantsTopicError::NotYet(why) => {
                TenantsReport::Waiting(why)
            }
        })?;
        self.tenants.read_again();
        if self.phase == Phase::Following {
            self.phase = Phase::Rereading;
        }
        Ok(opened)
    }

    /// Applies the next entries. Reports nothing before the end of the topic: an
    /// earlier entry of a tenant must not come into force for a moment.
    fn follow(&mut self, topic: &mut TenantsTopic) -> Option<TenantsReport> {
        let (mut wait, started) = (EACH, clock::elapsed());
        loop {
            let entries = match topic.read(wait) {
                Ok(entries) => entries,
                Err(error) if wait == EACH => {
                    let topic = self.tenants.topic();
                    let why = format!("the tenants topic '{topic}' cannot be read: {error}");
                    return Some(TenantsReport::Waiting(why));
                }
                Err(_) => Vec::new(),
            };
            let is_last = entries.is_empty();
            entries.iter().for_each(|entry| self.apply(entry));
            if is_last || clock::elapsed().saturating_sub(started) > COLLECT_MAX {
                break;
            }
            wait = Duration::from_millis(1);
        }
        topic.reached_end().then(|| self.report()).flatten()
    }

    fn apply(&mut self, entry: &TopicEntry) {
        match self.tenants.apply(&entry.key, entry.value.as_deref()) {
            Ok(has_changed) => self.changed += usize::from(has_changed),
            Err(wrong) => {
                let left = MISTAKES_MAX - self.mistakes.len();
                self.mistakes.extend(wrong.into_iter().take(left));
            }
        }
    }

    /// Returns the report of a topic that was read to its end, if there is one.
    fn report(&mut self) -> Option<TenantsReport> {
        let changed = std::mem::take(&mut self.changed);
        let mistakes = std::mem::take(&mut self.mistakes);
        let phase = std::mem::replace(&mut self.phase, Phase::Following);
        if phase == Phase::Following && changed == 0 && mistakes.is_empty() {
            return None;
        }
        if let Err(refused) = self.tenants.reached_end() {
            return Some(TenantsReport::Reload(ReloadResult::Refused(refused)));
        }
        if phase == Phase::Starting
            && let Err(mistake) = self.tenants.check_start()
        {
            return Some(TenantsReport::Wrong(mistake.to_string()));
        }
        Some(TenantsReport::Topic(TopicChange {
            tenants: Arc::new(self.tenants.tenants().clone()),
            changed,
            mistakes,
            refused: self.tenants.refused(),
            refused_count: self.tenants.refused_count(),
        }))
    }
}
