//! The settings, typed and checked. Each value is read by [`super::values`],
//! laws across them are in [`super::laws`]; all mistakes are collected before
//! any is reported. Reads files that settings name; opens nothing else.

use super::args::{DELAYS_DEFAULT, KafkaArgs, ListenArgs, RunArgs, ScheduleArgs, TopicsArgs};
use super::environment;
use super::mistake::{Mistake, Mistakes, Warning};
use super::{laws, properties, values};
use crate::model::position::TopicNames;
use crate::model::time::{Delay, DurationText};
use ipnet::IpNet;
use reqwest::Url;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Says which of the librdkafka properties may not be set so, each by its key and
/// with the reason, in which no value is shown. Only Kafka's side knows; `main`
/// hands it in.
pub type PropertyRule = fn(&[KafkaProperty]) -> Vec<(String, String)>;

/// The longest wait between two commits: a record's latency grows by it.
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);

/// The largest `--in-flight-max`: each slot may hold a socket.
const IN_FLIGHT_MAX: usize = 65_536;

/// Limits of a file that a setting names, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How to reach Kafka, and how the topics are called.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Bootstrap servers, comma separated.
    pub brokers: String,
    /// The topics' names, made from `--topic`.
    pub topics: TopicNames,
    /// Further librdkafka properties, each key once, none of the refused ones.
    pub properties: Vec<KafkaProperty>,
}

/// One librdkafka property.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaProperty {
    /// Its name.
    pub key: String,
    /// Its value, which may be a secret.
    pub value: String,
}

impl KafkaProperty {
    /// Whether the value must not be shown: everything about SASL, and every
    /// key that speaks of a password, a secret, a token or a private key.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        let key = self.key.to_ascii_lowercase();
        let words = [
            "password",
            "secret",
            "token",
            "ssl.key",
            "ssl_key",
            "keystore",
            "oauthbearer",
        ];
        (key.starts_with("sasl.") && !["sasl.mechanism", "sasl.mechanisms"].contains(&key.as_str()))
            || words.iter().any(|word| key.contains(word))
    }
}

impl fmt::Display for KafkaProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.is_secret() {
            "[redacted]"
        } else {
            &self.value
        };
        write!(f, "{}={shown}", self.key)
    }
}

impl fmt::Debug for KafkaProperty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The schedule of attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Attempts in all, 1 to 10.
    pub attempts: u8,
    /// The waits between attempts, at least one; the last repeats.
    pub delays: Vec<Delay>,
    /// The largest record that is sent, in bytes.
    pub record_bytes_max: usize,
}

impl Schedule {
    /// Each delay once, shortest first; each has a topic.
    #[must_use]
    pub fn distinct_delays(&self) -> Vec<Delay> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.dedup();
        delays
    }
}

/// Further trusted certificates.
#[derive(Clone, PartialEq, Eq)]
pub struct CaFile {
    /// Where they were read from.
    pub path: PathBuf,
    /// The file's bytes: PEM with at least one certificate.
    pub pem: Vec<u8>,
}

impl fmt::Debug for CaFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

/// An egress proxy's URL, whose credentials are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub Url);

impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|p| format!(":{p}")).unwrap_or_default();
        let host = self.0.host_str().unwrap_or_default();
        write!(f, "{}://{host}{port}", self.0.scheme())
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The least level that is logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Faults.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happens in ordinary work.
    Info,
    /// And each step.
    Debug,
    /// And everything.
    Trace,
}

impl LogLevel {
    const NAMES: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// The name in settings, which is also tracing's.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The form of the log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    const NAMES: [(&'static str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

/// The settings of `run`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How to reach Kafka.
    pub cluster: Cluster,
    /// The consumer group.
    pub group: String,
    /// This replica's stable name.
    pub instance: String,
    /// The schedule of attempts.
    pub schedule: Schedule,
    /// The deadline of one attempt.
    pub timeout: Duration,
    /// The tenants file.
    pub tenants: PathBuf,
    /// Where the operator's pages are.
    pub listen: SocketAddr,
    /// Attempts at once in this process, at least 1.
    pub in_flight_max: usize,
    /// Least time between two offset commits.
    pub commit_interval: Duration,
    /// From the signal to the end at the latest.
    pub drain_timeout: Duration,
    /// Networks that callbacks may reach although they are not public.
    pub allow_networks: Vec<IpNet>,
    /// Egress proxy.
    pub proxy: Option<ProxyUrl>,
    /// Further trusted certificates.
    pub ca_file: Option<CaFile>,
    /// The least level that is logged.
    pub log: LogLevel,
    /// The form of the log lines; none: text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
}

