//! The tenants in force, and reloads of their files. The last valid content stays in
//! force until a valid change is found. The caller decides when to check. Never
//! waits, and never reads a clock. Runs on the thread `tenants`: 100,000 tenants
//! take a second to parse.

use super::file_watch::Reading;
use super::mistake::Mistake;
use super::tenant_files::TenantFiles;
use super::tenants::TenantRules;
use crate::model::tenant::Tenants;
use std::path::Path;
use std::sync::Arc;

/// The result of a check that found a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReloadResult {
    /// The new content is in force.
    Ok(Arc<Tenants>),
    /// The new content is refused as a whole. The old content stays in force.
    Refused(Vec<Mistake>),
}

/// The files of tenants, and the tenants in force.
#[derive(Debug)]
pub struct TenantsWatch {
    /// None if the tenants are not from files.
    files: Option<TenantFiles>,
    in_force: Arc<Tenants>,
    reading: Reading,
}

impl TenantsWatch {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// Every mistake in the files. A missing or empty file is one, and so is a
    /// directory without files.
    pub fn start(path: &Path, rules: TenantRules) -> Result<Self, Vec<Mistake>> {
        let (files, tenants) = TenantFiles::start(path, rules);
        Ok(Self {
            files: Some(files),
            in_force: Arc::new(tenants?),
            reading: Reading::IfChanged,
        })
    }

    /// Returns tenants that never change, for the demo.
    #[must_use]
    pub fn fixed(tenants: Tenants) -> Self {
        Self {
            files: None,
            in_force: Arc::new(tenants),
            reading: Reading::IfChanged,
        }
    }

    /// Makes the next check read the files and report their content, changed or not.
    pub fn read_again(&mut self) {
        self.reading = Reading::Always;
    }

    /// Returns the tenants in force.
    #[must_use]
    pub fn in_force(&self) -> &Arc<Tenants> {
        &self.in_force
    }

    /// Checks the files for a change.
    pub fn check(&mut self) -> Option<ReloadResult> {
        let files = self.files.as_mut()?;
        let reading = std::mem::replace(&mut self.reading, Reading::IfChanged);
        let new = files.check(reading)?;
        let from = files.path().display().to_string();
        let checked = new.and_then(|new| check_removals(&self.in_force, &from, new));
        Some(match checked {
            Ok(new) => {
                self.in_force = Arc::new(new);
                ReloadResult::Ok(Arc::clone(&self.in_force))
            }
            Err(mistakes) => ReloadResult::Refused(mistakes),
        })
    }
}

/// Refuses files that remove or disable more than half of the tenants: they are
/// probably cut short or a mistake. A restart accepts them.
pub(super) fn check_removals(
    old: &Tenants,
    from: &str,
    new: Tenants,
) -> Result<Tenants, Vec<Mistake>> {
    let removed = old.iter().filter(|t| !new.contains(&t.id)).count();
    let enabled = old.enabled();
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
    let with = match new.enabled() > 0 {
        true => "",
        // Without it, a start refuses to skip every record.
        false => " with --allow-no-tenants",
    };
    let text = format!("{what}; restart{with} to accept it");
    let name = format!("--tenants {from}");
    Err(vec![Mistake::new(name, text)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::PathBuf;

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
        let mut watch = TenantsWatch::start(&path, TenantRules::default()).unwrap();
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
        let mut watch = TenantsWatch::start(&path, TenantRules::default()).unwrap();
        fs::write(&path, file(3)).unwrap();
        let Some(ReloadResult::Refused(mistakes)) = watch.check() else {
            panic!("disabling 3 of 4 must be refused");
        };
        let text = mistakes[0].to_string();
        assert!(text.contains("disables 3 of 4 enabled tenants"), "{text}");
        fs::write(&path, file(4)).unwrap();
        let Some(ReloadResult::Refused(mistakes)) = watch.check() else {
            panic!("disabling 4 of 4 must be refused");
        };
        let text = mistakes[0].to_string();
        let ends = "; restart with --allow-no-tenants to accept it";
        assert!(text.ends_with(ends), "{text}");
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
        let mut watch = TenantsWatch::start(&path, TenantRules::default()).unwrap();
        while !watch.files.as_ref().unwrap().are_settled() {
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
        assert!(TenantsWatch::start(&path, TenantRules::default()).is_err());
        for content in ["", " \n", "[]", "{", "null"] {
            fs::write(&path, content).unwrap();
            assert!(
                TenantsWatch::start(&path, TenantRules::default()).is_err(),
                "{content}"
            );
        }
        fs::write(&path, "{}").unwrap();
        assert!(TenantsWatch::start(&path, TenantRules::default()).is_ok());
        fs::remove_dir_all(&folder).unwrap();
    }
}
