//! Brokers as they are in large clusters: with quotas for clients, in several racks,
//! and restarted one after the other.

use crate::support::broker::{self, Broker, Node};
use crate::support::cluster::Cluster;
use crate::support::ports;
use crate::support::receiver::Behaviour;
use crate::support::relay::{Relay, Speech};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::time::Duration;

/// Sets quotas of a client by Kafka's own tool.
fn set_quotas(broker: &Broker, client: &str, quotas: &str) {
    let arguments = [
        "--bootstrap-server",
        broker.address(),
        "--alter",
        "--entity-type",
        "clients",
        "--entity-name",
        client,
        "--add-config",
        quotas,
    ];
    broker::run_java("kafka.admin.ConfigCommand", &arguments).expect("the quotas are set");
}

/// The quotas hold for the client's name, so they throttle no other test.
#[test]
fn a_client_that_is_throttled_delivers_and_moves_all_without_a_restart() {
    let mut scene = Scene::new("quota", Plan::default());
    let quotas = "producer_byte_rate=10000,consumer_byte_rate=10000";
    set_quotas(scene.broker, "it-quota", quotas);
    scene.tenant("healthy", Behaviour::Ok);
    scene.tenant("failing", Behaviour::FailFirst(1));
    scene.publish("healthy", 40);
    scene.publish("failing", 20);
    scene.flush();
    let ringback = scene.start("a", &["--kafka", "client.id=it-quota"]).ready();
    scene.until_delivered();
    let took = ringback.started.elapsed();
    assert!(took > Duration::from_secs(2), "not throttled: {took:?}");
    let metrics = ringback.metrics();
    assert_eq!(metrics.count("ringback_readoptions_total", &[]), 0);
    scene.account().assert_exact();
    ringback.drain();
}

/// Each broker is a rack, and each has a copy of all partitions. So a client reads all
/// from the broker of its own rack, whichever leads.
#[test]
fn a_replica_fetches_from_the_brokers_of_its_own_rack() {
    let all: Vec<(u16, u16)> = (0..2).map(|_| (ports::free(), ports::free())).collect();
    let inside = [ports::free(), ports::free()];
    let relays = inside.map(|target| Relay::start(&[target], Speech::Kafka));
    let prepare = |index: usize| {
        let node = Node {
            index,
            ports: all.clone(),
            ways: vec![(inside[index], relays[index].ports()[0])],
            ..Node::alone()
        };
        let settings = format!(
            "broker.rack=rack-{index}\n\
             replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector\n"
        );
        Broker::prepare_settings(&format!("rack-broker-{index}"), &node, &settings)
    };
    let brokers = [prepare(0), prepare(1)];
    brokers.iter().for_each(Broker::launch);
    brokers.iter().for_each(Broker::until_serving);
    let mut scene = Scene::bare(&brokers[0], "rack", Plan::default());
    scene.create_replicated_topics(2);
    scene.tenant("t", Behaviour::FailFirst(1));
    let addresses: Vec<String> = relays
        .iter()
        .map(|relay| format!("127.0.0.1:{}", relay.ports()[0]))
        .collect();
    for rack in 0..2 {
        let setting = format!("client.rack=rack-{rack}");
        let more = ["--kafka", setting.as_str()];
        let ringback = scene.start_at(&addresses.join(","), "a", &more).ready();
        scene.publish("t", 50);
        scene.until_delivered();
        let sent = || [0, 1].map(|index: usize| relays[index].sent_bytes());
        // While there is nothing to read, requests to fetch are most of the traffic.
        wait::until_some("fetches from its own rack", wait::PATIENCE, || {
            let before = sent();
            std::thread::sleep(Duration::from_secs(1));
            let after = sent();
            let (own, other) = (
                after[rack] - before[rack],
                after[1 - rack] - before[1 - rack],
            );
            (own > 3 * other).then_some(())
        });
        ringback.drain();
    }
    scene.account().assert_exact();
}

#[test]
fn brokers_that_restart_one_after_the_other_under_load_lose_and_repeat_nothing() {
    let cluster = Cluster::start("rolling", 3, 0);
    let mut scene = Scene::bare(cluster.broker(0), "rolling", Plan::default());
    scene.create_replicated_topics(3);
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    for index in 0..3 {
        let before = scene.receiver.count();
        scene.publish("t", 500);
        wait::until("work under way", || scene.receiver.count() > before + 50);
        cluster.broker(index).stop();
        scene.publish("t", 200);
        cluster.broker(index).start();
        wait::until("every copy to be in sync", || cluster.in_sync());
    }
    scene.until_settled();
    scene.account().assert_kept();
    assert_eq!(ringback.page("/healthz"), Some(200));
    ringback.drain();
}
