use super::*;
use crate::model::tenant::{TenantId, Tenants};

fn read_text(json: &str) -> Result<Tenants, Vec<String>> {
    read_by(TenantRules::default(), json)
}

fn read_by(rules: TenantRules, json: &str) -> Result<Tenants, Vec<String>> {
    let parsed = parse(Path::new("f"), "", json.as_bytes(), rules);
    let texts = |all: Vec<Mistake>| all.iter().map(ToString::to_string).collect();
    parsed
        .map(|tenants| tenants.into_iter().collect())
        .map_err(texts)
}

#[test]
fn the_interfaces_example_is_read() {
    let json = r#"{"87462158132343186600590049": {"url": "https://example.com/call-ended",
        "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "headers": {"X-Team": "blue"},
        "maxInFlight": 3, "enabled": true}, "b": {"url": "http://[::1]:80/x?token=1"},
        "c": {"url": "http://h", "enabled": false}}"#;
    let tenants = read_text(json).expect("valid");
    let id = |text| TenantId::new(text).expect("valid");
    let a = tenants
        .callback(&id("87462158132343186600590049"))
        .expect("listed");
    assert_eq!(a.url.0, "https://example.com/call-ended");
    assert_eq!(
        a.headers,
        [("x-team".to_owned(), Secret("blue".to_owned()))]
    );
    assert_eq!((a.max_in_flight, a.secrets.len()), (3, 1));
    let b = tenants.callback(&id("b")).expect("listed");
    assert_eq!((b.max_in_flight, b.enabled), (MAX_IN_FLIGHT_DEFAULT, true));
    assert!(tenants.contains(&id("c")) && tenants.callback(&id("c")).is_none());
}

#[test]
fn a_file_that_is_no_object_is_refused_with_line_and_column_and_never_quoted() {
    for (json, part) in [
        ("", "empty"),
        (" \n ", "empty"),
        ("{\n\"hunter2\"", "line 2"),
        ("{\"a\": hunter2}", "line 1"),
        ("[\"hunter2\"]", "not a JSON object"),
        ("\"hunter2\"", "not a JSON object"),
        ("{} hunter2", "line 1"),
        ("\u{feff}{}", "byte order mark"),
        ("{\"a\0\":{\"url\":\"http://hunter2\"}}", "line 1"),
        ("{\"a\":{\"url\":\"http://hunter2\"},}", "line 1"),
    ] {
        let mistakes = read_text(json).expect_err(json);
        assert_eq!(mistakes.len(), 1);
        assert!(
            mistakes[0].starts_with("--tenants f: ") && mistakes[0].contains(part),
            "{mistakes:?}"
        );
        assert!(!mistakes[0].contains("hunter2"), "{mistakes:?}");
    }
}

