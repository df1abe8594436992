//! What cannot be read ends among the dead letters with its reason and its
//! bytes, and the next record goes on.

use crate::support::dead_letters::FoundRecord;
use crate::support::publisher::Publisher;
use crate::support::receiver::Behaviour;
use crate::support::scene::{Plan, Scene};
use std::collections::BTreeMap;

/// One partition, so that a record that stops it would stop everything.
const PLAN: Plan = Plan {
    partitions: 1,
    delays: "200ms",
    delay_min: std::time::Duration::from_millis(200),
    attempts: 10,
};

/// Values that no record may have, each with the reason of its dead letter.
fn unreadable() -> Vec<(Vec<u8>, &'static str)> {
    let deep = format!(
        r#"{{"id":"a","tenantId":"t","x":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    let long = format!(r#"{{"id":"{}","tenantId":"t"}}"#, "x".repeat(257));
    let cases: [(&[u8], &'static str); 20] = [
        (b"", "undecodable"),
        (b"not json", "undecodable"),
        (b"[]", "undecodable"),
        (b"\"text\"", "undecodable"),
        (b"null", "undecodable"),
        (b"{\"id\":\"a\",\"tenantId\":\"t\"", "undecodable"),
        (
            b"{\"id\":\"a\",\"tenantId\":\"t\",\"x\":\"\xff\xfe\"}",
            "undecodable",
        ),
        (br#"{"id":"a","id":"b","tenantId":"t"}"#, "undecodable"),
        (
            br#"{"id":"a","tenantId":"t","tenantId":"t"}"#,
            "undecodable",
        ),
        (
            br#"{"data":{"id":"a","id":"a","tenantId":"t"}}"#,
            "undecodable",
        ),
        (deep.as_bytes(), "undecodable"),
        (br#"{"tenantId":"t"}"#, "no_record_id"),
        (br#"{"data":{"tenantId":"t"}}"#, "no_record_id"),
        (br#"{"id":"a"}"#, "no_tenant_id"),
        (br#"{"id":7,"tenantId":"t"}"#, "bad_id"),
        (br#"{"id":"","tenantId":"t"}"#, "bad_id"),
        (br#"{"id":"a b","tenantId":"t"}"#, "bad_id"),
        (br#"{"id":"a","tenantId":7}"#, "bad_id"),
        (br#"{"id":"a","tenantId":null}"#, "bad_id"),
        (long.as_bytes(), "bad_id"),
    ];
    cases.map(|(value, reason)| (value.to_vec(), reason)).into()
}

#[test]
fn what_cannot_be_read_is_dead_lettered_and_the_next_record_goes_on() {
    let mut scene = Scene::new("bad-input", PLAN);
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let cases = unreadable();
    for (number, (value, _)) in cases.iter().enumerate() {
        let key = number.to_string();
        scene.send(
            &scene.topic,
            Some(key.as_bytes()),
            Some(value),
            &[("own", "kept")],
        );
        scene.publish("t", 1);
    }
    scene.send(&scene.topic, Some(b"null"), None, &[]);
    scene.publish("t", 1);
    scene.until_delivered();
    let dead = scene.dead_letters_of(cases.len() + 1);
    assert_eq!(dead.len(), cases.len() + 1);

    for (number, (value, reason)) in cases.iter().enumerate() {
        let found = by_key(&dead, &number.to_string());
        assert_eq!(found.value.as_deref(), Some(value.as_slice()), "{number}");
        assert_eq!(found.header("ringback-reason"), *reason, "{number}");
        assert_eq!(found.header("own"), "kept");
        assert!(found.header("ringback-origin").starts_with(&scene.topic));
    }
    let null = by_key(&dead, "null");
    assert_eq!(
        (null.value.as_deref(), null.header("ringback-reason")),
        (None, "undecodable")
    );

    let mut reasons = BTreeMap::from([("undecodable", 1)]);
    for (_, reason) in &cases {
        *reasons.entry(*reason).or_default() += 1;
    }
    ringback.until("every reason counted", |metrics| {
        reasons.iter().all(|(reason, count)| {
            metrics.count("ringback_dead_letters_total", &[("reason", reason)]) == *count
        })
    });
    assert_eq!(scene.receiver.count(), scene.ledger.len());
    ringback.drain();
}

fn by_key<'f>(dead: &'f [FoundRecord], key: &str) -> &'f FoundRecord {
    let mut found = dead
        .iter()
        .filter(|f| f.key.as_deref() == Some(key.as_bytes()));
    found
        .next()
        .unwrap_or_else(|| panic!("no dead letter with key {key}"))
}

#[test]
fn a_record_that_is_too_large_keeps_its_beginning_among_the_dead_letters() {
    const SIZE: usize = 5 * 1024 * 1024;
    let broker = crate::support::broker::Broker::shared();
    let mut scene = Scene::bare(broker, "too-large", PLAN);
    let larger = [("max.message.bytes", "6291456")];
    broker.create_topic(&scene.topic, 1, &larger);
    scene.create_topics();
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let mut value = br#"{"id":"large","tenantId":"t","x":""#.to_vec();
    value.resize(SIZE - 2, b'x');
    value.extend_from_slice(b"\"}");
    scene.send(&scene.topic, Some(b"large"), Some(&value), &[]);
    scene.publish("t", 1);
    scene.until_delivered();
    let dead = scene.dead_letters_of(1);
    assert_eq!(dead[0].value.as_deref(), Some(&value[..64 * 1024]));
    assert_eq!(dead[0].header("ringback-reason"), "too_large");
    assert_eq!(dead[0].header("ringback-length"), SIZE.to_string());
    assert_eq!(
        dead[0].header("ringback-origin"),
        format!("{}/0/0", scene.topic)
    );
    ringback.drain();
}

/// Three MiB of headers pass the source topic's limit because they are compressed.
#[test]
fn a_dead_letter_with_huge_headers_is_cut_and_says_how_much() {
    let mut scene = Scene::new("huge-headers", PLAN);
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let compressed = Publisher::compressed(scene.broker);
    let large = "h".repeat(3 << 20);
    let headers = [("large", large.as_str()), ("own", "kept")];
    let key = "k".repeat(2_000);
    compressed.send(
        &scene.topic,
        Some(key.as_bytes()),
        Some(b"not json"),
        &headers,
    );
    compressed.flush();
    scene.publish("t", 1);
    scene.until_delivered();
    let dead = scene.dead_letters_of(1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"not json"[..]));
    assert_eq!(dead[0].key.as_deref(), Some(&key.as_bytes()[..1_024]));
    assert_eq!(dead[0].header("own"), "kept");
    let cut = dead[0].header("ringback-cut");
    let headers = (3 << 20) + "largeownkept".len() + 2 * 10;
    assert_eq!(cut, format!("key=2000,headers={headers}"));
    ringback.drain();
}

/// The source topic takes 64 KiB. A compressed record of 900 KiB is less.
#[test]
fn a_compressed_record_above_the_source_topics_limit_is_attempted_until_it_is_delivered() {
    let broker = crate::support::broker::Broker::shared();
    let mut scene = Scene::bare(broker, "compressed", PLAN);
    broker.create_topic(&scene.topic, 1, &[("max.message.bytes", "65536")]);
    scene.create_topics();
    scene.tenant("t", Behaviour::FailFirst(2));
    let ringback = scene.run("a");
    let mut value = br#"{"data":{"id":"large","tenantId":"t","x":""#.to_vec();
    value.resize(900 << 10, b'x');
    value.extend_from_slice(b"\"}}");
    scene.ledger.publish("large", "t", &value);
    let compressed = Publisher::compressed(broker);
    compressed.send(&scene.topic, None, Some(&value), &[]);
    compressed.flush();
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn a_large_record_below_the_limit_travels_through_the_delay_topics() {
    let broker = crate::support::broker::Broker::shared();
    let mut scene = Scene::bare(broker, "large", PLAN);
    broker.create_topic(&scene.topic, 1, &[("max.message.bytes", "6291456")]);
    scene.create_topics();
    scene.tenant("t", Behaviour::FailFirst(1));
    let ringback = scene.start("a", &["--record-max-bytes", "5MiB"]).ready();
    let mut value = br#"{"data":{"id":"large","tenantId":"t","x":""#.to_vec();
    value.resize(4 * 1024 * 1024, b'x');
    value.extend_from_slice(b"\"}}");
    scene.ledger.publish("large", "t", &value);
    scene.send(&scene.topic, None, Some(&value), &[]);
    scene.until_delivered();
    scene.account().assert_exact();
    ringback.drain();
}

#[test]
fn a_delayed_record_without_its_history_is_undecodable() {
    let mut scene = Scene::new("no-history", PLAN);
    scene.tenant("t", Behaviour::Ok);
    let ringback = scene.run("a");
    let delayed = scene.delay_topic("200ms");
    let value = crate::support::sample::record("delayed", "t");
    let good = [
        ("ringback-attempts-made", "1"),
        ("ringback-confirmed", "1"),
        ("ringback-diverts", "0"),
        ("ringback-last-at", "1"),
        ("ringback-origin", "elsewhere/0/0"),
        ("ringback-published-at", "1"),
    ];
    let with = |name: &str, text: &'static str| {
        good.map(|(n, v)| if n == name { (n, text) } else { (n, v) })
    };
    let mut cases: Vec<Vec<(&str, &str)>> = vec![vec![], good[1..].to_vec()];
    for text in ["nonsense", "", "0", "10", "11", "-1", "256", "NaN"] {
        cases.push(with("ringback-attempts-made", text).to_vec());
    }
    cases.push(with("ringback-confirmed", "2").to_vec());
    cases.push(with("ringback-published-at", "yesterday").to_vec());
    cases.push([&good[..], &good[..1]].concat());
    for (number, headers) in cases.iter().enumerate() {
        let key = number.to_string();
        scene.send(&delayed, Some(key.as_bytes()), Some(&value), headers);
    }
    scene.send(&delayed, None, Some(&value), &good);
    let dead = scene.dead_letters_of(cases.len());
    assert_eq!(dead.len(), cases.len());
    for found in &dead {
        assert_eq!(found.header("ringback-reason"), "undecodable");
        assert_eq!(found.value.as_deref(), Some(value.as_slice()));
    }
    ringback.until("the good one delivered", |metrics| {
        metrics.disposed("delivered") == 1
    });
    let posts = scene.receiver.posts_of("delayed");
    assert_eq!(posts.iter().map(|p| p.attempt).collect::<Vec<_>>(), [2]);
    ringback.drain();
}
