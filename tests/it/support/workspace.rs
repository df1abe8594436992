//! Where a run of the tests keeps its files: `target/it/<pid>`. Directories of
//! runs that have ended are removed by the next one; until then their logs
//! can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
    let all = target().join("it");
    remove_ended(&all);
    let root = all.join(std::process::id().to_string());
    fs::create_dir_all(&root).expect("the build directory is writable");
    root
});

/// The build directory.
pub fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("cargo's tmp lies in the build directory")
        .to_owned()
}

/// A new directory of this run.
pub fn directory(name: &str) -> PathBuf {
    let path = ROOT.join(name);
    fs::create_dir_all(&path).expect("the build directory is writable");
    path
}

fn remove_ended(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else {
        return;
    };
    for entry in entries.flatten() {
        let pid = entry.file_name();
        if !Path::new("/proc").join(&pid).exists() {
            // Another run may be removing it too.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
