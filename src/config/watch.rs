//! The tenants file over time: the last good content stays in force until a
//! better one is found. The caller decides when to look; nothing here waits or
//! reads a clock. Looking is a stat, and a read when the stat tells of a change.

use super::mistake::Mistake;
use super::tenants;
use crate::model::tenant::Tenants;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many looks after a change read the content again although the stat is
/// the same: a second write within one tick of the file system's clock that
/// keeps the length leaves no other trace.
const SETTLING_LOOKS: u8 = 3;

/// What a look found that was not there before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReloadResult {
    /// The new content is in force.
    Ok(Arc<Tenants>),
    /// The new content is refused whole; what was in force stays.
    Refused(Vec<Mistake>),
}

/// The tenants file and what is in force of it.
#[derive(Debug)]
pub struct TenantsWatch {
    /// None where the tenants come from no file.
    path: Option<PathBuf>,
    in_force: Arc<Tenants>,
    stamp: Option<Stamp>,
    content: Result<u64, Mistake>,
    settling: u8,
}

/// What `stat` says of the file at the end of all symbolic links, so that the
/// swap of a link (a Kubernetes ConfigMap's way) is a change too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> Option<Self> {
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

impl TenantsWatch {
    /// Loads the file for the first time.
    ///
    /// Errors: every mistake in it; a missing or empty file is one.
    pub fn start(path: &Path) -> Result<Self, Vec<Mistake>> {
        // The stamp first: a change between the two is then seen by the next look.
        let stamp = Stamp::of(path);
        let bytes = tenants::read(path).map_err(|mistake| vec![mistake])?;
        Ok(Self {
            path: Some(path.to_owned()),
            in_force: Arc::new(tenants::parse(path, &bytes)?),
            stamp,
            content: Ok(hash(&bytes)),
            settling: SETTLING_LOOKS,
        })
    }

    /// Tenants that stay as they are: the demo's.
    #[must_use]
    pub fn fixed(tenants: Tenants) -> Self {
        Self {
            path: None,
            in_force: Arc::new(tenants),
            stamp: None,
            content: Ok(0),
            settling: 0,
        }
    }

    /// The tenants in force.
    #[must_use]
    pub fn in_force(&self) -> &Arc<Tenants> {
        &self.in_force
    }

    /// Looks at the file; `None` where nothing is new. To be called each
    /// second, so that a change is in force within two.
    pub fn check(&mut self) -> Option<ReloadResult> {
        let path = self.path.clone()?;
        let stamp = Stamp::of(&path);
        if stamp != self.stamp {
            self.stamp = stamp;
            self.settling = SETTLING_LOOKS;
        } else if self.settling == 0 {
            return None;
        } else {
            self.settling -= 1;
        }
        let bytes = tenants::read(&path);
        let content = bytes.as_ref().map(|b| hash(b)).map_err(Clone::clone);
        if content == self.content {
            return None;
        }
        self.content = content;
        let read = bytes.map_err(|mistake| vec![mistake]);
        let new = read.and_then(|bytes| tenants::parse(&path, &bytes));
        Some(match new.and_then(|new| self.not_too_few(&path, new)) {
            Ok(new) => {
                self.in_force = Arc::new(new);
                ReloadResult::Ok(Arc::clone(&self.in_force))
            }
            Err(mistakes) => ReloadResult::Refused(mistakes),
        })
    }

    /// A file that loses more than half of the tenants at once is more likely
    /// cut short than meant; a restart accepts it.
    fn not_too_few(&self, path: &Path, new: Tenants) -> Result<Tenants, Vec<Mistake>> {
        let old = self.in_force.len();
        let removed = self
            .in_force
            .iter()
            .filter(|t| !new.contains(&t.id))
            .count();
        if removed * 2 <= old {
            return Ok(new);
        }
        Err(vec![Mistake::new(
            format!("--tenants {}", path.display()),
            format!(
                "removes {removed} of {old} tenants: a reload removes at most half; restart to accept it"
            ),
        )])
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn entries(ids: impl IntoIterator<Item = u32>) -> String {
        let entries: Vec<String> = ids
            .into_iter()
            .map(|id| format!(r#""t{id}":{{"url":"http://h/{id}"}}"#))
            .collect();
        format!("{{{}}}", entries.join(","))
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("ringback-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_good_change_is_in_force_and_a_bad_one_leaves_the_last_good() {
        let folder = folder("watch");
        let path = folder.join("tenants.json");
        fs::write(&path, entries(0..4)).unwrap();
        let mut watch = TenantsWatch::start(&path).unwrap();
        assert_eq!(watch.check(), None);
        #[track_caller]
        fn check(watch: &mut TenantsWatch, path: &Path, content: &str, ok: bool, count: usize) {
            fs::write(path, content).unwrap();
            match watch.check() {
                Some(ReloadResult::Ok(new)) => assert!(ok && new.len() == count),
                Some(ReloadResult::Refused(mistakes)) => assert!(!ok && !mistakes.is_empty()),
                None => panic!("the change was not seen"),
            }
            assert_eq!(watch.in_force().len(), count);
            assert_eq!(watch.check(), None, "each change is told once");
        }
        check(&mut watch, &path, &entries(1..5), true, 4);
        check(&mut watch, &path, "{", false, 4);
        check(&mut watch, &path, "", false, 4);
        check(&mut watch, &path, r#"{"t1":{"url":"ftp://h"}}"#, false, 4);
        check(&mut watch, &path, &entries(1..2), false, 4);
        check(&mut watch, &path, &entries(1..5), true, 4);
        check(&mut watch, &path, &entries(1..3), true, 2);
        check(&mut watch, &path, &entries(7..99), false, 2);
        fs::remove_file(&path).unwrap();
        assert!(matches!(watch.check(), Some(ReloadResult::Refused(_))));
        for _ in 0..9 {
            assert_eq!(watch.check(), None);
        }
        check(&mut watch, &path, &entries(1..3), true, 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_swap_of_a_link_is_a_change() {
        let folder = folder("links");
        for (version, ids) in [("v1", 0..3), ("v2", 1..4)] {
            fs::create_dir_all(folder.join(version)).unwrap();
            fs::write(folder.join(version).join("tenants.json"), entries(ids)).unwrap();
        }
        let link = |version: &str| {
            let fresh = folder.join("fresh");
            std::os::unix::fs::symlink(version, &fresh).unwrap();
            fs::rename(&fresh, folder.join("..data")).unwrap();
        };
        link("v1");
        let path = folder.join("tenants.json");
        std::os::unix::fs::symlink("..data/tenants.json", &path).unwrap();
        let mut watch = TenantsWatch::start(&path).unwrap();
        while watch.settling > 0 {
            assert_eq!(watch.check(), None);
        }
        link("v2");
        assert!(matches!(watch.check(), Some(ReloadResult::Ok(new)) if new.len() == 3));
        assert!(
            watch
                .in_force()
                .iter()
                .any(|tenant| tenant.id.as_str() == "t3")
        );
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_missing_or_empty_file_ends_the_start() {
        let folder = folder("start");
        let path = folder.join("tenants.json");
        assert!(TenantsWatch::start(&path).is_err());
        for content in ["", " \n", "[]", "{", "null"] {
            fs::write(&path, content).unwrap();
            assert!(TenantsWatch::start(&path).is_err(), "{content}");
        }
        fs::write(&path, "{}").unwrap();
        assert!(TenantsWatch::start(&path).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
