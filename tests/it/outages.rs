//! Outages that the service survives by itself. Brokers are missing, frozen, or die
//! within a transaction, all of them or only the coordinator. The process is
//! stopped, a transaction takes too long, or names cannot be resolved.
//! `IT_OUTAGE_SECONDS=300 tests/run --test it outages` makes longer outages.

use crate::support::broker::Broker;
use crate::support::cluster::Cluster;
use crate::support::hold::Hold;
use crate::support::proxy::{Api, Fate, Proxy, Wanted};
use crate::support::receiver::Behaviour;
use crate::support::ringback::Ringback;
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;

/// The log of 20 s of an outage under load: librdkafka's lines, the service's own,
/// and those of failed attempts.
const LOG_BYTES_MAX: usize = 300_000;
/// The memory that an outage may add.
const MEMORY_MAX: f64 = 64e6;

/// How long the brokers are away.
const OUTAGE_S: u64 = 12;

fn span(default_s: u64) -> Duration {
    let seconds =
        std::env::var("IT_OUTAGE_SECONDS").map_or(default_s, |n| n.parse().expect("a number"));
    Duration::from_secs(seconds)
}

/// Waits until each record is delivered or dead-lettered and written. Checks the
/// promises.
#[track_caller]
fn assert_kept(scene: &Scene<'_>, ringback: &Ringback) {
    scene.until_settled();
    scene.account().assert_kept();
    ringback.until("nothing unfinished", |metrics| {
        metrics.count("ringback_unfinished_records", &[]) == 0
    });
}

#[test]
fn brokers_and_topics_may_come_later() {
    let broker = Broker::prepare("late-broker");
    let mut scene = Scene::bare(&broker, "late", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.start("a", &[]);
    wait::until("its pages", || ringback.page("/readyz") == Some(503));
    let waits = |what: &'static str| {
        let ringback = &ringback;
        move || ringback.page("/healthz") == Some(200) && ringback.says("/readyz").contains(what)
    };
    wait::until("to wait for brokers", waits("Connection refused"));
    broker.start();
    wait::until("to wait for topics", waits("topics do not exist"));
    scene.create_topics();
    let ringback = ringback.ready();
    scene.publish("t", 200);
    scene.until_delivered();
    ringback.drain();
}

#[test]
fn brokers_that_are_gone_or_frozen_under_load_cost_little_log_and_memory() {
    let broker = Broker::prepare("outages-broker");
    broker.start();
    let plan = Plan {
        partitions: 12,
        ..Plan::default()
    };
    let mut scene = Scene::bare(&broker, "outages", plan);
    scene.create_topics();
    for number in 0..20 {
        let behaviour = Behaviour::FailShare {
            permille: 300,
            seed: 7,
        };
        scene.tenant(&format!("t{number}"), behaviour);
    }
    let ringback = scene.run("a");
    load(&mut scene, 15_000);
    outage(&ringback, "gone", || broker.kill());
    broker.start();
    assert_kept(&scene, &ringback);

    load(&mut scene, 15_000);
    outage(&ringback, "frozen", || signal(&broker, Signal::STOP));
    signal(&broker, Signal::CONT);
    assert_kept(&scene, &ringback);
    println!("log: {} bytes", ringback.log().len());
    ringback.drain();
}

/// Publishes this number of records, and waits until some are sent.
fn load(scene: &mut Scene<'_>, records: usize) {
    let before = scene.receiver.count();
    for number in 0..records {
        let id = format!("{}-{}", scene.topic, scene.ledger.len());
        scene.publish_record(&id, &format!("t{}", number % 20));
    }
    wait::until("work under way", || scene.receiver.count() > before + 500);
}

/// Takes the brokers away for a while. The service stays healthy, says why it is not
/// ready, and adds little log and memory.
#[track_caller]
fn outage(ringback: &Ringback, name: &str, begin: impl FnOnce()) {
    let memory = || ringback.metrics().sum("process_resident_memory_bytes", &[]);
    let (log_before, memory_before) = (ringback.log().len(), memory());
    begin();
    let healthy = || ringback.page("/healthz") == Some(200);
    wait::stays("healthy in an outage", span(OUTAGE_S), healthy);
    wait::until("not ready without brokers", || {
        assert!(healthy(), "healthy in an outage");
        ringback.page("/readyz") == Some(503)
    });
    let (log, grown) = (ringback.log().len() - log_before, memory() - memory_before);
    let why = ringback.says("/readyz");
    println!("{name}: {log} bytes of log, {grown} bytes of memory more, not ready: {why}");
    let allowed = LOG_BYTES_MAX * usize::try_from(span(OUTAGE_S).as_secs()).expect("small") / 20;
    assert!(log < allowed, "an outage floods the log: {log} bytes");
    assert!(grown < MEMORY_MAX, "an outage grows memory: {grown} bytes");
}

