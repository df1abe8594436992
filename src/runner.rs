//! The one loop: waits for an event, feeds the engine, performs its actions.
//! The only spawner of threads and tasks; never decides anything about records.
//! Runs on the main thread's runtime together with the attempts to tenants that
//! are known to answer. Those to others run on threads of their own: one of them
//! may send as fast as it is read, and a single connection that always has more
//! to read keeps its thread from all others for a second (measured with `103
//! Early Hints` without end).
//!
//! Ends of attempts go before new records, and each turn takes a bounded batch
//! of both, so that neither can keep the loop from the other.

mod apart;

use self::apart::Apart;
use crate::clock;
use crate::config::watch::ReloadResult;
use crate::engine::Engine;
use crate::engine::event::{Action, Event};
use crate::exit::Exit;
use crate::kafka::{self, Job, KafkaEvent, KafkaRequest, Session, Sessions};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::message::{AttemptRequest, Isolation, SessionId};
use crate::model::position::Position;
use crate::model::time::UnixMillis;
use crate::service::Service;
use crate::shutdown::ShutdownPhase;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{error, info, warn};

/// The most events of each kind that one turn takes.
const TURN_MAX: usize = 1_024;
/// How often gauges are set, and the tenants file and the system's files about
/// names are looked at.
const TICK: Duration = Duration::from_millis(500);
/// The least time between two lives of the Kafka side.
const LIFE_MIN: Duration = Duration::from_millis(1_000);
/// This many producers fenced within [`FENCED_WINDOW`] show a namesake.
const FENCED_MAX: usize = 5;
const FENCED_WINDOW: Duration = Duration::from_secs(60);
/// Lives that were dropped and whose threads have not ended yet: each may keep
/// two clients with some 15 threads. No further life begins before one ends,
/// which the watchdog sees to.
const LIVES_LEFT_MAX: usize = 3;
/// "waiting for Kafka" is logged at most this often.
const WAITING_LOG_EVERY: Duration = Duration::from_secs(30);
/// Leaving the group takes some 0.1 s; it gets what the drain has left of its
/// time, and at least this.
const LEAVE_MIN: Duration = Duration::from_millis(300);

/// How the service ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Drained; offsets are written and the group was left.
    Drained,
    /// The second signal, or a drain that could not be finished in time.
    Cut,
    /// A setting that only shows with the brokers at hand.
    WrongSettings(String),
    /// This replica's name is in use elsewhere.
    Fenced,
    /// A Kafka call does not return although the brokers answer others.
    Hung,
}

/// Runs the service until it ends; `signals` moves the phase on. To be the main
/// future of a current-thread runtime.
pub async fn serve(
    service: Service,
    phase: watch::Receiver<ShutdownPhase>,
    signals: impl Future<Output = ()> + Send + 'static,
) -> End {
    tokio::spawn(signals);
    Runner::new(service, phase).run().await
}

/// Spawns a thread for a job of a shell.
///
/// Panics: where the system refuses a thread; there is no service without it.
pub fn spawn(job: Job) {
    let Job { name, run } = job;
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread
        .spawn(run)
        .expect("the system gives the service its few threads");
}

/// Starts the watchdog; what it finds hung is told by the receiver.
fn begin_watch(service: &Service, across: &Arc<Sessions>) -> oneshot::Receiver<()> {
    let (told, hung) = oneshot::channel();
    let tell = move || {
        // Nobody listens once the service has ended.
        let _ = told.send(());
    };
    let settings = Arc::clone(&service.kafka);
    let jobs = kafka::watch(settings, across, Exit::HungClient.code(), tell);
    jobs.into_iter().for_each(spawn);
    hung
}

/// What comes back from an attempt's task.
enum Attempted {
    Finished(Position, AttemptResult),
    Expired(Position),
}

struct Runner {
    service: Service,
    /// This thread's.
    runtime: Handle,
    apart: Apart,
    engine: Engine,
    phase: watch::Receiver<ShutdownPhase>,
    attempted: mpsc::UnboundedReceiver<Attempted>,
    attempted_in: mpsc::UnboundedSender<Attempted>,
    reports: mpsc::UnboundedReceiver<(u64, KafkaEvent)>,
    reports_in: mpsc::UnboundedSender<(u64, KafkaEvent)>,
    hung: oneshot::Receiver<()>,
    across: Arc<Sessions>,
    life: Option<Session>,
    /// Numbers the lives; what an earlier one still says is not heard.
    life_number: u64,
    life_began: UnixMillis,
    /// When the next life begins, while there is none.
    begin_at: Option<UnixMillis>,
    fenced_at: VecDeque<UnixMillis>,
    /// When the drain must be over, once it has begun.
    drain_by: Option<UnixMillis>,
    leave_by: Option<UnixMillis>,
    next_tick: UnixMillis,
    waiting_logged_at: Option<UnixMillis>,
    end: Option<End>,
}

