//! Messages to each thread of a session, and the ways to send them. Sending never
//! blocks: the engine bounds the number of pending requests. Used by all threads
//! of a session and by the runner.

use super::client::wake::Waker;
use crate::model::message::{CommitRequest, ConsumerRequest, MoveRequest, ProducerStart};
use crate::model::position::{Generation, Partition};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// A message to the consumer thread.
pub enum ToConsumer {
    /// Join the group with these topics, which have so many partitions together.
    Subscribe {
        topics: Vec<String>,
        partitions: usize,
    },
    Request(ConsumerRequest),
}

/// A message to the committer thread.
pub enum ToCommitter {
    Commit(CommitRequest),
    End,
}

/// A message to the transaction thread.
pub enum ToTransaction {
    Move(MoveRequest),
    /// Replace the producer.
    RenewProducer(ProducerStart),
    End,
}

/// A message to the reader thread.
pub enum ToReader {
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
    pub committer: Sender<ToCommitter>,
    pub transaction: Sender<ToTransaction>,
    pub reader: Sender<ToReader>,
}

impl Senders {
    /// Tells the three threads to end.
    pub fn end(&self) {
        let ended = [
            self.committer.send(ToCommitter::End).is_err(),
            self.transaction.send(ToTransaction::End).is_err(),
            self.reader.send(ToReader::End).is_err(),
        ];
        // A thread that has ended already needs no message.
        tracing::trace!(?ended, "kafka threads told to end");
    }
}

/// The inbox of the consumer thread, which sleeps in its [`Waker`].
#[derive(Default)]
pub struct ConsumerInbox {
    pub waker: Arc<Waker>,
    messages: Mutex<Vec<ToConsumer>>,
}

impl ConsumerInbox {
    /// Adds a message and wakes the consumer thread.
    pub fn send(&self, message: ToConsumer) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
        drop(messages);
        self.waker.wake();
    }

    /// Takes all messages.
    pub fn take(&self) -> Vec<ToConsumer> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *messages)
    }
}