fn signal(broker: &Broker, signal: Signal) {
    let pid = i32::try_from(broker.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), signal).expect("the broker runs");
}

#[test]
fn a_cluster_that_loses_the_groups_coordinator_goes_on_with_another_by_itself() {
    let cluster = Cluster::start("moved", 3, 0);
    let mut scene = Scene::bare(cluster.broker(0), "moved", Plan::default());
    scene.create_replicated_topics(3);
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    for away in [Signal::KILL, Signal::STOP] {
        let before = scene.receiver.count();
        scene.publish("t", 1_000);
        wait::until("work under way", || scene.receiver.count() > before + 100);
        let coordinator = cluster.broker(coordinator(&scene));
        match away {
            Signal::STOP => signal(coordinator, Signal::STOP),
            _ => coordinator.kill(),
        }
        scene.publish("t", 200);
        assert_kept(&scene, &ringback);
        let healthy = || ringback.page("/healthz") == Some(200);
        wait::stays("healthy without one broker", span(1), healthy);
        match away {
            Signal::STOP => signal(coordinator, Signal::CONT),
            _ => coordinator.start(),
        }
        wait::until("every copy to be in sync", || cluster.in_sync());
    }
    ringback.drain();
}

/// The group's offsets partition has one replica: the group has no coordinator until
/// that broker is back, while all other partitions have leaders. librdkafka then
/// waits within a transactional call.
#[test]
fn a_coordinator_without_a_replacement_is_waited_for_and_never_ends_the_process() {
    let cluster = Cluster::start("unreplaced", 3, 0);
    let broker = cluster.broker(0);
    let one_replica = "--create --topic __consumer_offsets --partitions 4 --replication-factor 1 \
                       --config cleanup.policy=compact --config min.insync.replicas=1";
    let mut arguments = vec!["--bootstrap-server", broker.address()];
    arguments.extend(one_replica.split_whitespace());
    broker.topics(&arguments);
    let mut scene = Scene::bare(broker, "unreplaced", Plan::default());
    scene.create_replicated_topics(3);
    scene.tenant("t", Behaviour::FailFirst(1));
    let addresses: Vec<&str> = broker.address().split(',').collect();
    let proxy = Proxy::start(&addresses);
    let mut ringback = scene.start_behind(&proxy, "a", &[]);
    let coordinator = cluster.broker(coordinator(&scene));
    let move_under_way = Wanted::request(&[Api::TXN_OFFSET_COMMIT]);
    let held = proxy.trap(Fate::Hold, move_under_way);
    scene.publish("t", 2_000);
    held.until_caught();
    coordinator.kill();
    held.release();
    // Longer than any call may take while brokers answer others.
    wait::stays("alive and healthy without a coordinator", span(45), || {
        ringback.is_running() && ringback.page("/healthz") == Some(200)
    });
    coordinator.start();
    assert_kept(&scene, &ringback);
    ringback.drain();
}

/// Kafka may end a transaction without its marker in a partition that has no leader
/// just then, as after a start of its only broker. The next commit would bring
/// back what was aborted.
#[test]
fn a_broker_that_dies_within_a_transaction_brings_nothing_of_it_back() {
    let broker = Broker::prepare("died-within-broker");
    broker.start();
    let mut scene = Scene::bare(&broker, "died-within", Plan::default());
    scene.create_topics();
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    // The first transaction ends a predecessor's open one.
    scene.publish("t", 1);
    scene.until_delivered();
    let id = format!("{}-a", scene.topic);
    let held = wait::until_some("a hold in the middle of one", 3 * wait::PATIENCE, || {
        scene.publish("t", 500);
        let held = Hold::threads(ringback.pid(), "kafka-move");
        let caught = broker.transaction(&id).as_deref() == Some("Ongoing");
        caught.then_some(held)
    });
    broker.kill();
    drop(held);
    // The transaction's timeout is 10 s: no state shows its end.
    std::thread::sleep(span(12));
    broker.start();
    assert_kept(&scene, &ringback);
    ringback.drain();
}

