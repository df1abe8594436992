//! The main loop: waits for events, passes them to the engine and performs its
//! actions. The only spawner of the service's threads. Never decides anything. Runs
//! on the main thread's runtime, together with the attempts to tenants that answer.
//!
//! Attempts to other tenants are isolated on threads of their own: such a tenant may
//! send as fast as it is read. A single connection that always has more to read
//! keeps its thread from all others for a second (measured with `103 Early Hints`
//! without end).
//!
//! Results of attempts go before events of Kafka. Each turn takes a bounded batch of
//! both, so that neither can keep the loop from the other.

mod attempt_log;
mod certificates;
mod isolated;
mod jobs;
mod kafka_files;
mod tenants;
mod threads;
mod topic_settings;

use self::attempt_log::AttemptLogWriter;
use self::certificates::CertificateReloads;
use self::isolated::IsolatedThreads;
use self::jobs::JobCounts;
use self::kafka_files::KafkaFilesReloads;
use self::tenants::{TenantsReloads, TenantsReport};
pub use self::threads::spawn;
use self::topic_settings::TopicSettings;
use crate::clock;
use crate::config::ConfiguredTenants;
use crate::config::kafka_files::KafkaFilesChange;
use crate::config::mistake::Mistake;
use crate::config::name_files::NameFiles;
use crate::config::watch::ReloadResult;
use crate::engine::Engine;
pub use crate::engine::event::End;
use crate::engine::event::{Action, Event, FencedClient};
use crate::exit::Exit;
use crate::kafka::{self, Session, Sessions, WatchdogEvent};
use crate::model::attempt::{AttemptResult, Outcome};
use crate::model::message::{
    AttemptRequest, ConsumerRequest, Isolation, KafkaEvent, KafkaRequest, SessionId, SessionStart,
};
use crate::model::time::UnixMillis;
use crate::service::Service;
use crate::shutdown::ShutdownPhase;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

/// The maximum number of events of each kind in one turn.
const TURN_MAX: usize = 1_024;
/// The interval of updates of gauges, and of checks of the system's name files.
const TICK: Duration = Duration::from_millis(500);
/// "waiting for Kafka" is logged at most this often.
const WAITING_LOG_EVERY: Duration = Duration::from_secs(30);

