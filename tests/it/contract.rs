//! What reaches the tenant: the bytes as published, and the headers.

use crate::support::receiver::{Behaviour, Post};
use crate::support::sample::{EXAMPLE, EXAMPLE_ID, EXAMPLE_TENANT, bare_example, wrapped};
use crate::support::scene::{Plan, Scene};
use crate::support::wait;

/// The nth POST of the example.
fn post(scene: &Scene<'_>, number: usize) -> Post {
    wait::until_some("the POST", wait::PATIENCE, || {
        scene.receiver.posts_of(EXAMPLE_ID).get(number - 1).cloned()
    })
}

fn body(post: &Post) -> &[u8] {
    post.bytes.as_ref().map_or(&[], |(_, body)| body)
}

#[test]
fn the_example_arrives_byte_for_byte_wrapped_and_bare() {
    let mut scene = Scene::new("contract", Plan::default());
    scene.tenant_with(
        EXAMPLE_TENANT,
        Behaviour::FailFirst(1),
        &serde_json::json!({ "headers": { "x-team": "blue" } }),
    );
    let ringback = scene.run("a");

    scene.send(&scene.topic, None, Some(EXAMPLE), &[]);
    for number in [1, 2] {
        assert_eq!(body(&post(&scene, number)), EXAMPLE, "attempt {number}");
    }
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    // Headers of ringback on a source record count for nothing: all ten attempts are left.
    let headers = [("traceparent", trace), ("ringback-attempts-made", "9")];
    scene.send(&scene.topic, None, Some(bare_example()), &headers);
    let bare = post(&scene, 3);
    assert_eq!(body(&bare), wrapped(bare_example()));

    let version = concat!("ringback/", env!("CARGO_PKG_VERSION"));
    for (name, text) in [
        ("content-type", "application/json; charset=utf-8"),
        ("user-agent", version),
        ("webhook-id", EXAMPLE_ID),
        ("ringback-attempt", "1"),
        ("traceparent", trace),
        ("x-team", "blue"),
    ] {
        assert_eq!(bare.header(name), Some(text), "{name}");
    }
    let timestamp = bare.header("webhook-timestamp").map(str::parse::<u64>);
    let now = bare.at_us / 1_000_000;
    assert!(matches!(timestamp, Some(Ok(at)) if now.abs_diff(at) <= 5));
    assert!(post(&scene, 1).header("traceparent").is_none());
    ringback.drain();
}
