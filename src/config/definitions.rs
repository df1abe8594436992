//! All settings: one row each. A row defines its setting completely. Rules across
//! settings are in [`super::rules`]. Never reads a file or the environment. Used
//! on the main thread.

use super::properties::KafkaProperty;
use super::setting::{Group, Section, Setting, ValueReader};
use super::values::{
    self, AttemptLogSetting, CaFile, ClientCert, LogFormatSetting, NoTenants, PlainHttp, ProxyUrl,
    TenantsPlace,
};
use crate::model::log_levels::LogLevels;
use crate::model::time::{Delay, DurationText};
use ipnet::IpNet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) static BROKERS: Setting<String> = Setting {
    flag: "brokers",
    variable: "RINGBACK_BROKERS",
    value_name: "LIST",
    default: "127.0.0.1:9092",
    help: "Kafka bootstrap servers: host:port, comma separated",
    read: ValueReader::Text(values::brokers),
    show: String::clone,
    refused: &[("a b", "host:port"), ("", "host:port")],
};

pub(super) static TOPIC: Setting<String> = Setting {
    flag: "topic",
    variable: "RINGBACK_TOPIC",
    value_name: "NAME",
    default: "call-ended",
    help: "Source topic: letters, digits, '.', '_', '-'. Delay topics are <topic>.delay.<delay>, \
           dead letters <topic>.dead-letter. Each full name has at most 249 characters",
    read: ValueReader::Text(values::topic),
    show: String::clone,
    refused: &[("a/b", "A-Z"), ("..", "'..'"), ("", "A-Z")],
};

pub(super) static KAFKA: Setting<Vec<KafkaProperty>> = Setting {
    flag: "kafka",
    variable: "RINGBACK_KAFKA",
    value_name: "KEY=VALUE",
    default: "none",
    help: "librdkafka property, repeatable (in the variable: one per line). Properties that the \
           delivery guarantees depend on are refused with the reason. Put secrets into \
           --kafka-properties",
    read: ValueReader::Lines,
    show: |properties| list(properties),
    refused: &[("x", "not key=value")],
};

pub(super) static KAFKA_PROPERTIES: Setting<(String, String)> = Setting {
    flag: "kafka-properties",
    variable: "RINGBACK_KAFKA_PROPERTIES",
    value_name: "FILE",
    default: "none",
    help: "File of librdkafka properties: one key=value per line, # starts a comment. --kafka \
           overrides it",
    read: ValueReader::Path(values::properties_file),
    show: |(path, _)| path.clone(),
    refused: &[("/nonexistent", "'/nonexistent'")],
};

pub(super) static GROUP: Setting<String> = Setting {
    flag: "group",
    variable: "RINGBACK_GROUP",
    value_name: "NAME",
    default: "ringback",
    help: "Consumer group: 1 to 200 ASCII characters without spaces",
    read: ValueReader::Text(values::group),
    show: String::clone,
    refused: &[("", "1 to 200"), ("a b", "1 to 200")],
};

pub(super) static INSTANCE: Setting<String> = Setting {
    flag: "instance",
    variable: "RINGBACK_INSTANCE",
    value_name: "NAME",
    default: "the host name",
    help: "Stable name of this replica: 1 to 200 letters, digits, '.', '_', '-'. Its \
           group.instance.id and transactional.id are made from it. No other replica may use it",
    read: ValueReader::Text(values::instance),
    show: String::clone,
    refused: &[("", "1 to 200"), ("no spaces", "A-Z")],
};

pub(super) static COMMIT_INTERVAL: Setting<Duration> = Setting {
    flag: "commit-interval",
    variable: "RINGBACK_COMMIT_INTERVAL",
    value_name: "DURATION",
    default: "2ms",
    help: "Minimum interval between offset commits, 0ms to 1s. On a cluster that others share, \
           set 5ms when there are many replicas. At 1,000 records/s, 5ms instead of 2ms adds \
           1.4 ms to the latency of every record. It saves the brokers 11 % of their CPU, and \
           ringback 24 %. At 5,000/s it saves 7 % and 16 %",
    read: ValueReader::Text(|text| values::duration(text, ms(0)..=ms(1_000))),
    show: duration_text,
    refused: &[("2s", "0ms to 1s"), ("2", "0ms to 1s")],
};

