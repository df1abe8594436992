//! Whether a job copies a record. Pure.

use super::JobKind;
use super::files::Entries;
use super::selection::JobSelection;
use crate::model::attempt::ErrorClass;
use crate::model::disposition::DeadLetterReason;
use crate::model::headers::is_cut;
use crate::model::position::{Topic, TopicNames};
use crate::model::record::Record;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use crate::search::{Filter, RecordPlace, Selection};
use std::sync::Arc;

/// What a job does with a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Selected {
    No,
    Yes(TenantId),
    /// Selected, but the service would make a dead letter of the copy at once. Or a
    /// part of the record was cut (`TooLarge`): its receiver would get damaged data.
    Refused(DeadLetterReason),
}

/// A selection that is ready for many records.
pub struct Selector {
    selection: Selection,
    entries: Entries,
    topic: Arc<str>,
    record_bytes_max: usize,
}

impl Selector {
    /// Returns a selector for a job's selection, with the entries of its file.
    ///
    /// # Errors
    /// The selection comes from a version with other names.
    pub fn new(
        selection: &JobSelection,
        entries: Entries,
        (kind, names): (JobKind, &TopicNames),
        record_bytes_max: usize,
    ) -> Result<Self, String> {
        let mut filter = filter(selection)?;
        if let Entries::Ids(ids) = &entries {
            filter.ids.extend(ids.iter().cloned());
        }
        Ok(Self {
            selection: Selection::new(filter),
            entries,
            topic: names.name(kind.source()).into(),
            record_bytes_max,
        })
    }

    /// Returns what the job does with this record.
    #[must_use]
    pub fn select(&self, record: &Record) -> Selected {
        let position = record.position;
        let number = position.partition.number;
        let place = || RecordPlace {
            topic: Arc::clone(&self.topic),
            partition: number,
            offset: position.offset,
        };
        let entry = match &self.entries {
            Entries::Positions(positions) => match positions.get(&(number, position.offset.0)) {
                None => return Selected::No,
                Some(id) => id.as_deref(),
            },
            Entries::None | Entries::Ids(_) => None,
        };
        let found = self.selection.select(
            place,
            position.partition.topic,
            record.timestamp,
            record.value.as_deref(),
            || record.headers.clone(),
        );
        let Some(found) = found else {
            return Selected::No;
        };
        let key_bytes = record.key.as_ref().map_or(0, |key| key.len());
        let is_large = found.value_bytes + key_bytes > self.record_bytes_max;
        // On a source record, these headers are the publisher's and mean nothing.
        let is_cut = position.partition.topic == Topic::DeadLetter && is_cut(&record.headers);
        match found.identity {
            _ if is_large || is_cut => Selected::Refused(DeadLetterReason::TooLarge),
            Err(reason) => Selected::Refused(reason),
            // Another record has this position now: the topic was created again.
            Ok((id, _)) if entry.is_some_and(|entry| entry != id.as_str()) => Selected::No,
            Ok((_, tenant)) => Selected::Yes(tenant),
        }
    }
}

fn filter(selection: &JobSelection) -> Result<Filter, String> {
    fn all<T>(texts: &[String], read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
        let each = texts.iter();
        each.map(|text| read(text).ok_or_else(|| format!("'{text}' has no meaning here")))
            .collect()
    }
    let tenants = all(&selection.tenants, |text| TenantId::new(text).ok())?;
    Ok(Filter {
        ids: selection.ids.iter().cloned().collect(),
        tenants: tenants.into_iter().collect(),
        reasons: all(&selection.reasons, DeadLetterReason::from_name)?,
        errors: all(&selection.errors, ErrorClass::from_name)?,
        statuses: selection.statuses.clone(),
        since: selection.since.map(UnixMillis),
        until: selection.until.map(UnixMillis),
        origins: selection.origins.iter().cloned().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::headers::{CutLengths, History, write_dead_letter};
    use crate::model::position::Offset;
    use crate::model::record::Header;
    use bytes::Bytes;

    fn dead_letter(value: &str, reason: DeadLetterReason, cut: CutLengths) -> Record {
        let mut history = History::new("t/0/1".to_owned(), UnixMillis(2));
        history.last_at = Some(UnixMillis(3));
        let mut headers = history.write(&[]);
        write_dead_letter(&mut headers, reason, cut);
        let partition = Topic::DeadLetter.partition(0);
        Record {
            position: partition.at(Offset(7)),
            timestamp: UnixMillis(5),
            key: None,
            value: Some(Bytes::from(value.to_owned())),
            headers,
        }
    }

    fn whole(value: &str) -> Record {
        let reason = DeadLetterReason::AttemptsExhausted;
        dead_letter(value, reason, CutLengths::default())
    }

    fn select(selection: &JobSelection, entries: Entries, record: &Record) -> Selected {
        let place = (JobKind::Redrive, &TopicNames::new("t"));
        let selector = Selector::new(selection, entries, place, 100).expect("good names");
        selector.select(record)
    }

    const VALUE: &str = r#"{"id":"a","tenantId":"t"}"#;

    #[test]
    fn what_would_die_at_once_is_refused_with_its_reason() {
        let all = JobSelection::default();
        let check = |value: &str, expected| {
            let record = whole(value);
            assert_eq!(select(&all, Entries::None, &record), expected, "{value}");
        };
        let tenant = TenantId::new("t").expect("an id");
        check(VALUE, Selected::Yes(tenant));
        let refused = Selected::Refused;
        check(&"x".repeat(101), refused(DeadLetterReason::TooLarge));
        check("not json", refused(DeadLetterReason::Undecodable));
        check(r#"{"id":"a"}"#, refused(DeadLetterReason::NoTenantId));
    }

    #[test]
    fn a_dead_letter_of_which_any_part_was_cut_is_refused() {
        let all = JobSelection::default();
        let refused = Selected::Refused(DeadLetterReason::TooLarge);
        let none = CutLengths::default();
        let (value, key, headers) = (Some(9_999), Some(2_000), Some(20_000));
        for cut in [
            CutLengths { value, ..none },
            CutLengths { key, ..none },
            CutLengths { headers, ..none },
        ] {
            let record = dead_letter(VALUE, DeadLetterReason::AttemptsExhausted, cut);
            assert_eq!(select(&all, Entries::None, &record), refused, "{cut:?}");
        }
        for name in ["ringback-cut", "ringback-length"] {
            let mut record = whole(VALUE);
            record.headers.push(Header {
                name: name.to_owned(),
                value: None,
            });
            assert_eq!(select(&all, Entries::None, &record), refused, "{name}");
            record.position.partition.topic = Topic::Source;
            let selected = select(&all, Entries::None, &record);
            assert!(matches!(selected, Selected::Yes(_)), "a publisher's {name}");
        }
    }

    #[test]
    fn an_entry_of_a_file_selects_its_record_and_no_other() {
        let record = whole(VALUE);
        let at = |offset, id: Option<&str>| {
            let entry = ((0, offset), id.map(str::to_owned));
            let entries = Entries::Positions([entry].into());
            select(&JobSelection::default(), entries, &record)
        };
        assert!(matches!(at(7, None), Selected::Yes(_)));
        assert!(matches!(at(7, Some("a")), Selected::Yes(_)));
        assert_eq!(at(7, Some("b")), Selected::No);
        assert_eq!(at(8, None), Selected::No);
    }

    #[test]
    fn names_of_another_version_are_an_error() {
        let selection = JobSelection {
            reasons: vec!["unheard".to_owned()],
            ..JobSelection::default()
        };
        assert!(filter(&selection).is_err());
    }
}
