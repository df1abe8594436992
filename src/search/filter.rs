//! Which records a command selects: one predicate over a record's place, identity
//! and history. Before a value is parsed, its bytes are searched for the wanted
//! texts: that costs a tenth of parsing it.

use super::found::{FoundRecord, RecordPlace};
use crate::model::attempt::ErrorClass;
use crate::model::disposition::DeadLetterReason;
use crate::model::position::Topic;
use crate::model::record::Header;
use crate::model::tenant::TenantId;
use crate::model::time::UnixMillis;
use memchr::memmem::Finder;
use std::collections::{BTreeSet, HashSet};

/// With more wanted texts than this, searching them costs more than parsing.
const NEEDLES_MAX: usize = 6;

/// The filters of a command. An empty list, and `None`, select every record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    pub ids: HashSet<String>,
    pub tenants: BTreeSet<TenantId>,
    pub reasons: Vec<DeadLetterReason>,
    pub errors: Vec<ErrorClass>,
    pub statuses: Vec<u16>,
    /// `topic/partition/offset` of source records.
    pub origins: HashSet<String>,
    /// Earliest timestamp in the topic, itself included.
    pub since: Option<UnixMillis>,
    /// Latest timestamp in the topic, itself excluded.
    pub until: Option<UnixMillis>,
}

impl Filter {
    /// Returns whether a record is selected.
    #[must_use]
    pub fn matches(&self, found: &FoundRecord) -> bool {
        let id = || found.id().is_some_and(|id| self.ids.contains(id.as_str()));
        let tenant = || found.tenant().is_some_and(|t| self.tenants.contains(t));
        let origin = || found.origin().is_some_and(|o| self.origins.contains(&o));
        self.matches_time(found.timestamp)
            && among(&self.reasons, found.marks.reason)
            && among(&self.errors, found.marks.error)
            && among(&self.statuses, found.marks.status)
            && (self.ids.is_empty() || id())
            && (self.tenants.is_empty() || tenant())
            && (self.origins.is_empty() || origin())
    }

    fn matches_time(&self, at: UnixMillis) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// Returns whether a list has the value. An empty list has every value.
fn among<T: PartialEq>(wanted: &[T], value: Option<T>) -> bool {
    wanted.is_empty() || value.is_some_and(|value| wanted.contains(&value))
}

/// A filter, ready for many records.
pub struct Selection {
    filter: Filter,
    ids: Needles,
    tenants: Needles,
}

impl Selection {
    /// Prepares a filter.
    #[must_use]
    pub fn new(filter: Filter) -> Self {
        Self {
            ids: Needles::new(filter.ids.iter().map(String::as_str)),
            tenants: Needles::new(filter.tenants.iter().map(TenantId::as_str)),
            filter,
        }
    }

    /// Returns the filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Returns the record if it is selected. `headers` is called only where the
    /// bytes of the value allow a match.
    #[must_use]
    pub fn select(
        &self,
        place: impl FnOnce() -> RecordPlace,
        topic: Topic,
        timestamp: UnixMillis,
        value: Option<&[u8]>,
        headers: impl FnOnce() -> Vec<Header>,
    ) -> Option<FoundRecord> {
        let bytes = value.unwrap_or_default();
        let possible = self.filter.matches_time(timestamp)
            && self.ids.may_be_in(bytes)
            && self.tenants.may_be_in(bytes);
        if !possible {
            return None;
        }
        let found = FoundRecord::read(place(), topic, timestamp, value, &headers());
        self.filter.matches(&found).then_some(found)
    }
}

/// Texts of which a value must hold one.
struct Needles {
    /// Empty: the bytes are not searched.
    finders: Vec<Finder<'static>>,
    /// The starts of escapes that JSON may write instead of these texts.
    escapes: Vec<Finder<'static>>,
}

impl Needles {
    fn new<'a>(texts: impl ExactSizeIterator<Item = &'a str> + Clone) -> Self {
        if texts.len() > NEEDLES_MAX {
            return Self {
                finders: Vec::new(),
                escapes: Vec::new(),
            };
        }
        let has = |wanted: fn(char) -> bool| texts.clone().any(|text| text.contains(wanted));
        // An ASCII character is never written with another start.
        let mut escapes = vec![if has(|c| !c.is_ascii()) {
            "\\u"
        } else {
            "\\u00"
        }];
        // These characters have short escapes, too.
        if has(|c| c == '/') {
            escapes.push("\\/");
        }
        if has(|c| c == '"' || c == '\\') {
            escapes.push("\\");
        }
        let finder = |text: &str| Finder::new(text.as_bytes()).into_owned();
        Self {
            finders: texts.map(finder).collect(),
            escapes: escapes.into_iter().map(finder).collect(),
        }
    }

