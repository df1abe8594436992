//! The files of tenants: one file, or each `*.json` of a directory. Only changed
//! files are read and parsed again. Decides nothing about the tenants in force. Runs
//! on the main thread at the start, and on the thread `tenants` afterwards.
//!
//! Kubernetes writes a directory of symbolic links through the hidden link `..data`,
//! and changes all files by one swap of that link. So hidden names are left out, and
//! a directory that changes while it is read is read again.

use super::file_watch::{FileWatch, Reading};
use super::mistake::Mistake;
use super::tenants::{self, TenantRules};
use crate::model::tenant::{Tenant, TenantId, Tenants};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The maximum size of a file, and of all files together: 100,000 tenants of some
/// 600 bytes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The maximum number of files in a directory. Each check has a stat of each.
const FILES_MAX: usize = 1_000;
/// The start reads a directory at most this often until it stays the same.
const START_READS_MAX: usize = 10;

/// The files, as they were at the last check.
#[derive(Debug)]
pub(super) struct TenantFiles {
    path: PathBuf,
    rules: TenantRules,
    /// The reason why the directory cannot be listed.
    unlisted: Option<Mistake>,
    files: BTreeMap<PathBuf, TenantFile>,
    /// Whether a change was found that was not returned yet.
    changed: bool,
}

#[derive(Debug)]
struct TenantFile {
    watch: FileWatch,
    bytes: u64,
    parsed: Result<Vec<Arc<Tenant>>, Vec<Mistake>>,
}

/// The tenants of all files, or every mistake in them.
pub(super) type Merged = Result<Tenants, Vec<Mistake>>;

impl TenantFiles {
    /// Reads the files for the first time.
    pub fn start(path: &Path, rules: TenantRules) -> (Self, Merged) {
        let mut files = Self {
            path: path.to_owned(),
            rules,
            unlisted: None,
            files: BTreeMap::new(),
            changed: false,
        };
        for _ in 0..START_READS_MAX {
            files.refresh(Reading::IfChanged);
            if files.are_as_read() {
                break;
            }
        }
        files.changed = false;
        let merged = files.merged();
        (files, merged)
    }

    /// Returns the path of the file or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the tenants if a file has changed since the last check.
    pub fn check(&mut self, reading: Reading) -> Option<Merged> {
        self.changed |= self.refresh(reading) || reading == Reading::Always;
        if !self.changed || !self.are_as_read() {
            return None;
        }
        self.changed = false;
        Some(self.merged())
    }

    /// Reads what has changed. Returns whether anything has.
    fn refresh(&mut self, reading: Reading) -> bool {
        let paths = match list(&self.path) {
            Ok(paths) => paths,
            Err(why) => {
                let unlisted = Some(self.mistake(why));
                return std::mem::replace(&mut self.unlisted, unlisted) != self.unlisted;
            }
        };
        let mut changed = self.unlisted.take().is_some();
        let before = self.files.len();
        self.files.retain(|path, _| paths.contains(path));
        changed |= self.files.len() != before;
        let is_alone = paths.contains(&self.path);
        for path in paths {
            let place = match path.file_name() {
                Some(name) if !is_alone => format!("{}: ", name.to_string_lossy()),
                _ => String::new(),
            };
            let file = self
                .files
                .entry(path)
                .or_insert_with_key(|path| TenantFile::new(path));
            changed |= file.refresh(reading, &place, self.rules);
        }
        changed
    }

    /// Returns whether nothing changed since the start of the last reading.
    fn are_as_read(&self) -> bool {
        let listed = match list(&self.path) {
            Ok(paths) => paths.iter().eq(self.files.keys()),
            Err(_) => self.unlisted.is_some(),
        };
        listed && (self.files.values()).all(|file| file.watch.is_as_read())
    }

    fn merged(&self) -> Merged {
        if let Some(unlisted) = &self.unlisted {
            return Err(vec![unlisted.clone()]);
        }
        let mut mistakes = Vec::new();
        if self.files.is_empty() {
            mistakes.push(self.mistake("the directory has no *.json file".to_owned()));
        }
        let bytes: u64 = self.files.values().map(|file| file.bytes).sum();
        if bytes > BYTES_MAX {
            let why = format!("its files have {bytes} bytes, and the maximum is {BYTES_MAX}");
            mistakes.push(self.mistake(why));
        }
        let mut merged: HashMap<&TenantId, (&Path, &Arc<Tenant>)> = HashMap::new();
        for (path, file) in &self.files {
            let parsed = match &file.parsed {
                Ok(parsed) => parsed,
                Err(wrong) => {
                    mistakes.extend(wrong.iter().cloned());
                    continue;
                }
            };
            for tenant in parsed {
                if let Some((other, _)) = merged.insert(&tenant.id, (path, tenant)) {
                    mistakes.push(in_two_files(&tenant.id, other, path));
                }
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let tenants = merged.into_values().map(|(_, tenant)| tenant);
        Ok(tenants.map(Arc::clone).collect())
    }

    fn mistake(&self, why: String) -> Mistake {
        Mistake::new(format!("--tenants {}", self.path.display()), why)
    }

    /// Returns whether the next checks read a file only after a change.
    #[cfg(test)]
    pub fn are_settled(&self) -> bool {
        self.files.values().all(|file| file.watch.is_settled())
    }
}

impl TenantFile {
    fn new(path: &Path) -> Self {
        Self {
            watch: FileWatch::new(path.to_owned(), BYTES_MAX),
            bytes: 0,
            parsed: Ok(Vec::new()),
        }
    }

    fn refresh(&mut self, reading: Reading, place: &str, rules: TenantRules) -> bool {
        let Some(read) = self.watch.check(reading) else {
            return false;
        };
        self.bytes = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.parsed = match read {
            Ok(bytes) => tenants::parse(self.watch.path(), place, &bytes, rules),
            Err(why) => Err(vec![Mistake::new("--tenants", why)]),
        };
        true
    }
}

/// Returns the files of a directory, or the path itself where it is none.
fn list(path: &Path) -> Result<BTreeSet<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(BTreeSet::from([path.to_owned()]));
    }
    let cannot = |why: std::io::Error| format!("cannot list the directory: {why}");
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(path).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let text = name.to_string_lossy();
        if text.ends_with(".json") && !text.starts_with('.') {
            files.insert(path.join(&name));
        }
        if files.len() > FILES_MAX {
            return Err(format!(
                "the directory has more than {FILES_MAX} *.json files"
            ));
        }
    }
    Ok(files)
}

