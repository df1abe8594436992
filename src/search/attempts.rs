//! An entry of the attempt log, as `find` shows it. Fields that are missing or have
//! another type are left out: an older or newer version may have written them.

use serde::Serialize;
use serde_json::Value;

/// One attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoggedAttempt {
    pub attempt: Option<u64>,
    pub outcome: Option<String>,
    pub status: Option<u64>,
    /// As the log has it: RFC 3339 or epoch milliseconds.
    pub started_at: Option<String>,
    pub duration_ms: Option<u64>,
    pub instance: Option<String>,
    pub origin: Option<String>,
}

/// The outcome of a success.
const DELIVERED: &str = "delivered";

impl LoggedAttempt {
    /// Reads the value of a record, or returns `None` where it is no JSON object.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Self> {
        let Value::Object(fields) = serde_json::from_slice(value).ok()? else {
            return None;
        };
        let text = |name: &str| match fields.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let number = |name: &str| fields.get(name)?.as_u64();
        Some(Self {
            attempt: number("attempt"),
            outcome: text("outcome"),
            status: number("status"),
            started_at: text("startedAt"),
            duration_ms: number("durationMs"),
            instance: text("instance"),
            origin: text("origin"),
        })
    }

    /// Returns whether the receiver answered 2xx.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.outcome.as_deref() == Some(DELIVERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_far_as_it_is_understood() {
        let read = |text: &str| LoggedAttempt::read(text.as_bytes());
        let entry = read(r#"{"attempt":2,"outcome":"delivered","status":200,"more":[]}"#);
        let entry = entry.expect("an object");
        assert_eq!((entry.attempt, entry.status), (Some(2), Some(200)));
        assert!(entry.is_delivered() && entry.started_at.is_none());
        let odd = read(r#"{"attempt":"two","outcome":null}"#).expect("an object");
        assert!(odd.attempt.is_none() && !odd.is_delivered());
        assert_eq!(read("[]"), None);
        assert_eq!(read("{"), None);
    }
}