/// The broker takes a move's offsets and dies; its answer is lost. The next commit
/// would complete records that were written nowhere. Tested for a process that goes
/// on, and for one that follows a process that died too.
#[test]
fn a_broker_that_dies_with_the_offsets_of_a_move_taken_loses_no_record() {
    let broker = Broker::prepare("died-offsets-broker");
    broker.start();
    let mut scene = Scene::bare(&broker, "died-offsets", Plan::default());
    scene.create_topics();
    scene.tenant("t", Behaviour::FailFirst(2));
    let proxy = Proxy::start(&[broker.address()]);
    let start = |scene: &Scene<'_>| scene.start_behind(&proxy, "a", &[]);
    let mut ringback = start(&scene);
    let id = format!("{}-a", scene.topic);
    for dies_too in [false, true] {
        let taken = proxy.trap(Fate::Hold, Wanted::answer(&[Api::TXN_OFFSET_COMMIT]));
        scene.publish("t", 500);
        taken.until_caught();
        proxy.cut();
        broker.kill();
        if dies_too {
            ringback.kill_now();
        }
        // The transaction's timeout is 10 s: no state shows its end.
        std::thread::sleep(span(12));
        broker.start();
        let ongoing = || broker.transaction(&id).as_deref() == Some("Ongoing");
        wait::until("the coordinator to end it", || !ongoing());
        taken.release();
        proxy.mend();
        if dies_too {
            ringback = start(&scene);
        }
        assert_kept(&scene, &ringback);
    }
    ringback.drain();
}

/// Which of the cluster's brokers coordinates the scene's group, from 0.
fn coordinator(scene: &Scene<'_>) -> usize {
    let state = ["--describe", "--state", "--group", &scene.topic];
    let said = scene.broker.consumer_groups(&state);
    let mut in_brackets = said
        .split('(')
        .skip(1)
        .filter_map(|rest| rest.split_once(')'));
    let id = in_brackets.find_map(|(id, _)| id.parse::<usize>().ok());
    id.unwrap_or_else(|| panic!("no coordinator in {said}")) - 1
}

