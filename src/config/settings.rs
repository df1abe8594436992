//! The values of the settings, read from what was typed. All mistakes are
//! collected before any is reported. Opens no file that a setting does not name.
//! Runs on the main thread.

use super::definitions::{
    ALLOW_NETWORKS, ALLOW_NO_TENANTS, ATTEMPT_LOG, ATTEMPTS, BROKERS, CA_FILE, CLIENT_CERT,
    COMMIT_INTERVAL, DELAYS, DENY_NETWORKS, DRAIN_TIMEOUT, GROUP, IN_FLIGHT_MAX, INSTANCE, KAFKA,
    KAFKA_PROPERTIES, LISTEN, LOG, LOG_FORMAT, PROXY, RECORD_MAX_BYTES, REQUIRE_HTTPS, TENANTS,
    TIMEOUT, TOPIC,
};
use super::environment::host_name;
use super::mistake::{Mistake, Warning};
use super::properties::{self, KafkaProperty, PropertyFlags, PropertyRule};
use super::rules;
use super::setting::{Reader, Typed, not_utf8};
use super::tenants::TenantRules;
use super::values::{
    self, AttemptLogSetting, CaFile, ClientCert, LogFormatSetting, NoTenants, PlainHttp, ProxyUrl,
    TenantsPlace,
};
use crate::model::log_levels::LogLevels;
use crate::model::position::TopicNames;
use crate::model::time::Delay;
use ipnet::IpNet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How to reach Kafka, and the topics' names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// Bootstrap servers, comma separated.
    pub brokers: String,
    pub topics: TopicNames,
    /// Further librdkafka properties: each key once, none of the refused ones.
    pub properties: Vec<KafkaProperty>,
    pub property_flags: PropertyFlags,
    /// The file of properties.
    pub properties_file: Option<PathBuf>,
}

/// The schedule of attempts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// 1 to 10.
    pub attempts: u8,
    /// The delays between attempts: at least one, and the last one repeats.
    pub delays: Vec<Delay>,
    pub record_bytes_max: usize,
}

impl Schedule {
    /// Returns each delay once, shortest first. Each of them has a topic.
    #[must_use]
    pub fn distinct_delays(&self) -> Vec<Delay> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.dedup();
        delays
    }
}

/// The settings of `run`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub cluster: Cluster,
    pub group: String,
    pub instance: String,
    pub schedule: Schedule,
    /// The deadline of one attempt.
    pub timeout: Duration,
    pub listen: SocketAddr,
    pub in_flight_max: usize,
    pub attempt_log: AttemptLogSetting,
    pub commit_interval: Duration,
    pub drain_timeout: Duration,
    pub no_tenants: NoTenants,
    pub plain_http: PlainHttp,
    pub allow_networks: Vec<IpNet>,
    /// Refused even where `allow_networks` has them.
    pub deny_networks: Vec<IpNet>,
    pub proxy: Option<ProxyUrl>,
    pub ca_file: Option<CaFile>,
    pub client_cert: Option<ClientCert>,
    pub log: LogLevels,
    /// None: text on a terminal, else JSON.
    pub log_format: Option<LogFormatSetting>,
}

impl Settings {
    /// Returns the rules for tenants that come from these settings.
    #[must_use]
    pub fn tenant_rules(&self) -> TenantRules {
        TenantRules {
            timeout_max: self.timeout,
            plain_http: self.plain_http,
        }
    }

    /// Returns the default settings for a replica of this name.
    #[must_use]
    pub fn defaults(instance: &str) -> Self {
        let typed = Typed::default().with(&INSTANCE, instance);
        let read = read(&typed, |_| Vec::new());
        read.expect("the defaults are allowed").settings
    }
}