pub(super) static ATTEMPTS: Setting<u8> = Setting {
    flag: "attempts",
    variable: "RINGBACK_ATTEMPTS",
    value_name: "COUNT",
    default: "10",
    help: "Maximum number of attempts for one record, 1 to 10",
    read: ValueReader::Text(|text| values::number(text, 1..=10)),
    show: u8::to_string,
    refused: &[
        ("11", "1 to 10"),
        ("0", "1 to 10"),
        ("-1", "'-1'"),
        ("many", "'many'"),
    ],
};

/// Shortened to what `--attempts` needs, where it is not set.
pub const DELAYS_DEFAULT: &str = "10s,10s,1m,1m,10m,10m,1h,1h,6h";

pub(super) static DELAYS: Setting<Vec<Delay>> = Setting {
    flag: "delays",
    variable: "RINGBACK_DELAYS",
    value_name: "LIST",
    default: DELAYS_DEFAULT,
    help: "Delays between attempts, comma separated, each 100ms to 168h: 1 to 9 delays, and fewer \
           than --attempts. The last one repeats. The default is shortened to what --attempts needs",
    read: ValueReader::Text(values::delays),
    show: |delays| list(delays),
    refused: &[
        ("1d,5s,99ms", "100ms to 168h"),
        ("", "''"),
        ("1s,1s,1s,1s,1s,1s,1s,1s,1s,1s", "at most 9"),
    ],
};

pub(super) static RECORD_MAX_BYTES: Setting<usize> = Setting {
    flag: "record-max-bytes",
    variable: "RINGBACK_RECORD_MAX_BYTES",
    value_name: "BYTES",
    default: "1MiB",
    help: "Maximum size of key, value and headers together, 1KiB to 64MiB. Larger records become \
           dead letters",
    read: ValueReader::Text(values::bytes),
    show: usize::to_string,
    refused: &[("1MB", "1KiB to 64MiB"), ("65MiB", "1KiB to 64MiB")],
};

pub(super) static TIMEOUT: Setting<Duration> = Setting {
    flag: "timeout",
    variable: "RINGBACK_TIMEOUT",
    value_name: "DURATION",
    default: "5s",
    help: "Maximum duration of one attempt, 100ms to 5s: DNS, connect, TLS, request and response \
           head together",
    read: ValueReader::Text(|text| values::duration(text, values::TIMEOUTS)),
    show: duration_text,
    refused: &[("6s", "100ms to 5s"), ("5", "100ms to 5s")],
};

pub(super) static IN_FLIGHT_MAX: Setting<usize> = Setting {
    flag: "in-flight-max",
    variable: "RINGBACK_IN_FLIGHT_MAX",
    value_name: "COUNT",
    default: "1024",
    help: "Maximum number of attempts in flight in this process, 1 to 65536. A record counts once \
           per started 64 KiB. Some 1,024 more sockets to receivers may be open",
    read: ValueReader::Text(|text| values::number(text, 1..=65_536)),
    show: usize::to_string,
    refused: &[("0", "1 to 65536"), ("65537", "1 to 65536")],
};

pub(super) static ATTEMPT_LOG: Setting<AttemptLogSetting> = Setting {
    flag: "attempt-log",
    variable: "RINGBACK_ATTEMPT_LOG",
    value_name: "CHOICE",
    default: "off",
    help: "on or off: write one JSON record for each attempt to the topic <topic>.attempts, without \
           personal data. Entries that Kafka does not take are dropped and counted",
    read: ValueReader::Switch(|text| values::on_or_off(text, AttemptLogSetting::from_name)),
    show: |choice| choice.name().to_owned(),
    refused: &[("yes", "on, off"), ("", "on, off")],
};

pub(super) static TENANTS: Setting<TenantsPlace> = Setting {
    flag: "tenants",
    variable: "RINGBACK_TENANTS",
    value_name: "PLACE",
    default: "tenants.json",
    help: "The tenants: a file with one JSON object, a directory of such files (*.json), or \
           topic:NAME, a compacted Kafka topic. Changes come into force while the service runs",
    read: ValueReader::Path(values::tenants),
    show: TenantsPlace::to_string,
    refused: &[("topic:a/b", "A-Z"), ("topic:", "A-Z")],
};

pub(super) static ALLOW_NO_TENANTS: Setting<NoTenants> = Setting {
    flag: "allow-no-tenants",
    variable: "RINGBACK_ALLOW_NO_TENANTS",
    value_name: "CHOICE",
    default: "off",
    help: "on or off: start although no tenant is enabled. Every record is then skipped for good",
    read: ValueReader::Switch(|text| values::on_or_off(text, NoTenants::from_name)),
    show: |choice| choice.name().to_owned(),
    refused: &[("yes", "on, off"), ("", "on, off")],
};

