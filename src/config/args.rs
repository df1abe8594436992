//! The settings as they were given: texts with their flag, variable, default
//! and help. clap only collects them, so that all mistakes are reported at once
//! by [`super::settings`]. The help texts are README's table; each names unit
//! and range. No `Debug`: `--kafka` may hold secrets.

use clap::Args;
use std::ffi::OsString;

/// The schedule that is in force where `--delays` is not given, or the first
/// part of it that `--attempts` needs.
pub const DELAYS_DEFAULT: &str = "10s,10s,1m,1m,10m,10m,1h,1h,6h";

/// How to reach Kafka, and the topics.
#[derive(Args, Clone)]
pub struct KafkaArgs {
    /// Kafka bootstrap servers, each host:port, comma separated
    #[arg(
        long,
        env = "RINGBACK_BROKERS",
        hide_env_values = true,
        value_name = "LIST"
    )]
    #[arg(default_value = "127.0.0.1:9092", help_heading = "Kafka")]
    pub brokers: String,

    /// Source topic; delay topics are <topic>.delay.<delay>, dead letters <topic>.dead-letter; letters, digits and ._- and at most 249 of them with what is added
    #[arg(
        long,
        env = "RINGBACK_TOPIC",
        hide_env_values = true,
        value_name = "NAME"
    )]
    #[arg(default_value = "call-ended", help_heading = "Kafka")]
    pub topic: String,

    /// Any librdkafka property, repeatable (in the variable: one a line); those that the accounting needs are refused with the reason; secrets belong in --kafka-properties
    #[arg(
        long,
        env = "RINGBACK_KAFKA",
        hide_env_values = true,
        value_name = "KEY=VALUE"
    )]
    #[arg(help_heading = "Kafka")]
    pub kafka: Vec<String>,

    /// File of librdkafka properties, one key=value a line, # begins a comment; --kafka goes before it
    #[arg(long, env = "RINGBACK_KAFKA_PROPERTIES", hide_env_values = true)]
    #[arg(value_name = "FILE", help_heading = "Kafka")]
    pub kafka_properties: Option<OsString>,
}

/// The schedule of attempts, from which the delay topics follow.
#[derive(Args, Clone)]
pub struct ScheduleArgs {
    /// Attempts for one record in all, 1 to 10
    #[arg(
        long,
        env = "RINGBACK_ATTEMPTS",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(
        default_value = "10",
        allow_negative_numbers = true,
        help_heading = "Attempts"
    )]
    pub attempts: String,

    /// Waits between attempts, comma separated, each 100ms to 168h: 1 to 9 of them and fewer than --attempts; the last repeats as often as needed [default: 10s,10s,1m,1m,10m,10m,1h,1h,6h, as many as --attempts needs]
    #[arg(
        long,
        env = "RINGBACK_DELAYS",
        hide_env_values = true,
        value_name = "LIST"
    )]
    #[arg(help_heading = "Attempts")]
    pub delays: Option<String>,

    /// Largest record that is sent, 1KiB to 64MiB; larger ones become dead letters
    #[arg(
        long,
        env = "RINGBACK_RECORD_MAX_BYTES",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    #[arg(default_value = "1MiB", help_heading = "Attempts")]
    pub record_max_bytes: String,
}

/// Where the operator's pages are.
#[derive(Args, Clone)]
pub struct ListenArgs {
    /// Address and port of /metrics, /healthz, /readyz, /statusz and /
    #[arg(
        long,
        env = "RINGBACK_LISTEN",
        hide_env_values = true,
        value_name = "ADDRESS:PORT"
    )]
    #[arg(default_value = "0.0.0.0:9464", help_heading = "Process")]
    pub listen: String,
}

/// What `topics` takes.
#[derive(Args, Clone)]
pub struct TopicsArgs {
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Which topics.
    #[command(flatten)]
    pub schedule: ScheduleArgs,
}

