//! Changes of the files of Kafka: the file of properties, which holds passwords, and
//! the certificates and keys that properties name. The last good properties stay in
//! force. Never shows a value. Runs on the main thread at the start, and on the thread
//! `kafka-files` afterwards.

use super::file_watch::{FileWatch, Reading};
use super::mistake::{Mistake, Mistakes};
use super::properties::{self, KafkaProperty, PropertyFlags, PropertyRule};
use super::settings::Cluster;
use super::values::FILE_BYTES_MAX;
use std::path::PathBuf;

/// The properties that name a file which librdkafka reads when it makes a client.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// The result of a check that found a change.
pub enum KafkaFilesChange {
    /// These properties are in force. They are new, or a file that they name is.
    Renewed(Vec<KafkaProperty>),
    /// The change is refused. The old properties stay in force.
    Refused(Vec<Mistake>),
}

/// The files, as they were at the last check.
pub struct KafkaFiles {
    /// They override the file.
    flags: PropertyFlags,
    rule: PropertyRule,
    properties: Option<FileWatch>,
    /// The files that the properties name.
    named: Vec<FileWatch>,
}

impl KafkaFiles {
    /// Returns the files of these settings, as they are now.
    #[must_use]
    pub fn new(cluster: &Cluster, rule: PropertyRule) -> Self {
        let watch = |path: &PathBuf| FileWatch::new(path.clone(), FILE_BYTES_MAX);
        let mut files = Self {
            flags: cluster.property_flags.clone(),
            rule,
            properties: cluster.properties_file.as_ref().map(watch),
            named: Vec::new(),
        };
        files.watch_named(&cluster.properties);
        for watch in files.properties.iter_mut().chain(&mut files.named) {
            // The first check of a file always returns its content.
            let _ = watch.check(Reading::IfChanged);
        }
        files
    }

    /// Returns whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.properties.is_none() && self.named.is_empty()
    }

    /// Checks the files for a change.
    pub fn check(&mut self) -> Option<KafkaFilesChange> {
        let mut changed = false;
        for watch in self.properties.iter_mut().chain(&mut self.named) {
            changed |= watch.check(Reading::IfChanged).is_some();
        }
        changed.then(|| self.read())
    }

    fn read(&mut self) -> KafkaFilesChange {
        let mut mistakes = Mistakes::default();
        let file = self.properties.as_ref().and_then(|watch| {
            let path = watch.path().display().to_string();
            let text = mistakes.take("--kafka-properties", watch.text());
            Some((path, text?))
        });
        let flags: Vec<&str> = self.flags.0.iter().map(String::as_str).collect();
        let file = file
            .as_ref()
            .map(|(path, text)| (path.as_str(), text.as_str()));
        let properties = properties::read(&flags, file, self.rule, &mut mistakes);
        if !mistakes.0.is_empty() {
            return KafkaFilesChange::Refused(mistakes.0);
        }
        self.watch_named(&properties);
        KafkaFilesChange::Renewed(properties)
    }

    /// Watches the files that these properties name, and no other ones.
    fn watch_named(&mut self, properties: &[KafkaProperty]) {
        let named = properties
            .iter()
            .filter(|p| FILES.contains(&p.key.as_str()));
        let paths: Vec<PathBuf> = named.map(|p| PathBuf::from(&p.value)).collect();
        self.named
            .retain(|watch| paths.iter().any(|path| path == watch.path()));
        for path in paths {
            if !self.named.iter().any(|watch| watch.path() == path) {
                let mut watch = FileWatch::new(path, FILE_BYTES_MAX);
                let _ = watch.check(Reading::IfChanged);
                self.named.push(watch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The properties must not say so.
    fn rule(properties: &[KafkaProperty]) -> Vec<(String, String)> {
        let wrong = properties.iter().filter(|p| p.value == "wrong");
        wrong
            .map(|p| (p.key.clone(), "a reason".to_owned()))
            .collect()
    }

    #[test]
    fn a_changed_password_or_certificate_is_in_force_and_a_mistake_changes_nothing() {
        let folder = std::env::temp_dir().join(format!("ringback-kafka-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("writable");
        let (file, ca) = (folder.join("kafka.properties"), folder.join("ca.pem"));
        let text = |password: &str| {
            format!(
                "sasl.password={password}\nssl.ca.location={}\n",
                ca.display()
            )
        };
        fs::write(&file, text("one")).expect("writable");
        fs::write(&ca, "one").expect("writable");
        let mut mistakes = Mistakes::default();
        let read = text("one");
        let properties =
            properties::read(&["client.id=x"], Some(("f", &read)), rule, &mut mistakes);
        let cluster = Cluster {
            properties,
            property_flags: PropertyFlags(vec!["client.id=x".to_owned()]),
            properties_file: Some(file.clone()),
            ..crate::config::settings::Settings::defaults("a").cluster
        };
        let mut files = KafkaFiles::new(&cluster, rule);
        assert!(!files.is_empty() && files.check().is_none());
        let renewed = |files: &mut KafkaFiles| match files.check() {
            Some(KafkaFilesChange::Renewed(properties)) => {
                properties.into_iter().map(|p| p.value).collect::<Vec<_>>()
            }
            _ => panic!("the change was not taken"),
        };
        let place = ca.display().to_string();
        fs::write(&file, text("two")).expect("writable");
        assert_eq!(renewed(&mut files), ["two", place.as_str(), "x"]);
        fs::write(&ca, "two").expect("writable");
        assert_eq!(renewed(&mut files), ["two", place.as_str(), "x"]);
        assert!(files.check().is_none(), "each change is reported once");
        for wrong in [text("wrong"), "no line".to_owned()] {
            fs::write(&file, wrong).expect("writable");
            let change = files.check();
            assert!(matches!(change, Some(KafkaFilesChange::Refused(m)) if m.len() == 1));
        }
        fs::remove_dir_all(&folder).expect("it was made");
    }

    #[test]
    fn without_a_file_there_is_nothing_to_watch() {
        let cluster = crate::config::settings::Settings::defaults("a").cluster;
        assert!(KafkaFiles::new(&cluster, rule).is_empty());
    }
}
