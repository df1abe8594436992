//! One broker of three that a replica cannot reach, while the brokers reach each other.
//! Only the partitions that it leads wait. Operators are told which broker it is.

use crate::support::cluster::Cluster;
use crate::support::http;
use crate::support::receiver::{Behaviour, Post};
use crate::support::ringback::{self, Ringback};
use crate::support::scene::{Plan, Scene};
use crate::support::{sample, wait};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const PLAN: Plan = Plan {
    partitions: 6,
    delays: "200ms,1s",
    delay_min: Duration::from_millis(200),
    attempts: 10,
};

const UNREACHABLE: &str = "ringback_broker_unreachable";

/// A replica that reaches each of three brokers by a way of its own.
struct Three<'c> {
    cluster: &'c Cluster,
    scene: Scene<'c>,
    ringback: Ringback,
    /// The source topic's partitions with the places of their leaders.
    leaders: BTreeMap<i32, usize>,
}

/// The ids of records of each tenant in reachable partitions, and in others.
#[derive(Default)]
struct Published {
    reachable: Vec<String>,
    others: Vec<String>,
}

impl<'c> Three<'c> {
    fn start(cluster: &'c Cluster, name: &str) -> Self {
        let mut scene = Scene::bare(cluster.broker(0), name, PLAN);
        scene.create_replicated_topics(3);
        scene.tenant("good", Behaviour::Ok);
        scene.tenant("once", Behaviour::FailFirst(1));
        scene.tenant("twice", Behaviour::FailFirst(2));
        let ringback = scene.start_at(&cluster.way_in(0), "a", &[]).ready();
        for tenant in ["good", "once", "twice"] {
            scene.publish(tenant, 20);
        }
        scene.until_delivered();
        let leaders = cluster.leaders(&scene.topic);
        Self {
            cluster,
            scene,
            ringback,
            leaders,
        }
    }

    /// The places of the group's coordinator and the transaction's.
    fn coordinators(&self) -> [usize; 2] {
        let state = ["--describe", "--state", "--group", &self.scene.topic];
        let said = self.scene.broker.consumer_groups(&state);
        let mut in_brackets = said
            .split('(')
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        let group = in_brackets.find_map(|(id, _)| id.parse::<usize>().ok());
        let id = format!("{}-a", self.scene.topic);
        let transaction = self.scene.broker.transaction_coordinator(&id);
        [group, transaction].map(|id| id.expect("a coordinator") - 1)
    }

    /// Publishes records of each tenant to each partition.
    fn publish(&mut self, away: usize) -> Published {
        let mut published = Published::default();
        for (partition, leader) in &self.leaders {
            for tenant in ["good", "once", "twice"] {
                let scene = &mut self.scene;
                let id = format!("{}-{}", scene.topic, scene.ledger.len());
                let value = sample::record(&id, tenant);
                scene.ledger.publish(&id, tenant, &sample::wrapped(&value));
                let (topic, key) = (scene.topic.as_str(), Some(id.as_bytes()));
                let to = scene.publisher();
                to.send_to(topic, Some(*partition), key, Some(&value), &[]);
                match *leader == away {
                    true => published.others.push(id),
                    false => published.reachable.push(id),
                }
            }
        }
        published
    }

    fn delivered(&self, ids: &[String]) -> usize {
        let delivered = |id: &&String| self.scene.receiver.posts_of(id).iter().any(Post::succeeded);
        ids.iter().filter(delivered).count()
    }

    #[track_caller]
    fn assert_ready_without_restart(&self) {
        let (status, why) = http::get(self.ringback.port(), "/readyz").expect("it answers");
        assert_eq!(status, 200, "{why}");
        let metrics = self.ringback.metrics();
        assert_eq!(metrics.count("ringback_readoptions_total", &[]), 0);
    }

    /// Waits until nothing is unfinished, and checks the promises.
    #[track_caller]
    fn assert_kept(&self) {
        self.scene.until_settled();
        self.ringback.until("no unreachable broker", |metrics| {
            metrics.count(UNREACHABLE, &[]) == 0
                && metrics.count("ringback_unfinished_records", &[]) == 0
        });
        self.scene.account().assert_kept();
    }
}

#[test]
fn a_broker_that_a_replica_cannot_reach_holds_up_only_the_partitions_that_it_leads() {
    let cluster = Cluster::start("unreachable", 3, 1);
    let mut three = Three::start(&cluster, "unreachable");
    let coordinators = three.coordinators();
    let away = (0..3).find(|place| !coordinators.contains(place));
    let away = away.expect("two of three coordinate");
    three.cluster.way(0).cut_port(away);
    let cut_at = Instant::now();
    let first = three.publish(away);
    assert!(!first.others.is_empty() && !first.reachable.is_empty());
    wait::until("the reachable records to be delivered", || {
        three.assert_ready_without_restart();
        three.delivered(&first.reachable) == first.reachable.len()
    });
    println!("delivered {:?} after the cut", cut_at.elapsed());
    // Once more, when the leader is silent for the replica already.
    let published_at = Instant::now();
    let second = three.publish(away);
    wait::until("more reachable records to be delivered", || {
        three.assert_ready_without_restart();
        three.delivered(&second.reachable) == second.reachable.len()
    });
    println!(
        "delivered {:?} after the publication",
        published_at.elapsed()
    );
    let id = (away + 1).to_string();
    three.ringback.until("the broker to be told", |metrics| {
        three.assert_ready_without_restart();
        metrics.count(UNREACHABLE, &[("broker", &id)]) == 1
    });
    let (status, health) = http::get(three.ringback.port(), "/healthz").expect("it answers");
    assert_eq!(status, 200, "{health}");
    let port = three.cluster.way(0).ports()[away];
    let named = format!("broker {id} (127.0.0.1:{port}) has not answered for ");
    assert!(health.contains(&named), "{health}");
    assert_eq!(three.delivered(&first.others), 0);
    let brokers = three.cluster.way_in(0);
    let common = ["--brokers", &brokers, "--topic", &three.scene.topic];
    let group = ["--group", three.scene.topic.as_str()];
    let done = ringback::output(&[&["find", "some-id"], &common[..], &group].concat());
    let said = String::from_utf8_lossy(&done.stderr);
    let named = format!("broker {id} (127.0.0.1:{port}) does not answer");
    assert!(!done.status.success() && said.contains(&named), "{said}");
    let third = three.publish(away);
    wait::until("the last reachable records to be delivered", || {
        three.assert_ready_without_restart();
        three.delivered(&third.reachable) == third.reachable.len()
    });

    three.cluster.way(0).heal();
    three.assert_kept();
    three.assert_ready_without_restart();
    let log = three.ringback.log();
    for line in ["a broker does not answer", "the broker answers again"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    three.ringback.drain();
}

/// The replica cannot go on without a coordinator: it waits, and all heals by itself.
#[test]
fn a_coordinator_that_a_replica_cannot_reach_costs_no_record() {
    let cluster = Cluster::start("unreachable-coordinator", 3, 1);
    let mut three = Three::start(&cluster, "unreachable-coordinator");
    let [group, transaction] = three.coordinators();
    for away in [group, transaction] {
        three.cluster.way(0).cut_port(away);
        three.publish(away);
        three.ringback.until("the broker to be told", |metrics| {
            let id = (away + 1).to_string();
            metrics.count(UNREACHABLE, &[("broker", &id)]) == 1
        });
        three.cluster.way(0).heal();
        three.assert_kept();
    }
    three.ringback.drain();
}
