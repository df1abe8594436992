//! The committer thread: commits offsets, one request at a time, and waits for
//! each answer. The asynchronous form never tells its result (rust-rdkafka#856).
//! Decides nothing.

use super::shared::GroupShared;
use crate::kafka::call_monitor::{CLOSE, CallTimer};
use crate::kafka::client::convert::{self, CommitAnswer};
use crate::kafka::client::ffi;
use crate::kafka::inbox::ToCommitter;
use crate::model::message::{CommitRequest, KafkaEvent};
use rdkafka::error::RDKafkaErrorCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// While nothing is to be committed, the thread restarts its timer this often.
const IDLE: Duration = Duration::from_secs(1);
/// The longest wait for an answer. librdkafka answers at the latest after its
/// socket timeout, or after another member's session timeout while a rebalance
/// waits for that member.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// Commits offsets until the session ends.
pub fn run(shared: &GroupShared, requests: &Receiver<ToCommitter>, timer: &CallTimer) {
    loop {
        timer.start("wait for commits", IDLE);
        let request = match requests.recv_timeout(IDLE) {
            Ok(ToCommitter::Commit(request)) => request,
            Ok(ToCommitter::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => continue,
        };
        if !shared.state.is_alive() {
            return;
        }
        let event = commit(shared, &request, timer);
        shared.state.report(event);
    }
}

fn commit(shared: &GroupShared, request: &CommitRequest, timer: &CallTimer) -> KafkaEvent {
    let (state, write) = (&shared.state, request.write);
    let started = state.now();
    let took = || state.now().saturating_sub(started);
    let unsure = |took: Duration, why: String| KafkaEvent::CommitUnsure { write, took, why };
    let Some(consumer) = shared.consumer() else {
        return unsure(took(), "there is no consumer".to_owned());
    };
    let list = match convert::snapshots(&state.settings.topics, &request.snapshots) {
        Ok(list) => list,
        Err(error) => return unsure(took(), error.to_string()),
    };
    let until = started + ANSWER_MAX;
    let keep_waiting = || {
        timer.start("offset commit", Duration::ZERO);
        state.is_alive() && state.now() < until
    };
    timer.start("offset commit", Duration::ZERO);
    let answer = ffi::commit(&consumer, &list, keep_waiting);
    let took = took();
    // If the session has ended, this thread may be the last user of the consumer.
    timer.start("close", CLOSE);
    drop(consumer);
    match answer {
        Some(Ok(())) => {
            timer.answered();
            let socket_timeout = state.settings.socket_timeout();
            match shared.coordinator.sent_once(started, took, socket_timeout) {
                true => KafkaEvent::Committed { write, took },
                false => unsure(took, "it may have been sent twice".to_owned()),
            }
        }
        Some(Err(code)) => match convert::commit_answer(code) {
            CommitAnswer::Refused => {
                timer.answered();
                KafkaEvent::CommitRefused { write, took }
            }
            CommitAnswer::Unsure => {
                // A fence is no broker fault: another process may cause it.
                match code {
                    RDKafkaErrorCode::FencedInstanceId => state.consumer_fenced(),
                    _ => state.broker_fault(),
                }
                unsure(took, code.to_string())
            }
        },
        None => unsure(took, format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}