fn in_two_files(id: &TenantId, one: &Path, other: &Path) -> Mistake {
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let (one, other) = (name(one), name(other));
    let text = format!("is in '{one}' and in '{other}': a tenant stands in one file");
    Mistake::new(format!("tenant {:?}", id.as_str()), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(name: &str) -> PathBuf {
        let name = format!("ringback-files-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn start(folder: &Path) -> (TenantFiles, Result<usize, String>) {
        let (files, merged) = TenantFiles::start(folder, TenantRules::default());
        (files, count(merged))
    }

    fn count(merged: Merged) -> Result<usize, String> {
        let texts = |all: Vec<Mistake>| all.iter().map(|m| format!("{m}\n")).collect();
        merged.map(|tenants| tenants.len()).map_err(texts)
    }

    fn entry(id: &str) -> String {
        format!(r#"{{"{id}":{{"url":"http://h/{id}"}}}}"#)
    }

    #[test]
    fn a_directory_merges_its_json_files_and_no_others() {
        let folder = folder("merge");
        assert_eq!(
            start(&folder).1.unwrap_err(),
            format!(
                "--tenants {}: the directory has no *.json file\n",
                folder.display()
            )
        );
        fs::write(folder.join("a.json"), entry("a")).unwrap();
        fs::write(folder.join("b.json"), entry("b")).unwrap();
        fs::write(folder.join(".hidden.json"), "{").unwrap();
        fs::write(folder.join("notes.txt"), "{").unwrap();
        let (mut files, merged) = start(&folder);
        assert_eq!(merged, Ok(2));
        assert!(files.check(Reading::IfChanged).is_none());
        fs::write(folder.join("c.json"), entry("c")).unwrap();
        assert_eq!(files.check(Reading::IfChanged).map(count), Some(Ok(3)));
        assert!(files.check(Reading::IfChanged).is_none());
        fs::write(folder.join("b.json"), "{}").unwrap();
        assert_eq!(files.check(Reading::IfChanged).map(count), Some(Ok(2)));
        fs::remove_file(folder.join("a.json")).unwrap();
        assert_eq!(files.check(Reading::IfChanged).map(count), Some(Ok(1)));
        fs::remove_dir_all(&folder).unwrap();
        let gone = files.check(Reading::IfChanged).map(count);
        assert!(gone.is_some_and(|gone| gone.is_err()));
    }

    #[test]
    fn a_tenant_in_two_files_is_refused_with_both_names() {
        let folder = folder("twice");
        fs::write(folder.join("a.json"), entry("t")).unwrap();
        fs::write(folder.join("b.json"), entry("t")).unwrap();
        let refused = start(&folder).1.unwrap_err();
        let named = "tenant \"t\": is in 'a.json' and in 'b.json': a tenant stands in one file\n";
        assert_eq!(refused, named);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_mistake_in_a_directory_names_its_file() {
        let folder = folder("named");
        fs::write(folder.join("a.json"), entry("a")).unwrap();
        fs::write(folder.join("b.json"), r#"{"b":{"url":"ftp://h"}}"#).unwrap();
        fs::write(folder.join("c.json"), "{").unwrap();
        fs::create_dir(folder.join("d.json")).unwrap();
        let refused = start(&folder).1.unwrap_err();
        for named in ["b.json: tenant \"b\", url", "/c.json: not JSON", "/d.json'"] {
            assert!(refused.contains(named), "{named}: {refused}");
        }
        assert_eq!(refused.lines().count(), 3, "{refused}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn one_swap_of_kubernetes_link_changes_all_files() {
        let folder = folder("swap");
        for (version, ids) in [("..v1", ["a", "b"]), ("..v2", ["b", "a"])] {
            fs::create_dir(folder.join(version)).unwrap();
            for (file, id) in ["one.json", "two.json"].into_iter().zip(ids) {
                fs::write(folder.join(version).join(file), entry(id)).unwrap();
            }
        }
        let link = |version: &str| {
            std::os::unix::fs::symlink(version, folder.join("..new")).unwrap();
            fs::rename(folder.join("..new"), folder.join("..data")).unwrap();
        };
        link("..v1");
        for file in ["one.json", "two.json"] {
            let target = Path::new("..data").join(file);
            std::os::unix::fs::symlink(target, folder.join(file)).unwrap();
        }
        let (mut files, merged) = start(&folder);
        assert_eq!(merged, Ok(2));
        link("..v2");
        assert_eq!(files.check(Reading::IfChanged).map(count), Some(Ok(2)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
