//! State that the threads of the group side share. The consumer's callbacks never
//! hold it, because it holds the consumer. Used by the consumer, committer and
//! reader threads.

use super::context::Consumer;
use super::coordinator::CoordinatorConnection;
use super::metadata::GroupMetadata;
use crate::kafka::inbox::{ConsumerInbox, Senders};
use crate::kafka::session_state::SessionState;
use std::sync::{Arc, Mutex, PoisonError};

/// State that the threads of the group side share.
pub struct GroupShared {
    pub state: Arc<SessionState>,
    pub inbox: Arc<ConsumerInbox>,
    pub senders: Senders,
    pub metadata: Arc<GroupMetadata>,
    pub coordinator: Arc<CoordinatorConnection>,
    consumer: Mutex<Option<Arc<Consumer>>>,
}

impl GroupShared {
    /// Returns the state of a session without a consumer yet.
    pub fn new(state: Arc<SessionState>, inbox: Arc<ConsumerInbox>, senders: Senders) -> Self {
        Self {
            state,
            inbox,
            senders,
            metadata: Arc::default(),
            coordinator: Arc::default(),
            consumer: Mutex::default(),
        }
    }

    /// Returns the consumer, from the subscription until the session ends.
    pub fn consumer(&self) -> Option<Arc<Consumer>> {
        let consumer = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        consumer.clone()
    }

    /// Sets or removes the consumer.
    pub fn set_consumer(&self, consumer: Option<Arc<Consumer>>) {
        let mut held = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        *held = consumer;
    }
}
