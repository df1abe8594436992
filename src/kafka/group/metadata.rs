//! The group metadata of recent rebalance callbacks. A transaction must carry the
//! metadata of the callback that assigned its partitions. Written by the consumer
//! thread, read by the transaction thread.

use crate::model::position::Generation;
use rdkafka::consumer::ConsumerGroupMetadata;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// The most generations that are kept. The transaction thread refuses moves of
/// older generations, as the broker would.
const GENERATIONS_MAX: usize = 8;

/// The group metadata of recent generations.
#[derive(Default)]
pub struct GroupMetadata {
    recent: Mutex<VecDeque<(Generation, Arc<ConsumerGroupMetadata>)>>,
}

impl GroupMetadata {
    /// Keeps the metadata of a generation.
    pub fn add(&self, generation: Generation, metadata: ConsumerGroupMetadata) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((generation, Arc::new(metadata)));
        if recent.len() > GENERATIONS_MAX {
            recent.pop_front();
        }
    }

    /// Returns the metadata of a generation, while it is kept.
    pub fn get(&self, generation: Generation) -> Option<Arc<ConsumerGroupMetadata>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = recent.iter().find(|(of, _)| *of == generation);
        found.map(|(_, metadata)| Arc::clone(metadata))
    }
}
