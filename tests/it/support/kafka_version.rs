//! The version of Kafka that the tests run: the newest, or an older one that the
//! variable `RINGBACK_TEST_KAFKA` names. `tests/prepare` fetches both.

use super::process::Process;
use super::workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Where a broker keeps the metadata of its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metadata {
    KRaft,
    /// Kafka 2.8 has no transactions without ZooKeeper.
    ZooKeeper,
}

static OLDER: LazyLock<Option<String>> = LazyLock::new(|| {
    let version = std::env::var("RINGBACK_TEST_KAFKA").ok();
    version.filter(|version| !version.is_empty())
});

/// Where brokers of the tested version keep their metadata.
pub fn metadata() -> Metadata {
    match OLDER.as_deref() {
        Some(version) if version.starts_with("2.") => Metadata::ZooKeeper,
        _ => Metadata::KRaft,
    }
}

/// The libraries of the tested version, for `java -cp`.
pub fn class_path() -> PathBuf {
    let name = match OLDER.as_deref() {
        Some(version) => format!("kafka/libs-{version}"),
        None => "kafka/libs".to_owned(),
    };
    let libs = workspace::target().join(name);
    assert!(
        libs.is_dir(),
        "{} is missing: tests/prepare fetches Kafka into it",
        libs.display()
    );
    libs.join("*")
}

/// What `kafka-consumer-groups.sh` runs in the tested version.
pub fn consumer_groups() -> &'static str {
    match OLDER.as_deref() {
        Some(version) if version.starts_with("2.") || version.starts_with("3.4.") => {
            "kafka.admin.ConsumerGroupCommand"
        }
        _ => super::broker::CONSUMER_GROUPS,
    }
}

/// Starts ZooKeeper on this port, with its data in this directory.
pub fn start_zookeeper(port: u16, directory: &Path) -> Process {
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        // It has an admin server, which would take port 8080.
        .arg("-Dzookeeper.admin.enableServer=false")
        .arg("-cp")
        .arg(class_path())
        .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
        .arg(port.to_string())
        .arg(directory.join("zookeeper"));
    Process::start("ZooKeeper", &mut command, &directory.join("zookeeper.log"))
}
