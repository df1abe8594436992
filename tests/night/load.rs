//! A light and steady load on all stacks.

use super::stack::Stack;
use crate::support::publisher::Publisher;
use crate::support::sample;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Each stack gets one record in this time.
const EVERY: Duration = Duration::from_millis(200);

/// The load; it ends when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    pub fn start(stacks: &[Stack]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let target = |stack: &Stack| {
            let publisher = Arc::clone(&stack.kafka.publisher);
            (publisher, stack.topic().to_owned())
        };
        let targets: Vec<(Arc<Publisher>, String)> = stacks.iter().map(target).collect();
        let thread = thread::spawn(move || {
            let tenants = Stack::tenants();
            for number in 0_usize.. {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let tenant = &tenants[number % tenants.len()];
                for (publisher, topic) in &targets {
                    let id = format!("{topic}-{number}");
                    let value = sample::record(&id, tenant);
                    publisher.send(topic, Some(id.as_bytes()), Some(&value), &[]);
                }
                thread::sleep(EVERY);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
