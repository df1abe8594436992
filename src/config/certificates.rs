//! Changes of the files of certificates: the authorities that callbacks trust, and
//! the certificate that callbacks show. The last
//! good content stays in force. Never shows a key. Runs on the main thread at the
//! start, and on the thread `certificates` afterwards.

use super::file_watch::{FileWatch, Reading};
use super::mistake::Mistake;
use super::settings::Settings;
use super::values::{self, FILE_BYTES_MAX};
use std::path::{Path, PathBuf};

/// The contents of the files that are in force.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Certificates {
    /// PEM of `--ca-file`.
    pub ca: Option<Vec<u8>>,
    /// PEM of `--client-cert`.
    pub client: Option<Vec<u8>>,
}

/// The result of a check that found a change.
pub struct CertificatesChange {
    /// The contents in force, if one of them is new.
    pub renewed: Option<Certificates>,
    /// The files that are refused.
    pub mistakes: Vec<Mistake>,
}

/// The files, as they were at the last check.
#[derive(Default)]
pub struct CertificateFiles {
    ca: Option<FileWatch>,
    client: Option<FileWatch>,
    in_force: Certificates,
}

impl CertificateFiles {
    /// Returns the files of these settings, which have their contents.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let watch = |path: &PathBuf| FileWatch::new(path.clone(), FILE_BYTES_MAX);
        let (ca, client) = (&settings.ca_file, &settings.client_cert);
        Self {
            ca: ca.as_ref().map(|file| watch(&file.path)),
            client: client.as_ref().map(|file| watch(&file.path)),
            in_force: Certificates {
                ca: ca.as_ref().map(|file| file.pem.clone()),
                client: client.as_ref().map(|file| file.pem.clone()),
            },
        }
    }

    /// Returns whether there is no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ca.is_none() && self.client.is_none()
    }

    /// Checks the files for a change.
    pub fn check(&mut self) -> Option<CertificatesChange> {
        let mut mistakes = Vec::new();
        let before = self.in_force.clone();
        let Certificates { ca, client } = &mut self.in_force;
        check(
            &mut self.ca,
            ca,
            "--ca-file",
            values::check_ca,
            &mut mistakes,
        );
        check(
            &mut self.client,
            client,
            "--client-cert",
            values::check_client_cert,
            &mut mistakes,
        );
        let renewed = (self.in_force != before).then(|| self.in_force.clone());
        let changed = renewed.is_some() || !mistakes.is_empty();
        changed.then_some(CertificatesChange { renewed, mistakes })
    }
}

/// Checks one file, and puts its content in force if it is new and good.
fn check(
    watch: &mut Option<FileWatch>,
    in_force: &mut Option<Vec<u8>>,
    flag: &str,
    rule: fn(&Path, &[u8]) -> Result<(), String>,
    mistakes: &mut Vec<Mistake>,
) {
    let Some(watch) = watch else {
        return;
    };
    let Some(read) = watch.check(Reading::IfChanged) else {
        return;
    };
    match read.and_then(|pem| rule(watch.path(), &pem).map(|()| pem)) {
        Ok(pem) => *in_force = Some(pem),
        Err(why) => mistakes.push(Mistake::new(flag, why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey, generate_simple_self_signed};

    /// Returns a certificate and its key.
    fn made() -> (String, String) {
        let made = generate_simple_self_signed(["a.test".to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("a certificate can be made");
        (cert.pem(), signing_key.serialize_pem())
    }

    fn path(name: &str) -> PathBuf {
        let name = format!("ringback-{name}-{}.pem", std::process::id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn a_changed_file_is_in_force_and_a_broken_one_leaves_the_last_good_one() {
        let ((old, old_key), (new, new_key)) = (made(), made());
        let path = path("rotated");
        std::fs::write(&path, format!("{old}{old_key}")).expect("the folder is writable");
        let mut settings = Settings::defaults("a");
        settings.client_cert = Some(values::client_cert(&path).expect("good"));
        let mut files = CertificateFiles::new(&settings);
        assert!(!files.is_empty());
        assert!(files.check().is_none());
        std::fs::write(&path, &new).expect("writable");
        let change = files.check().expect("a change");
        assert!(change.renewed.is_none() && change.mistakes.len() == 1);
        assert!(files.check().is_none(), "each change is reported once");
        let text = format!("{new}{new_key}");
        std::fs::write(&path, &text).expect("writable");
        let renewed = files.check().expect("a change").renewed.expect("good");
        assert!(renewed.client.is_some_and(|pem| pem == text.as_bytes()));
        std::fs::remove_file(&path).expect("it was written");
    }
}
