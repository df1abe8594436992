//! The faults, one for each stack.

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    OneBrokerDown,
    AllBrokersDown,
    TopicRefused,
    AllTenantsFail,
    OneTenantFails,
    DnsBroken,
    ProxyDown,
    ClockOff,
    TenantsFileRefused,
    KafkaDiskFull,
    ReplicaCrashes,
    OffsetsToEarliest,
    OffsetsToLatest,
    TenantCertificate,
    BrokerCertificate,
    /// Nothing: the alerts must stay silent.
    Nothing,
}

/// The Kafka that a stack uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KafkaKind {
    /// One broker for most stacks.
    Shared,
    /// Three brokers.
    Cluster,
    /// One broker with a small disk.
    SmallDisk,
    /// One broker with TLS.
    Tls,
    /// One broker whose wall clock can be set.
    Clock,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::OneBrokerDown,
        Self::AllBrokersDown,
        Self::TopicRefused,
        Self::AllTenantsFail,
        Self::OneTenantFails,
        Self::DnsBroken,
        Self::ProxyDown,
        Self::ClockOff,
        Self::TenantsFileRefused,
        Self::KafkaDiskFull,
        Self::ReplicaCrashes,
        Self::OffsetsToEarliest,
        Self::OffsetsToLatest,
        Self::TenantCertificate,
        Self::BrokerCertificate,
        Self::Nothing,
    ];

    /// Its name on the command line and in the key.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneBrokerDown => "one-broker-down",
            Self::AllBrokersDown => "all-brokers-down",
            Self::TopicRefused => "topic-refused",
            Self::AllTenantsFail => "all-tenants-fail",
            Self::OneTenantFails => "one-tenant-fails",
            Self::DnsBroken => "dns-broken",
            Self::ProxyDown => "proxy-down",
            Self::ClockOff => "clock-off",
            Self::TenantsFileRefused => "tenants-file-refused",
            Self::KafkaDiskFull => "kafka-disk-full",
            Self::ReplicaCrashes => "replica-crashes",
            Self::OffsetsToEarliest => "offsets-to-earliest",
            Self::OffsetsToLatest => "offsets-to-latest",
            Self::TenantCertificate => "tenant-certificate",
            Self::BrokerCertificate => "broker-certificate",
            Self::Nothing => "nothing",
        }
    }

    /// What was done, for the key.
    pub fn done(self) -> &'static str {
        match self {
            Self::OneBrokerDown => "one of three brokers was killed",
            Self::AllBrokersDown => {
                "one of three brokers was killed, and the other two half of the time later"
            }
            Self::TopicRefused => {
                "the right to write to the topic of the first delay was taken away"
            }
            Self::AllTenantsFail => "the servers of all tenants answer 503",
            Self::OneTenantFails => "the server of one tenant answers 503",
            Self::DnsBroken => "the name server does not answer",
            Self::ProxyDown => "nothing listens at the address of the egress proxy",
            Self::ClockOff => "the clock of the only broker was set back by 100 s",
            Self::TenantsFileRefused => "the tenants file was replaced by one with a missing comma",
            Self::KafkaDiskFull => "the disk of the only broker was filled",
            Self::ReplicaCrashes => {
                "one of two replicas is killed 25 s after each start, with longer and longer pauses"
            }
            Self::OffsetsToEarliest => {
                "the offsets of all topics were reset to the earliest while the replicas were stopped"
            }
            Self::OffsetsToLatest => {
                "the offsets of the source topic were reset to the latest while the replicas were \
                 stopped"
            }
            Self::TenantCertificate => "the certificate of one tenant has expired",
            Self::BrokerCertificate => {
                "the certificate of the only broker has expired, and the broker was restarted"
            }
            Self::Nothing => "nothing was done",
        }
    }

    /// Where its stack has its topics.
    pub fn kafka(self) -> KafkaKind {
        match self {
            Self::OneBrokerDown | Self::AllBrokersDown => KafkaKind::Cluster,
            Self::KafkaDiskFull => KafkaKind::SmallDisk,
            Self::BrokerCertificate => KafkaKind::Tls,
            Self::ClockOff => KafkaKind::Clock,
            _ => KafkaKind::Shared,
        }
    }
}