/// The settings with the facts about them that are logged.
#[derive(PartialEq, Eq, Debug)]
pub struct ReadSettings {
    pub settings: Settings,
    /// Flag and value of each setting in force, without secrets.
    pub effective: Vec<(&'static str, String)>,
    pub warnings: Vec<Warning>,
}

/// Reads the settings of `run`.
///
/// # Errors
/// Every mistake, with the flag, the value and what is allowed.
pub fn read(typed: &Typed, rule: PropertyRule) -> Result<ReadSettings, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    let group = r.take(&GROUP);
    let instance = instance(&mut r);
    let commit_interval = r.take(&COMMIT_INTERVAL);
    let schedule = schedule(&mut r, cluster.as_ref().map(|c| &c.topics));
    let timeout = r.take(&TIMEOUT);
    let in_flight_max = r.take(&IN_FLIGHT_MAX);
    let attempt_log = r.take(&ATTEMPT_LOG);
    tenants(&mut r, cluster.as_ref());
    let no_tenants = r.take(&ALLOW_NO_TENANTS);
    let plain_http = r.take(&REQUIRE_HTTPS);
    let allow_networks = r.take_optional(&ALLOW_NETWORKS);
    let deny_networks = r.take_optional(&DENY_NETWORKS);
    let proxy = r.take_optional(&PROXY);
    let ca_file = r.take_optional(&CA_FILE);
    let client_cert = r.take_optional(&CLIENT_CERT);
    let listen = r.take(&LISTEN);
    let drain_timeout = r.take(&DRAIN_TIMEOUT);
    let log = r.take(&LOG);
    let log_format = r.take_optional(&LOG_FORMAT);
    let settings = r.mistakes.unless_any(|| {
        Some(Settings {
            cluster: cluster?,
            group: group?,
            instance: instance?,
            schedule: schedule?,
            timeout: timeout?,
            listen: listen?,
            in_flight_max: in_flight_max?,
            attempt_log: attempt_log?,
            commit_interval: commit_interval?,
            drain_timeout: drain_timeout?,
            no_tenants: no_tenants?,
            plain_http: plain_http?,
            allow_networks: allow_networks.unwrap_or_default(),
            deny_networks: deny_networks.unwrap_or_default(),
            proxy,
            ca_file,
            client_cert,
            log: log?,
            log_format,
        })
    })?;
    let warning = rules::a_drain_outlasts_an_attempt(settings.drain_timeout, settings.timeout);
    Ok(ReadSettings {
        settings,
        effective: r.effective,
        warnings: warning.into_iter().collect(),
    })
}

/// The settings of the commands that write a tenants topic.
#[derive(Debug)]
pub struct TenantsWriter {
    pub cluster: Cluster,
    /// The tenants topic.
    pub topic: String,
    pub rules: TenantRules,
}

/// Reads the settings of the commands that write a tenants topic.
///
/// # Errors
/// Every mistake. Tenants in files are one.
pub fn read_tenants_writer(
    typed: &Typed,
    rule: PropertyRule,
) -> Result<TenantsWriter, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    let plain_http = r.take(&REQUIRE_HTTPS);
    let topic = match tenants(&mut r, cluster.as_ref()) {
        Some(TenantsPlace::Topic(topic)) => Some(topic),
        Some(TenantsPlace::Files(path)) => {
            let text = format!(
                "'{}' is no topic: edit the file. This command writes topic:NAME",
                path.display()
            );
            r.check(&TENANTS, Err(text));
            None
        }
        None => None,
    };
    r.mistakes.unless_any(|| {
        Some(TenantsWriter {
            cluster: cluster?,
            topic: topic?,
            rules: TenantRules {
                plain_http: plain_http?,
                ..TenantRules::default()
            },
        })
    })
}

/// The settings of the `topics` commands.
#[derive(Debug)]
pub struct TopicsSettings {
    pub cluster: Cluster,
    pub schedule: Schedule,
    pub attempt_log: AttemptLogSetting,
    pub tenants: TenantsPlace,
}

/// Reads the settings of the `topics` commands.
///
/// # Errors
/// Every mistake.
pub fn read_topics(typed: &Typed, rule: PropertyRule) -> Result<TopicsSettings, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    let schedule = schedule(&mut r, cluster.as_ref().map(|c| &c.topics));
    let attempt_log = r.take(&ATTEMPT_LOG);
    let tenants = tenants(&mut r, cluster.as_ref());
    r.mistakes.unless_any(|| {
        Some(TopicsSettings {
            cluster: cluster?,
            schedule: schedule?,
            attempt_log: attempt_log?,
            tenants: tenants?,
        })
    })
}

/// Reads the log format alone, for a service that does not start.
#[must_use]
pub fn read_log_format(typed: &Typed) -> Option<LogFormatSetting> {
    Reader::new(typed).take_optional(&LOG_FORMAT)
}

/// Reads the settings of `publish`.
///
/// # Errors
/// Every mistake.
pub fn read_cluster(typed: &Typed, rule: PropertyRule) -> Result<Cluster, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    r.mistakes.unless_any(|| cluster)
}

/// Reads the settings of the `tenant` commands. All others have their defaults.
///
/// # Errors
/// Every mistake.
pub fn read_callbacks(typed: &Typed, rule: PropertyRule) -> Result<Settings, Vec<Mistake>> {
    // No command joins a group, so a host without a usable name changes nothing.
    let typed = typed.clone().with(&INSTANCE, "command");
    read(&typed, rule).map(|read| read.settings)
}

