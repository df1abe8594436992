//! `ringback tenant …`: what it says about tenants and their URLs, and what it
//! never shows.

use crate::support::ringback;
use crate::support::workspace;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Output;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// Writes a tenants file.
fn tenants_file(name: &str, tenants: &Value) -> PathBuf {
    let path = workspace::directory(name).join("tenants.json");
    std::fs::write(&path, tenants.to_string()).expect("the build directory is writable");
    path
}

/// Runs `ringback tenant` with these arguments and this file.
fn tenant(arguments: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let file = file.to_str().expect("the build directory is UTF-8");
    let all = [&["tenant"], arguments, &["--tenants", file]].concat();
    let Output {
        status,
        stdout,
        stderr,
    } = ringback::output(&all);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn sample() -> Value {
    json!({
        "b": { "url": "https://example.com/hook/path-token?token=query-token",
               "secrets": [SECRET], "headers": { "x-team": "header-value" } },
        "a": { "url": "http://10.0.0.1/", "enabled": false, "maxInFlight": 7 },
        "c": { "url": "https://crm.internal:8443/" },
    })
}

#[test]
fn tenants_are_listed_and_shown_without_what_is_secret() {
    let file = tenants_file("tenant-list", &sample());
    let (code, listed, _) = tenant(&["list"], &file);
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines.len(), 4, "{listed}");
    let expected = [
        "a",
        "http://10.0.0.1",
        "no",
        "0",
        "7",
        "no_tls",
        "refused_address",
    ];
    assert_eq!(lines[1], expected);
    assert_eq!(lines[2], ["b", "https://example.com", "yes", "1", "64"]);
    assert_eq!(lines[3][5], "not_public");

    let (code, json, _) = tenant(&["list", "--output", "json"], &file);
    assert_eq!(code, Some(0));
    let rows: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows[0]["warnings"], json!(["no_tls", "refused_address"]));
    assert_eq!(rows[1]["secrets"], 1);

    let (code, shown, _) = tenant(&["show", "b"], &file);
    assert_eq!(code, Some(0));
    assert!(shown.contains("x-team"), "{shown}");
    for text in [&listed, &json, &shown] {
        for secret in [SECRET, "header-value", "query-token", "path-token"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    let (_, with_path, _) = tenant(&["show", "b", "--path"], &file);
    assert!(with_path.contains("/hook/path-token") && !with_path.contains("query-token"));
}

#[test]
fn a_tenant_that_is_not_listed_ends_with_5_and_a_broken_file_with_2() {
    let file = tenants_file("tenant-unknown", &sample());
    let (code, _, told) = tenant(&["show", "unlisted"], &file);
    assert_eq!(code, Some(5), "{told}");
    assert!(told.contains("unlisted"), "{told}");
    std::fs::write(&file, "{").expect("the build directory is writable");
    let (code, _, told) = tenant(&["list"], &file);
    assert_eq!(code, Some(2), "{told}");
}

#[test]
fn a_check_warns_about_urls_that_cannot_work_and_ends_with_1() {
    let file = tenants_file("tenant-check", &sample());
    let (code, found, told) = tenant(&["check", "--output", "json"], &file);
    assert_eq!(code, Some(1), "{found}{told}");
    let kinds: Vec<(String, String)> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| (line["tenant"].to_string(), line["warning"].to_string()))
        .collect();
    for (id, kind) in [
        ("a", "no_tls"),
        ("a", "refused_address"),
        ("c", "not_public"),
    ] {
        let expected = (format!("{id:?}"), format!("{kind:?}"));
        assert!(kinds.contains(&expected), "{found}");
    }
    let clean = json!({ "d": { "url": "https://127.0.0.1/" } });
    std::fs::write(&file, clean.to_string()).expect("the build directory is writable");
    let allowed = ["check", "d", "--allow-networks", "127.0.0.0/8"];
    let (code, found, told) = tenant(&allowed, &file);
    assert_eq!(code, Some(0), "{found}{told}");
    let (code, ..) = tenant(&["check", "unlisted"], &file);
    assert_eq!(code, Some(5));
}
