//! How late a thread of the tests is: all that it forwards or notes meanwhile is as late.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(10);
/// What less is, is not worth telling.
const TELL: Duration = Duration::from_millis(50);

/// When a thread was late, and by how much.
#[derive(Clone, Default)]
pub struct Lateness(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Lateness {
    /// Notes how late the runtime is that runs this, for as long as it runs.
    pub async fn watch(self) {
        loop {
            let asked = Instant::now();
            tokio::time::sleep(NAP).await;
            let late = asked.elapsed().saturating_sub(NAP);
            if late >= TELL {
                let mut noted = self.0.lock().expect("no holder panics");
                noted.push((Instant::now(), late));
            }
        }
    }

    /// The worst of them: how late until when.
    pub fn worst(&self) -> Option<(Instant, Duration)> {
        let noted = self.0.lock().expect("no holder panics");
        noted.iter().copied().max_by_key(|(_, late)| *late)
    }
}