#[test]
fn every_kind_of_mistake_names_its_tenant_and_key() {
    #[track_caller]
    fn check(entry: &str, expected: &[&str]) {
        let mistakes = read_text(&format!(r#"{{"t":{entry}}}"#)).expect_err(entry);
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for (mistake, part) in mistakes.iter().zip(expected) {
            let named = format!("tenant \"t\"{part}");
            assert!(
                mistake.starts_with(&named),
                "{mistake} does not start with {named}"
            );
            assert!(!mistake.contains("hunter2"), "{mistake}");
        }
    }
    let with = |rest: &str| format!(r#"{{"url":"http://h",{rest}}}"#);
    check("1", &[": not a JSON object"]);
    check("{}", &[", url: missing"]);
    check(r#"{"url":1}"#, &[", url: not a string"]);
    check(r#"{"url":"hunter2"}"#, &[", url: not a URL"]);
    check(r#"{"url":"/a?b=hunter2"}"#, &[", url: not a URL"]);
    check(r#"{"url":"http://?hunter2"}"#, &[", url: not a URL"]);
    check(r#"{"url":"http:///hunter2"}"#, &[", url: has no host"]);
    check(r#"{"url":"http:hunter2"}"#, &[", url: has no host"]);
    check(
        r#"{"url":"http://a..b/hunter2"}"#,
        &[", url: the host name has an empty label"],
    );
    let long_label = "a".repeat(64);
    check(
        &format!(r#"{{"url":"https://{long_label}.example.com/hunter2"}}"#),
        &[", url: the host name has a label of more than 63 bytes"],
    );
    check(r#"{"url":"ftp://h"}"#, &[", url: scheme 'ftp'"]);
    check(
        r#"{"url":"data:hunter2"}"#,
        &[", url: scheme 'data'", ", url: has no host"],
    );
    check(
        r#"{"url":"http://u:hunter2@h"}"#,
        &[", url: has credentials"],
    );
    check(r#"{"url":"http://u@h"}"#, &[", url: has credentials"]);
    check(
        r#"{"url":"http://:hunter2@h"}"#,
        &[", url: has credentials"],
    );
    check(
        r#"{"url":"http://h\n.hunter2"}"#,
        &[", url: has a line break"],
    );
    check(r#"{"url":"http://h:0/hunter2"}"#, &[", url: port 0"]);
    check(r#"{"url":"http://h:65536/hunter2"}"#, &[", url: not a URL"]);
    check(
        r#"{"url":"http://[fe80::1%25eth0]/"}"#,
        &[", url: not a URL"],
    );
    check(r#"{"url":"//hunter2/"}"#, &[", url: not a URL"]);
    check(
        r#"{"url":"file:///hunter2"}"#,
        &[", url: scheme 'file'", ", url: has no host"],
    );
    check(r#"{"url":null}"#, &[", url: not a string"]);
    check(
        r#"{"url":"http://h","url":"http://i"}"#,
        &[", url: the key is repeated"],
    );
    check(&with(r#""secret":"hunter2""#), &[", secret: unknown key"]);
    check(&with(r#""URL":"hunter2""#), &[", URL: unknown key"]);
    check(
        &with(r#""secrets":"whsec_aHVudGVyMg==""#),
        &[", secrets: not an array"],
    );
    check(&with(r#""secrets":[1]"#), &[", secrets: not an array"]);
    check(
        &with(r#""secrets":["hunter2","whsec_","whsec_?","whsec_aHVudGVyMg"]"#),
        &[
            ", secrets[0]: malformed",
            ", secrets[1]",
            ", secrets[2]",
            ", secrets[3]",
        ],
    );
    check(
        &with(r#""headers":["hunter2"]"#),
        &[", headers: not an object"],
    );
    check(
        &with(r#""headers":{"a":1}"#),
        &[", headers.a: not a string"],
    );
    check(
        &with(r#""headers":{"a b":"x"}"#),
        &[", headers.a b: not a header name"],
    );
    check(
        &with(r#""headers":{"a":"hunter2\r\nb: c"}"#),
        &[", headers.a: has a line break"],
    );
    check(
        &with(r#""headers":{"a":"\u0000hunter2"}"#),
        &[", headers.a: has a line break"],
    );
    check(
        &with(r#""headers":{"a":"hunter2\u007f"}"#),
        &[", headers.a: has a line break"],
    );
    check(
        &with(r#""headers":{":path":"hunter2"}"#),
        &[", headers.:path: not a header name"],
    );
    check(
        &with(r#""headers":{"A":"1","a":"2"}"#),
        &[", headers.a: the header is repeated"],
    );
    check(
        &with(r#""maxInFlight":0"#),
        &[", maxInFlight: not a whole number from 1"],
    );
    check(&with(r#""maxInFlight":-1"#), &[", maxInFlight"]);
    check(&with(r#""maxInFlight":1.5"#), &[", maxInFlight"]);
    check(&with(r#""maxInFlight":"1""#), &[", maxInFlight"]);
    check(&with(r#""maxInFlight":65537"#), &[", maxInFlight"]);
    for timeout in ["2", "\"99ms\"", "\"5001ms\"", "\"hunter2\"", "null"] {
        check(
            &with(&format!(r#""timeout":{timeout}"#)),
            &[", timeout: not a text such as \"2s\" from 100ms to 5s"],
        );
    }
    check(&with(r#""enabled":"yes""#), &[", enabled: neither"]);
    check(&with(r#""enabled":null"#), &[", enabled: neither"]);
    for name in OWN_HEADERS
        .iter()
        .chain(&["Webhook-Id", "RINGBACK-Attempt", "Host"])
    {
        check(
            &with(&format!(r#""headers":{{"{name}":"hunter2"}}"#)),
            &[&format!(", headers.{name}: ringback")],
        );
    }
}

#[test]
fn all_mistakes_of_all_tenants_are_reported_at_once() {
    let long = "x".repeat(257);
    let json = format!(
        r#"{{"a":{{"url":"http://h"}},"b":{{"url":"x","maxInFlight":0,"more":1}},
            "a":{{"url":"http://h"}},"":{{"url":"http://h"}},"{long}":{{"url":"http://h"}},
            "t\n":{{"url":"http://h"}},"c":{{}}}}"#
    );
    let mistakes = read_text(&json).expect_err("many are wrong");
    for part in [
        "tenant \"b\", url: ",
        "tenant \"b\", maxInFlight: ",
        "tenant \"b\", more: ",
        "tenant \"a\": the tenantId is repeated",
        "tenant \"\": a tenant id has",
        "tenant \"xxx",
        "tenant \"t\\n\": a tenant id",
        "tenant \"c\", url: missing",
    ] {
        assert!(
            mistakes.iter().any(|m| m.contains(part)),
            "{part}: {mistakes:?}"
        );
    }
    assert_eq!(mistakes.len(), 8, "{mistakes:?}");
}

#[test]
fn a_host_in_any_script_is_read_as_its_dns_name() {
    let json = r#"{"a":{"url":"https://\u4f8b\u5b50.example/\u8def"}}"#;
    let tenants = read_text(json).expect("valid");
    let id = TenantId::new("a").expect("valid");
    let url = &tenants.callback(&id).expect("listed").url.0;
    assert_eq!(url, "https://xn--fsqu00a.example/%E8%B7%AF");
}

#[test]
fn a_tenant_id_that_is_written_in_two_ways_is_repeated() {
    let json = r#"{"a":{"url":"http://h"},"\u0061":{"url":"http://h"}}"#;
    let mistakes = read_text(json).expect_err("repeated");
    assert_eq!(mistakes, ["tenant \"a\": the tenantId is repeated"]);
}

#[test]
fn an_entry_with_very_many_headers_is_refused_without_comparing_them() {
    use std::fmt::Write as _;
    let mut text = r#"{"t":{"url":"http://h/","headers":{"#.to_owned();
    for number in 0..100_000 {
        write!(text, r#""h{number}":"v","#).expect("a String takes any text");
    }
    text.pop();
    text.push_str("}}}");
    let refused = parse(Path::new("f"), "", text.as_bytes(), TenantRules::default())
        .expect_err("too many headers");
    let texts: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [r#"tenant "t", headers: more than 32"#]);
}

#[test]
fn a_tenants_timeout_is_at_most_that_of_the_service() {
    let rules = TenantRules {
        timeout_max: Duration::from_secs(2),
        ..TenantRules::default()
    };
    let of = |text: &str| {
        let json = format!(r#"{{"t":{{"url":"http://h","timeout":"{text}"}}}}"#);
        read_by(rules, &json)
    };
    let tenants = of("2s").expect("allowed");
    let timeout = tenants.iter().next().expect("listed").timeout;
    assert_eq!(timeout, Some(Duration::from_secs(2)));
    let mistakes = of("3s").expect_err("longer");
    assert!(mistakes[0].contains("from 100ms to 2s"), "{mistakes:?}");
}

#[test]
fn an_http_url_can_be_refused() {
    let rules = TenantRules {
        plain_http: PlainHttp::Refused,
        ..TenantRules::default()
    };
    let json = r#"{"a":{"url":"https://h/"},"b":{"url":"http://h/?hunter2"}}"#;
    let mistakes = read_by(rules, json).expect_err("b is refused");
    let named = "tenant \"b\", url: scheme 'http' is refused: --require-https is on";
    assert_eq!(mistakes, [named]);
}
