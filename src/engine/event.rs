//! Input and output of the engine: what happened ([`Event`]), what to do
//! ([`Action`]), and the settings of its decisions. Plain data, no behaviour.

use crate::model::attempt::AttemptResult;
use crate::model::fact::Fact;
use crate::model::message::{AttemptRequest, KafkaEvent, KafkaRequest, SessionId, SessionStart};
use crate::model::position::{Position, Topic, TopicNames};
use crate::model::tenant::Tenants;
use crate::model::time::Delay;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened. Events are handled in the order in which they happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Kafka {
        session: SessionId,
        event: KafkaEvent,
    },
    AttemptFinished {
        /// The residence it was started from.
        position: Position,
        ended: AttemptResult,
    },
    /// An attempt was not started because its lease had run out.
    AttemptExpired {
        /// The residence it was requested from.
        position: Position,
    },
    /// The tenants file was loaded again.
    TenantsReplaced(Arc<Tenants>),
    /// The settings of topics were read again.
    TopicSettings {
        /// The destinations whose settings lose records.
        losing: BTreeSet<Topic>,
    },
    /// Time has passed.
    Wake {
        /// Total time since the start in which the main thread was busy.
        worked: Duration,
    },
    /// The wall clock was stepped. It now shows the time of the events plus these
    /// milliseconds.
    ClockStepped { ahead_ms: i64 },
    /// The process was stopped for seconds and continues: brokers may have taken it
    /// for dead.
    ProcessStopped,
    /// Other settings of Kafka are in force: a new session takes them.
    KafkaSettingsChanged,
    /// The Kafka session was dropped, as [`Action::DropSession`] asked. All events
    /// that it had reported were handled before.
    SessionDropped,
    /// End in order, within [`EngineSettings::drain_timeout`].
    Drain,
}

/// Something to do. Actions are performed in the order in which they are returned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Pass a request to the Kafka session.
    Kafka(KafkaRequest),
    StartAttempt(AttemptRequest),
    StartSession(SessionStart),
    /// Drop the Kafka session with everything in progress in it.
    DropSession,
    /// Show operators the overview now: the service's readiness changed.
    ShowOverview,
    /// Tell operators.
    Report(Fact),
    /// End the process.
    Exit(End),
}

/// How the service ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Drained: offsets are committed and the group was left.
    Drained,
    /// The drain did not finish in time, or was cut short by a second signal.
    Cut,
    /// A setting is wrong that only the brokers can show.
    WrongSettings(String),
    /// Another process uses this instance name.
    NameInUse(FencedClient),
    /// A Kafka call does not return although the brokers answer others.
    Hung,
}

/// The client whose fencing shows that another process uses this instance name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FencedClient {
    Consumer,
    Producer,
}

/// Settings of the engine, all checked by `config`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineSettings {
    pub topics: TopicNames,
    /// Name of this instance; members spread their group requests by it.
    pub instance: String,
    /// Attempts of one record in total, 1 to 10.
    pub attempts: u8,
    /// The waits between attempts, at least one; the last repeats.
    pub delays: Vec<Delay>,
    /// Concurrent attempts of this process.
    pub in_flight_max: usize,
    /// Minimum interval between two commits.
    pub commit_interval: Duration,
    /// The largest record that is sent: value, key and headers together.
    pub record_bytes_max: usize,
    /// The time from `Drain` until the group is left.
    pub drain_timeout: Duration,
}
