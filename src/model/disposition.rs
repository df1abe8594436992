//! How a record leaves its position: the closed lists of dispositions and of
//! dead-letter reasons.

/// What ended a residence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disposition {
    /// Answered 2xx.
    Delivered,
    /// Failed or in doubt, attempts left: moved to a delay topic.
    Delayed,
    /// The lane was full: moved to a delay topic, no attempt spent.
    Diverted,
    /// Moved to the dead letters.
    DeadLettered,
    /// The tenant has no callback.
    Skipped,
}

impl Disposition {
    /// Every disposition.
    pub const ALL: [Self; 5] = [
        Self::Delivered,
        Self::Delayed,
        Self::Diverted,
        Self::DeadLettered,
        Self::Skipped,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Delayed => "delayed",
            Self::Diverted => "diverted",
            Self::DeadLettered => "dead_lettered",
            Self::Skipped => "skipped",
        }
    }
}

/// Why a record became a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DeadLetterReason {
    /// The last attempt failed.
    AttemptsExhausted,
    /// All attempts made, none of them known to have been started.
    AttemptsUnconfirmed,
    /// CommittedState already due in a delay topic whose offsets were lost.
    TooOld,
    /// Not an object in JSON, or the history of a delayed record is nonsense.
    Undecodable,
    /// No `id`.
    NoRecordId,
    /// No `tenantId`.
    NoTenantId,
    /// An `id` or `tenantId` of the wrong kind or form.
    BadId,
    /// Larger than allowed; only its beginning is kept.
    TooLarge,
}

impl DeadLetterReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::AttemptsExhausted,
        Self::AttemptsUnconfirmed,
        Self::TooOld,
        Self::Undecodable,
        Self::NoRecordId,
        Self::NoTenantId,
        Self::BadId,
        Self::TooLarge,
    ];

    /// The name in headers and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::AttemptsUnconfirmed => "attempts_unconfirmed",
            Self::TooOld => "too_old",
            Self::Undecodable => "undecodable",
            Self::NoRecordId => "no_record_id",
            Self::NoTenantId => "no_tenant_id",
            Self::BadId => "bad_id",
            Self::TooLarge => "too_large",
        }
    }
}
