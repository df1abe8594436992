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
use crate::engine::supervisor::{FencedClient, Supervisor, SupervisorAction};
use crate::exit::Exit;
use crate::kafka::{self, Job, Session, Sessions, WatchdogEvent};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::message::{
    AttemptRequest, Isolation, KafkaEvent, KafkaRequest, SessionId, SessionStart,
};
use crate::model::position::Position;
use crate::model::time::UnixMillis;
use crate::service::Service;
use crate::shutdown::ShutdownPhase;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

/// The most events of each kind that one turn takes.
const TURN_MAX: usize = 1_024;
/// How often gauges are set, and the tenants file and the system's files about
/// names are looked at.
const TICK: Duration = Duration::from_millis(500);
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

/// Starts the watchdog and returns the receiver of its events.
fn start_watchdog(
    service: &Service,
    sessions: &Arc<Sessions>,
) -> mpsc::UnboundedReceiver<WatchdogEvent> {
    let (sender, events) = mpsc::unbounded_channel();
    let report = move |event| {
        // After the service has ended, the receiver is gone.
        let _ = sender.send(event);
    };
    let settings = Arc::clone(&service.kafka);
    let jobs = kafka::watch(settings, sessions, Exit::HungClient.code(), report);
    jobs.into_iter().for_each(spawn);
    events
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
    kafka_events: mpsc::UnboundedReceiver<(SessionId, KafkaEvent)>,
    kafka_events_in: mpsc::UnboundedSender<(SessionId, KafkaEvent)>,
    watchdog: mpsc::UnboundedReceiver<WatchdogEvent>,
    supervisor: Supervisor,
    sessions: Arc<Sessions>,
    session: Option<Session>,
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
        let (kafka_events_in, kafka_events) = mpsc::unbounded_channel();
        let sessions = Arc::new(Sessions::new(clock::elapsed));
        let now = service.clock.now();
        Self {
            runtime: Handle::current(),
            apart: Apart::begin(),
            watchdog: start_watchdog(&service, &sessions),
            supervisor: Supervisor::new(now, &service.kafka.instance),
            engine: Engine::new(service.engine.clone()),
            service,
            phase,
            attempted,
            attempted_in,
            kafka_events,
            kafka_events_in,
            sessions,
            session: None,
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
        while let Ok(event) = self.watchdog.try_recv() {
            match event {
                WatchdogEvent::Stopped => self.supervisor.note_broker_fault(now),
                WatchdogEvent::HungCall => self.end = Some(End::Hung),
            }
        }
        let mut records = 0;
        while records < TURN_MAX {
            match self.kafka_events.try_recv() {
                Ok((session, event)) => records += self.kafka(now, session, event),
                Err(_) => break,
            }
        }
        // Here, all events that a dropped session had sent are handled.
        self.supervisor.wake(now);
        self.perform_supervisor(now);
        let worked = self.worked();
        self.engine.handle(now, Event::Wake { worked });
        self.perform_all(now);
        if now >= self.next_tick {
            self.tick(now);
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
            self.supervisor.next_wake(),
            self.leave_by,
            Some(self.next_tick),
        ];
        let wake = wakes.into_iter().flatten().min().unwrap_or(now);
        let nap = wake.since(now);
        tokio::select! {
            biased;
            Some(attempted) = self.attempted.recv() => self.attempted(self.service.clock.now(), attempted),
            Some((session, event)) = self.kafka_events.recv() => {
                self.kafka(self.service.clock.now(), session, event);
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

    /// Passes an event of a Kafka session to the supervisor. Logs an event of the
    /// current session, shows it on the pages and passes it to the engine.
    /// Returns the number of its records.
    fn kafka(&mut self, now: UnixMillis, session: SessionId, event: KafkaEvent) -> usize {
        self.supervisor.handle(now, session, &event);
        self.perform_supervisor(now);
        if !self.supervisor.is_current(session) {
            return 0;
        }
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
            KafkaEvent::WrongSettings { why } => self.end = Some(End::WrongSettings(why.clone())),
            KafkaEvent::Left if self.leave_by.is_some() => self.end = Some(End::Drained),
            _ => {}
        }
        self.engine.handle(now, Event::Kafka { session, event });
        records
    }

    fn perform_supervisor(&mut self, now: UnixMillis) {
        while let Some(action) = self.supervisor.next_action() {
            match action {
                SupervisorAction::Start(start) => self.start_session(start),
                SupervisorAction::Request(request) => {
                    if request == KafkaRequest::Rejoin {
                        warn!("partitions have no member: leaving the group and joining it again");
                    }
                    self.request(request);
                }
                SupervisorAction::ConsumerFault { session, why } => {
                    let event = KafkaEvent::ConsumerFault { why };
                    self.log(&event);
                    self.engine.handle(now, Event::Kafka { session, event });
                }
                SupervisorAction::Waiting { why } => self.service.status.waiting(why),
                SupervisorAction::NameInUse(client) => {
                    match client {
                        FencedClient::Consumer => {
                            error!("another process uses this replica's name");
                        }
                        FencedClient::Producer => error!(
                            "the producer is fenced again and again: another process uses this replica's name"
                        ),
                    }
                    self.end = Some(End::Fenced);
                }
            }
        }
    }

    fn log(&mut self, event: &KafkaEvent) {
        match event {
            KafkaEvent::CommitUnsure { why, .. } => warn!(why, "a commit's outcome is not known"),
            KafkaEvent::MoveUnsure { why, .. } => {
                warn!(why, "a transaction's outcome is not known")
            }
            KafkaEvent::MoveRefused { why, .. } | KafkaEvent::MoveNotStarted { why, .. } => {
                info!(why, "a transaction was aborted and is decided again");
            }
            KafkaEvent::TopicRecreated { topic } => {
                let topic = self.service.engine.topics.name(*topic);
                error!(topic, "the topic was deleted and made again");
            }
            KafkaEvent::ConsumerFault { why } => warn!(why, "the consumer failed"),
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
                    self.session = None;
                    self.supervisor.session_dropped(now);
                    self.service.status.readopting();
                }
                Action::Stop => self.leave(now),
            }
        }
    }

    fn request(&self, request: KafkaRequest) {
        if let Some(session) = &self.session {
            session.request(request);
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

    fn start_session(&mut self, start: SessionStart) {
        let (number, events) = (start.session, self.kafka_events_in.clone());
        let report = move |event| {
            // After the service has ended, the receiver is gone.
            let _ = events.send((number, event));
        };
        let (settings, sessions) = (&self.service.kafka, &self.sessions);
        let (session, jobs) =
            kafka::start(Arc::clone(settings), Arc::clone(sessions), start, report);
        self.session = Some(session);
        jobs.into_iter().for_each(spawn);
    }

    fn leave(&mut self, now: UnixMillis) {
        match &self.session {
            Some(session) => {
                session.request(KafkaRequest::Leave);
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
