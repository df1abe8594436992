//! Waiting for a producer's delivery reports. Runs on the threads that produce.

use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use std::thread;
use std::time::Duration;

/// The time until the next look at the producer's queue.
const STEP: Duration = Duration::from_millis(1);

/// Takes the delivery reports that have come. Sleeps a moment where none has come.
///
/// The rdkafka crate's `poll` rounds the rest of its time limit down to whole
/// milliseconds. It spins through the last one. With a limit of a millisecond a wait
/// takes a whole core.
pub fn take_or_wait<C: ProducerContext>(producer: &BaseProducer<C>) {
    let before = producer.in_flight_count();
    let mut left = before;
    loop {
        producer.poll(Duration::ZERO);
        let now = producer.in_flight_count();
        if now >= left {
            break;
        }
        left = now;
    }
    if left == before {
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::ClientConfig;
    use rdkafka::producer::BaseRecord;
    use rustix::time::{ClockId, clock_gettime};

    fn processor_time() -> Duration {
        let used = clock_gettime(ClockId::ThreadCPUTime);
        Duration::try_from(used).expect("time used")
    }

    #[test]
    fn a_wait_for_reports_leaves_the_processor_to_others() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        config.set("log_level", "0");
        let producer: BaseProducer = config.create().expect("valid settings");
        let record = BaseRecord::<[u8], [u8]>::to("t").payload(b"x");
        assert!(producer.send(record).is_ok());
        let before = processor_time();
        for _ in 0..200 {
            take_or_wait(&producer);
        }
        // 200 ms at least have passed, because no report comes.
        let used = processor_time() - before;
        assert!(used < Duration::from_millis(100), "{used:?}");
    }
}
