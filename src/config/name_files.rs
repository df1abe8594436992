//! The system's files about host names over time. The caller decides when to
//! look; nothing here waits or reads a clock. Never what is in the files.

use super::environment::read_file;
use super::watch::Stamp;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// The largest of them that is read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What is in the files; empty where one cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameFilesContent {
    /// Of resolv.conf.
    pub resolv_conf: Vec<u8>,
    /// Of the hosts file.
    pub hosts: Vec<u8>,
}

/// The files, and what was there at the last look.
#[derive(Debug, Default)]
pub struct NameFiles {
    stamps: Option<[Option<Stamp>; 2]>,
}

impl NameFiles {
    /// Looks at the files: two stats, and a read of both where one tells of a
    /// change; the first look always finds one.
    pub fn check(&mut self) -> Option<NameFilesContent> {
        let stamps = [RESOLV_CONF, HOSTS].map(|path| Stamp::of(Path::new(path)));
        if self.stamps == Some(stamps) {
            return None;
        }
        self.stamps = Some(stamps);
        // A host without them still reaches literal addresses.
        let read = |path: &str| read_file(Path::new(path), FILE_BYTES_MAX).unwrap_or_default();
        Some(NameFilesContent {
            resolv_conf: read(RESOLV_CONF),
            hosts: read(HOSTS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_look_and_changes_tell() {
        let mut files = NameFiles::default();
        assert!(files.check().is_some());
        assert_eq!(files.check(), None);
        files.stamps = Some([None; 2]);
        assert!(files.check().is_some());
    }
}