impl Settings {
    /// The settings in force as pairs of flag and value for the log, without
    /// secrets.
    #[must_use]
    pub fn effective(&self) -> Vec<(&'static str, String)> {
        use crate::model::position::Topic;
        let none = || "none".to_owned();
        let list = |texts: Vec<String>| {
            if texts.is_empty() {
                none()
            } else {
                texts.join(",")
            }
        };
        let texts = |delays: &[Delay]| delays.iter().map(Delay::to_string).collect();
        let format = match self.log_format {
            Some(LogFormat::Text) => "text",
            Some(LogFormat::Json) => "json",
            None => "by terminal",
        };
        let properties = self.cluster.properties.iter().map(KafkaProperty::to_string);
        let ca_file = self
            .ca_file
            .as_ref()
            .map(|ca| ca.path.display().to_string());
        vec![
            ("brokers", self.cluster.brokers.clone()),
            ("group", self.group.clone()),
            ("instance", self.instance.clone()),
            ("topic", self.cluster.topics.name(Topic::Source)),
            ("attempts", self.schedule.attempts.to_string()),
            ("delays", list(texts(&self.schedule.delays))),
            ("timeout", DurationText(self.timeout).to_string()),
            ("tenants", self.tenants.display().to_string()),
            ("listen", self.listen.to_string()),
            ("in-flight-max", self.in_flight_max.to_string()),
            (
                "commit-interval",
                DurationText(self.commit_interval).to_string(),
            ),
            (
                "record-max-bytes",
                self.schedule.record_bytes_max.to_string(),
            ),
            (
                "drain-timeout",
                DurationText(self.drain_timeout).to_string(),
            ),
            (
                "allow-networks",
                list(self.allow_networks.iter().map(IpNet::to_string).collect()),
            ),
            (
                "proxy",
                self.proxy.as_ref().map_or_else(none, ProxyUrl::to_string),
            ),
            ("ca-file", ca_file.unwrap_or_else(none)),
            ("kafka", list(properties.collect())),
            ("log", self.log.name().to_owned()),
            ("log-format", format.to_owned()),
        ]
    }
}

/// Reads the settings of `run`.
///
/// Errors: every mistake, each with the flag, the value and what is allowed.
pub fn read(given: &RunArgs, rule: PropertyRule) -> Result<(Settings, Vec<Warning>), Vec<Mistake>> {
    let mut m = Mistakes::default();
    let ms = Duration::from_millis;
    let cluster = cluster(&given.kafka, rule, &mut m);
    let schedule = schedule(&given.schedule, cluster.as_ref().map(|c| &c.topics), &mut m);
    let group = m.take("--group", values::group(&given.group));
    let instance = m.take("--instance", instance(given.instance.as_deref()));
    let timeout = values::duration(&given.timeout, ms(100)..=ms(5_000));
    let timeout = m.take("--timeout", timeout);
    let listen = m.take("--listen", values::listen(&given.listen.listen));
    let in_flight_max = values::number(&given.in_flight_max, 1..=IN_FLIGHT_MAX);
    let in_flight_max = m.take("--in-flight-max", in_flight_max);
    let commit_interval = values::duration(&given.commit_interval, ms(0)..=COMMIT_INTERVAL_MAX);
    let commit_interval = m.take("--commit-interval", commit_interval);
    let drain_timeout = values::duration(&given.drain_timeout, ms(100)..=ms(300_000));
    let drain_timeout = m.take("--drain-timeout", drain_timeout);
    let networks = optional(given.allow_networks.as_deref(), values::networks);
    let networks = m.take("--allow-networks", networks).flatten();
    let proxy = optional(given.proxy.as_deref(), values::proxy);
    let proxy = m.take("--proxy", proxy).flatten().map(ProxyUrl);
    let ca_file = m
        .take("--ca-file", ca_file(given.ca_file.as_deref()))
        .flatten();
    let log = m.take("--log", values::choice(&given.log, &LogLevel::NAMES));
    let log_format = optional(given.log_format.as_deref(), |t| {
        values::choice(t, &LogFormat::NAMES)
    });
    let log_format = m.take("--log-format", log_format).flatten();
    if !m.0.is_empty() {
        return Err(m.0);
    }
    let read = "every value that could not be read has left a mistake";
    let settings = Settings {
        cluster: cluster.expect(read),
        group: group.expect(read),
        instance: instance.expect(read),
        schedule: schedule.expect(read),
        timeout: timeout.expect(read),
        tenants: PathBuf::from(&given.tenants),
        listen: listen.expect(read),
        in_flight_max: in_flight_max.expect(read),
        commit_interval: commit_interval.expect(read),
        drain_timeout: drain_timeout.expect(read),
        allow_networks: networks.unwrap_or_default(),
        proxy,
        ca_file,
        log: log.expect(read),
        log_format,
    };
    let warning = laws::a_drain_outlasts_an_attempt(settings.drain_timeout, settings.timeout);
    Ok((settings, warning.into_iter().collect()))
}