/// What `run` and `check-config` take.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// How to reach Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,

    /// Consumer group, 1 to 200 characters without spaces
    #[arg(
        long,
        env = "RINGBACK_GROUP",
        hide_env_values = true,
        value_name = "NAME"
    )]
    #[arg(default_value = "ringback", help_heading = "Kafka")]
    pub group: String,

    /// Stable name of this replica, 1 to 200 letters, digits and ._-; its group.instance.id and transactional.id are made from it, and no other replica may have it [default: the host name]
    #[arg(
        long,
        env = "RINGBACK_INSTANCE",
        hide_env_values = true,
        value_name = "NAME"
    )]
    #[arg(help_heading = "Kafka")]
    pub instance: Option<String>,

    /// Least time between two offset commits, 0ms to 1s; longer spares the group's coordinator when there are many replicas, and adds to every record's latency
    #[arg(long, env = "RINGBACK_COMMIT_INTERVAL", hide_env_values = true)]
    #[arg(value_name = "DURATION", default_value = "2ms", help_heading = "Kafka")]
    pub commit_interval: String,

    /// The schedule.
    #[command(flatten)]
    pub schedule: ScheduleArgs,

    /// Time for one attempt, DNS, connect, TLS, request and response head together, 100ms to 5s
    #[arg(
        long,
        env = "RINGBACK_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    #[arg(default_value = "5s", help_heading = "Attempts")]
    pub timeout: String,

    /// Attempts at once in this process, 1 to 65536; a record counts once for
    /// each 64 KiB that it begins; some 1,024 more sockets to receivers may be open
    #[arg(
        long,
        env = "RINGBACK_IN_FLIGHT_MAX",
        hide_env_values = true,
        value_name = "COUNT"
    )]
    #[arg(
        default_value = "1024",
        allow_negative_numbers = true,
        help_heading = "Attempts"
    )]
    pub in_flight_max: String,

    /// File of tenants, one JSON object; read again when it changes
    #[arg(
        long,
        env = "RINGBACK_TENANTS",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[arg(default_value = "tenants.json", help_heading = "Callbacks")]
    pub tenants: OsString,

    /// Networks that callbacks may reach although they are not public, e.g. 127.0.0.0/8, comma separated [default: none]
    #[arg(
        long,
        env = "RINGBACK_ALLOW_NETWORKS",
        hide_env_values = true,
        value_name = "CIDR,.."
    )]
    #[arg(help_heading = "Callbacks")]
    pub allow_networks: Option<String>,

    /// Egress proxy for all callbacks, an http or https URL; it resolves names
    /// itself, so it must refuse addresses that are not public: only literal
    /// ones in URLs are refused before it; proxies that the environment names
    /// are never used [default: none]
    #[arg(
        long,
        env = "RINGBACK_PROXY",
        hide_env_values = true,
        value_name = "URL"
    )]
    #[arg(help_heading = "Callbacks")]
    pub proxy: Option<String>,

    /// File of further trusted certificates, PEM [default: none]
    #[arg(
        long,
        env = "RINGBACK_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    #[arg(help_heading = "Callbacks")]
    pub ca_file: Option<OsString>,

    /// Where the pages are.
    #[command(flatten)]
    pub listen: ListenArgs,

    /// Time from SIGTERM or SIGINT to the end at the latest, 100ms to 5m
    #[arg(long, env = "RINGBACK_DRAIN_TIMEOUT", hide_env_values = true)]
    #[arg(
        value_name = "DURATION",
        default_value = "10s",
        help_heading = "Process"
    )]
    pub drain_timeout: String,

    /// Least level that is logged: error, warn, info, debug or trace
    #[arg(
        long,
        env = "RINGBACK_LOG",
        hide_env_values = true,
        value_name = "LEVEL"
    )]
    #[arg(default_value = "info", help_heading = "Process")]
    pub log: String,

    /// Form of the log lines: text or json [default: text on a terminal, else json]
    #[arg(
        long,
        env = "RINGBACK_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORM"
    )]
    #[arg(help_heading = "Process")]
    pub log_format: Option<String>,
}
