//! The demo: the real service against librdkafka's in-process cluster and local
//! receivers. It shows progress, and a summary that must agree with what the
//! receivers saw. It decides nothing about records. It runs on the main thread's
//! runtime, beside the threads of the Kafka shell.
//!
//! Time: the mock group assigns partitions 3.2 s after the start. Publishing
//! takes 8 s. The last record of the dead tenant takes ten attempts of 750 ms,
//! 6.8 s of delays, and ten moves of some 0.5 s each. So the demo takes about
//! 30 s. It ends after 55 s at the latest.

mod receiver;
mod tenants;
mod view;
mod witness;

use crate::admin::Status;
use crate::clock::Clock;
use crate::commands::publish::records::Outgoing;
use crate::config::ConfiguredTenants;
use crate::config::settings::Settings;
use crate::config::watch::TenantsWatch;
use crate::kafka::settings::ClusterKind;
use crate::model::call::CallEnded;
use crate::model::disposition::Disposition;
use crate::model::position::Topic;
use crate::model::time::{Delay, UnixMillis};
use crate::runner::{self, End};
use crate::service::Service;
use crate::shutdown::ShutdownPhase;
use crate::telemetry::Metrics;

use ipnet::IpNet;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{
    BaseProducer, BaseRecord, DefaultProducerContext, DeliveryResult, Producer, ProducerContext,
};
use receiver::Receivers;
use std::error::Error;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tenants::Role;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use view::{Counts, DemoProgress};
use witness::Witness;

/// The last delay repeats: nine waits of 6.8 s in total, and three delay topics.
const DELAYS: [&str; 5] = ["300ms", "300ms", "600ms", "600ms", "1s"];
/// Five times the slow tenant's answer time, so that a busy machine does not turn
/// its answers into timeouts. The dead tenant's attempts still end in time.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(750);
const PARTITIONS: i32 = 4;
const INSTANCE: &str = "demo";
/// 500 records in 8 s.
const PUBLISH_EACH: Duration = Duration::from_millis(16);
/// The whole demo ends within 60 s, its drain included.
const END_AFTER: Duration = Duration::from_secs(55);
const DRAIN_MAX: Duration = Duration::from_secs(3);
const PUBLISH_TIMEOUT_MS: &str = "20000";

/// Runs the demo to its end. Returns whether its numbers add up.
///
/// Errors: the demo could not run to its end.
pub fn run() -> Result<bool, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(no_network)?;
    let outcome = runtime.block_on(demo());
    runtime.shutdown_background();
    outcome
}

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// Runs the whole demo. Returns whether its numbers add up.
async fn demo() -> Result<bool, Box<dyn Error>> {
    // Dropped at the end of this function, which ends the cluster.
    let cluster = Cluster::new(1).map_err(cluster_failed)?;
    let producer = producer(&cluster.bootstrap_servers()).map_err(cluster_failed)?;
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(no_network)?;
    let receiver = listener.local_addr().map_err(no_network)?;
    let settings = settings(cluster.bootstrap_servers(), receiver.ip());
    create_topics(&cluster, &settings).map_err(cluster_failed)?;
    let tenants = TenantsWatch::fixed(tenants::configured(receiver));
    let tenants = ConfiguredTenants::Files(tenants);
    let service = Service::new(&settings, ClusterKind::Embedded)?;
    let clock = Arc::clone(&service.clock);
    let witness = Arc::new(Mutex::new(Witness::default()));
    let demo = Demo {
        started_at: clock.now(),
        topic: settings.cluster.topics.name(Topic::Source),
        status: Arc::clone(&service.status),
        clock: Arc::clone(&clock),
        metrics: Arc::clone(&service.metrics),
        witness: Arc::clone(&witness),
        producer,
    };
    let receivers = Receivers::new(witness, clock);
    let (phase, phases) = watch::channel(ShutdownPhase::Running);
    let mut running = std::pin::pin!(runner::serve(
        service,
        tenants,
        phases,
        watch::channel(0).1,
        std::future::ready(())
    ));
    let right = tokio::select! {
        end = &mut running => return Err(format!("the service ended before the demo: {end:?}").into()),
        served = receivers.serve(listener) => {
            served.map_err(no_network)?;
            return Err("the receivers ended before the demo".into());
        }
        right = demo.run() => right?,
    };
    phase.send_replace(ShutdownPhase::Draining);
    let drained = timeout(DRAIN_MAX, running).await;
    let drained = drained == Ok(End::Drained);
    let verdict = if drained { "ok   " } else { "WRONG" };
    print(&format!(
        "{verdict} the service drained and left the group\n"
    ));
    Ok(right && drained)
}

