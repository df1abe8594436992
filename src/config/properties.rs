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
    let from_flags = read_lines(lines.map(|l| (FLAG.to_owned(), l)), rule, mistakes);
    let (path, text) = file.unwrap_or_default();
    let lines = text.lines().enumerate();
    let named = lines.map(|(at, l)| (format!("--kafka-properties {path}, line {}", at + 1), l));
    let mut all = read_lines(named, rule, mistakes);
    all.retain(|property| !from_flags.iter().any(|flag| flag.key == property.key));
    all.extend(from_flags);
    all
}

fn read_lines<'a>(
    lines: impl Iterator<Item = (String, &'a str)>,
    rule: PropertyRule,
    mistakes: &mut Mistakes,
) -> Vec<KafkaProperty> {
    let mut properties: Vec<KafkaProperty> = Vec::new();
    for (source, line) in lines {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read_line(line, &properties, rule) {
            Ok(property) => properties.push(property),
            Err(text) => mistakes.0.push(Mistake::new(source, text)),
        }
    }
    properties
}

/// A line's value is never part of an error: it may be a password.
fn read_line(
    line: &str,
    before: &[KafkaProperty],
    rule: PropertyRule,
) -> Result<KafkaProperty, String> {
    let Some((key, value)) = line.split_once('=') else {
        return Err("not key=value (its text is not shown, it may be a secret)".to_owned());
    };
    let key = key.trim();
    let formed = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !formed {
        return Err("not key=value with the name of a librdkafka property as key".to_owned());
    }
    let value = value.trim();
    if let Some(reason) = rule(key, value) {
        return Err(format!("'{key}' cannot be set: {reason}"));
    }
    if before.iter().any(|property| property.key == key) {
        return Err(format!("'{key}' is set twice"));
    }
    Ok(KafkaProperty {
        key: key.to_owned(),
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(key: &str, _: &str) -> Option<String> {
        (key == "acks").then(|| "nothing may be lost".to_owned())
    }

    #[test]
    fn flags_go_before_the_file_and_every_bad_line_is_named_without_its_value() {
        let flags = [
            "a=1".to_owned(),
            "hunter2".to_owned(),
            "acks=0\nb = 2=3 ".to_owned(),
        ];
        let file = "# comment\n\na=9\nc=3\nc=4\nacks=hunter2\nsasl password=hunter2\n";
        let mut mistakes = Mistakes::default();
        let read = read(&flags, Some(("f", file)), rule, &mut mistakes);
        let pairs: Vec<_> = read
            .iter()
            .map(|p| (p.key.as_str(), p.value.as_str()))
            .collect();
        assert_eq!(pairs, [("c", "3"), ("a", "1"), ("b", "2=3")]);
        let texts: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "--kafka: not key=value (its text is not shown, it may be a secret)",
                "--kafka: 'acks' cannot be set: nothing may be lost",
                "--kafka-properties f, line 5: 'c' is set twice",
                "--kafka-properties f, line 6: 'acks' cannot be set: nothing may be lost",
                "--kafka-properties f, line 7: not key=value with the name of a librdkafka property as key",
            ]
        );
    }
}
