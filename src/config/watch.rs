//! Reloads of the tenants file. The last valid content stays in force until a
//! valid change is found. A check is one stat, and a read if the stat has changed.
//! The caller decides when to check. Never waits, and never reads a clock. Runs on
//! the thread `tenants`: 100,000 tenants take a second to parse.

use super::mistake::Mistake;
use super::tenants;
use crate::model::tenant::Tenants;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// After a change, this many checks read the content although the stat is the
/// same. A second write within one tick of the file system's clock may change
/// neither the times nor the length.
const SETTLING_CHECKS: u8 = 3;

/// The result of a check that found a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReloadResult {
    /// The new content is in force.
    Ok(Arc<Tenants>),
    /// The new content is refused as a whole. The old content stays in force.
    Refused(Vec<Mistake>),
}

/// The tenants file, and the tenants in force.
#[derive(Debug)]
pub struct TenantsWatch {
    /// None if the tenants are not from a file.
    path: Option<PathBuf>,
    in_force: Arc<Tenants>,
    stamp: Option<Stamp>,
    content: Result<u64, Mistake>,
    settling: u8,
    reading: Reading,
}

/// When the next check reports the content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reading {
    IfChanged,
    Always,
}

/// The `stat` of the file after following symbolic links. So a swapped link, as
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
    /// # Errors
    /// Every mistake in the file. A missing or empty file is one.
    pub fn start(path: &Path) -> Result<Self, Vec<Mistake>> {
        // The stamp comes first: the next check then sees a change after it.
        let stamp = Stamp::of(path);
        let bytes = tenants::read(path).map_err(|mistake| vec![mistake])?;
        Ok(Self {
            path: Some(path.to_owned()),
            in_force: Arc::new(tenants::parse(path, &bytes)?),
            stamp,
            content: Ok(hash(&bytes)),
            settling: SETTLING_CHECKS,
            reading: Reading::IfChanged,
        })
    }

    /// Returns tenants that never change, for the demo.
    #[must_use]
    pub fn fixed(tenants: Tenants) -> Self {
        Self {
            path: None,
            in_force: Arc::new(tenants),
            stamp: None,
            content: Ok(0),
            settling: 0,
            reading: Reading::IfChanged,
        }
    }

    /// Makes the next check read the file and report its content, changed or not.
    pub fn read_again(&mut self) {
        self.reading = Reading::Always;
    }

    /// Returns the tenants in force.
    #[must_use]
    pub fn in_force(&self) -> &Arc<Tenants> {
        &self.in_force
    }

    /// Checks the file for a change. With a call per second, a change is in force
    /// within two seconds.
    pub fn check(&mut self) -> Option<ReloadResult> {
        let path = self.path.clone()?;
        let stamp = Stamp::of(&path);
        if stamp != self.stamp || self.reading == Reading::Always {
            self.stamp = stamp;
            self.settling = SETTLING_CHECKS;
        } else if self.settling == 0 {
            return None;
        } else {
            self.settling -= 1;
        }
        let bytes = tenants::read(&path);
        let content = bytes.as_ref().map(|b| hash(b)).map_err(Clone::clone);
        let reading = std::mem::replace(&mut self.reading, Reading::IfChanged);
        if reading == Reading::IfChanged && content == self.content {
            return None;
        }
        self.content = content;
        let read = bytes.map_err(|mistake| vec![mistake]);
        let new = read.and_then(|bytes| tenants::parse(&path, &bytes));
        Some(match new.and_then(|new| self.check_removals(&path, new)) {
            Ok(new) => {
                self.in_force = Arc::new(new);
                ReloadResult::Ok(Arc::clone(&self.in_force))
            }
            Err(mistakes) => ReloadResult::Refused(mistakes),
        })
    }

    /// Refuses a file that removes or disables more than half of the tenants: it is
    /// probably cut short or a mistake. A restart accepts it.
    fn check_removals(&self, path: &Path, new: Tenants) -> Result<Tenants, Vec<Mistake>> {
        let old = &self.in_force;
        let removed = old.iter().filter(|t| !new.contains(&t.id)).count();
        let enabled = old.iter().filter(|t| t.enabled).count();
        let stopped = old
            .iter()
            .filter(|t| t.enabled && new.callback(&t.id).is_none())
            .count();
        let what = if removed * 2 > old.len() {
            let all = old.len();
            format!("removes {removed} of {all} tenants: a reload removes at most half")
        } else if stopped * 2 > enabled {
            format!(
                "removes or disables {stopped} of {enabled} enabled tenants: a reload stops at \
                 most half"
            )
        } else {
            return Ok(new);
        };
        let with = match new.iter().any(|tenant| tenant.enabled) {
            true => "",
            // Without it, a start refuses to skip every record.
            false => " with --allow-no-tenants",
        };
        let text = format!("{what}; restart{with} to accept it");
        let name = format!("--tenants {}", path.display());
        Err(vec![Mistake::new(name, text)])
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
    fn a_valid_change_is_in_force_and_a_wrong_one_leaves_the_last_valid_one() {
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
            assert_eq!(watch.check(), None, "each change is reported once");
        }
        check(&mut watch, &path, &entries(1..5), true, 4);
        watch.read_again();
        assert!(matches!(watch.check(), Some(ReloadResult::Ok(same)) if same.len() == 4));
        assert_eq!(watch.check(), None, "only once");
        check(&mut watch, &path, "{", false, 4);
        watch.read_again();
        assert!(matches!(watch.check(), Some(ReloadResult::Refused(_))));
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
        watch.read_again();
        assert!(matches!(watch.check(), Some(ReloadResult::Refused(_))));
        assert_eq!(watch.check(), None, "an order is answered once");
        check(&mut watch, &path, &entries(1..3), true, 2);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_reload_that_disables_more_than_half_is_refused() {
        let folder = folder("disabled");
        let path = folder.join("tenants.json");
        let file = |disabled: u32| {
            let entries: Vec<String> = (0..4)
                .map(|id| {
                    let enabled = id >= disabled;
                    format!(r#""t{id}":{{"url":"http://h/{id}","enabled":{enabled}}}"#)
                })
                .collect();
            format!("{{{}}}", entries.join(","))
        };
        fs::write(&path, file(0)).unwrap();
        let mut watch = TenantsWatch::start(&path).unwrap();
        fs::write(&path, file(3)).unwrap();
        let Some(ReloadResult::Refused(mistakes)) = watch.check() else {
            panic!("disabling 3 of 4 must be refused");
        };
        let text = mistakes[0].to_string();
        assert!(text.contains("disables 3 of 4 enabled tenants"), "{text}");
        fs::write(&path, file(2)).unwrap();
        assert!(matches!(watch.check(), Some(ReloadResult::Ok(_))));
        // Disabled tenants may be removed.
        fs::write(&path, entries(2..4)).unwrap();
        assert!(matches!(watch.check(), Some(ReloadResult::Ok(new)) if new.len() == 2));
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
            let new = folder.join("new");
            std::os::unix::fs::symlink(version, &new).unwrap();
            fs::rename(&new, folder.join("..data")).unwrap();
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
    fn a_missing_or_empty_file_stops_the_start() {
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