/// Reads what the `topics` commands need.
///
/// Errors: every mistake.
pub fn read_topics(
    given: &TopicsArgs,
    rule: PropertyRule,
) -> Result<(Cluster, Schedule), Vec<Mistake>> {
    let mut m = Mistakes::default();
    let cluster = cluster(&given.kafka, rule, &mut m);
    let schedule = schedule(&given.schedule, cluster.as_ref().map(|c| &c.topics), &mut m);
    match (cluster, schedule) {
        (Some(cluster), Some(schedule)) if m.0.is_empty() => Ok((cluster, schedule)),
        _ => Err(m.0),
    }
}

/// Reads how to reach Kafka.
///
/// Errors: every mistake.
pub fn read_cluster(given: &KafkaArgs, rule: PropertyRule) -> Result<Cluster, Vec<Mistake>> {
    let mut m = Mistakes::default();
    let cluster = cluster(given, rule, &mut m);
    cluster.filter(|_| m.0.is_empty()).ok_or(m.0)
}

/// Reads where the operator's pages are.
///
/// Errors: the mistake.
pub fn read_listen(given: &ListenArgs) -> Result<SocketAddr, Vec<Mistake>> {
    values::listen(&given.listen).map_err(|text| vec![Mistake::new("--listen", text)])
}

fn cluster(given: &KafkaArgs, rule: PropertyRule, m: &mut Mistakes) -> Option<Cluster> {
    let brokers = m.take("--brokers", values::brokers(&given.brokers));
    let topic = m.take("--topic", values::topic(&given.topic));
    if let Some(topic) = &topic {
        let names = TopicNames::new(topic.as_str());
        m.law("--topic", laws::derived_topic_names_fit(&names, &[]));
    }
    let path = given
        .kafka_properties
        .as_deref()
        .filter(|path| !path.is_empty());
    let file = path.and_then(|path| {
        let read = environment::read_file(Path::new(path), FILE_BYTES_MAX).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
        });
        let text = m.take("--kafka-properties", read)?;
        Some((path.to_string_lossy().into_owned(), text))
    });
    let file = file
        .as_ref()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    let properties = properties::read(&given.kafka, file, rule, m);
    Some(Cluster {
        brokers: brokers?,
        topics: TopicNames::new(topic?),
        properties,
    })
}

fn schedule(
    given: &ScheduleArgs,
    topics: Option<&TopicNames>,
    m: &mut Mistakes,
) -> Option<Schedule> {
    let attempts = m.take("--attempts", values::number(&given.attempts, 1..=10_u8));
    let text = given.delays.as_deref().unwrap_or(DELAYS_DEFAULT);
    let mut delays = m.take("--delays", values::delays(text));
    let record_bytes_max = values::bytes(&given.record_max_bytes, values::RECORD_BYTES);
    let record_bytes_max = m.take("--record-max-bytes", record_bytes_max);
    if let (Some(attempts), Some(delays)) = (attempts, &mut delays) {
        if given.delays.is_none() {
            delays.truncate(laws::delays_max(attempts));
        }
        m.law(
            "--delays",
            laws::each_delay_has_an_attempt_after_it(delays, attempts),
        );
    }
    // Without delays the cluster has already been told about its dead letters.
    if let (Some(topics), Some(delays)) = (topics, &delays)
        && laws::derived_topic_names_fit(topics, &[]).is_ok()
    {
        m.law("--topic", laws::derived_topic_names_fit(topics, delays));
    }
    Some(Schedule {
        attempts: attempts?,
        delays: delays?,
        record_bytes_max: usize::try_from(record_bytes_max?).expect("at most 64 MiB"),
    })
}

fn instance(given: Option<&str>) -> Result<String, String> {
    match given {
        Some(text) => values::instance(text),
        None => {
            let host = environment::host_name()
                .ok_or("the host has no name: set --instance to 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'")?;
            values::instance(&host).map_err(|why| format!("the host's name does not serve: {why}"))
        }
    }
}

/// An empty text is as good as none: compose files and charts write it so.
fn optional<T>(
    given: Option<&str>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match given.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => read(text).map(Some),
    }
}

fn ca_file(given: Option<&OsStr>) -> Result<Option<CaFile>, String> {
    let Some(path) = given.filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let pem = environment::read_file(&path, FILE_BYTES_MAX)?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|_| format!("'{}' is not PEM", path.display()))?;
    if certificates.is_empty() {
        return Err(format!("'{}' has no certificate in PEM", path.display()));
    }
    Ok(Some(CaFile { path, pem }))
}

#[cfg(test)]
mod tests;
