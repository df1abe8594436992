//! A POST that an HTTP/2 receiver has not processed is sent again within the same
//! attempt. One that it may have seen never is.

use super::answers::ended;
use super::h2_receiver::{
    CANCEL, ENHANCE_YOUR_CALM, H2Receiver, H2Script, NO_ERROR, REFUSED_STREAM,
};
use super::*;
use crate::http::post::RESENDS_MAX;

/// Long enough for a busy machine: no outcome here depends on it.
const LONG: Duration = Duration::from_secs(20);

fn callbacks_to(receiver: &H2Receiver) -> Arc<Callbacks> {
    let settings = HttpSettings {
        timeout: LONG,
        ..settings(None, receiver.trust.clone())
    };
    callbacks_of(settings, loopback(&[]))
}

/// Makes one attempt against this receiver. Returns its outcome, and what the
/// receiver saw: POSTs that it may have processed, and those that it has not.
async fn one(script: H2Script) -> (Outcome, usize, usize) {
    let receiver = H2Receiver::start(script).await;
    let callbacks = callbacks_to(&receiver);
    let attempt = callbacks.attempt(receiver.attempt_of("c-1"), UnixMillis(0));
    let outcome = attempt.await;
    let seen = receiver.seen.lock().expect("no panic");
    (outcome, seen.posts.values().sum(), seen.unprocessed)
}

/// Makes 1,000 attempts, 64 at once, against a receiver that takes 20 requests a
/// connection. Checks that no record was seen twice. Returns how many failed.
async fn many() -> usize {
    const RECORDS: usize = 1_000;
    const AT_ONCE: usize = 64;
    let receiver = H2Receiver::start(H2Script::GoAwayAfter(20)).await;
    let callbacks = callbacks_to(&receiver);
    let mut running = tokio::task::JoinSet::new();
    let mut outcomes = Vec::new();
    for number in 0..RECORDS {
        if running.len() == AT_ONCE {
            let ended = running.join_next().await.expect("some run");
            outcomes.push(ended.expect("no panic"));
        }
        let request = receiver.attempt_of(&format!("c-{number}"));
        running.spawn(callbacks.attempt(request, UnixMillis(0)));
    }
    outcomes.extend(running.join_all().await);
    outcomes.retain(|outcome| *outcome != Outcome::Delivered { status: 200 });
    let seen = receiver.seen.lock().expect("no panic");
    assert_eq!(seen.posts.len(), RECORDS - outcomes.len(), "{outcomes:?}");
    assert!(seen.posts.values().all(|posts| *posts == 1));
    assert!(seen.unprocessed > 0);
    outcomes.len()
}

#[tokio::test]
async fn a_receiver_that_takes_few_requests_a_connection_fails_no_attempt() {
    assert_eq!(many().await, 0);
}

/// A GOAWAY may arrive while another thread starts a stream. Then it is not certain
/// that the receiver has no head of it, and the attempt is spent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_no_post_is_seen_twice_and_few_attempts_fail() {
    let failed = many().await;
    assert!(failed <= 100, "{failed} failed");
}

#[tokio::test]
async fn a_post_that_was_not_processed_is_sent_again_in_the_same_attempt() {
    for script in [
        H2Script::GoAwayBefore {
            connections: 1,
            reason: NO_ERROR,
        },
        H2Script::GoAwayBefore {
            connections: 3,
            reason: NO_ERROR,
        },
        H2Script::Reset {
            streams: 1,
            reason: REFUSED_STREAM,
        },
        H2Script::Reset {
            streams: 3,
            reason: REFUSED_STREAM,
        },
    ] {
        let (outcome, seen, unprocessed) = one(script).await;
        ended("sent again", &outcome, Some(200), None);
        assert_eq!(seen, 1);
        assert!(unprocessed >= 1);
    }
}

#[tokio::test]
async fn a_receiver_that_processes_nothing_ends_the_attempt_after_some_posts() {
    for script in [
        H2Script::GoAwayBefore {
            connections: usize::MAX,
            reason: NO_ERROR,
        },
        H2Script::Reset {
            streams: usize::MAX,
            reason: REFUSED_STREAM,
        },
    ] {
        let (outcome, seen, unprocessed) = one(script).await;
        ended("never", &outcome, None, Some(ErrorClass::Reset));
        assert_eq!((seen, unprocessed), (0, 1 + RESENDS_MAX));
    }
}

#[tokio::test]
async fn a_post_that_the_receiver_may_have_seen_is_not_sent_again() {
    for script in [
        H2Script::GoAwayAtOurs,
        H2Script::Close,
        H2Script::Reset {
            streams: 1,
            reason: CANCEL,
        },
    ] {
        let (outcome, seen, unprocessed) = one(script).await;
        ended("once", &outcome, None, Some(ErrorClass::Reset));
        assert_eq!((seen, unprocessed), (1, 0));
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_calm_gets_no_second_post_at_once() {
    let (outcome, seen, unprocessed) = one(H2Script::GoAwayBefore {
        connections: 1,
        reason: ENHANCE_YOUR_CALM,
    })
    .await;
    ended("calm", &outcome, None, Some(ErrorClass::Reset));
    assert_eq!((seen, unprocessed), (0, 1));
}