pub(super) static REQUIRE_HTTPS: Setting<PlainHttp> = Setting {
    flag: "require-https",
    variable: "RINGBACK_REQUIRE_HTTPS",
    value_name: "CHOICE",
    default: "off",
    help: "on or off: refuse tenants with an http URL",
    read: ValueReader::Switch(|text| values::on_or_off(text, PlainHttp::from_name)),
    show: |choice| choice.name().to_owned(),
    refused: &[("yes", "on, off"), ("", "on, off")],
};

pub(super) static ALLOW_NETWORKS: Setting<Vec<IpNet>> = Setting {
    flag: "allow-networks",
    variable: "RINGBACK_ALLOW_NETWORKS",
    value_name: "CIDR,..",
    default: "none",
    help: "Networks that callbacks may reach although they are not public, comma separated, for \
           example 127.0.0.0/8",
    read: ValueReader::Text(values::networks),
    show: |networks| list(networks),
    refused: &[("10.0.0.0/8,x", "'x' is not a network: write 10.0.0.0/8")],
};

pub(super) static DENY_NETWORKS: Setting<Vec<IpNet>> = Setting {
    flag: "deny-networks",
    variable: "RINGBACK_DENY_NETWORKS",
    value_name: "CIDR,..",
    default: "none",
    help: "Networks that callbacks must not reach although they are public, comma separated, for \
           example 203.0.114.0/24. They go before --allow-networks",
    read: ValueReader::Text(values::networks),
    show: |networks| list(networks),
    refused: &[("8.8.8.0/24,x", "'x' is not a network: write 10.0.0.0/8")],
};

pub(super) static PROXY: Setting<ProxyUrl> = Setting {
    flag: "proxy",
    variable: "RINGBACK_PROXY",
    value_name: "URL",
    default: "none",
    help: "Egress proxy for all callbacks: an http or https URL. The proxy resolves names, so it \
           must refuse addresses that are not public. ringback itself refuses only literal \
           addresses in URLs. Proxy variables such as HTTPS_PROXY are ignored",
    read: ValueReader::Text(values::proxy),
    show: ProxyUrl::to_string,
    refused: &[("socks5://p:1", "'socks5'"), ("http://p/x", "no path")],
};

pub(super) static CA_FILE: Setting<CaFile> = Setting {
    flag: "ca-file",
    variable: "RINGBACK_CA_FILE",
    value_name: "FILE",
    default: "none",
    help: "File of further trusted certificates, PEM. It is read again when it changes",
    read: ValueReader::Path(values::ca_file),
    show: |file| file.path.display().to_string(),
    refused: &[("/nonexistent", "'/nonexistent'"), ("Cargo.toml", "PEM")],
};

pub(super) static CLIENT_CERT: Setting<ClientCert> = Setting {
    flag: "client-cert",
    variable: "RINGBACK_CLIENT_CERT",
    value_name: "FILE",
    default: "none",
    help: "File with a certificate and its key, PEM, for receivers that ask for one. It is read \
           again when it changes",
    read: ValueReader::Path(values::client_cert),
    show: |file| file.path.display().to_string(),
    refused: &[("/nonexistent", "'/nonexistent'"), ("Cargo.toml", "PEM")],
};

pub(super) static LISTEN: Setting<SocketAddr> = Setting {
    flag: "listen",
    variable: "RINGBACK_LISTEN",
    value_name: "ADDRESS:PORT",
    default: "[::]:9464",
    help: "Address and port of /metrics, /livez, /healthz, /readyz, /statusz and /; [::] is IPv6 and IPv4",
    read: ValueReader::Text(values::listen),
    show: SocketAddr::to_string,
    refused: &[("9464", "[::]:9464")],
};

pub(super) static DRAIN_TIMEOUT: Setting<Duration> = Setting {
    flag: "drain-timeout",
    variable: "RINGBACK_DRAIN_TIMEOUT",
    value_name: "DURATION",
    default: "10s",
    help: "Maximum duration of the drain after SIGTERM, SIGINT or SIGQUIT, 100ms to 5m",
    read: ValueReader::Text(|text| values::duration(text, ms(100)..=ms(300_000))),
    show: duration_text,
    refused: &[("1h", "100ms to 5m"), ("99ms", "100ms to 5m")],
};

