//! The attempt log: one entry for each ended attempt, as JSON. An entry holds
//! nothing of the call but its id and its tenant. Pure values.
//!
//! `deploy/contract/attempt.schema.json` describes an entry.

use super::attempt::Outcome;
use super::fact::Fact;
use super::named_enum::named_enum;
use serde::Serialize;

named_enum! {
    /// Why an entry is not in the log. The names are in metrics and logs.
    pub enum LogDropReason {
        /// Kafka takes entries more slowly than attempts end.
        QueueFull = "queue_full",
        /// The brokers did not acknowledge the entry in time.
        Unacknowledged = "unacknowledged",
        /// The brokers refused the entry: no such topic, no right to write.
        Refused = "refused",
    }
}

/// The entry of one attempt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptEntry<'a> {
    /// Also the key of the entry.
    pub record_id: &'a str,
    tenant_id: &'a str,
    /// 1 to 10.
    attempt: u8,
    /// `delivered`, or the class of the failure.
    outcome: &'static str,
    /// The HTTP status, if the receiver answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// RFC 3339.
    started_at: String,
    duration_ms: u64,
    /// Topic, partition and offset of the record in the source topic.
    origin: &'a str,
    /// The replica that made the attempt.
    instance: &'a str,
}

impl<'a> AttemptEntry<'a> {
    /// Returns the entry of a fact, if an attempt of this replica ended.
    #[must_use]
    pub fn of(fact: &'a Fact, instance: &'a str) -> Option<Self> {
        let Fact::AttemptEnded {
            tenant,
            record,
            attempt,
            ended,
            origin,
            ..
        } = fact
        else {
            return None;
        };
        let (outcome, status) = match &ended.outcome {
            Outcome::Delivered { status } => ("delivered", Some(*status)),
            Outcome::Failed { class, status, .. } => (class.name(), *status),
        };
        Some(Self {
            record_id: record.as_str(),
            tenant_id: tenant.as_str(),
            attempt: *attempt,
            outcome,
            status,
            started_at: ended.started_at.rfc3339(),
            duration_ms: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
            origin,
            instance,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::attempt::{AttemptResult, ErrorClass};
    use crate::model::call::RecordId;
    use crate::model::position::{Offset, Topic};
    use crate::model::tenant::TenantId;
    use crate::model::time::UnixMillis;
    use serde_json::{Value, json};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn ended(outcome: Outcome) -> Fact {
        let partition = Topic::Source.partition(3);
        Fact::AttemptEnded {
            tenant: TenantId::new("t-1").expect("valid"),
            record: RecordId::new("call-1").expect("valid"),
            position: partition.at(Offset(7)),
            origin: "call-ended/3/7".to_owned(),
            attempt: 2,
            ended: AttemptResult {
                outcome,
                started_at: UnixMillis(1_767_225_600_123),
                duration: Duration::from_micros(5_001_900),
            },
            first_attempt_latency: None,
            delivery_latency: None,
        }
    }

    fn entry(outcome: Outcome) -> Value {
        let fact = ended(outcome);
        let entry = AttemptEntry::of(&fact, "a").expect("an attempt");
        serde_json::to_value(entry).expect("plain JSON")
    }

    fn schema() -> Value {
        let text = include_str!("../../deploy/contract/attempt.schema.json");
        serde_json::from_str(text).expect("JSON")
    }

    fn names(value: &Value) -> BTreeSet<&str> {
        let object = value.as_object().expect("an object");
        object.keys().map(String::as_str).collect()
    }

    #[test]
    fn an_entry_tells_one_attempt() {
        let failed = entry(Outcome::Failed {
            class: ErrorClass::Timeout,
            status: None,
            retry_after: None,
            detail: "+49 30 1234567".to_owned(),
        });
        let expected = json!({
            "recordId": "call-1", "tenantId": "t-1", "attempt": 2, "outcome": "timeout",
            "startedAt": "2026-01-01T00:00:00.123Z", "durationMs": 5001,
            "origin": "call-ended/3/7", "instance": "a",
        });
        assert_eq!(failed, expected);
        assert!(AttemptEntry::of(&Fact::Draining, "a").is_none());
    }

    #[test]
    fn the_schema_has_the_fields_and_outcomes_of_an_entry() {
        let schema = schema();
        let whole = entry(Outcome::Delivered { status: 204 });
        assert_eq!(names(&schema["properties"]), names(&whole));
        let required = schema["required"].as_array().expect("a list");
        let required: BTreeSet<&str> = required.iter().filter_map(Value::as_str).collect();
        let mut always = names(&whole);
        always.remove("status");
        assert_eq!(required, always);
        let mut outcomes = vec!["delivered"];
        let classes = ErrorClass::ALL.into_iter();
        // No attempt of a running replica is in doubt.
        outcomes.extend(
            classes
                .filter(|c| *c != ErrorClass::InDoubt)
                .map(ErrorClass::name),
        );
        assert_eq!(schema["properties"]["outcome"]["enum"], json!(outcomes));
        assert_eq!(schema["examples"][0].as_object().map(|e| e.len()), Some(9));
    }
}
