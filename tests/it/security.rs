//! The page on security against a broker with an authorizer. With its grants, the
//! service and each command work. Without any single grant, they say what is missing.

mod broker;
mod page;
mod rights;

use crate::support::process::Process;
use crate::support::publisher::Publisher;
use crate::support::receiver::{Behaviour, Keep, Post, Receiver};
use crate::support::ringback::{self, Ringback};
use crate::support::{ports, sample, wait, workspace};
use broker::SecureBroker;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A grant, and what is said without it.
type Refusal<'t> = (&'t str, &'t str);

/// The topics, a record of each kind, and the receiver of the tenants.
struct Surroundings {
    secure: &'static SecureBroker,
    receiver: Receiver,
    tenants: PathBuf,
}

impl Surroundings {
    /// Makes the topics, a record, and a dead letter, as the administrator.
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Surroundings> = OnceLock::new();
        SHARED.get_or_init(|| {
            let secure = SecureBroker::shared();
            let receiver = Receiver::start(Keep::All);
            receiver.behave("healthy", Behaviour::Ok);
            receiver.behave("failing", Behaviour::Always(503));
            let url = |tenant: &str| json!({ "url": receiver.url(tenant) });
            let text = json!({ "healthy": url("healthy"), "failing": url("failing") });
            let tenants = workspace::directory("security").join("tenants.json");
            std::fs::write(&tenants, text.to_string()).expect("writable");
            let made = Self {
                secure,
                receiver,
                tenants,
            };
            made.admin(&TOPICS_CREATE);
            let import = ["tenant", "import", made.tenants.to_str().expect("UTF-8")];
            made.admin(&[&import[..], &TENANTS].concat());
            made.publish("healthy", sample::EXAMPLE_ID);
            made.publish("failing", "a-dead-letter");
            let nothing = workspace::directory("security").join("no.properties");
            std::fs::write(&nothing, "").expect("writable");
            let service = made.service(secure.broker.address(), &nothing, &["--attempts", "1"]);
            service.ready().until("a dead letter", |metrics| {
                metrics.disposed("dead_lettered") == 1
            });
            made
        })
    }
}

const TENANTS: [&str; 2] = ["--tenants", "topic:call-ended.tenants"];
const TOPICS_CREATE: [&str; 7] = [
    "topics",
    "create",
    "--partitions",
    "1",
    "--attempt-log",
    "--tenants",
    "topic:call-ended.tenants",
];

impl Surroundings {
    /// Publishes a record as the administrator.
    fn publish(&self, tenant: &str, id: &str) {
        let value = sample::record(id, tenant);
        let publisher = Publisher::new(&self.secure.broker);
        publisher.send("call-ended", Some(id.as_bytes()), Some(&value), &[]);
        publisher.flush();
    }

    /// Runs a command as the administrator.
    #[track_caller]
    fn admin(&self, words: &[&str]) {
        let done =
            ringback::output(&[words, &["--brokers", self.secure.broker.address()]].concat());
        assert!(done.status.success(), "{words:?}: {}", said(&done));
    }

