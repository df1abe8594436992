//! What an operator may get wrong about jobs.

use crate::support::broker::Broker;
use crate::support::jobs::{copies, jobs, redrive, replay};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;

#[test]
fn wrong_flags_are_named_and_nothing_is_sent() {
    let mut scene = Scene::new("jobs-flags", Plan::default());
    scene.publish("t", 5);
    scene.flush();
    let check = |words: &[&str], said: &str| {
        let done = replay(&scene, words);
        done.exits(2);
        assert!(done.error.contains(said), "{words:?}: {}", done.error);
    };
    check(&["--tenant", "t", "--rate", "0"], "--rate: '0'");
    check(&["--tenant", "t", "--limit", "0"], "--limit: '0'");
    check(&["--since", "2100-01-01T00:00:00Z"], "in the future");
    check(&["--tenant", "t", "--job", "a b"], "--job: 'a b'");
    check(&["--resume"], "name the job to resume");
    check(&["--resume", "unheard"], "there is no job 'unheard'");
    check(&["--resume", "x", "--tenant", "t"], "leave out the filters");
    check(&[], "select records");
    check(&["--ids-file", "/nonexistent"], "'/nonexistent'");
    assert!(copies(&scene).is_empty());
}

#[test]
fn a_job_of_the_other_kind_is_named() {
    let mut scene = Scene::new("jobs-kind", Plan::default());
    scene.publish("t", 5);
    scene.flush();
    replay(&scene, &["--tenant", "t", "--job", "j"]).exits(0);
    let done = redrive(&scene, &["--resume", "j"]);
    done.exits(2);
    assert!(
        done.error.contains("ringback replay --resume j"),
        "{}",
        done.error
    );
}

#[test]
fn a_missing_topic_is_named() {
    let scene = Scene::bare(Broker::shared(), "jobs-away", Plan::default());
    let delay = scene.delay_topic("200ms");
    for missing in [&delay, &scene.topic] {
        let done = replay(&scene, &["--tenant", "t"]);
        done.exits(1);
        let said = format!("'{missing}' does not exist");
        assert!(done.error.contains(&said), "{}", done.error);
        scene.broker.create_topic(&delay, 1, &[]);
        wait::until("the delay topic", || scene.broker.partitions(&delay) > 0);
    }
    jobs(&scene, &["list"]).exits(5);
}

#[test]
fn a_group_that_was_reset_by_hand_is_refused() {
    let mut scene = Scene::new("jobs-reset", Plan::default());
    scene.publish("t", 20);
    scene.flush();
    replay(&scene, &["--tenant", "t", "--limit", "5", "--job", "j"]).exits(0);
    let group = format!("{}.job.j", scene.topic);
    let topic = format!("{}:0,1,2,3", scene.topic);
    let reset = ["--reset-offsets", "--to-earliest", "--execute"];
    let all = [&["--group", &group, "--topic", &topic], &reset[..]].concat();
    scene.broker.consumer_groups(&all);
    let done = replay(&scene, &["--resume", "j"]);
    done.exits(1);
    assert!(done.error.contains("position is lost"), "{}", done.error);
    assert!(done.error.contains(&group), "{}", done.error);
    let listed = jobs(&scene, &["list", "--output", "json"]).exits(0).json();
    assert_eq!(listed[0]["state"], "damaged");
    assert_eq!(copies(&scene).len(), 5);
}
