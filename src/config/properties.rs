//! librdkafka properties from `--kafka` and the properties file. Only reads
//! texts; which keys are refused is the Kafka shell's word, handed in.

use super::mistake::{Mistake, Mistakes};
use super::settings::{KafkaProperty, PropertyRule};

const FLAG: &str = "--kafka";

/// Reads both sources; a flag goes before the file.
pub fn read(
    flags: &[String],
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
        // A law between two properties may name one that was not set.
        let source = at.map_or(FLAG, |at| &sources[at]);
        let text = format!("'{key}' cannot be set so: {why}");
        mistakes.0.push(Mistake::new(source, text));
    }
    properties
}

/// The properties, each with where it was set.
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

/// A line's value is never part of an error: it may be a password.
fn read_line(line: &str) -> Result<KafkaProperty, &'static str> {
    let Some((key, value)) = line.split_once('=') else {
        return Err("not key=value (its text is not shown, it may be a secret)");
    };
    let key = key.trim();
    let is_key = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err("not key=value with the name of a librdkafka property as key");
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
        let law = ("x".to_owned(), "x goes with a".to_owned());
        refused.chain([law]).collect()
    }

    #[test]
    fn flags_go_before_the_file_and_every_bad_line_is_named_without_its_value() {
        let flags = [
            "a=1".to_owned(),
            "hunter2".to_owned(),
            "# none\nb = 2=3 ".to_owned(),
        ];
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
                "--kafka: not key=value (its text is not shown, it may be a secret)",
                "--kafka-properties f, line 5: 'c' is set twice",
                "--kafka-properties f, line 7: not key=value with the name of a librdkafka property as key",
                "--kafka-properties f, line 6: 'acks' cannot be set so: nothing may be lost",
                "--kafka: 'x' cannot be set so: x goes with a",
            ]
        );
    }
}