#[test]
fn a_process_that_was_stopped_for_longer_than_its_session_goes_on_by_itself() {
    let mut scene = Scene::new("stopped-alone", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    for _ in 0..2 {
        scene.publish("t", 1_000);
        let before = scene.receiver.count();
        wait::until("work under way", || scene.receiver.count() > before + 100);
        ringback.signal(Signal::STOP);
        scene.broker.until_group_is_empty(&scene.topic);
        // Longer where the environment says so.
        std::thread::sleep(span(0));
        ringback.signal(Signal::CONT);
        assert_kept(&scene, &ringback);
    }
    ringback.drain();
}

#[test]
fn a_transaction_that_timed_out_at_the_coordinator_is_repeated() {
    let mut scene = Scene::new("timed-out", Plan::default());
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    // The first transaction ends a predecessor's open one.
    scene.publish("t", 1);
    scene.until_delivered();
    let id = format!("{}-a", scene.topic);
    let ongoing = || scene.broker.transaction(&id).as_deref() == Some("Ongoing");
    let readopted = || {
        let metrics = ringback.metrics();
        metrics.count("ringback_readoptions_total", &[]) > 0
    };
    // On a slow machine the transaction may be over before its state is read.
    wait::until_some("a hold in the middle of one", 3 * wait::PATIENCE, || {
        scene.publish("t", 500);
        let held = Hold::threads(ringback.pid(), "kafka-move");
        let caught = ongoing();
        if caught {
            wait::until("the coordinator to end it", || !ongoing());
        }
        drop(held);
        (caught || readopted()).then_some(())
    });
    wait::until("the re-adoption", readopted);
    assert_kept(&scene, &ringback);
    ringback.drain();
}

#[test]
fn a_partition_that_gets_no_records_turns_health_red_until_it_gets_them() {
    let plan = Plan {
        partitions: 1,
        ..Plan::default()
    };
    let mut scene = Scene::new("stalled", plan);
    scene.tenant("t", Behaviour::Ok);
    let proxy = Proxy::start(&[scene.broker.address()]);
    let ringback = scene.start_at(&proxy.address(), "a", &[]).ready();
    let lost = proxy.trap(Fate::Lose, Wanted::answer(&[Api::FETCH]).all());
    scene.publish("t", 10);
    wait::until("health to turn red", || {
        ringback.page("/healthz") == Some(503)
    });
    let why = ringback.says("/healthz");
    assert!(
        why.contains(&format!("{}/0: records in its log", scene.topic)),
        "{why}"
    );
    lost.release();
    scene.until_delivered();
    wait::until("health again", || ringback.page("/healthz") == Some(200));
    ringback.drain();
}

#[test]
fn two_of_one_name_find_each_other_also_right_after_an_outage() {
    let broker = Broker::prepare("same-name-broker");
    broker.start();
    let mut scene = Scene::bare(&broker, "same-name", Plan::default());
    scene.create_topics();
    scene.tenant("t", Behaviour::Ok);
    let first = scene.run("a");
    broker.kill();
    wait::until("the first to be without brokers", || {
        first.page("/readyz") == Some(503)
    });
    let second = scene.start("a", &[]);
    wait::until("the second to be without brokers", || {
        second.says("/readyz").contains("Connection refused")
    });
    broker.start();
    let mut both = [Some(first), Some(second)];
    let ended = wait::until_some("one of them to end", wait::PATIENCE, || {
        let mut all = both.iter_mut();
        all.position(|one| one.as_mut().is_some_and(|r| !r.is_running()))
    });
    let (code, log) = both[ended].take().expect("it was there").ended();
    assert_eq!(code, 3, "{log}");
    assert!(
        log.contains("another process uses this replica's name"),
        "{log}"
    );
    // The one that is left does the work, or has ended for the same reason.
    let mut left = both[1 - ended].take().expect("the other one");
    scene.publish("t", 50);
    let settled = || scene.ledger.settled(&scene.receiver.posts(), &[]);
    wait::until("the records, or its end", || {
        settled() || !left.is_running()
    });
    match left.is_running() {
        true => drop(left.drain()),
        false => assert_eq!(left.ended().0, 3),
    }
}

/// Kafka gives the name to the one that asks last.
#[test]
fn a_replica_whose_name_another_process_takes_ends_and_says_so() {
    let mut scene = Scene::new("name-taken", Plan::default());
    scene.tenant("t", Behaviour::Ok);
    let first = scene.run("a");
    scene.publish("t", 50);
    let second = scene.run("a");
    let (code, log) = first.ended();
    assert_eq!(code, 3, "{log}");
    assert!(
        log.contains("another process uses this replica's name"),
        "{log}"
    );
    scene.publish("t", 50);
    scene.until_delivered();
    scene.account().assert_kept();
    second.drain();
}

#[test]
fn names_that_cannot_be_resolved_for_a_while_are_tried_until_they_can() {
    let broker = Broker::prepare("names-broker");
    let named = add_named_listener(&broker);
    broker.start();
    let mut scene = Scene::bare(&broker, "names", Plan::default());
    scene.create_topics();
    let port = scene.receiver.port();
    for tenant in ["early", "late"] {
        let url = format!("http://{tenant}.test:{port}/t/{tenant}");
        scene.tenant_with(tenant, Behaviour::Ok, &serde_json::json!({ "url": url }));
    }
    let names = Names::new("names-hosts");
    names.write("127.0.0.1 localhost kafka.test early.test\n");
    let ringback = scene.start_in(&names.wrapper(), &named, "a").ready();
    scene.publish("early", 100);
    scene.until_delivered();

    scene.publish("late", 20);
    ringback.until("attempts that find no address", |metrics| {
        metrics.count("ringback_attempts_total", &[("outcome", "dns")]) >= 20
    });
    names.write("127.0.0.1 localhost\n");
    broker.kill();
    broker.start();
    let away = || ringback.page("/healthz") == Some(200) && ringback.page("/readyz") == Some(503);
    wait::until("not ready", away);
    wait::stays("waiting for the brokers' name", span(10), away);
    scene.publish("early", 100);
    names.write("127.0.0.1 localhost kafka.test early.test late.test\n");
    assert_kept(&scene, &ringback);
    ringback.drain();
}

/// Has the broker listen on one more port, which it calls by name to those who
/// come in there. Returns what to bootstrap from.
fn add_named_listener(broker: &Broker) -> String {
    let port = crate::support::ports::free();
    let before = std::fs::read_to_string(broker.properties()).expect("it was prepared");
    let after: Vec<String> = before
        .lines()
        .map(|line| match line.split_once('=').map(|(key, _)| key) {
            Some("listeners") => format!("{line},NAMED://127.0.0.1:{port}"),
            Some("advertised.listeners") => format!("{line},NAMED://kafka.test:{port}"),
            Some("listener.security.protocol.map") => format!("{line},NAMED:PLAINTEXT"),
            _ => line.to_owned(),
        })
        .collect();
    std::fs::write(broker.properties(), after.join("\n")).expect("it is ours");
    format!("kafka.test:{port}")
}

/// The names that a process can resolve. It has its own mount namespace, with the
/// test's hosts file and a name server that does not exist.
struct Names {
    directory: std::path::PathBuf,
}

impl Names {
    fn new(name: &str) -> Self {
        let directory = crate::support::workspace::directory(name);
        let none = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";
        std::fs::write(directory.join("resolv.conf"), none).expect("writable");
        Self { directory }
    }

    /// In place: the file that is mounted stays the same.
    fn write(&self, hosts: &str) {
        std::fs::write(self.directory.join("hosts"), hosts).expect("writable");
    }

    /// What starts a program with these names.
    fn wrapper(&self) -> Vec<String> {
        const SCRIPT: &str = r#"mount --bind "$0/hosts" /etc/hosts && mount --bind "$0/resolv.conf" /etc/resolv.conf && exec "$@""#;
        let directory = self
            .directory
            .to_str()
            .expect("the build directory is UTF-8");
        let words = [
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            SCRIPT,
            directory,
        ];
        words.map(str::to_owned).to_vec()
    }
}
