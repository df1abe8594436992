//! The Dockerfile: it passes the linter, and its context has every file that the
//! build needs.

use super::{read, repository, stdout_of, tool};
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use crate::support::{ringback, workspace};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the instructions of a kind, each with its words.
fn instructions(kind: &str) -> Vec<Vec<String>> {
    let file = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines = file.lines().filter_map(|line| line.strip_prefix(kind));
    let lines = lines.filter(|rest| rest.starts_with(' '));
    lines
        .map(|rest| rest.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// Returns the paths that the image copies from the repository.
fn sources() -> Vec<String> {
    let copied = instructions("COPY")
        .into_iter()
        .filter(|words| !words[0].starts_with("--from"));
    copied
        .flat_map(|mut words| {
            words.pop();
            words
        })
        .collect()
}

#[test]
fn the_linter_finds_nothing() {
    stdout_of(tool("hadolint").arg(repository("deploy/Dockerfile")), "");
}

#[test]
fn the_context_has_what_is_copied_and_nothing_else() {
    let ignore = read(".dockerignore");
    let mut kept: Vec<&str> = ignore
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    let mut copied = sources();
    kept.sort_unstable();
    copied.sort_unstable();
    assert_eq!(kept, copied);
    assert!(ignore.lines().any(|line| line == "*"));
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("the build directory is writable");
        for entry in fs::read_dir(from).expect("a folder of the repository") {
            let name = entry.expect("readable").file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else {
        fs::create_dir_all(to.parent().expect("it is in a folder")).expect("writable");
        fs::copy(from, to).expect("the build directory is writable");
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .collect()
}

#[test]
fn the_context_has_every_file_that_the_build_needs() {
    let context = workspace::directory("image-context");
    for source in sources() {
        copy(&repository(&source), &context.join(&source));
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--locked",
        "--offline",
        "--no-deps",
        "--format-version",
        "1",
    ]);
    cargo.current_dir(&context).env_remove("CARGO_TARGET_DIR");
    stdout_of(&mut cargo, "");
    for file in rust_files(&context.join("src")) {
        let text = fs::read_to_string(&file).expect("text");
        // Files that only tests include may be missing.
        let code = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default();
        if file.ends_with("tests.rs") {
            continue;
        }
        for part in code.split("include_").skip(1) {
            let Some(path) = part.split('"').nth(1).filter(|_| part.contains("!(\"")) else {
                continue;
            };
            let included = file.parent().expect("it is in a folder").join(path);
            assert!(included.exists(), "{} includes {path}", file.display());
        }
    }
}

#[test]
fn the_image_runs_without_privileges_and_its_check_asks_a_running_service() {
    let from = instructions("FROM");
    for base in &from {
        let (_, tag) = base[0].rsplit_once(':').expect("a pinned base");
        assert_ne!(tag, "latest");
    }
    assert_eq!(instructions("USER"), [["65532:65532"]]);
    assert_eq!(instructions("EXPOSE"), [["9464"]]);
    let check = instructions("HEALTHCHECK").remove(0).join(" ");
    assert!(check.ends_with(r#"CMD ["/ringback", "health"]"#), "{check}");

    // The check finds the service by the service's own setting.
    let mut scene = Scene::new("image-health", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let listen = format!("0.0.0.0:{}", ringback.port());
    let ask = || {
        let mut command = ringback::command(&["health".to_owned()]);
        command.env("RINGBACK_LISTEN", &listen);
        super::run(&mut command, "").status.code()
    };
    assert_eq!(ask(), Some(0));
    ringback.drain();
    assert_eq!(ask(), Some(1));
}
