//! librdkafka properties from `--kafka` and the properties file. The Kafka shell
//! decides which keys are refused, by a function. Opens no file. Runs on the main
//! thread.

use super::mistake::{Mistake, Mistakes};
use std::fmt;

const FLAG: &str = "--kafka";

/// Returns the keys that may not be set so, each with the reason. No reason
/// shows a value.
pub type PropertyRule = fn(&[KafkaProperty]) -> Vec<(String, String)>;

/// One librdkafka property.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaProperty {
    pub key: String,
    /// May be a secret.
    pub value: String,
}

impl KafkaProperty {
    /// Returns whether the value must not be shown. This is so for SASL, and for
    /// keys about a password, a secret, a token or a private key.
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

/// The values of `--kafka`, as they were typed. They may hold secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PropertyFlags(pub Vec<String>);

impl fmt::Debug for PropertyFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PropertyFlags({})", self.0.len())
    }
}

/// Returns keys and values, for the Kafka shell.
#[must_use]
pub fn pairs(properties: &[KafkaProperty]) -> Vec<(String, String)> {
    let properties = properties.iter();
    properties
        .map(|p| (p.key.clone(), p.value.clone()))
        .collect()
}

/// Reads both sources. A flag overrides the file.
pub(super) fn read(
    flags: &[&str],
    file: Option<(&str, &str)>,
    rule: PropertyRule,
    mistakes: &mut Mistakes,
) -> Vec<KafkaProperty> {
    let lines = flags.iter().flat_map(|flag| flag.lines());
    let from_flags = read_lines(lines.map(|l| (FLAG.to_owned(), l)), mistakes);
    let (path, text) = file.unwrap_or_default();
    let lines = text.lines().enumerate();
    let named = lines.map(|(at, l)| (format!("--kafka-properties {path}, line {}", at + 1), l));
    let mut all = read_lines(named, mistakes);
    all.retain(|(_, property)| !from_flags.iter().any(|(_, flag)| flag.key == property.key));
    all.extend(from_flags);
    let (sources, properties): (Vec<String>, Vec<KafkaProperty>) = all.into_iter().unzip();
    for (key, why) in rule(&properties) {
        let at = properties.iter().position(|property| property.key == key);
        // A rule about two properties may name one that was not set.
        let source = at.map_or(FLAG, |at| &sources[at]);
        let text = format!("'{key}' cannot be set so: {why}");
        mistakes.0.push(Mistake::new(source, text));
    }
    properties
}

/// Returns the properties, each with its source.
fn read_lines<'a>(
    lines: impl Iterator<Item = (String, &'a str)>,
    mistakes: &mut Mistakes,
) -> Vec<(String, KafkaProperty)> {
    let mut properties: Vec<(String, KafkaProperty)> = Vec::new();
    for (source, line) in lines {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read_line(line) {
            Ok(new) if properties.iter().any(|(_, old)| old.key == new.key) => {
                let text = format!("'{}' is set twice", new.key);
                mistakes.0.push(Mistake::new(source, text));
            }
            Ok(property) => properties.push((source, property)),
            Err(text) => mistakes.0.push(Mistake::new(source, text)),
        }
    }
    properties
}

/// Reads a line. An error never shows its value, which may be a password.
fn read_line(line: &str) -> Result<KafkaProperty, &'static str> {
    let Some((key, value)) = line.split_once('=') else {
        return Err("not key=value (the text is not shown: it may be a secret)");
    };
    let key = key.trim();
    let is_key = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err("not key=value: the key is no name of a librdkafka property");
    }
    Ok(KafkaProperty {
        key: key.to_owned(),
        value: value.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(properties: &[KafkaProperty]) -> Vec<(String, String)> {
        let acks = properties.iter().filter(|p| p.key == "acks");
        let refused = acks.map(|p| (p.key.clone(), "nothing may be lost".to_owned()));
        let pair = ("x".to_owned(), "x needs a".to_owned());
        refused.chain([pair]).collect()
    }

    #[test]
    fn flags_override_the_file_and_every_bad_line_is_named_without_its_value() {
        let flags = ["a=1", "hunter2", "# none\nb = 2=3 "];
        let file = "# comment\n\na=9\nc=3\nc=4\nacks=hunter2\nsasl password=hunter2\n";
        let mut mistakes = Mistakes::default();
        let read = read(&flags, Some(("f", file)), rule, &mut mistakes);
        let pairs: Vec<_> = read
            .iter()
            .map(|p| (p.key.as_str(), p.value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("c", "3"), ("acks", "hunter2"), ("a", "1"), ("b", "2=3")]
        );
        let texts: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "--kafka: not key=value (the text is not shown: it may be a secret)",
                "--kafka-properties f, line 5: 'c' is set twice",
                "--kafka-properties f, line 7: not key=value: the key is no name of a librdkafka property",
                "--kafka-properties f, line 6: 'acks' cannot be set so: nothing may be lost",
                "--kafka: 'x' cannot be set so: x needs a",
            ]
        );
    }
}