/// Reads the settings of the commands that read: the cluster and the group.
///
/// # Errors
/// Every mistake.
pub fn read_group(typed: &Typed, rule: PropertyRule) -> Result<(Cluster, String), Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    let group = r.take(&GROUP);
    r.mistakes.unless_any(|| cluster.zip(group))
}

/// Reads the settings of `replay` and `dead-letter redrive`: the cluster, the group
/// and the schedule.
///
/// # Errors
/// Every mistake.
pub fn read_jobs(
    typed: &Typed,
    rule: PropertyRule,
) -> Result<(Cluster, String, Schedule), Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let cluster = cluster(&mut r, rule);
    let group = r.take(&GROUP);
    let schedule = schedule(&mut r, cluster.as_ref().map(|c| &c.topics));
    r.mistakes
        .unless_any(|| Some((cluster?, group?, schedule?)))
}

/// Reads the settings of `health`.
///
/// # Errors
/// The mistake.
pub fn read_listen(typed: &Typed) -> Result<SocketAddr, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let listen = r.take(&LISTEN);
    r.mistakes.unless_any(|| listen)
}

/// Reads the place of the tenants.
///
/// # Errors
/// The mistake.
pub fn read_tenants_place(typed: &Typed) -> Result<TenantsPlace, Vec<Mistake>> {
    let mut r = Reader::new(typed);
    let place = r.take(&TENANTS);
    r.mistakes.unless_any(|| place)
}

fn cluster(r: &mut Reader<'_>, rule: PropertyRule) -> Option<Cluster> {
    let brokers = r.take(&BROKERS);
    let topic = r.take(&TOPIC);
    if let Some(topic) = &topic {
        let names = TopicNames::new(topic.as_str());
        r.check(&TOPIC, rules::derived_topic_names_fit(&names, &[]));
    }
    let file = r.take_optional(&KAFKA_PROPERTIES);
    let flags = r.typed.all(&KAFKA).iter();
    let flags = flags.map(|text| text.to_str().ok_or_else(not_utf8));
    let flags: Vec<&str> = r
        .mistakes
        .take("--kafka", flags.collect())
        .unwrap_or_default();
    let file = file
        .as_ref()
        .map(|(path, text)| (path.as_str(), text.as_str()));
    let properties = properties::read(&flags, file, rule, &mut r.mistakes);
    r.show(&KAFKA, &properties);
    Some(Cluster {
        brokers: brokers?,
        topics: TopicNames::new(topic?),
        properties,
        property_flags: PropertyFlags(flags.into_iter().map(str::to_owned).collect()),
        properties_file: file.map(|(path, _)| PathBuf::from(path)),
    })
}

fn tenants(r: &mut Reader<'_>, cluster: Option<&Cluster>) -> Option<TenantsPlace> {
    let place = r.take(&TENANTS)?;
    if let Some(cluster) = cluster {
        let rule = rules::the_tenants_topic_has_no_records(&cluster.topics, &place);
        r.check(&TENANTS, rule);
    }
    Some(place)
}

fn schedule(r: &mut Reader<'_>, topics: Option<&TopicNames>) -> Option<Schedule> {
    let attempts = r.take(&ATTEMPTS);
    let mut delays = r.take_hidden(&DELAYS);
    let record_bytes_max = r.take(&RECORD_MAX_BYTES);
    if let (Some(attempts), Some(delays)) = (attempts, &mut delays) {
        if r.typed.get(&DELAYS).is_none() {
            delays.truncate(rules::delays_max(attempts));
        }
        r.check(
            &DELAYS,
            rules::each_delay_has_an_attempt_after_it(delays, attempts),
        );
        r.show(&DELAYS, delays);
    }
    // A name that is too long without a delay has been reported by `cluster`.
    if let (Some(topics), Some(delays)) = (topics, &delays)
        && rules::derived_topic_names_fit(topics, &[]).is_ok()
    {
        r.check(&TOPIC, rules::derived_topic_names_fit(topics, delays));
    }
    Some(Schedule {
        attempts: attempts?,
        delays: delays?,
        record_bytes_max: record_bytes_max?,
    })
}

fn instance(r: &mut Reader<'_>) -> Option<String> {
    if r.typed.get(&INSTANCE).is_some() {
        return r.take(&INSTANCE);
    }
    let host = host_name().ok_or_else(|| {
        "the host has no name: set --instance to 1 to 200 of A-Z, a-z, 0-9, '.', '_' and '-'"
            .to_owned()
    });
    let name = host.and_then(|host| {
        values::instance(&host).map_err(|why| format!("the host name cannot be used: {why}"))
    });
    let name = r.mistakes.take("--instance", name)?;
    r.show(&INSTANCE, &name);
    Some(name)
}

#[cfg(test)]
mod tests;