    fn may_be_in(&self, value: &[u8]) -> bool {
        let holds = |finder: &Finder<'_>| finder.find(value).is_some();
        self.finders.is_empty() || self.finders.iter().any(holds) || self.escapes.iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::headers::{self, History};

    const VALUE: &str = r#"{"id":"a-1","tenantId":"t/1","x":"\n"}"#;

    fn letter(filter: Filter, value: &str) -> Option<FoundRecord> {
        let mut history = History::new("s/1/2".to_owned(), UnixMillis(900));
        history.attempts_made = 10;
        history.error = Some(ErrorClass::Http5xx);
        history.status = Some(503);
        history.last_at = Some(UnixMillis(4_000));
        let mut written = history.write(&[]);
        let reason = DeadLetterReason::AttemptsExhausted;
        headers::write_dead_letter(&mut written, reason, headers::CutLengths::default());
        Selection::new(filter).select(
            || "s.dead-letter/0/7".parse().expect("a position"),
            Topic::DeadLetter,
            UnixMillis(5_000),
            Some(value.as_bytes()),
            || written,
        )
    }

    fn texts<T: FromIterator<String>>(all: &[&str]) -> T {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    fn tenants(all: &[&str]) -> BTreeSet<TenantId> {
        let all = all.iter();
        all.map(|id| TenantId::new(id).expect("an id")).collect()
    }

    /// Checks a filter that selects the dead letter, and one that does not.
    #[track_caller]
    fn check(set: impl Fn(&mut Filter, bool)) {
        for selected in [true, false] {
            let mut filter = Filter::default();
            set(&mut filter, selected);
            assert_eq!(letter(filter, VALUE).is_some(), selected);
        }
    }

    #[test]
    fn each_filter_selects_its_value_and_no_other() {
        use DeadLetterReason::{AttemptsExhausted, TooOld};
        let one = |yes: bool, a, b| if yes { a } else { b };
        check(|f, yes| f.ids = texts(if yes { &["a-1", "b"] } else { &["a-"] }));
        check(|f, yes| f.tenants = tenants(&[one(yes, "t/1", "a-1")]));
        check(|f, yes| f.reasons = vec![if yes { AttemptsExhausted } else { TooOld }]);
        check(|f, yes| {
            f.errors = vec![ErrorClass::Dns];
            f.errors.extend(yes.then_some(ErrorClass::Http5xx));
        });
        check(|f, yes| f.statuses = vec![if yes { 503 } else { 500 }]);
        check(|f, yes| f.origins = texts(&[one(yes, "s/1/2", "s/1/3")]));
        check(|f, yes| f.since = Some(UnixMillis(if yes { 5_000 } else { 5_001 })));
        check(|f, yes| f.until = Some(UnixMillis(if yes { 5_001 } else { 5_000 })));
        check(|f, yes| {
            f.ids = texts(&[one(yes, "a-1", "a-2")]);
            f.tenants = tenants(&["t/1"]);
        });
        assert!(letter(Filter::default(), VALUE).is_some());
    }

    #[test]
    fn escapes_and_many_ids_hide_no_record() {
        let filter = |ids: HashSet<String>| Filter {
            ids,
            ..Filter::default()
        };
        for (id, value) in [
            ("a-1", r#"{"tenantId":"t","\u0069d":"\u0061-1"}"#),
            ("a/1", r#"{"id":"a\/1","tenantId":"t"}"#),
            ("a\"1", r#"{"id":"a\"1","tenantId":"t"}"#),
            ("a-1", r#"{"data":{"id":"a-1","tenantId":"t"}}"#),
        ] {
            assert!(letter(filter(texts(&[id])), value).is_some(), "{value}");
        }
        let mut many: HashSet<String> = (0..100).map(|n| format!("x{n}")).collect();
        assert!(letter(filter(many.clone()), VALUE).is_none());
        many.insert("a-1".to_owned());
        assert!(letter(filter(many), VALUE).is_some());
    }

    #[test]
    fn what_cannot_be_read_is_selected_by_what_its_headers_say() {
        let undecodable = letter(Filter::default(), "not json").expect("selected");
        assert_eq!(undecodable.id(), None);
        let with = Filter {
            statuses: vec![503],
            ..Filter::default()
        };
        assert!(letter(with, "not json").is_some());
        let with = Filter {
            tenants: tenants(&["t"]),
            ..Filter::default()
        };
        assert!(letter(with, "not json t").is_none());
    }
}
