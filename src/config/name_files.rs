//! Changes of the system's files about host names. Never interprets the files,
//! waits or reads a clock. The caller decides when to check. Runs on the runner's
//! thread.

use super::environment::read_file;
use super::file_watch::Stamp;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// The maximum size of a file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The content of the files. Empty for a file that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameFilesContent {
    pub resolv_conf: Vec<u8>,
    pub hosts: Vec<u8>,
}

/// The files, with their stamps at the last check.
#[derive(Debug, Default)]
pub struct NameFiles {
    stamps: Option<[Option<Stamp>; 2]>,
}

impl NameFiles {
    /// Returns the content if a file has changed since the last check. The first
    /// check always returns it. A check is two stats, and two reads after a change.
    pub fn check(&mut self) -> Option<NameFilesContent> {
        let stamps = [RESOLV_CONF, HOSTS].map(|path| Stamp::of(Path::new(path)));
        if self.stamps == Some(stamps) {
            return None;
        }
        self.stamps = Some(stamps);
        // Without these files a host still reaches literal addresses.
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
    fn the_first_check_and_each_change_return_the_content() {
        let mut files = NameFiles::default();
        assert!(files.check().is_some());
        assert_eq!(files.check(), None);
        files.stamps = Some([None; 2]);
        assert!(files.check().is_some());
    }
}