/// Returns the default settings, changed for the demo.
fn settings(brokers: String, receiver: IpAddr) -> Settings {
    let mut settings = Settings::defaults(INSTANCE);
    settings.cluster.brokers = brokers;
    let delays = DELAYS.iter().map(|text| text.parse());
    let delays: Result<Vec<Delay>, String> = delays.collect();
    settings.schedule.delays = delays.expect("the delays are in range");
    settings.timeout = ATTEMPT_TIMEOUT;
    settings.drain_timeout = DRAIN_MAX;
    settings.allow_networks = vec![IpNet::from(receiver)];
    settings
}

/// Creates the topics that `topics create` would create.
fn create_topics(cluster: &Cluster, settings: &Settings) -> Result<(), KafkaError> {
    let delays = settings
        .schedule
        .distinct_delays()
        .into_iter()
        .map(Topic::Delay);
    for topic in delays.chain([Topic::Source, Topic::DeadLetter]) {
        cluster.create_topic(&settings.cluster.topics.name(topic), PARTITIONS, 1)?;
    }
    Ok(())
}

/// Number of records that Kafka has acknowledged. Counted within `poll`.
#[derive(Default)]
struct Acknowledged(AtomicU64);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        // An unacknowledged record is missing in the sum, which then is wrong.
        if delivered.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn producer(brokers: &str) -> Result<BaseProducer<Acknowledged>, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("message.timeout.ms", PUBLISH_TIMEOUT_MS)
        .create_with_context(Acknowledged::default())
}

/// The demo's connections to the service.
struct Demo {
    started_at: UnixMillis,
    topic: String,
    status: Arc<Status>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    witness: Arc<Mutex<Witness>>,
    producer: BaseProducer<Acknowledged>,
}

impl Demo {
    /// Publishes, and shows progress until every record is finished or the time
    /// is over. Prints the summary, and returns whether its numbers add up.
    async fn run(self) -> Result<bool, Box<dyn Error>> {
        let mut records = tenants::records().into_iter();
        let total: u64 = Role::ALL.into_iter().map(Role::records).sum();
        print(&format!(
            "{total} records for {} tenants; 10 attempts each, delays {}\n",
            Role::ALL.len(),
            DELAYS.join(", ")
        ));
        let mut progress = DemoProgress::default();
        let mut show_at = self.started_at;
        let mut steps = interval(PUBLISH_EACH);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            steps.tick().await;
            let now = self.clock.now();
            let ready = self.status.readiness(now).is_ok();
            let mut note = "delivering";
            if !ready {
                note = "joining the group";
            } else if let Some((role, outgoing)) = records.next() {
                self.publish(role, &outgoing)?;
                note = "publishing";
            }
            self.producer.poll(Duration::ZERO);
            let counts = self.counts();
            let elapsed = now.since(self.started_at);
            let over = counts.published == total && counts.ended() >= total;
            if now >= show_at || over {
                show_at = now.plus(view::interval());
                let text =
                    self.with_witness(|witness| progress.show(elapsed, note, counts, witness));
                print(&text);
            }
            if over || elapsed >= END_AFTER {
                let (text, right) =
                    self.with_witness(|witness| view::summary(total, counts, witness));
                print(&text);
                return Ok(right);
            }
        }
    }

    fn publish(&self, role: Role, outgoing: &Outgoing) -> Result<(), String> {
        let call = CallEnded::read(&outgoing.value).expect("the samples are valid");
        self.with_witness(|witness| witness.publish(role, call.id.as_str(), &outgoing.value));
        let record = BaseRecord::to(&self.topic)
            .key(outgoing.key.as_str())
            .payload(&outgoing.value);
        let sent = self.producer.send(record);
        sent.map_err(|(error, _)| cluster_failed(error))
    }

    fn counts(&self) -> Counts {
        let disposed = |disposition| self.metrics.disposed_so_far(disposition);
        Counts {
            published: self.producer.context().0.load(Ordering::Relaxed),
            delivered: disposed(Disposition::Delivered),
            dead_lettered: disposed(Disposition::DeadLettered),
            skipped: disposed(Disposition::Skipped),
        }
    }

    fn with_witness<T>(&self, f: impl FnOnce(&mut Witness) -> T) -> T {
        f(&mut self.witness.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn print(text: &str) {
    let mut out = io::stdout();
    // If the reader is gone (`| head`), text is lost; the exit code stays.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn no_network(error: io::Error) -> String {
    format!("the demo cannot use the loopback network: {error}")
}

fn cluster_failed(error: KafkaError) -> String {
    format!("the embedded kafka cluster failed: {error}")
}