/// Runs the service until it ends. `signals` changes the phase and `reloads`. Each
/// change of `reloads` makes it read the tenants and the name files again. Must
/// be the main future of a current-thread runtime.
pub async fn serve(
    service: Service,
    tenants: ConfiguredTenants,
    phase: watch::Receiver<ShutdownPhase>,
    reloads: watch::Receiver<u64>,
    signals: impl Future<Output = ()> + Send + 'static,
) -> End {
    tokio::spawn(signals);
    Runner::new(service, tenants, phase, reloads).run().await
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

/// What [`Runner::wait`] waited for.
enum Waited {
    Event(Box<Event>),
    Phase,
    Reload,
    Tenants(TenantsReport),
    KafkaFiles(KafkaFilesChange),
    Time,
}

struct Runner {
    service: Service,
    /// The main thread's runtime.
    runtime: Handle,
    isolated: IsolatedThreads,
    tenants: TenantsReloads,
    _certificates: CertificateReloads,
    kafka_files: KafkaFilesReloads,
    attempt_log: Option<AttemptLogWriter>,
    _jobs: Option<JobCounts>,
    _topic_settings: Option<TopicSettings>,
    engine: Engine,
    phase: watch::Receiver<ShutdownPhase>,
    reloads: watch::Receiver<u64>,
    results: mpsc::UnboundedReceiver<Event>,
    results_in: mpsc::UnboundedSender<Event>,
    kafka_events: mpsc::UnboundedReceiver<(SessionId, KafkaEvent)>,
    kafka_events_in: mpsc::UnboundedSender<(SessionId, KafkaEvent)>,
    watchdog: mpsc::UnboundedReceiver<WatchdogEvent>,
    sessions: Arc<Sessions>,
    session: Option<Session>,
    next_tick: UnixMillis,
    /// As the engine was told last.
    wall_ahead_ms: i64,
    waiting_logged_at: Option<UnixMillis>,
    end: Option<End>,
}

impl Runner {
    fn new(
        mut service: Service,
        tenants: ConfiguredTenants,
        phase: watch::Receiver<ShutdownPhase>,
        reloads: watch::Receiver<u64>,
    ) -> Self {
        let (results_in, results) = mpsc::unbounded_channel();
        let (kafka_events_in, kafka_events) = mpsc::unbounded_channel();
        let sessions = Arc::new(Sessions::new(clock::elapsed));
        let callbacks = [&service.callbacks, &service.isolated_callbacks].map(Arc::clone);
        let certificates = std::mem::take(&mut service.certificates);
        Self {
            _certificates: CertificateReloads::start(certificates, callbacks.to_vec()),
            kafka_files: KafkaFilesReloads::start(service.kafka_files.take()),
            attempt_log: AttemptLogWriter::start(&service),
            _jobs: JobCounts::start(&service),
            _topic_settings: TopicSettings::start(&service, &sessions, results_in.clone()),
            runtime: Handle::current(),
            isolated: IsolatedThreads::start(),
            tenants: TenantsReloads::start(tenants, &service.kafka),
            watchdog: start_watchdog(&service, &sessions),
            engine: Engine::new(service.engine.clone()),
            next_tick: service.clock.now(),
            wall_ahead_ms: 0,
            service,
            phase,
            reloads,
            results,
            results_in,
            kafka_events,
            kafka_events_in,
            sessions,
            session: None,
            waiting_logged_at: None,
            end: None,
        }
    }

    async fn run(mut self) -> End {
        if let Some(end) = self.await_tenants().await {
            return end;
        }
        let tenants = Event::TenantsReplaced(Arc::clone(self.tenants.in_force()));
        self.engine.handle(self.service.clock.now(), tenants);
        let mut waited = Waited::Time;
        loop {
            self.turn(waited);
            if let Some(end) = self.end.take() {
                if let Some(log) = self.attempt_log.take_if(|_| end == End::Drained) {
                    log.finish();
                }
                return end;
            }
            waited = self.wait().await;
        }
    }

    /// Waits for the tenants of a topic: without them, records would be skipped.
    /// Returns the end where the service ends before.
    async fn await_tenants(&mut self) -> Option<End> {
        while self.tenants.waits_for().is_some() {
            self.show(self.service.clock.now());
            tokio::select! {
                biased;
                Ok(()) = self.phase.changed() => return Some(End::Drained),
                Ok(()) = self.reloads.changed() => self.tenants.read_again(),
                report = self.tenants.next() => {
                    self.tenants_changed(self.service.clock.now(), report);
                }
                Some(change) = self.kafka_files.next() => {
                    self.kafka_files_changed(self.service.clock.now(), change);
                }
                () = tokio::time::sleep(TICK) => {}
            }
            if self.end.is_some() {
                return self.end.take();
            }
        }
        None
    }

    /// Passes the pending events to the engine and performs its actions.
    fn turn(&mut self, waited: Waited) {
        let now = self.service.clock.now();
        self.handle_watchdog(now);
        match waited {
            Waited::Event(event) => {
                self.handle(now, *event);
            }
            Waited::Phase => self.phase_changed(now),
            Waited::Reload => self.reload(now),
            Waited::KafkaFiles(change) => self.kafka_files_changed(now, change),
            Waited::Tenants(report) => self.tenants_changed(now, report),
            Waited::Time => {}
        }
        for _ in 0..TURN_MAX {
            match self.results.try_recv() {
                Ok(result) => self.engine.handle(now, result),
                Err(_) => break,
            }
        }
        let mut records = 0;
        while records < TURN_MAX {
            match self.kafka_events.try_recv() {
                Ok((session, event)) => {
                    records += self.handle(now, Event::Kafka { session, event })
                }
                Err(_) => break,
            }
        }
        let worked = self.runtime.metrics().worker_total_busy_duration(0);
        self.engine.handle(now, Event::Wake { worked });
        self.perform_all(now);
        if now >= self.next_tick {
            self.tick(now);
        }
    }

    async fn wait(&mut self) -> Waited {
        let now = self.service.clock.now();
        let wake = self.engine.next_wake();
        let wake = wake.map_or(self.next_tick, |at| at.min(self.next_tick));
        let event = |event| Waited::Event(Box::new(event));
        tokio::select! {
            biased;
            Some(result) = self.results.recv() => event(result),
            Some((session, kafka)) = self.kafka_events.recv() => {
                event(Event::Kafka { session, event: kafka })
            }
            Ok(()) = self.phase.changed() => Waited::Phase,
            Ok(()) = self.reloads.changed() => Waited::Reload,
            report = self.tenants.next() => Waited::Tenants(report),
            Some(change) = self.kafka_files.next() => Waited::KafkaFiles(change),
            () = tokio::time::sleep(wake.since(now)) => Waited::Time,
        }
    }

    /// Reads the name files again at once, and has the tenants read again on their
    /// thread.
    fn reload(&mut self, now: UnixMillis) {
        info!("SIGHUP: the tenants and the name files are read again");
        self.tenants.read_again();
        self.service.name_files = NameFiles::default();
        self.next_tick = now;
    }

    fn phase_changed(&mut self, now: UnixMillis) {
        let phase = *self.phase.borrow_and_update();
        match phase {
            ShutdownPhase::Running => {}
            ShutdownPhase::Draining => self.engine.handle(now, Event::Drain),
            ShutdownPhase::Closed => self.exit(End::Cut),
        }
    }

    fn handle_watchdog(&mut self, now: UnixMillis) {
        while let Ok(event) = self.watchdog.try_recv() {
            match event {
                WatchdogEvent::Stopped => self.engine.handle(now, Event::ProcessStopped),
                WatchdogEvent::HungCall => self.exit(End::Hung),
            }
        }
    }

    /// Passes an event to the engine, after the watchdog's: a stopped process explains
    /// a fence that was received with it. An event of Kafka is also logged. Returns the
    /// number of its records.
    fn handle(&mut self, now: UnixMillis, event: Event) -> usize {
        self.handle_watchdog(now);
        let mut records = 0;
        if let Event::Kafka { session, event } = &event
            && self.engine.is_current(*session)
        {
            self.log(now, event);
            if let KafkaEvent::Records(read) = event {
                records = read.len();
            }
        }
        self.engine.handle(now, event);
        records
    }

    fn log(&mut self, now: UnixMillis, event: &KafkaEvent) {
        match event {
            KafkaEvent::CommitUnsure { why, .. } => {
                warn!(why, "the outcome of a commit is unknown")
            }
            KafkaEvent::MoveUnsure { why, .. } => {
                warn!(why, "the outcome of a transaction is unknown");
            }
            KafkaEvent::MoveRefused {
                why, destinations, ..
            } if !destinations.is_empty() => debug!(why, "destinations refused records"),
            KafkaEvent::MoveRefused { why, .. } => {
                info!(why, "a transaction was not committed and is decided again");
            }
            KafkaEvent::MoveNotStarted { why, .. } => debug!(why, "a transaction was not started"),
            KafkaEvent::TopicRecreated { topic } => {
                let topic = self.service.engine.topics.name(*topic);
                error!(topic, "the topic was deleted and made again");
            }
            KafkaEvent::ConsumerFault { why } => warn!(why, "the consumer failed"),
            KafkaEvent::ConsumerFenced => warn!("the consumer was fenced by a later join"),
            KafkaEvent::Subscribed => info!("subscribed"),
            KafkaEvent::Waiting { why, .. } => self.waiting(now, why),
            _ => {}
        }
    }

    fn perform_all(&mut self, now: UnixMillis) {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Kafka(request) => self.request(request),
                Action::StartAttempt(request) => self.start_attempt(request),
                Action::StartSession(start) => self.start_session(start),
                Action::DropSession => self.drop_session(now),
                Action::ShowOverview => self.next_tick = now,
                Action::Report(fact) => {
                    if let Some(log) = &self.attempt_log {
                        log.observe(&fact);
                    }
                    self.service.telemetry.observe(now, &fact);
                }
                Action::Exit(end) => self.exit(end),
            }
        }
    }

    fn request(&self, request: KafkaRequest) {
        if request == KafkaRequest::Consumer(ConsumerRequest::Rejoin) {
            warn!("partitions have no member: leaving the group and joining it again");
        }
        if let Some(session) = &self.session {
            session.request(request);
        }
    }

    fn start_session(&mut self, start: SessionStart) {
        let (number, events) = (start.session, self.kafka_events_in.clone());
        let report = move |event| {
            // After the service has ended, the receiver is gone.
            let _ = events.send((number, event));
        };
        let (settings, sessions) = (self.service.kafka.get(), Arc::clone(&self.sessions));
        let (session, jobs) = kafka::start(settings, sessions, start, report);
        self.session = Some(session);
        jobs.into_iter().for_each(spawn);
    }

    /// Drops the session, then passes the events on that it has still reported.
    fn drop_session(&mut self, now: UnixMillis) {
        self.session = None;
        while let Ok((session, event)) = self.kafka_events.try_recv() {
            self.handle(now, Event::Kafka { session, event });
        }
        self.engine.handle(now, Event::SessionDropped);
    }

    /// Ends the process after this turn. The first end counts.
    fn exit(&mut self, end: End) {
        match end {
            End::NameInUse(FencedClient::Consumer) => {
                error!("another process uses this replica's name");
            }
            End::NameInUse(FencedClient::Producer) => error!(
                "the producer is fenced again and again: another process uses this replica's name"
            ),
            _ => {}
        }
        self.end.get_or_insert(end);
    }

    fn start_attempt(&self, request: AttemptRequest) {
        let clock = Arc::clone(&self.service.clock);
        let results = self.results_in.clone();
        let (runtime, callbacks) = match request.isolation {
            Isolation::Isolated => (self.isolated.runtime(), &self.service.isolated_callbacks),
            Isolation::Shared => (&self.runtime, &self.service.callbacks),
        };
        let callbacks = Arc::clone(callbacks);
        runtime.spawn(async move {
            let position = request.position;
            let started_at = clock.now();
            let result = if started_at > request.start_by {
                Event::AttemptExpired { position }
            } else {
                let wall = clock::wall();
                let outcome: Outcome = callbacks.attempt(request, wall).await;
                let ended = AttemptResult {
                    outcome,
                    started_at: wall,
                    duration: clock.now().since(started_at),
                };
                Event::AttemptFinished { position, ended }
            };
            // After the service has ended, the receiver is gone.
            let _ = results.send(result);
        });
    }

    fn follow_wall_clock(&mut self, now: UnixMillis) {
        let ahead_ms = self.service.clock.wall_ahead_ms();
        if ahead_ms != self.wall_ahead_ms {
            self.wall_ahead_ms = ahead_ms;
            warn!(ahead_ms, "the wall clock was stepped since the start");
            self.engine.handle(now, Event::ClockStepped { ahead_ms });
        }
    }

    /// Updates gauges and pages, and loads changed files.
    fn tick(&mut self, now: UnixMillis) {
        self.next_tick = now.plus(TICK);
        if let Some(new) = self.service.name_files.check() {
            for callbacks in [&self.service.callbacks, &self.service.isolated_callbacks] {
                callbacks.look_names_up_in(&new.resolv_conf, &new.hosts);
            }
        }
        self.follow_wall_clock(now);
        self.show(now);
        self.perform_all(now);
    }

    /// Updates gauges and pages.
    fn show(&self, now: UnixMillis) {
        let mut overview = self.engine.overview(now);
        overview.panicked = threads::panicked();
        (overview.refused, overview.tenants_refused) = self.tenants.refused();
        if let Some(why) = self.tenants.waits_for() {
            overview.readiness = Some(why.to_owned());
        }
        let telemetry = &self.service.telemetry;
        telemetry.overview(now, &overview, self.tenants.in_force());
        self.service.status.show(overview);
    }

    /// Passes changed tenants to the engine.
    fn tenants_changed(&mut self, now: UnixMillis, report: TenantsReport) {
        let texts = |mistakes: &[Mistake]| -> Vec<String> {
            mistakes.iter().map(ToString::to_string).collect()
        };
        let telemetry = &self.service.telemetry;
        match report {
            TenantsReport::Reload(ReloadResult::Ok(tenants)) => {
                telemetry.tenants_reloaded(tenants.len());
                self.engine.handle(now, Event::TenantsReplaced(tenants));
            }
            TenantsReport::Reload(ReloadResult::Refused(mistakes)) => {
                telemetry.tenants_refused(&texts(&mistakes));
            }
            TenantsReport::Topic(change) => {
                let (refused, total) = (change.refused_count, change.tenants.len());
                telemetry.tenants_topic_read(change.changed, total, refused);
                telemetry.tenant_entries_refused(&texts(&change.mistakes));
                self.engine
                    .handle(now, Event::TenantsReplaced(change.tenants));
            }
            TenantsReport::Waiting(why) => self.waiting(now, &why),
            TenantsReport::Wrong(why) => self.exit(End::WrongSettings(why)),
        }
    }

    /// Logs what the service waits for, at most once in [`WAITING_LOG_EVERY`].
    fn waiting(&mut self, now: UnixMillis, why: &str) {
        let was_logged = |at| now.since(at) < WAITING_LOG_EVERY;
        if !self.waiting_logged_at.is_some_and(was_logged) {
            self.waiting_logged_at = Some(now);
            warn!(why, "waiting for Kafka");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;
    use crate::config::watch::TenantsWatch;
    use crate::kafka::settings::ClusterKind;
    use crate::model::tenant::Tenants;

    struct Scene {
        runner: Runner,
        now: UnixMillis,
        watchdog: mpsc::UnboundedSender<WatchdogEvent>,
        phase: watch::Sender<ShutdownPhase>,
    }

    /// Returns a runner whose engine has asked for a session. No client runs.
    fn scene() -> Scene {
        let tenants = ConfiguredTenants::Files(TenantsWatch::fixed(Tenants::default()));
        let settings = Settings::defaults("a");
        let service = Service::new(&settings, ClusterKind::Brokers).expect("a service");
        let now = service.clock.now();
        let (phase, phases) = watch::channel(ShutdownPhase::Running);
        let mut runner = Runner::new(service, tenants, phases, watch::channel(0).1);
        let (watchdog, events) = mpsc::unbounded_channel();
        runner.watchdog = events;
        let worked = Duration::ZERO;
        runner.engine.handle(now, Event::Wake { worked });
        assert!(std::iter::from_fn(|| runner.engine.next_action()).count() > 0);
        Scene {
            runner,
            now,
            watchdog,
            phase,
        }
    }

    fn fence() -> (SessionId, KafkaEvent) {
        (SessionId(1), KafkaEvent::ConsumerFenced)
    }

    #[tokio::test]
    async fn a_stop_that_was_found_before_a_fence_was_received_explains_it() {
        let mut scene = scene();
        scene.watchdog.send(WatchdogEvent::Stopped).expect("open");
        let (session, event) = fence();
        scene
            .runner
            .handle(scene.now, Event::Kafka { session, event });
        assert_eq!(scene.runner.engine.next_action().map(is_exit), Some(false));

        let mut scene = self::scene();
        scene.watchdog.send(WatchdogEvent::Stopped).expect("open");
        scene.runner.kafka_events_in.send(fence()).expect("open");
        scene.runner.drop_session(scene.now);
        let actions = std::iter::from_fn(|| scene.runner.engine.next_action());
        assert!(!actions.into_iter().any(is_exit));
    }

    fn is_exit(action: Action) -> bool {
        matches!(action, Action::Exit(_))
    }

    #[tokio::test]
    async fn the_first_end_of_a_turn_counts() {
        let mut scene = scene();
        scene.watchdog.send(WatchdogEvent::HungCall).expect("open");
        scene.phase.send_replace(ShutdownPhase::Closed);
        scene.runner.turn(Waited::Phase);
        assert_eq!(scene.runner.end, Some(End::Hung));
    }
}