impl Runner {
    fn new(service: Service, phase: watch::Receiver<ShutdownPhase>) -> Self {
        let (attempted_in, attempted) = mpsc::unbounded_channel();
        let (reports_in, reports) = mpsc::unbounded_channel();
        let across = Arc::new(Sessions::new(clock::elapsed));
        let now = service.clock.now();
        Self {
            runtime: Handle::current(),
            apart: Apart::begin(),
            hung: begin_watch(&service, &across),
            engine: Engine::new(service.engine.clone()),
            service,
            phase,
            attempted,
            attempted_in,
            reports,
            reports_in,
            across,
            life: None,
            life_number: 0,
            life_began: now,
            begin_at: None,
            fenced_at: VecDeque::new(),
            drain_by: None,
            leave_by: None,
            next_tick: now,
            waiting_logged_at: None,
            end: None,
        }
    }

    async fn run(mut self) -> End {
        let tenants = Arc::clone(self.service.tenants.in_force());
        self.engine
            .handle(self.service.clock.now(), Event::TenantsReplaced(tenants));
        self.begin_life();
        loop {
            self.turn();
            if let Some(end) = self.end.take() {
                return end;
            }
            self.wait().await;
        }
    }

    /// Takes what is there, lets the engine decide, performs what it decided.
    fn turn(&mut self) {
        let now = self.service.clock.now();
        for _ in 0..TURN_MAX {
            match self.attempted.try_recv() {
                Ok(attempted) => self.attempted(now, attempted),
                Err(_) => break,
            }
        }
        let mut records = 0;
        while records < TURN_MAX {
            match self.reports.try_recv() {
                Ok((life, report)) if life == self.life_number => {
                    records += self.kafka(now, life, report)
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        let worked = self.worked();
        self.engine.handle(now, Event::Wake { worked });
        self.perform_all(now);
        if now >= self.next_tick {
            self.tick(now);
        }
        if self.begin_at.is_some_and(|at| now >= at) {
            self.begin_life();
        }
        if self.hung.try_recv().is_ok() {
            self.end = Some(End::Hung);
        }
        if self.leave_by.is_some_and(|at| now >= at) {
            self.end = Some(End::Cut);
        }
    }

    /// For how long this thread has had something to do.
    fn worked(&self) -> Duration {
        self.runtime.metrics().worker_total_busy_duration(0)
    }

    async fn wait(&mut self) {
        let now = self.service.clock.now();
        let wakes = [
            self.engine.next_wake(),
            self.begin_at,
            self.leave_by,
            Some(self.next_tick),
        ];
        let wake = wakes.into_iter().flatten().min().unwrap_or(now);
        let nap = wake.since(now);
        tokio::select! {
            biased;
            Some(attempted) = self.attempted.recv() => self.attempted(self.service.clock.now(), attempted),
            Some((life, report)) = self.reports.recv() => {
                if life == self.life_number {
                    self.kafka(self.service.clock.now(), life, report);
                }
            }
            Ok(()) = self.phase.changed() => self.phase_changed(),
            () = tokio::time::sleep(nap) => {}
        }
    }

    fn phase_changed(&mut self) {
        let phase = *self.phase.borrow_and_update();
        match phase {
            ShutdownPhase::Running => {}
            ShutdownPhase::Draining => {
                self.service.status.draining();
                let now = self.service.clock.now();
                self.drain_by = Some(now.plus(self.service.engine.drain_timeout));
                self.engine.handle(now, Event::Drain);
            }
            ShutdownPhase::Closed => self.end = Some(End::Cut),
        }
    }

    fn attempted(&mut self, now: UnixMillis, attempted: Attempted) {
        let event = match attempted {
            Attempted::Finished(position, ended) => Event::AttemptFinished { position, ended },
            Attempted::Expired(position) => Event::AttemptExpired { position },
        };
        self.engine.handle(now, event);
    }

    /// Logs an event of the Kafka session, shows it on the pages and passes it
    /// to the engine. Returns the number of records in it.
    fn kafka(&mut self, now: UnixMillis, session: u64, event: KafkaEvent) -> usize {
        self.log(&event);
        let status = &self.service.status;
        let records = match &event {
            KafkaEvent::Records(records) => records.len(),
            _ => 0,
        };
        match &event {
            KafkaEvent::Assigned { .. } => status.assigned(now),
            // The brokers answer, again or still.
            KafkaEvent::LogBounds(_) | KafkaEvent::Subscribed => status.answered(now),
            KafkaEvent::Waiting { why } => status.waiting(why.clone()),
            KafkaEvent::ConsumerFenced => self.end = Some(End::Fenced),
            KafkaEvent::ProducerFenced => {
                self.fenced_at.push_back(now);
                self.fenced_at.retain(|at| now.since(*at) < FENCED_WINDOW);
                if self.fenced_at.len() > FENCED_MAX {
                    error!(
                        "the producer is fenced again and again: another process uses this replica's name"
                    );
                    self.end = Some(End::Fenced);
                }
            }
            KafkaEvent::WrongSettings { why } => self.end = Some(End::WrongSettings(why.clone())),
            KafkaEvent::Left if self.leave_by.is_some() => self.end = Some(End::Drained),
            _ => {}
        }
        let session = SessionId(session);
        self.engine.handle(now, Event::Kafka { session, event });
        records
    }

    fn log(&mut self, event: &KafkaEvent) {
        match event {
            KafkaEvent::CommitUnsure { why, .. } => warn!(why, "a commit's outcome is not known"),
            KafkaEvent::MoveUnsure { why, .. } => {
                warn!(why, "a transaction's outcome is not known")
            }
            KafkaEvent::MoveRefused { why, .. } => {
                info!(why, "a transaction was aborted and is decided again");
            }
            KafkaEvent::TopicRecreated { topic } => {
                let topic = self.service.engine.topics.name(*topic);
                error!(topic, "the topic was deleted and made again");
            }
            KafkaEvent::ConsumerFault { why } => warn!(why, "the consumer failed"),
            KafkaEvent::ConsumerFenced => error!("another process uses this replica's name"),
            KafkaEvent::Subscribed => info!("subscribed"),
            KafkaEvent::Waiting { why } => {
                let now = self.service.clock.now();
                let before = self.waiting_logged_at;
                if before.is_none_or(|at| now.since(at) >= WAITING_LOG_EVERY) {
                    self.waiting_logged_at = Some(now);
                    warn!(why, "waiting for Kafka");
                }
            }
            _ => {}
        }
    }

    fn perform_all(&mut self, now: UnixMillis) {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Report(fact) => self.service.telemetry.observe(now, &fact),
                Action::StartAttempt(order) => self.attempt(order),
                Action::Kafka(request) => self.request(request),
                Action::Readopt { .. } => {
                    self.life = None;
                    self.life_number += 1;
                    self.service.status.readopting();
                    self.begin_at = Some(self.life_began.plus(LIFE_MIN).max(now));
                }
                Action::Stop => self.leave(now),
            }
        }
    }

    fn request(&self, request: KafkaRequest) {
        if let Some(life) = &self.life {
            life.request(request);
        }
    }

    fn attempt(&self, order: AttemptRequest) {
        let clock = Arc::clone(&self.service.clock);
        let attempted = self.attempted_in.clone();
        let (runtime, callbacks) = match order.isolation {
            Isolation::Isolated => (self.apart.runtime(), &self.service.isolated_callbacks),
            Isolation::Shared => (&self.runtime, &self.service.callbacks),
        };
        let callbacks = Arc::clone(callbacks);
        runtime.spawn(async move {
            let position = order.position;
            let started_at = clock.now();
            let answer = if started_at > order.start_by {
                Attempted::Expired(position)
            } else {
                let outcome: Outcome = callbacks.attempt(order, started_at).await;
                let duration = clock.now().since(started_at);
                Attempted::Finished(
                    position,
                    AttemptResult {
                        outcome,
                        started_at,
                        duration,
                    },
                )
            };
            // Nobody listens once the service has ended.
            let _ = attempted.send(answer);
        });
    }

    fn begin_life(&mut self) {
        let now = self.service.clock.now();
        let left = self.across.unfinished();
        if left >= LIVES_LEFT_MAX {
            self.begin_at = Some(now.plus(LIFE_MIN));
            let why = format!("{left} earlier Kafka clients have not ended yet");
            self.service.status.waiting(why);
            return;
        }
        self.begin_at = None;
        self.life_number += 1;
        self.life_began = now;
        let (number, reports) = (self.life_number, self.reports_in.clone());
        let report = move |report| {
            // Nobody listens once the service has ended.
            let _ = reports.send((number, report));
        };
        let (life, jobs) = kafka::start(
            Arc::clone(&self.service.kafka),
            Arc::clone(&self.across),
            report,
        );
        self.life = Some(life);
        jobs.into_iter().for_each(spawn);
    }

    fn leave(&mut self, now: UnixMillis) {
        match &self.life {
            Some(life) => {
                life.request(KafkaRequest::Leave);
                let least = now.plus(LEAVE_MIN);
                self.leave_by = Some(self.drain_by.map_or(least, |by| by.max(least)));
            }
            None => self.end = Some(End::Cut),
        }
    }

    /// Gauges, the pages' state and the tenants file.
    fn tick(&mut self, now: UnixMillis) {
        self.next_tick = now.plus(TICK);
        match self.service.tenants.check() {
            None => {}
            Some(ReloadResult::Ok(tenants)) => {
                self.service.telemetry.tenants_reloaded(tenants.len());
                self.engine.handle(now, Event::TenantsReplaced(tenants));
            }
            Some(ReloadResult::Refused(mistakes)) => {
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                self.service.telemetry.tenants_refused(&mistakes);
            }
        }
        if let Some(new) = self.service.name_files.check() {
            for callbacks in [&self.service.callbacks, &self.service.isolated_callbacks] {
                callbacks.look_names_up_in(&new.resolv_conf, &new.hosts);
            }
        }
        let overview = self.engine.overview(now);
        self.service
            .telemetry
            .overview(&overview, self.service.tenants.in_force());
        self.service.status.turned(now, overview);
        self.perform_all(now);
    }
}