pub(super) static LOG: Setting<LogLevels> = Setting {
    flag: "log",
    variable: "RINGBACK_LOG",
    value_name: "LEVEL",
    default: "info",
    help: "Minimum log level: off, error, warn, info, debug or trace. For the modules of \
           libraries, add MODULE=LEVEL, for example info,hyper_util=debug",
    read: ValueReader::Text(|text| text.parse()),
    show: LogLevels::to_string,
    refused: &[
        ("loud", "off, error, warn, info, debug, trace"),
        ("info,hyper=loud", "MODULE=LEVEL"),
    ],
};

pub(super) static LOG_FORMAT: Setting<LogFormatSetting> = Setting {
    flag: "log-format",
    variable: "RINGBACK_LOG_FORMAT",
    value_name: "FORMAT",
    default: "text on a terminal, else json",
    help: "Log format: text or json",
    read: ValueReader::Text(values::log_format),
    show: |format| format.name().to_owned(),
    refused: &[("xml", "text, json")],
};

const CLUSTER: Section = ("Kafka", &[&BROKERS, &TOPIC, &KAFKA, &KAFKA_PROPERTIES]);
const MEMBER: Section = ("Kafka", &[&GROUP, &INSTANCE, &COMMIT_INTERVAL]);
const SCHEDULE: Section = ("Attempts", &[&ATTEMPTS, &DELAYS, &RECORD_MAX_BYTES]);
const DEADLINE: Section = ("Attempts", &[&TIMEOUT]);
const ATTEMPT: Section = ("Attempts", &[&IN_FLIGHT_MAX]);
const LOG_OF_ATTEMPTS: Section = ("Attempts", &[&ATTEMPT_LOG]);
const CALLBACKS: Section = (
    "Callbacks",
    &[
        &TENANTS,
        &ALLOW_NO_TENANTS,
        &REQUIRE_HTTPS,
        &ALLOW_NETWORKS,
        &DENY_NETWORKS,
        &PROXY,
        &CA_FILE,
        &CLIENT_CERT,
    ],
);
const TENANTS_ONLY: Section = ("Callbacks", &[&TENANTS]);
const TENANTS_WRITE: Section = ("Callbacks", &[&TENANTS, &REQUIRE_HTTPS]);
const PAGES: Section = ("Process", &[&LISTEN]);
const PROCESS: Section = ("Process", &[&DRAIN_TIMEOUT, &LOG, &LOG_FORMAT]);

/// The settings of `publish`.
pub enum ClusterGroup {}

impl Group for ClusterGroup {
    const SECTIONS: &[Section] = &[CLUSTER];
}

/// The settings of `tenant`: those of callbacks, with the deadline, and Kafka for
/// tenants in a topic.
pub enum CallbacksGroup {}

impl Group for CallbacksGroup {
    const SECTIONS: &[Section] = &[CLUSTER, DEADLINE, CALLBACKS];
}

/// The settings of the `tenant` commands that write a tenants topic.
pub enum TenantsWriteGroup {}

impl Group for TenantsWriteGroup {
    const SECTIONS: &[Section] = &[CLUSTER, TENANTS_WRITE];
}

/// The settings of the commands that read: also those of the group, whose rights
/// and offsets they use.
pub enum ReadGroup {}

impl Group for ReadGroup {
    const SECTIONS: &[Section] = &[CLUSTER, ("Kafka", &[&GROUP])];
}

/// The settings of `replay` and `dead-letter redrive`.
pub enum JobsGroup {}

impl Group for JobsGroup {
    const SECTIONS: &[Section] = &[CLUSTER, ("Kafka", &[&GROUP]), SCHEDULE];
}

/// The settings of `topics`.
pub enum TopicsGroup {}

impl Group for TopicsGroup {
    const SECTIONS: &[Section] = &[CLUSTER, SCHEDULE, LOG_OF_ATTEMPTS, TENANTS_ONLY];
}

/// The settings of `health`.
pub enum ListenGroup {}

impl Group for ListenGroup {
    const SECTIONS: &[Section] = &[PAGES];
}

/// The settings of `run` and `check-config`: all of them.
pub enum RunGroup {}

impl Group for RunGroup {
    const SECTIONS: &[Section] = &[
        CLUSTER,
        MEMBER,
        SCHEDULE,
        DEADLINE,
        ATTEMPT,
        LOG_OF_ATTEMPTS,
        CALLBACKS,
        PAGES,
        PROCESS,
    ];
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn duration_text(duration: &Duration) -> String {
    DurationText(*duration).to_string()
}

fn list<T: Display>(all: &[T]) -> String {
    let texts: Vec<String> = all.iter().map(T::to_string).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(",")
    }
}
