//! `ringback run`: starts the log, the operators' pages and the service, and
//! runs the service until it ends. Opens nothing before all settings are
//! checked. Runs on the main thread.

use super::chain;
use crate::admin::{self, Pages};
use crate::config::kafka_files::KafkaFiles;
use crate::config::mistake::{Mistake, Warning};
use crate::config::setting::Typed;
use crate::config::settings::{self, Settings};
use crate::config::values::LogFormatSetting;
use crate::config::{self, Configured, ConfiguredTenants};
use crate::exit::Exit;
use crate::http::pool::POOL_MAX;
use crate::kafka::settings::ClusterKind;
use crate::kafka::{self, Job};
use crate::model::log_levels::{LogLevel, LogLevels};
use crate::runner::{self, End};
use crate::service::Service;
use crate::shutdown;
use crate::telemetry::logging::{self, Log, LogFilter, LogFormat};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// Files and sockets beside those of attempts: the operators' pages, Kafka's
/// brokers, lookups of names.
const OTHER_FILES_MAX: usize = 256;

/// Runs the service until a signal or a fault ends it.
pub fn run(args: &Typed, warnings: &[Warning]) -> Exit {
    let Configured { read, tenants } = match config::load(args, super::property_mistakes) {
        Ok(configured) => configured,
        Err(mistakes) => return refuse(args, &mistakes, warnings),
    };
    let format = format_of(read.settings.log_format);
    let log = match start_log(&read.settings.log, format) {
        Ok(log) => log,
        Err(error) => return super::fault(error.as_ref()),
    };
    for warning in read.warnings.iter().chain(warnings) {
        warn!("{warning}");
    }
    raise_file_limit(read.settings.in_flight_max);
    for (setting, value) in read.effective {
        info!(setting, value, "setting");
    }
    let exit = match serve(&read.settings, tenants) {
        Ok(end) => exit_of(&end),
        Err(error) => {
            error!(error = chain(error.as_ref()), "the service cannot start");
            Exit::Fault
        }
    };
    log.flush();
    if exit == Exit::HungClient {
        // A usual end could wait for the hung thread.
        kafka::end_process(exit.code());
    }
    exit
}

/// Raises the soft limit of open files to the hard limit, and warns where that
/// is too low. Attempts and pooled connections are sockets. With the usual soft
/// limit of 1,024, attempts fail as if the tenants were unreachable.
fn raise_file_limit(in_flight_max: usize) {
    let before = getrlimit(Resource::Nofile);
    let mut limit = before;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!(%error, "cannot raise the limit of open files");
        limit = before;
    }
    let needed = u64::try_from(in_flight_max + POOL_MAX + OTHER_FILES_MAX);
    let needed = needed.unwrap_or(u64::MAX);
    if let Some(limit) = limit.current.filter(|limit| *limit < needed) {
        warn!(
            limit,
            needed, "the limit of open files is low: attempts may fail for lack of sockets"
        );
    }
}

/// Reports every mistake in the format of the log.
fn refuse(args: &Typed, mistakes: &[Mistake], warnings: &[Warning]) -> Exit {
    let format = format_of(settings::read_log_format(args));
    let levels = LogLevels {
        own: LogLevel::Info,
        targets: Vec::new(),
    };
    let log = match format {
        LogFormat::Json => start_log(&levels, format).ok(),
        LogFormat::Text => None,
    };
    let Some(log) = log else {
        super::warn(warnings);
        return super::refuse(mistakes);
    };
    for warning in warnings {
        warn!("{warning}");
    }
    for Mistake { name, text } in mistakes {
        error!(
            name,
            mistake = text,
            "wrong settings: the service cannot start"
        );
    }
    log.flush();
    Exit::WrongSettings
}

fn format_of(setting: Option<LogFormatSetting>) -> LogFormat {
    match setting {
        Some(LogFormatSetting::Text) => LogFormat::Text,
        Some(LogFormatSetting::Json) => LogFormat::Json,
        None => LogFormat::of_stderr(),
    }
}

fn start_log(levels: &LogLevels, format: LogFormat) -> Result<Log, Box<dyn Error>> {
    let (log, writer) = logging::start(&LogFilter::new(levels), format)?;
    runner::spawn(Job {
        name: "log",
        run: Box::new(move || writer.run()),
    });
    Ok(log)
}

fn serve(settings: &Settings, tenants: ConfiguredTenants) -> Result<End, Box<dyn Error>> {
    let mut service = Service::new(settings, ClusterKind::Brokers)?;
    service.kafka_files = Some(KafkaFiles::new(&settings.cluster, super::property_mistakes));
    let stop_pages = serve_pages(settings.listen, &service)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(async {
        let (phase, endings) = shutdown::listen()?;
        let (reloads, orders) = shutdown::listen_for_reloads()?;
        let signals = async {
            tokio::join!(endings, orders);
        };
        Ok::<End, Box<dyn Error>>(runner::serve(service, tenants, phase, reloads, signals).await)
    })?;
    drop(stop_pages);
    // Does not wait for attempts that a second signal has cut off.
    runtime.shutdown_background();
    Ok(end)
}

/// Starts the operators' pages. They end when the sender is dropped.
fn serve_pages(
    listen: SocketAddr,
    service: &Service,
) -> Result<oneshot::Sender<()>, Box<dyn Error>> {
    let listener = admin::bind(&listen.to_string())?;
    let (metrics, clock) = (Arc::clone(&service.metrics), Arc::clone(&service.clock));
    let (status, now) = (Arc::clone(&service.status), move || clock.now());
    let render = {
        let (status, now) = (Arc::clone(&status), now.clone());
        // A loop that no longer turns cannot say so itself.
        move || {
            metrics.verdicts(status.verdicts(now()));
            metrics.render()
        }
    };
    let pages = Pages::new(status, render, now);
    let (stop, stopped) = oneshot::channel();
    let pages = admin::serve(listener, pages, stopped);
    runner::spawn(Job {
        name: "pages",
        run: Box::new(move || {
            if let Err(error) = pages() {
                error!(error = chain(&error), "the operators' pages ended");
            }
        }),
    });
    Ok(stop)
}

fn exit_of(end: &End) -> Exit {
    match end {
        End::Drained => {
            info!("drained");
            Exit::Done
        }
        End::Cut => {
            warn!("stopped with writes pending; attempts in flight will be charged as in doubt");
            Exit::Fault
        }
        End::WrongSettings(why) => {
            error!(why, "topics or tenants are incompatible");
            Exit::WrongSettings
        }
        End::NameInUse(_) => Exit::NameInUse,
        End::Hung => Exit::HungClient,
    }
}
