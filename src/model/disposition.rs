//! The ways in which a record leaves its position, and the reasons for dead
//! letters. Both lists are closed. Pure values; any thread may use them.

use super::named_enum::named_enum;

named_enum! {
    /// The end of a residence. The names are labels of metrics.
    pub enum Disposition {
        /// The receiver answered 2xx.
        Delivered = "delivered",
        /// The attempt failed or is in doubt, and attempts are left: moved to a delay topic.
        Delayed = "delayed",
        /// The lane was full: moved to a delay topic without an attempt.
        Diverted = "diverted",
        /// Moved to the dead letters.
        DeadLettered = "dead_lettered",
        /// The tenant has no callback.
        Skipped = "skipped",
    }
}

named_enum! {
    /// The reason for a dead letter. The names are in headers and metrics.
    pub enum DeadLetterReason {
        /// The last attempt failed.
        AttemptsExhausted = "attempts_exhausted",
        /// All attempts are used and none of them is confirmed as started.
        AttemptsUnconfirmed = "attempts_unconfirmed",
        /// The record was due already in a delay topic whose offsets were lost.
        TooOld = "too_old",
        /// The value is no JSON object, or the headers of a delayed record are malformed.
        Undecodable = "undecodable",
        /// The value has no `id`.
        NoRecordId = "no_record_id",
        /// The value has no `tenantId`.
        NoTenantId = "no_tenant_id",
        /// The `id` or the `tenantId` is not a string of the allowed form.
        BadId = "bad_id",
        /// The record is larger than allowed; only the start of its value is kept.
        TooLarge = "too_large",
    }
}
