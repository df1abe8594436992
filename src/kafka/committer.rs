//! Plain offset commits, one at a time, each waited for: the asynchronous form
//! never tells its result (rust-rdkafka#856). Decides nothing. Runs on a thread
//! of its own.

use super::Report;
use super::convert::{self, CommitAnswer};
use super::ffi;
use super::life::{CommitterNote, Shared};
use crate::model::write::CommitOrder;
use std::sync::mpsc::Receiver;

/// Commits what it is given until the life ends.
pub fn run(shared: &Shared, notes: &Receiver<CommitterNote>) {
    while let Ok(CommitterNote::Commit(order)) = notes.recv() {
        if !shared.is_alive() {
            return;
        }
        shared.report(commit(shared, &order));
    }
}

fn commit(shared: &Shared, order: &CommitOrder) -> Report {
    let write = order.write;
    let unsure = |why: String| Report::CommitUnsure { write, why };
    let Some(consumer) = shared.consumer() else {
        return unsure("there is no consumer".to_owned());
    };
    let list = match convert::snapshots(&shared.settings.topics, &order.snapshots) {
        Ok(list) => list,
        Err(error) => return unsure(error.to_string()),
    };
    match ffi::commit(&consumer, &list, || shared.is_alive()) {
        Some(Ok(())) => Report::Committed { write },
        Some(Err(code)) => match convert::commit_answer(code) {
            CommitAnswer::Refused => Report::CommitRefused { write },
            CommitAnswer::Unsure => {
                shared.across.trouble();
                unsure(code.to_string())
            }
        },
        None => unsure("nobody waits for the answer any more".to_owned()),
    }
}
