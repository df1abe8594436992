//! Changes of one file. A check is one stat, and a read if the stat has changed.
//! The caller decides when to check. Never interprets the content, waits or reads
//! a clock. Runs on the thread of its caller.

use super::environment::read_file;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// After a change, this many checks read the content although the stat is the
/// same. A second write within one tick of the file system's clock may change
/// neither the times nor the length.
const SETTLING_CHECKS: u8 = 3;

/// The `stat` of a file after following symbolic links. So a swapped link, as
/// of a Kubernetes ConfigMap, is a change too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp, if there is such a file.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// When a check returns the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reading {
    IfChanged,
    Always,
}

/// A file, as it was at the last check.
#[derive(Debug)]
pub(super) struct FileWatch {
    path: PathBuf,
    bytes_max: u64,
    /// The last stamp, and the hash of the last content or why it could not be read.
    last: Option<(Option<Stamp>, Result<u64, String>)>,
    settling: u8,
}

impl FileWatch {
    /// Returns the watch of a file that was not read yet.
    pub fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self {
            path,
            bytes_max,
            last: None,
            settling: 0,
        }
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the content if it has changed since the last check, or why it cannot
    /// be read. The first check always returns one of them.
    pub fn check(&mut self, reading: Reading) -> Option<Result<Vec<u8>, String>> {
        // The stamp comes first: the next check then sees a change after it.
        let stamp = Stamp::of(&self.path);
        let is_same = self.last.as_ref().is_some_and(|(last, _)| *last == stamp);
        if !is_same || reading == Reading::Always {
            self.settling = SETTLING_CHECKS;
        } else if self.settling == 0 {
            return None;
        } else {
            self.settling -= 1;
        }
        let read = read_file(&self.path, self.bytes_max);
        let content = read.as_ref().map(|bytes| hash(bytes)).map_err(Clone::clone);
        let before = self.last.replace((stamp, content.clone()));
        let is_same = before.is_some_and(|(_, before)| before == content);
        (!is_same || reading == Reading::Always).then_some(read)
    }

    /// Returns the content now, which the next check does not report again if it was
    /// checked already.
    pub fn text(&self) -> Result<String, String> {
        let bytes = read_file(&self.path, self.bytes_max)?;
        String::from_utf8(bytes).map_err(|_| format!("'{}' is not UTF-8", self.path.display()))
    }

    /// Returns whether the file was not touched since the last check.
    pub fn is_as_read(&self) -> bool {
        let stamp = Stamp::of(&self.path);
        self.last.as_ref().is_some_and(|(last, _)| *last == stamp)
    }

    /// Returns whether the next checks read the content only after a change.
    #[cfg(test)]
    pub fn is_settled(&self) -> bool {
        self.settling == 0
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
