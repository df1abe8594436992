//! Builds the service from its settings, once for `run` and `demo`. Opens no
//! connection, starts no thread and decides nothing about records. Runs on the
//! main thread.

use crate::admin::{About, Status};
use crate::clock::Clock;
use crate::config::certificates::CertificateFiles;
use crate::config::kafka_files::KafkaFiles;
use crate::config::name_files::NameFiles;
use crate::config::properties;
use crate::config::settings::{Cluster, Schedule, Settings};
use crate::config::values::AttemptLogSetting;
use crate::engine::event::EngineSettings;
use crate::http::callback::{Callbacks, ConnectionReuse, HttpError, HttpSettings, Trust};
use crate::kafka::current::CurrentSettings;
use crate::kafka::settings::{ClusterKind, KafkaSettings};
use crate::telemetry::{Metrics, Telemetry};
use std::sync::Arc;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The parts of the service, ready for [`crate::runner::serve`].
pub struct Service {
    pub kafka: Arc<CurrentSettings>,
    /// The files of Kafka, which may change. The demo has none.
    pub kafka_files: Option<KafkaFiles>,
    pub engine: EngineSettings,
    /// Sends attempts to tenants that answer, on the runner's thread.
    pub callbacks: Arc<Callbacks>,
    /// Sends isolated attempts, on threads of their own. Shares neither
    /// connections nor lookups with `callbacks`: both stay on their thread.
    pub isolated_callbacks: Arc<Callbacks>,
    /// The system's files about host names, for the callbacks' lookups.
    pub name_files: NameFiles,
    /// The files of certificates, for new connections of the callbacks.
    pub certificates: CertificateFiles,
    pub attempt_log: AttemptLogSetting,
    pub metrics: Arc<Metrics>,
    pub telemetry: Arc<Telemetry>,
    pub status: Arc<Status>,
    pub clock: Arc<Clock>,
}

impl Service {
    /// Builds the service. It starts its clock and nothing else.
    ///
    /// # Errors
    /// The HTTP client cannot be made, for example for a wrong certificate.
    pub fn new(settings: &Settings, kind: ClusterKind) -> Result<Self, HttpError> {
        let clock = Arc::new(Clock::start());
        let names = settings.cluster.topics.clone();
        let delays = settings.schedule.distinct_delays();
        let librdkafka = rdkafka::util::get_rdkafka_version().1;
        let metrics = Metrics::new(
            names.clone(),
            &delays,
            settings.timeout,
            VERSION,
            &librdkafka,
        );
        let metrics = Arc::new(metrics);
        let status = Status::new(About {
            names: names.clone(),
            instance: settings.instance.clone(),
            group: settings.group.clone(),
            version: VERSION,
            started_at: clock.now(),
        });
        let http = http_settings(settings, kind);
        let isolated = HttpSettings {
            reuse: ConnectionReuse::CloseAfterAttempt,
            ..http.clone()
        };
        Ok(Self {
            kafka: Arc::new(CurrentSettings::new(KafkaSettings {
                group: settings.group.clone(),
                instance: settings.instance.clone(),
                kind,
                ..kafka_settings(&settings.cluster, &settings.schedule)
            })),
            kafka_files: None,
            engine: engine_settings(settings),
            callbacks: Arc::new(Callbacks::new(http)?),
            isolated_callbacks: Arc::new(Callbacks::new(isolated)?),
            name_files: NameFiles::default(),
            certificates: CertificateFiles::new(settings),
            attempt_log: settings.attempt_log,
            telemetry: Arc::new(Telemetry::new(Arc::clone(&metrics), names)),
            metrics,
            status: Arc::new(status),
            clock,
        })
    }
}

/// Returns the Kafka shell's settings without a group and an instance: for the
/// commands, which join no group.
#[must_use]
pub fn kafka_settings(cluster: &Cluster, schedule: &Schedule) -> KafkaSettings {
    KafkaSettings {
        brokers: cluster.brokers.clone(),
        group: String::new(),
        instance: String::new(),
        topics: cluster.topics.clone(),
        delays: schedule.distinct_delays(),
        record_bytes_max: schedule.record_bytes_max,
        properties: properties::pairs(&cluster.properties),
        kind: ClusterKind::Brokers,
    }
}

/// Returns the settings of attempts.
#[must_use]
pub fn http_settings(settings: &Settings, kind: ClusterKind) -> HttpSettings {
    HttpSettings {
        timeout: settings.timeout,
        version: VERSION,
        allow_networks: settings.allow_networks.clone(),
        deny_networks: settings.deny_networks.clone(),
        proxy: settings.proxy.as_ref().map(|proxy| proxy.0.to_string()),
        client_cert: settings.client_cert.as_ref().map(|file| file.pem.clone()),
        trust: match (kind, &settings.ca_file) {
            // The demo has no callbacks over https.
            (ClusterKind::Embedded, _) => Trust::Nothing,
            (ClusterKind::Brokers, Some(file)) => Trust::SystemAnd(file.pem.clone()),
            (ClusterKind::Brokers, None) => Trust::System,
        },
        reuse: ConnectionReuse::Reuse,
    }
}

fn engine_settings(settings: &Settings) -> EngineSettings {
    EngineSettings {
        topics: settings.cluster.topics.clone(),
        instance: settings.instance.clone(),
        attempts: settings.schedule.attempts,
        delays: settings.schedule.delays.clone(),
        in_flight_max: settings.in_flight_max,
        commit_interval: settings.commit_interval,
        record_bytes_max: settings.schedule.record_bytes_max,
        drain_timeout: settings.drain_timeout,
    }
}
