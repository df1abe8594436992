//! The runbook's commands that set the offsets of the group, and topics that are
//! left from another schedule.

use crate::support::documents::{self, RUNBOOK, Said, Shell};
use crate::support::receiver::{Behaviour, Post};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

/// The moment and the offset in the runbook; a test replaces them.
const MOMENT: &str = "2026-01-31T00:00:00.000";
const OFFSET: &str = "4711";

/// The present moment as Kafka's tool takes it, in UTC.
fn moment() -> String {
    let mut date = Command::new("date");
    let done = date.args(["-u", "+%Y-%m-%dT%H:%M:%S.%3N"]).output();
    let text = String::from_utf8(done.expect("every system has date").stdout);
    text.expect("digits").trim().to_owned()
}

/// The commands of a section, for the broker, group and topic of a scene.
struct Page<'s> {
    shell: Shell,
    commands: Vec<String>,
    scene: &'s Scene<'static>,
}

impl<'s> Page<'s> {
    fn new(title: &str, scene: &'s Scene<'static>) -> Self {
        Self {
            shell: Shell::new(&format!("{}-shell", scene.topic)),
            commands: documents::commands(RUNBOOK, title),
            scene,
        }
    }

    /// Runs the one command that has all these words.
    #[track_caller]
    fn run(&self, words: &[&str], more: &[(&str, &str)]) -> Said {
        let has = |command: &&String| words.iter().all(|word| command.contains(word));
        let found: Vec<&String> = self.commands.iter().filter(has).collect();
        assert_eq!(found.len(), 1, "{words:?}: {:?}", self.commands);
        let scene = self.scene;
        self.shell.run(found[0], scene.broker, &scene.topic, more)
    }

    /// Runs a command that must succeed.
    #[track_caller]
    fn does(&self, words: &[&str], more: &[(&str, &str)]) -> String {
        let said = self.run(words, more);
        assert!(
            said.succeeded && !said.text.contains("Error"),
            "{}",
            said.text
        );
        said.text
    }
}

/// The attempts' numbers of each record, the least first: a copy may be due
/// before or after its record is sent again.
fn attempts(scene: &Scene<'_>) -> BTreeMap<String, Vec<u8>> {
    let posts = scene.receiver.posts();
    let numbers = |posts: &Vec<Post>| {
        let mut numbers: Vec<u8> = posts.iter().map(|p| p.attempt).collect();
        numbers.sort_unstable();
        numbers
    };
    posts
        .iter()
        .map(|(id, all)| (id.clone(), numbers(all)))
        .collect()
}

/// Ten records before the moment, ten after it, and five after it that were delayed.
#[track_caller]
fn assert_replayed_from_the_moment(scene: &Scene<'_>) {
    let seen = attempts(scene);
    for number in 0..25 {
        let expected: &[u8] = match number {
            0..10 => &[1],
            10..20 => &[1, 1],
            _ => &[1, 1, 2],
        };
        let numbers = &seen[&format!("{}-{number}", scene.topic)];
        assert_eq!(numbers, expected, "{number}");
    }
}

#[test]
fn a_replay_by_the_book_sends_what_the_page_says() {
    let plan = Plan {
        partitions: 1,
        delays: "8s",
        delay_min: Duration::from_secs(8),
        ..Plan::default()
    };
    let mut scene = Scene::new("replay", plan);
    scene.tenant("t", Behaviour::Ok);
    scene.tenant("later", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 10);
    scene.flush();
    let between = moment();
    scene.publish("t", 10);
    scene.publish("later", 5);
    ringback.until("five copies that wait", |metrics| {
        metrics.disposed("delivered") == 20 && metrics.disposed("delayed") == 5
    });

    let page = Page::new("Replay", &scene);
    assert_eq!(page.commands.len(), 5, "each has its check below");
    let since = [(MOMENT, between.as_str())];
    let refusal = "Assignments can only be reset if the group";
    assert!(
        documents::section(RUNBOOK, "Replay")
            .replace('\n', " ")
            .contains(refusal)
    );
    let said = page.run(&["to-datetime", "--execute"], &since);
    assert!(said.text.contains(refusal), "{}", said.text);
    ringback.kill();
    let said = page.run(&["to-datetime", "--execute"], &since);
    assert!(
        said.text.contains(refusal),
        "a killed replica: {}",
        said.text
    );
    wait::until("the group to be empty", || {
        page.does(&["--state"], &[]).contains("Empty")
    });

    let planned = page.does(&["--dry-run"], &since);
    assert!(planned.contains("10"), "{planned}");
    page.does(&["to-datetime", "--execute"], &since);
    let ringback = scene.run("a");
    // From the source once more; the five copies as well, when they are due.
    ringback.until("fifteen records again and the copies", |metrics| {
        metrics.disposed("delivered") == 15 + 5
    });
    ringback.drain();
    assert_replayed_from_the_moment(&scene);

    page.does(&["to-earliest"], &[]);
    let ringback = scene.run("a");
    ringback.until("all again", |metrics| metrics.disposed("delivered") == 25);
    ringback.drain();
    page.does(&["to-offset"], &[(OFFSET, "22")]);
    let before = scene.receiver.count();
    let ringback = scene.run("a");
    ringback.until("the last three again", |metrics| {
        metrics.disposed("delivered") == 3
    });
    ringback.drain();
    assert_eq!(scene.receiver.count(), before + 3);
    let last = &attempts(&scene)[&format!("{}-24", scene.topic)];
    assert_eq!(last, &[1, 1, 1, 1, 2]);
    assert!(scene.dead_letters().is_empty());
}

#[test]
fn a_first_deployment_by_the_book_leaves_the_history_alone() {
    for (way, more) in [("to-latest", 0), ("to-datetime", 5)] {
        let mut scene = Scene::new(&format!("first-{way}"), Plan::default());
        scene.tenant("t", Behaviour::Ok);
        scene.publish("t", 20);
        scene.flush();
        let from = moment();
        scene.publish("t", more);
        scene.flush();
        Page::new("First deployment on an old topic", &scene).does(&[way], &[(MOMENT, &from)]);
        scene.publish("t", 5);
        let ringback = scene.run("a");
        ringback.until("what came later", |metrics| {
            metrics.disposed("delivered") == 5 + more as u64
        });
        ringback.drain();
        assert_eq!(scene.receiver.count(), 5 + more, "{way}");
    }
    let commands = documents::commands(RUNBOOK, "First deployment on an old topic");
    let resets = commands.iter().filter(|c| c.contains("--reset-offsets"));
    assert_eq!(resets.count(), 2, "each has its case above");
}

#[test]
fn a_delay_topic_of_an_older_schedule_is_still_drained() {
    let plan = Plan {
        delays: "3s",
        delay_min: Duration::from_secs(3),
        ..Plan::default()
    };
    let mut scene = Scene::new("left-over", plan);
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.run("a");
    scene.publish("t", 50);
    ringback.until("the moves", |metrics| metrics.disposed("delayed") == 50);
    ringback.drain();
    assert!(
        scene.receiver.successes() < 50,
        "the wait was over too soon to show anything"
    );

    scene.plan.delays = "500ms";
    scene.create_topics();
    let ringback = scene.run("a");
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}
