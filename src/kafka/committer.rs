//! Plain offset commits, one at a time, each waited for: the asynchronous form
//! never tells its result (rust-rdkafka#856). Decides nothing. Runs on a thread
//! of its own.

use super::KafkaEvent;
use super::board::{CLOSE, Seat};
use super::convert::{self, CommitAnswer};
use super::ffi;
use super::life::{CommitterNote, Shared};
use crate::model::message::CommitRequest;
use rdkafka::error::RDKafkaErrorCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// While there is nothing to commit, the thread shows that it is there.
const IDLE: Duration = Duration::from_secs(1);
/// An answer that has not come after this does not come: librdkafka answers
/// after its socket timeout, and what waits for a rebalance after a fellow's
/// session timeout, at the latest.
const ANSWER_MAX: Duration = Duration::from_secs(45);

/// Commits what it is given until the life ends.
pub fn run(shared: Arc<Shared>, notes: &Receiver<CommitterNote>, seat: &Seat) {
    loop {
        seat.begin("wait for commits", IDLE);
        let order = match notes.recv_timeout(IDLE) {
            Ok(CommitterNote::Commit(order)) => order,
            Ok(CommitterNote::End) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => continue,
        };
        if !shared.is_alive() {
            return;
        }
        let report = commit(&shared, &order, seat);
        shared.report(report);
    }
}

fn commit(shared: &Shared, order: &CommitRequest, seat: &Seat) -> KafkaEvent {
    let write = order.write;
    let began = shared.now();
    let took = || shared.now().saturating_sub(began);
    let unsure = |why: String| KafkaEvent::CommitUnsure {
        write,
        took: took(),
        why,
    };
    let Some(consumer) = shared.consumer() else {
        return unsure("there is no consumer".to_owned());
    };
    let list = match convert::snapshots(&shared.settings.topics, &order.snapshots) {
        Ok(list) => list,
        Err(error) => return unsure(error.to_string()),
    };
    let until = began + ANSWER_MAX;
    let go_on = || {
        seat.begin("offset commit", Duration::ZERO);
        shared.is_alive() && shared.now() < until
    };
    seat.begin("offset commit", Duration::ZERO);
    let answer = ffi::commit(&consumer, &list, go_on);
    let took = shared.now().saturating_sub(began);
    // Where the life has ended, this may be the consumer's last use.
    seat.begin("close", CLOSE);
    drop(consumer);
    match answer {
        Some(Ok(())) => {
            seat.answered();
            KafkaEvent::Committed { write, took }
        }
        Some(Err(code)) => match convert::commit_answer(code) {
            CommitAnswer::Refused => {
                seat.answered();
                KafkaEvent::CommitRefused { write, took }
            }
            CommitAnswer::Unsure => {
                // Not trouble: it is how a namesake shows itself.
                match code {
                    RDKafkaErrorCode::FencedInstanceId => shared.fenced(),
                    _ => shared.across.trouble(),
                }
                unsure(code.to_string())
            }
        },
        None => unsure(format!("no answer within {} s", ANSWER_MAX.as_secs())),
    }
}
