//! Requests to each thread of a session, and the ways to send them. Sending never
//! blocks: the engine bounds the number of pending requests. Used by all threads
//! of a session and by the runner.

use super::client::wake::Waker;
use crate::model::message::{CommitRequest, MoveRequest, ProducerStart};
use crate::model::position::{Generation, NextOffset, Partition};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// A request to the consumer thread.
pub enum ConsumerRequest {
    /// Join the group with these topics.
    Subscribe(Vec<String>),
    /// Leave the group and join it again, because partitions have no member.
    Rejoin,
    StartFetch {
        generation: Generation,
        partition: Partition,
        from: NextOffset,
    },
    /// Hand over this many more records.
    Fetch {
        generation: Generation,
        partition: Partition,
        records: usize,
    },
    /// Give revoked partitions back.
    FinishRevoke(Vec<Partition>),
    Leave,
}

/// A request to the committer thread.
pub enum CommitterRequest {
    Commit(CommitRequest),
    End,
}

/// A request to the transaction thread.
pub enum TransactionRequest {
    Move(MoveRequest),
    /// Replace the producer.
    RenewProducer(ProducerStart),
    End,
}

/// A request to the reader thread.
pub enum ReaderRequest {
    /// Read the committed state of these partitions, then report their logs'
    /// bounds.
    Assigned {
        generation: Generation,
        partitions: Vec<Partition>,
    },
    Revoked(Vec<Partition>),
    FindUnassigned,
    End,
}

/// The channels to the threads that wait on one.
#[derive(Clone)]
pub struct Senders {
    pub committer: Sender<CommitterRequest>,
    pub transaction: Sender<TransactionRequest>,
    pub reader: Sender<ReaderRequest>,
}

impl Senders {
    /// Tells the three threads to end.
    pub fn end(&self) {
        let ended = [
            self.committer.send(CommitterRequest::End).is_err(),
            self.transaction.send(TransactionRequest::End).is_err(),
            self.reader.send(ReaderRequest::End).is_err(),
        ];
        // A thread that has ended already needs no request.
        tracing::trace!(?ended, "kafka threads told to end");
    }
}

/// The inbox of the consumer thread, which sleeps in its [`Waker`].
#[derive(Default)]
pub struct ConsumerInbox {
    pub waker: Arc<Waker>,
    requests: Mutex<Vec<ConsumerRequest>>,
}

impl ConsumerInbox {
    /// Adds a request and wakes the consumer thread.
    pub fn send(&self, request: ConsumerRequest) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.push(request);
        drop(requests);
        self.waker.wake();
    }

    /// Takes all requests.
    pub fn take(&self) -> Vec<ConsumerRequest> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *requests)
    }
}
