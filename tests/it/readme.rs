//! The tables of the READMEs agree with the program and with each other, and the
//! links of all documents lead somewhere.

use crate::support::dead_letters;
use crate::support::documents::{self, README, README_ZH, RUNBOOK, anchor};
use crate::support::jobs::replay;
use crate::support::receiver::Behaviour;
use crate::support::sample;
use crate::support::scene::{Plan, Scene};
use ringback::config::tenants::{self, TenantRules};
use ringback::exit;
use ringback::telemetry::metrics::DEFINITIONS;
use serde_json::json;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Headers of HTTP itself and of the HTTP client.
const OF_HTTP: [&str; 3] = ["host", "content-length", "accept"];

/// Returns the rows of the table whose first row has this name.
#[track_caller]
fn table(document: &str, first: &str) -> Vec<Vec<String>> {
    let mut tables = documents::tables(document).into_iter();
    let is_wanted = |table: &Vec<Vec<String>>| table[0][0].trim_matches('`') == first;
    tables
        .find(is_wanted)
        .unwrap_or_else(|| panic!("{document}: no table that starts with {first}"))
}

/// Returns the names in the first column of a table.
#[track_caller]
fn names(document: &str, first: &str) -> BTreeSet<String> {
    let rows = table(document, first);
    let names = rows.iter().map(|row| row[0].trim_matches('`').to_owned());
    names.collect()
}

#[test]
fn both_readmes_have_the_same_tables() {
    let english = documents::tables(README);
    let chinese = documents::tables(README_ZH);
    assert_eq!(english.len(), chinese.len());
    for (english, chinese) in english.iter().zip(&chinese) {
        assert_eq!(english.len(), chinese.len(), "{english:?}");
        for (row, other) in english.iter().zip(chinese) {
            assert_eq!(row.len(), other.len(), "{row:?}");
            // A cell that is all code is a name or a value: it is not translated.
            for (cell, other) in row.iter().zip(other) {
                if cell.starts_with('`') && cell.ends_with('`') {
                    assert_eq!(cell.replace(", ", "、"), other.replace(", ", "、"));
                }
            }
        }
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [
        README,
        README_ZH,
        RUNBOOK,
        "deploy/README.md",
        "tests/README.md",
        "deploy/CHANGELOG.md",
        "deploy/tenant-guide.en.md",
        "deploy/tenant-guide.zh.md",
        ".github/CONTRIBUTING.md",
        ".github/SECURITY.md",
    ] {
        let folder = Path::new(document).parent().expect("a file has a folder");
        let links = documents::links(document);
        for link in links.iter().filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.into()
            } else {
                folder.join(file)
            };
            assert!(root.join(&target).exists(), "{document}: {link}");
            if !heading.is_empty() {
                let text = documents::text(target.to_str().expect("plain names"));
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line) == heading);
                assert!(found, "{document}: {link}");
            }
        }
    }
}

#[test]
fn the_table_of_metrics_is_that_of_the_program() {
    let mut rows = String::new();
    for metric in DEFINITIONS {
        let labels: Vec<String> = metric.labels.iter().map(|l| format!(" `{l}`")).collect();
        let labels = labels.join(",");
        let (name, kind, help) = (metric.name, metric.kind.name(), metric.help);
        writeln!(rows, "| `{name}` | {kind} |{labels} | {help} |").expect("text");
    }
    let readme = documents::text(README);
    assert!(
        readme.contains(&rows),
        "README must hold these rows:\n{rows}"
    );
}

#[test]
fn urls_that_the_documents_call_refused_are_refused_by_the_length_that_they_tell() {
    let mistakes = |url: &str| {
        let entry = json!({ "url": url }).to_string();
        tenants::parse_entry("t", entry.as_bytes(), TenantRules::default()).err()
    };
    for document in [
        README,
        README_ZH,
        "deploy/tenant-guide.en.md",
        "deploy/tenant-guide.zh.md",
    ] {
        let text = documents::text(document);
        let mut paragraphs = text.split("\n\n");
        let rule = paragraphs.find(|text| text.contains("`https:///"));
        let rule = rule.unwrap_or_else(|| panic!("{document}: no rule on host names"));
        let code = rule.split('`').skip(1).step_by(2);
        let urls: Vec<&str> = code.filter(|code| code.contains("://")).collect();
        assert_eq!(urls.len(), 3, "{document}");
        for url in urls {
            assert!(mistakes(url).is_some(), "{document}: {url}");
        }
        assert!(
            rule.contains(" 253 ") && rule.contains(" 63 "),
            "{document}"
        );
    }
    let label = |length: usize| format!("https://{}.example.com/", "a".repeat(length));
    assert!(mistakes(&label(63)).is_none() && mistakes(&label(64)).is_some());
    // Five labels of 49 bytes and a dot each.
    let labels = format!("{}.", "a".repeat(49)).repeat(5);
    let name = |last: usize| format!("https://{labels}{}/", "b".repeat(last));
    assert!(mistakes(&name(3)).is_none() && mistakes(&name(4)).is_some());
}

#[test]
fn the_table_of_exit_codes_is_that_of_the_program() {
    let rows = table(README, "0");
    assert_eq!(rows.len(), exit::TABLE.len());
    for (row, (exit, meaning)) in rows.iter().zip(exit::TABLE) {
        assert_eq!(row[0], exit.code().to_string());
        let begins = row[1].starts_with(meaning);
        assert!(begins, "{}: {} begins with: {meaning}", row[0], row[1]);
    }
}

#[test]
fn the_tables_of_headers_are_those_of_the_program() {
    let plan = Plan {
        partitions: 1,
        attempts: 2,
        ..Plan::default()
    };
    let mut scene = Scene::new("headers", plan);
    let signed = json!({ "secrets": ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] });
    scene.tenant_with("t", Behaviour::Always(503), &signed);
    let ringback = scene.start("a", &["--record-max-bytes", "64KiB"]).ready();
    let trace = (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let record = sample::record("headers-1", "t");
    scene.send(&scene.topic, None, Some(&record), &[trace]);
    let large = vec![b' '; 64 * 1024 + 1];
    scene.send(&scene.topic, None, Some(&large), &[]);
    let dead = scene.dead_letters_of(2);
    replay(&scene, &["--id", "headers-1"]).exits(0);
    let copies = dead_letters::read(scene.broker, &scene.delay_topic(scene.plan.delays));
    ringback.drain();

    let posts = scene.receiver.posts();
    let (head, _) = posts["headers-1"][0]
        .bytes
        .as_ref()
        .expect("posts are kept");
    let sent = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut sent: BTreeSet<String> = sent.map(|(name, _)| name.to_lowercase()).collect();
    sent.retain(|name| !OF_HTTP.contains(&name.as_str()));
    assert_eq!(sent, names(README, "content-type"));

    let records = dead.iter().chain(&copies);
    let written = records.flat_map(|record| &record.headers);
    let mut written: BTreeSet<String> = written.map(|(name, _)| name.clone()).collect();
    assert!(written.remove("traceparent"), "it is the record's own");
    assert_eq!(written, names(README, "ringback-attempts-made"));
}
