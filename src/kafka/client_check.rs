//! Checks a user's librdkafka properties before anything connects: what the design
//! refuses, what this build lacks, and properties that contradict each other.
//! Connects to nothing. Runs on the main thread.

use super::settings::{self, ClusterKind, KafkaSettings};
use crate::model::position::TopicNames;
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;

/// The SASL mechanisms of this build of librdkafka. GSSAPI needs Cyrus SASL, and
/// OAUTHBEARER a source of tokens.
const MECHANISMS: [&str; 3] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const MECHANISM_KEYS: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
/// The consumer's `message.max.bytes`, below which librdkafka takes no
/// `fetch.max.bytes`.
const FETCH_BYTES_MIN: u64 = 131_072;
/// A shorter value may occur in an error text by chance.
const SECRET_BYTES_MIN: usize = 4;

/// Returns every property that the user may not set so, with the reason. The
/// values are left out: they may be secrets.
#[must_use]
pub fn refused(properties: &[(String, String)]) -> Vec<(String, String)> {
    let mut refused = settings::refused(properties);
    refused.extend(missing_mechanism(properties));
    refused.extend(small_fetch(properties));
    // The defaults fit together, and a client takes time to make.
    if refused.is_empty() && !properties.is_empty() {
        refused.extend(contradiction(properties));
    }
    refused
}

fn value<'p>(properties: &'p [(String, String)], key: &str) -> Option<&'p str> {
    let set = properties.iter().rev().find(|(k, _)| k == key);
    set.map(|(_, value)| value.as_str())
}

/// Returns the property that asks for a mechanism which this build lacks. The two
/// names are one property of librdkafka, of which the last value counts.
fn missing_mechanism(properties: &[(String, String)]) -> Option<(String, String)> {
    let is_mechanism = |(key, _): &&(String, String)| MECHANISM_KEYS.contains(&key.as_str());
    let have = MECHANISMS.join(", ");
    match properties.iter().rev().find(is_mechanism) {
        Some((_, mechanism)) if MECHANISMS.contains(&mechanism.as_str()) => None,
        Some((key, _)) => Some((key.clone(), format!("this build has only {have}"))),
        None => {
            let protocol = value(properties, "security.protocol")?;
            let is_sasl = protocol.to_ascii_lowercase().starts_with("sasl");
            is_sasl.then(|| {
                let why = format!(
                    "it needs sasl.mechanism: the default is GSSAPI, and this build has only {have}"
                );
                ("security.protocol".to_owned(), why)
            })
        }
    }
}

/// Returns `fetch.max.bytes`, if it is below what a batch may need.
fn small_fetch(properties: &[(String, String)]) -> Option<(String, String)> {
    let key = "fetch.max.bytes";
    let bytes: u64 = value(properties, key)?.parse().ok()?;
    (bytes < FETCH_BYTES_MIN).then(|| {
        let why = format!("a response must take a batch: set {FETCH_BYTES_MIN} or more");
        (key.to_owned(), why)
    })
}

/// Returns the reason why librdkafka makes no client with these properties, with
/// one of the properties. librdkafka checks combinations, and files such as
/// certificates, only when it makes a client.
fn contradiction(properties: &[(String, String)]) -> Option<(String, String)> {
    let settings = KafkaSettings {
        brokers: String::new(),
        group: "check".to_owned(),
        instance: "check".to_owned(),
        topics: TopicNames::new("check"),
        delays: Vec::new(),
        record_bytes_max: 1 << 20,
        properties: properties.to_vec(),
        kind: ClusterKind::Brokers,
    };
    let error = create::<BaseConsumer>(settings.consumer_config(&[], 1))
        .or_else(|| create::<BaseProducer>(settings.producer_config()))?;
    let text = match error {
        KafkaError::ClientCreation(text) => text,
        other => other.to_string(),
    };
    let named = properties.iter().find(|(key, _)| text.contains(key));
    let (key, _) = named.or(properties.first())?;
    Some((key.clone(), without_values(text, properties)))
}

/// Makes a client that has no brokers, and returns the error.
fn create<T: FromClientConfig>(mut config: ClientConfig) -> Option<KafkaError> {
    config.remove("bootstrap.servers");
    T::from_config(&config).err()
}

/// Returns librdkafka's text without the values of properties. The longest comes
/// first: a value that contains another one leaves no part of itself.
fn without_values(text: String, properties: &[(String, String)]) -> String {
    let values = properties.iter().map(|(_, value)| value);
    let mut long: Vec<&String> = values.filter(|v| v.len() >= SECRET_BYTES_MIN).collect();
    long.sort_by_key(|value| std::cmp::Reverse(value.len()));
    long.iter()
        .fold(text, |text, value| text.replace(*value, "[value]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(properties: &[(&str, &str)], key: &str, told: &str) {
        let pairs = properties.iter();
        let pairs: Vec<_> = pairs
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let refused = refused(&pairs);
        let found: Vec<&str> = refused.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(found, [key], "{refused:?}");
        assert!(refused[0].1.contains(told), "{refused:?}");
        assert!(!refused[0].1.contains("s3cret"), "{refused:?}");
    }

    #[test]
    fn mechanisms_that_this_build_lacks_are_refused() {
        let have = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512";
        let sasl = ("security.protocol", "SASL_SSL");
        for mechanism in ["GSSAPI", "OAUTHBEARER", "plain"] {
            for key in MECHANISM_KEYS {
                check(&[sasl, (key, mechanism)], key, have);
                check(&[(key, mechanism)], key, have);
            }
        }
        check(&[sasl], "security.protocol", have);
        let [first, last] = MECHANISM_KEYS;
        check(&[sasl, (first, "PLAIN"), (last, "GSSAPI")], last, have);
        let plain = [
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "u"),
            ("sasl.password", "s3cret"),
        ];
        let plain = plain.map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(refused(&plain), []);
    }

    #[test]
    fn properties_that_contradict_each_other_are_refused() {
        let poll = "max.poll.interval.ms";
        check(&[(poll, "6000")], poll, "session.timeout.ms");
        let fetch = "fetch.max.bytes";
        check(&[(fetch, "131071")], fetch, "131072 or more");
        let receive = "receive.message.max.bytes";
        check(&[(receive, "1000")], receive, "fetch.max.bytes");
    }

    #[test]
    fn a_value_that_contains_another_one_leaves_no_part_of_itself() {
        let pairs = [("a", "pass"), ("b", "password1")];
        let pairs = pairs.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let text = without_values("password1 and pass".to_owned(), &pairs);
        assert_eq!(text, "[value] and [value]");
    }

    #[test]
    fn files_that_cannot_be_read_are_refused() {
        let file = [
            ("security.protocol", "ssl"),
            ("ssl.ca.location", "/nonexistent/s3cret"),
        ];
        check(&file, "ssl.ca.location", "failed");
    }
}
