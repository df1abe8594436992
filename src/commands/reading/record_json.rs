//! A found record as an object of JSON and as cells of a table. Holds no value and
//! none of the record's own headers.

use super::output::or_missing;
use crate::model::time::UnixMillis;
use crate::search::FoundRecord;
use serde::Serialize;

/// A found record for JSON. Missing parts are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordJson {
    pub position: String,
    pub written_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_made: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diverts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed_from: Option<String>,
    /// Length of the whole value, where only its start is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    pub value_bytes: usize,
}

impl RecordJson {
    /// Returns the object of a record.
    #[must_use]
    pub fn of(found: &FoundRecord) -> Self {
        let marks = &found.marks;
        let time = |at: Option<UnixMillis>| at.map(UnixMillis::rfc3339);
        Self {
            position: found.place.to_string(),
            written_at: found.timestamp.rfc3339(),
            id: found.id().map(ToString::to_string),
            tenant_id: found.tenant().map(ToString::to_string),
            reason: marks.reason.map(|reason| reason.name()),
            attempts_made: marks.attempts_made,
            confirmed: marks.confirmed,
            error: marks.error.map(|error| error.name()),
            status: marks.status,
            first_at: time(marks.first_at),
            last_at: time(marks.last_at),
            due_at: time(found.due()),
            diverts: marks.diverts,
            origin: marks.origin.clone(),
            published_at: time(marks.published_at),
            job: marks.job.clone(),
            replayed_from: marks.replayed_from.clone(),
            length: marks.length,
            value_bytes: found.value_bytes,
        }
    }

    /// Returns each part with its name, for people. Missing parts are `-`.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| or_missing(text.as_ref());
        vec![
            ("position", self.position.clone()),
            ("written at", self.written_at.clone()),
            ("id", text(&self.id)),
            ("tenantId", text(&self.tenant_id)),
            ("reason", or_missing(self.reason)),
            ("attempts made", or_missing(self.attempts_made)),
            ("confirmed", or_missing(self.confirmed)),
            ("last error", or_missing(self.error)),
            ("last status", or_missing(self.status)),
            ("first attempt at", text(&self.first_at)),
            ("last move at", text(&self.last_at)),
            ("diverts", or_missing(self.diverts)),
            ("origin", text(&self.origin)),
            ("published at", text(&self.published_at)),
            ("job", text(&self.job)),
            ("replayed from", text(&self.replayed_from)),
            ("whole length", or_missing(self.length)),
            ("value bytes", self.value_bytes.to_string()),
        ]
    }
}
