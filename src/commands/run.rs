//! `ringback run`: puts the service together and runs it to its end. Opens
//! nothing before all settings are checked. Runs on the main thread.

use super::{Exit, fault};
use crate::admin::{self, About, Pages, Status};
use crate::clock::Clock;
use crate::config::Configured;
use crate::config::name_files::NameFiles;
use crate::config::settings::{self, Settings};
use crate::engine::event::EngineSettings;
use crate::http::callback::{Callbacks, HttpSettings, Trust};
use crate::http::kept::KEPT_MAX;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::{self, Job};
use crate::runner::{self, End, Service};
use crate::shutdown;
use crate::telemetry::facts::Telemetry;
use crate::telemetry::logging::{self, Log, LogFilter, LogFormat};
use crate::telemetry::metrics::Metrics;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::error::Error;
use std::sync::Arc;
use tracing::{error, info, warn};

/// Files and sockets beside those of attempts: the operators' pages, Kafka's
/// brokers, lookups of names.
const OTHER_FILES_MAX: usize = 256;

/// Runs the service until a signal or a fault ends it.
pub fn run(configured: Configured) -> Exit {
    let log = match start_log(&configured.settings) {
        Ok(log) => log,
        Err(error) => return fault(error.as_ref()),
    };
    for warning in &configured.warnings {
        warn!("{warning}");
    }
    raise_file_limit(configured.settings.in_flight_max);
    for (setting, value) in configured.settings.effective() {
        info!(setting, value, "setting");
    }
    let exit = match serve(configured) {
        Ok(End::Hung) => {
            log.flush();
            kafka::end_process(Exit::Hung.code());
        }
        Ok(end) => exit_of(&end),
        Err(error) => {
            error!(error = %Chain(error.as_ref()), "the service cannot start");
            Exit::Fault
        }
    };
    log.flush();
    exit
}

/// Attempts and kept connections are sockets: with the usual soft limit of
/// 1,024 open files attempts would fail for want of them, as if the tenants
/// could not be reached.
fn raise_file_limit(in_flight_max: usize) {
    let before = getrlimit(Resource::Nofile);
    let mut limit = before;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "the limit of open files cannot be raised");
        limit = before;
    }
    let needed = u64::try_from(in_flight_max + KEPT_MAX + OTHER_FILES_MAX);
    let needed = needed.unwrap_or(u64::MAX);
    if let Some(limit) = limit.current.filter(|limit| *limit < needed) {
        warn!(
            limit,
            needed, "the limit of open files is low: with many tenants attempts may fail"
        );
    }
}

fn start_log(settings: &Settings) -> Result<Log, Box<dyn Error>> {
    let filter: LogFilter = settings.log.name().parse()?;
    let format = match settings.log_format {
        Some(settings::LogFormat::Text) => LogFormat::Text,
        Some(settings::LogFormat::Json) => LogFormat::Json,
        None => LogFormat::of_stderr(),
    };
    let (log, writer) = logging::start(&filter, format)?;
    runner::spawn(Job {
        name: "log",
        run: Box::new(move || writer.run()),
    });
    Ok(log)
}

fn serve(configured: Configured) -> Result<End, Box<dyn Error>> {
    let Configured {
        settings, tenants, ..
    } = configured;
    let clock = Arc::new(Clock::start());
    let names = settings.cluster.topics.clone();
    let delays = settings.schedule.distinct_delays();
    let librdkafka = rdkafka::util::get_rdkafka_version().1;
    let metrics = Arc::new(Metrics::new(
        names.clone(),
        &delays,
        env!("CARGO_PKG_VERSION"),
        &librdkafka,
    ));
    let status = Arc::new(Status::new(About {
        names: names.clone(),
        instance: settings.instance.clone(),
        group: settings.group.clone(),
        version: env!("CARGO_PKG_VERSION"),
        started_at: clock.now(),
    }));
    let listener = admin::bind(&settings.listen.to_string())?;
    let http = http_settings(&settings);
    let callbacks_apart = Arc::new(Callbacks::new(HttpSettings {
        keeps: false,
        ..http.clone()
    })?);
    let callbacks = Arc::new(Callbacks::new(http)?);
    let pages = {
        let (metrics, clock) = (Arc::clone(&metrics), Arc::clone(&clock));
        Pages::new(
            Arc::clone(&status),
            move || metrics.render(),
            move || clock.now(),
        )
    };
    let (stop_pages, stopped) = tokio::sync::oneshot::channel();
    let pages = admin::serve(listener, pages, stopped);
    let serve_pages = move || {
        if let Err(error) = pages() {
            error!(error = %Chain(&error), "the operators' pages ended");
        }
    };
    runner::spawn(Job {
        name: "pages",
        run: Box::new(serve_pages),
    });
    let service = Service {
        kafka: Arc::new(kafka_settings(&settings)),
        engine: engine_settings(&settings),
        callbacks,
        callbacks_apart,
        tenants,
        name_files: NameFiles::default(),
        telemetry: Arc::new(Telemetry::new(metrics, names)),
        status,
        clock,
        hung_exit_code: Exit::Hung.code(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(async {
        let (phase, signals) = shutdown::listen()?;
        Ok::<End, Box<dyn Error>>(runner::serve(service, phase, signals).await)
    })?;
    drop(stop_pages);
    // Attempts that were cut are not waited for.
    runtime.shutdown_background();
    Ok(end)
}

fn exit_of(end: &End) -> Exit {
    match end {
        End::Drained => {
            info!("drained");
            Exit::Done
        }
        End::Cut => {
            warn!("ended before everything was written: what was in flight is charged as in doubt");
            Exit::Fault
        }
        End::WrongSettings(why) => {
            error!(why, "the topics do not fit");
            Exit::Refused
        }
        End::Fenced => Exit::Fenced,
        End::Hung => Exit::Hung,
    }
}

/// What attempts rest on.
#[must_use]
pub fn http_settings(settings: &Settings) -> HttpSettings {
    HttpSettings {
        timeout: settings.timeout,
        version: env!("CARGO_PKG_VERSION"),
        allow_networks: settings.allow_networks.clone(),
        proxy: settings.proxy.as_ref().map(|proxy| proxy.0.to_string()),
        trust: match &settings.ca_file {
            Some(file) => Trust::SystemAnd(file.pem.clone()),
            None => Trust::System,
        },
        keeps: true,
    }
}

/// What the Kafka side rests on.
#[must_use]
pub fn kafka_settings(settings: &Settings) -> KafkaSettings {
    let properties = settings.cluster.properties.iter();
    KafkaSettings {
        brokers: settings.cluster.brokers.clone(),
        group: settings.group.clone(),
        instance: settings.instance.clone(),
        topics: settings.cluster.topics.clone(),
        delays: settings.schedule.distinct_delays(),
        record_bytes_max: settings.schedule.record_bytes_max,
        properties: properties
            .map(|p| (p.key.clone(), p.value.clone()))
            .collect(),
        embedded: false,
    }
}

/// What the engine rests on.
#[must_use]
pub fn engine_settings(settings: &Settings) -> EngineSettings {
    EngineSettings {
        topics: settings.cluster.topics.clone(),
        attempts: settings.schedule.attempts,
        delays: settings.schedule.delays.clone(),
        in_flight_max: settings.in_flight_max,
        commit_interval: settings.commit_interval,
        record_bytes_max: settings.schedule.record_bytes_max,
        drain_timeout: settings.drain_timeout,
    }
}

/// An error with all its causes.
struct Chain<'a>(&'a dyn Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