    /// Runs a command as a user who logs in by PLAIN.
    fn command(&self, user: &str, words: &[&str]) -> Output {
        let words = self.words(user, words);
        ringback::output(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Returns a command of a user who logs in by PLAIN.
    fn words(&self, user: &str, words: &[&str]) -> Vec<String> {
        let text = &page::properties()[1];
        let file = self.secure.properties(user, text, user);
        let file = file.to_str().expect("UTF-8");
        let kafka = ["--brokers", &self.secure.sasl, "--kafka-properties", file];
        let words = [words, &kafka].concat();
        words.iter().map(|&word| word.to_owned()).collect()
    }

    /// Starts the service at these brokers with these properties.
    fn service(&self, brokers: &str, properties: &Path, more: &[&str]) -> Ringback {
        let arguments = [
            "run",
            "--brokers",
            brokers,
            "--kafka-properties",
            properties.to_str().expect("UTF-8"),
            "--allow-networks",
            "127.0.0.0/8",
            "--instance",
            "a",
        ];
        let file = ["--tenants", self.tenants.to_str().expect("UTF-8")];
        let tenants = match more.contains(&"--tenants") {
            true => &[][..],
            false => &file[..],
        };
        let arguments = [&arguments[..], tenants, more].concat();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let log = workspace::directory("security").join("service.log");
        std::fs::remove_file(&log).ok();
        Ringback::start("the service", &arguments, ports::free(), &log)
    }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr)
}

/// A use of a command: its words, and what is said without a grant.
type Use<'t> = (&'t [&'t str], &'t [Refusal<'t>]);

/// Checks a section: with its grants all uses work. Without a grant, the use that needs
/// it says so. `#` in a word is replaced by a number that no other run has.
#[track_caller]
fn check(section: &str, user: &str, uses: &[Use<'_>]) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let all = Surroundings::shared();
    let grants = &page::grants()[section];
    let run = |words: &[&str]| {
        let number = RUNS.fetch_add(1, Ordering::Relaxed).to_string();
        let words: Vec<String> = words.iter().map(|w| w.replace('#', &number)).collect();
        all.command(user, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    all.secure.allow(grants);
    for (words, _) in uses {
        wait::until(&format!("{words:?} to work"), || {
            let done = run(words);
            let code = done.status.code();
            assert!(!said(&done).contains("panicked"), "{}", said(&done));
            code == Some(0)
        });
    }
    for grant in grants {
        let needs = uses.iter().flat_map(|(words, refusals)| {
            let of_grant = refusals.iter().filter(|(name, _)| *name == grant.name);
            of_grant.map(move |(_, text)| (words, text))
        });
        let needs: Vec<_> = needs.collect();
        assert!(!needs.is_empty(), "{section}: nothing needs {}", grant.name);
        all.secure.forbid(grant);
        for (words, text) in needs {
            let mut last = String::new();
            let refused = || {
                last = said(&run(words));
                last.contains(text)
            };
            until_true(refused, || format!("{}: {words:?}", grant.name));
        }
        all.secure.allow([grant]);
    }
}

/// Looks a few times: the broker follows its controller.
#[track_caller]
fn until_true(mut look: impl FnMut() -> bool, what: impl Fn() -> String) {
    let limit = Duration::from_secs(30);
    wait::until_some(&what(), limit, || look().then_some(()));
}

#[test]
fn topics_create_publish_and_find_work_with_their_grants_and_say_what_is_missing() {
    const CREATE: &str = "Create --topic call-ended --resource-pattern-type prefixed";
    const DESCRIBE: &str = "Describe --topic call-ended --resource-pattern-type prefixed";
    const CONFIGS: &str = "DescribeConfigs --topic call-ended --resource-pattern-type prefixed";
    let new = ["topics", "create", "--topic", "call-ended.new-#"];
    let hidden = "call-ended exists, although the brokers did not list it";
    let existing = [(DESCRIBE, hidden), (CONFIGS, "allow DESCRIBE_CONFIGS")];
    let uses: [Use<'_>; 2] = [
        (&new, &[(CREATE, "allow CREATE")]),
        (&TOPICS_CREATE, &existing),
    ];
    check("topics create", "ringback-admin", &uses);

    let publish = ["publish", "--count", "1", "--tenants", "unlisted"];
    let hidden = "the topic 'call-ended' does not exist, or this user may not DESCRIBE it";
    let refusals = [("Write --topic call-ended", hidden)];
    check("publish", "ringback-publisher", &[(&publish, &refusals)]);

    let delays = "Read --topic call-ended.delay. --resource-pattern-type prefixed";
    let dead = "no right to read the topic 'call-ended.dead-letter'";
    let refusals = [
        (
            "Read --topic call-ended",
            "no right to read the topic 'call-ended':",
        ),
        (delays, "no delay topic of 'call-ended' is visible"),
        ("Read --topic call-ended.dead-letter", dead),
        (
            "Describe --group ringback",
            "may this user DESCRIBE the group?",
        ),
    ];
    let find = ["find", sample::EXAMPLE_ID];
    check("find", "ringback-finder", &[(&find, &refusals)]);
}

#[test]
fn commands_about_dead_letters_and_jobs_work_with_their_grants_and_say_what_is_missing() {
    let denied = "no right to read the topic 'call-ended.dead-letter'";
    let denied = [("Read --topic call-ended.dead-letter", denied)];
    let uses: [Use<'_>; 4] = [
        (&["dead-letter", "list"], &denied),
        (&["dead-letter", "summary"], &denied),
        (
            &["dead-letter", "show", "call-ended.dead-letter/0/0"],
            &denied,
        ),
        (&["dead-letter", "export", "--body"], &denied),
    ];
    let section = "dead-letter list, summary, show and export";
    check(section, "ringback-reader", &uses);

    let delays = "Write --topic call-ended.delay. --resource-pattern-type prefixed";
    let group = "Read --group ringback.job. --resource-pattern-type prefixed";
    let id = "Write --transactional-id ringback.job. --resource-pattern-type prefixed";
    let replay = ["replay", "--since", "1h", "--again", "--job", "r-#"];
    let refusals = [
        (
            "Read --topic call-ended",
            "the topic 'call-ended' does not exist, or this user may",
        ),
        (
            delays,
            "the topic 'call-ended.delay.10s' does not exist, or this user may not",
        ),
        (group, "GroupAuthorizationFailed"),
        (id, "cannot take the transactional.id 'ringback.job."),
    ];
    let redrive = [
        "dead-letter",
        "redrive",
        "--since",
        "1h",
        "--again",
        "--job",
        "d-#",
    ];
    let dead = "the topic 'call-ended.dead-letter' does not exist, or this user may not";
    let dead = [("Read --topic call-ended.dead-letter", dead)];
    let uses: [Use<'_>; 3] = [
        (&replay, &refusals),
        (&redrive, &dead),
        (&["jobs", "list"], &[]),
    ];
    let section = "replay, dead-letter redrive, jobs list and jobs cancel";
    check(section, "ringback-jobs", &uses);
    cancel_a_job();
}

/// Cancels a job that is not finished: its process is stopped at once.
fn cancel_a_job() {
    let all = Surroundings::shared();
    let slow = [
        "replay", "--since", "1h", "--again", "--rate", "1", "--job", "slow",
    ];
    let slow = all.words("ringback-jobs", &slow);
    let log = workspace::directory("security").join("slow.log");
    let mut slow = Process::start("a slow job", &mut ringback::command(&slow), &log);
    let list = || said(&all.command("ringback-jobs", &["jobs", "list"]));
    wait::until("the job to be listed", || list().contains("slow"));
    slow.kill();
    let done = all.command("ringback-jobs", &["jobs", "cancel", "slow"]);
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn commands_about_tenants_work_with_their_grants_and_say_what_is_missing() {
    let words = |words: &[&'static str]| [words, &TENANTS].concat();
    let set = words(&["tenant", "set", "t", "--url", "http://127.0.0.1:1/"]);
    let (list, show) = (words(&["tenant", "list"]), words(&["tenant", "show", "t"]));
    let remove = words(&["tenant", "remove", "t"]);
    let denied = "no right to write to 'call-ended.tenants': allow WRITE";
    let refusals = [
        (
            "Read --topic call-ended.tenants",
            "TopicAuthorizationFailed",
        ),
        ("Write --topic call-ended.tenants", denied),
    ];
    let uses: [Use<'_>; 4] = [
        (&set, &refusals),
        (&list, &[]),
        (&show, &[]),
        (&remove, &[]),
    ];
    check("tenant commands", "ringback-tenants", &uses);
}

fn until_delivered(all: &Surroundings, id: &str) {
    let delivered = || all.receiver.posts_of(id).iter().any(Post::succeeded);
    wait::until(&format!("{id} to be delivered"), delivered);
}

/// Starts the service without each of these grants. It must say what is missing, and go
/// on by itself once the grant is there.
#[track_caller]
fn check_service(section: &str, more: &[&str], refusals: &[Refusal<'_>]) {
    let all = Surroundings::shared();
    let properties = all
        .secure
        .properties("scram", &page::properties()[0], "ringback");
    let grants = &page::grants()[section];
    all.secure.allow(grants);
    for (number, grant) in grants.iter().enumerate() {
        let refusal = refusals.iter().find(|(name, _)| *name == grant.name);
        let (_, text) = refusal.unwrap_or_else(|| panic!("what is said without {}?", grant.name));
        let id = format!("{section}-{number}").replace([' ', ':'], "-");
        all.secure.forbid(grant);
        let service = all.service(&all.secure.sasl, &properties, more);
        all.publish("failing", &format!("{id}-failing"));
        all.publish("healthy", &id);
        until_true(|| service.log().contains(text), || grant.name.clone());
        all.secure.allow([grant]);
        until_delivered(all, &id);
        service.kill();
    }
}

/// What is said without the right to read the group.
const NO_GROUP: &str = "no right to read the group 'ringback': allow READ on the group";

/// Logs in by each way of the page.
fn check_ways(all: &Surroundings) {
    let files = page::properties();
    let ways = [&all.secure.sasl, &all.secure.sasl, &all.secure.certificates];
    for (number, (text, brokers)) in files.iter().zip(ways).enumerate() {
        let name = format!("way-{number}");
        let properties = all.secure.properties(&name, text, "ringback");
        let service = all.service(brokers, &properties, &[]).ready();
        all.publish("healthy", &name);
        until_delivered(all, &name);
        service.drain();
        let file = properties.to_str().expect("UTF-8");
        let check = ["check-config", "--connect", "--brokers", brokers];
        let tenants = all.tenants.to_str().expect("UTF-8");
        let files = ["--kafka-properties", file, "--tenants", tenants];
        let done = ringback::output(&[&check[..], &files].concat());
        assert!(done.status.success(), "{}", said(&done));
        assert!(!said(&done).contains("not checked"), "{}", said(&done));
    }
    let wrong = files[0].replace(broker::PASSWORD, "wrong");
    let wrong = all.secure.properties("wrong", &wrong, "ringback");
    let service = all.service(&all.secure.sasl, &wrong, &[]);
    let told = || service.log().contains("Authentication failed");
    wait::until("the refusal to be told", told);
    service.kill();
}

/// Changes passwords and certificates while the service runs.
fn check_rotation(all: &Surroundings) {
    let in_force = "changed files of Kafka are in force";
    let refused = "a changed file of Kafka was refused";
    let secure = all.secure;
    let told = |service: &Ringback, line: &str, times: usize| {
        let told = || service.log().matches(line).count() == times;
        wait::until(&format!("{line}, {times} times"), told);
    };
    let delivers = |id: &str| {
        all.publish("healthy", id);
        until_delivered(all, id);
    };
    let page = &page::properties()[0];
    let file = secure.properties("rotated", page, "ringback");
    let service = all.service(&secure.sasl, &file, &["--attempt-log"]).ready();
    replace(&file, "sasl.mechanism=GSSAPI");
    told(&service, refused, 1);
    secure.set_password("new-password");
    let named = file.with_file_name("kafka.properties.made");
    std::fs::rename(secure.properties("made", page, "ringback"), &named).expect("writable");
    let text = std::fs::read_to_string(&named).expect("it was written");
    replace(&file, &text.replace(broker::PASSWORD, "new-password"));
    told(&service, in_force, 1);
    delivers("new-password");
    service.drain();
    secure.set_password(broker::PASSWORD);

    let page = &page::properties()[2];
    let file = secure.properties("rotated-certificates", page, "ringback");
    let service = all.service(&secure.certificates, &file, &[]).ready();
    // Another name, so that Kafka shows which certificate is in use.
    for (name, refusals, changes) in [("ringback-tenants", 1, 1), ("ringback", 2, 2)] {
        let (certificate, key) = secure.authority.common_name(name);
        replace(&file.with_file_name("tls.crt"), &certificate);
        told(&service, refused, refusals);
        replace(&file.with_file_name("tls.key"), &key);
        told(&service, in_force, changes);
        match name {
            "ringback" => delivers("new-certificate"),
            _ => told(&service, "may not DESCRIBE them: call-ended,", 1),
        }
    }
    service.drain();
}

/// Replaces a file by a rename, as an operator must.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("the build directory is writable");
    std::fs::rename(new, path).expect("the build directory is writable");
}

#[test]
fn the_service_works_with_its_grants_and_without_one_says_what_is_missing() {
    let all = Surroundings::shared();
    let grants = page::grants();
    all.secure.allow(&grants["run"]);
    check_ways(all);
    rights::check(all);
    check_rotation(all);

    let prefixed = "--resource-pattern-type prefixed";
    let delays = |operation: &str| format!("{operation} --topic call-ended.delay. {prefixed}");
    let delays = ["Read", "Write", "DescribeConfigs"].map(delays);
    let id = format!("Write --transactional-id ringback- {prefixed}");
    let no_right = ["read", "write to"]
        .map(|verb| format!("no right to {verb} the topic 'call-ended.delay.10s': allow"));
    let hidden = "may not DESCRIBE them: call-ended\"";
    let dead = "may not DESCRIBE them: call-ended.dead-letter";
    let configs = "the settings of topic 'call-ended.dead-letter'";
    let refusals = [
        ("Read --topic call-ended", hidden),
        (
            "DescribeConfigs --topic call-ended",
            "the settings of topic 'call-ended'",
        ),
        (&delays[0], &no_right[0]),
        (&delays[1], &no_right[1]),
        (&delays[2], "the settings of topic 'call-ended.delay."),
        ("Write --topic call-ended.dead-letter", dead),
        ("DescribeConfigs --topic call-ended.dead-letter", configs),
        ("Read --group ringback", "Group authorization failed"),
        (&id, "allow WRITE on the transactional id 'ringback-a'"),
    ];
    check_service("run", &[], &refusals);

    let missing = "an attempt is missing in the attempt log";
    let refusals = [("Write --topic call-ended.attempts", missing)];
    check_service("run: attempt log", &["--attempt-log"], &refusals);

    let hidden = "the tenants topic 'call-ended.tenants' does not exist, or this user may not";
    let configs = "the settings of topic 'call-ended.tenants'";
    let refusals = [
        ("Read --topic call-ended.tenants", hidden),
        ("DescribeConfigs --topic call-ended.tenants", configs),
    ];
    check_service("run: tenants topic", &TENANTS, &refusals);

    all.secure.allow(&grants["run: counts of jobs"]);
    all.admin(&["replay", "--since", "1h", "--again", "--job", "counted"]);
    let properties = all
        .secure
        .properties("scram", &page::properties()[0], "ringback");
    let service = all.service(&all.secure.sasl, &properties, &[]).ready();
    service.until("a job to be counted", |m| m.count("ringback_jobs", &[]) > 0);
    service.drain();
}
