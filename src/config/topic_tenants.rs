//! The tenants of a topic. Each entry is checked alone: one with a mistake is
//! refused, and the last good entry of its tenant stays in force. Never shows a
//! secret, a header's value or a URL's query. Never reads Kafka; the caller brings the
//! entries. Runs on the thread `tenants`, and on the main thread of a command.
//!
//! A topic may remove any share of its tenants: each removal is an entry of its own.
//! Only a second reading of the whole topic is checked as reloads of files are.

use super::mistake::Mistake;
use super::tenants::{self, TenantRules};
use super::values::NoTenants;
use super::watch::check_removals;
use crate::model::overview::RefusedTenant;
use crate::model::tenant::{Tenant, TenantId, Tenants};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The maximum number of tenants. At some 2 KiB each, 200 MB.
const TENANTS_MAX: usize = 100_000;
/// The maximum size of an entry. The longest allowed headers have half of it.
const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// The maximum number of refused entries that are named to operators.
const NAMED_MAX: usize = 50;

/// The tenants of a topic, as far as it was read.
#[derive(Debug)]
pub struct TopicTenants {
    topic: String,
    rules: TenantRules,
    no_tenants: NoTenants,
    tenants: Tenants,
    /// The reason for each tenant whose last entry is refused.
    refused: BTreeMap<String, String>,
    /// The tenants in force while the topic is read again from its start.
    before: Option<Tenants>,
}

impl TopicTenants {
    /// Returns the tenants of a topic that was not read yet.
    #[must_use]
    pub fn new(topic: String, rules: TenantRules, no_tenants: NoTenants) -> Self {
        Self {
            topic,
            rules,
            no_tenants,
            tenants: Tenants::default(),
            refused: BTreeMap::new(),
            before: None,
        }
    }

    /// Returns the name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Returns the tenants in force.
    #[must_use]
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Returns the number of tenants whose last entry is refused.
    #[must_use]
    pub fn refused_count(&self) -> usize {
        self.refused.len()
    }

    /// Returns whether the last entry of this tenant is refused.
    #[must_use]
    pub fn is_refused(&self, id: &TenantId) -> bool {
        self.refused.contains_key(id.as_str())
    }

    /// Returns whether the topic has an entry of this tenant, refused or not.
    #[must_use]
    pub fn has_entry(&self, id: &TenantId) -> bool {
        self.tenants.contains(id) || self.is_refused(id)
    }

    /// Returns the tenants whose last entry is refused, at most 50.
    #[must_use]
    pub fn refused(&self) -> Arc<[RefusedTenant]> {
        let named = self.refused.iter().take(NAMED_MAX);
        let named = named.map(|(tenant, mistake)| RefusedTenant {
            tenant: tenant.clone(),
            mistake: mistake.clone(),
        });
        named.collect()
    }

    /// Applies an entry. Without a value it removes the tenant. Returns whether the
    /// tenants in force or the refused entries have changed.
    ///
    /// # Errors
    /// Every mistake in the entry. The last good entry of the tenant stays in force.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<bool, Vec<Mistake>> {
        let text = String::from_utf8_lossy(key);
        let name: String = text.chars().take(TenantId::BYTES_MAX).collect();
        let checked = self.check(key, value);
        match checked {
            Ok((id, None)) => {
                let was_refused = self.refused.remove(&name).is_some();
                Ok(self.tenants.remove(&id) || was_refused)
            }
            Ok((_, Some(tenant))) => {
                let was_refused = self.refused.remove(&name).is_some();
                Ok(self.tenants.insert(Arc::new(tenant)) || was_refused)
            }
            // No tenant has such an id.
            Err(_) if value.is_none() => Ok(self.refused.remove(&name).is_some()),
            Err(mistakes) => {
                self.keep_last_good(&text);
                let texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                self.refused.insert(name, texts.join("; "));
                Err(mistakes)
            }
        }
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> Result<CheckedEntry, Vec<Mistake>> {
        let text = String::from_utf8_lossy(key);
        let wrong = |why: String| {
            let name: String = text.chars().take(TenantId::BYTES_MAX).collect();
            vec![Mistake::new(format!("tenant {name:?}"), why)]
        };
        let id = match std::str::from_utf8(key) {
            Ok(text) => TenantId::new(text).map_err(|why| wrong(why.to_string()))?,
            Err(_) => return Err(wrong("the tenantId is not UTF-8".to_owned())),
        };
        let Some(value) = value else {
            return Ok((id, None));
        };
        if value.len() > ENTRY_BYTES_MAX {
            let why = format!("the entry is longer than {ENTRY_BYTES_MAX} bytes");
            return Err(wrong(why));
        }
        if self.tenants.len() >= TENANTS_MAX && !self.tenants.contains(&id) {
            return Err(wrong(format!(
                "the topic has more than {TENANTS_MAX} tenants"
            )));
        }
        let tenant = tenants::parse_entry(id.as_str(), value, self.rules)?;
        Ok((id, Some(tenant)))
    }

    /// Keeps the settings that were in force before the second reading, if this
    /// reading has found none. Compaction may have removed the last good entry.
    fn keep_last_good(&mut self, id: &str) {
        let (Some(before), Ok(id)) = (&self.before, TenantId::new(id)) else {
            return;
        };
        if let (Some(last), false) = (before.get(&id), self.tenants.contains(&id)) {
            let last = Arc::clone(last);
            self.tenants.insert(last);
        }
    }

    /// Starts to read the topic again from its start.
    pub fn read_again(&mut self) {
        let partial = std::mem::take(&mut self.tenants);
        // A second order while reading: the tenants in force are still those before.
        self.before.get_or_insert(partial);
        self.refused.clear();
    }

    /// Ends a reading of the whole topic.
    ///
    /// # Errors
    /// A second reading that removes or disables more than half of the tenants. The
    /// tenants of before stay in force.
    pub fn reached_end(&mut self) -> Result<(), Vec<Mistake>> {
        let Some(before) = self.before.take() else {
            return Ok(());
        };
        let new = std::mem::take(&mut self.tenants);
        match check_removals(&before, &self.name(), new) {
            Ok(new) => {
                self.tenants = new;
                Ok(())
            }
            Err(mistakes) => {
                self.tenants = before;
                Err(mistakes)
            }
        }
    }

    /// Checks that the service may start with these tenants.
    ///
    /// # Errors
    /// No tenant is enabled, and `--allow-no-tenants` is not set.
    pub fn check_start(&self) -> Result<(), Mistake> {
        if self.no_tenants == NoTenants::Allowed || self.tenants.enabled() > 0 {
            return Ok(());
        }
        Err(super::no_tenant_is_enabled(&self.name()))
    }

    fn name(&self) -> String {
        format!("topic:{}", self.topic)
    }
}

/// The tenant of an entry, and its settings unless the entry removes it.
type CheckedEntry = (TenantId, Option<Tenant>);

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> TopicTenants {
        TopicTenants::new("t".to_owned(), TenantRules::default(), NoTenants::Refused)
    }

    fn entry(url: &str) -> String {
        format!(r#"{{"url":"{url}"}}"#)
    }

    fn set(topic: &mut TopicTenants, id: &str, url: &str) -> Result<bool, String> {
        let applied = topic.apply(id.as_bytes(), Some(entry(url).as_bytes()));
        applied.map_err(|mistakes| mistakes[0].to_string())
    }

    fn url(topic: &TopicTenants, id: &str) -> Option<String> {
        let id = TenantId::new(id).expect("an id");
        Some(topic.tenants().get(&id)?.url.0.clone())
    }

    #[test]
    fn entries_set_change_and_remove_their_tenant_only() {
        let mut topic = topic();
        assert!(topic.check_start().is_err());
        assert_eq!(set(&mut topic, "a", "http://h/1"), Ok(true));
        assert_eq!(set(&mut topic, "b", "http://h/b"), Ok(true));
        assert!(topic.check_start().is_ok());
        assert_eq!(set(&mut topic, "a", "http://h/1"), Ok(false));
        assert_eq!(set(&mut topic, "a", "http://h/2"), Ok(true));
        assert_eq!(url(&topic, "a").as_deref(), Some("http://h/2"));
        assert_eq!(topic.apply(b"a", None), Ok(true));
        assert_eq!(topic.apply(b"a", None), Ok(false));
        assert_eq!((topic.tenants().len(), topic.tenants().enabled()), (1, 1));
    }

    #[test]
    fn an_entry_with_a_mistake_is_named_and_the_last_good_one_stays() {
        let mut topic = topic();
        set(&mut topic, "a", "http://h/1").expect("valid");
        let refused = set(&mut topic, "a", "ftp://h/?hunter2").expect_err("refused");
        assert!(
            refused.starts_with("tenant \"a\", url: scheme 'ftp'"),
            "{refused}"
        );
        assert_eq!(url(&topic, "a").as_deref(), Some("http://h/1"));
        for (key, value) in [
            (&b"b"[..], &b"hunter2"[..]),
            (b"b", b"{\"url\":1}"),
            (b"b", b""),
            (b"b", b"[]"),
            (b"\xff", b"{\"url\":\"http://h\"}"),
            (b"", b"{\"url\":\"http://h\"}"),
        ] {
            let mistakes = topic.apply(key, Some(value)).expect_err("refused");
            assert!(!format!("{mistakes:?}").contains("hunter2"));
        }
        let names: Vec<String> = topic.refused().iter().map(|r| r.tenant.clone()).collect();
        assert_eq!(names, ["", "a", "b", "\u{fffd}"]);
        assert_eq!((topic.refused_count(), topic.tenants().len()), (4, 1));
        set(&mut topic, "a", "http://h/2").expect("valid");
        assert_eq!(topic.apply(b"b", None), Ok(true));
        assert_eq!(topic.apply(b"\xff", None), Ok(true));
        assert_eq!(topic.apply(b"\xff", None), Ok(false));
        assert_eq!(topic.refused_count(), 1);
    }

    #[test]
    fn a_second_reading_keeps_last_good_entries_and_drops_what_is_gone() {
        let mut topic = topic();
        for id in ["a", "b", "c", "d"] {
            set(&mut topic, id, "http://h/1").expect("valid");
        }
        topic.read_again();
        set(&mut topic, "a", "ftp://h").expect_err("refused");
        set(&mut topic, "b", "http://h/2").expect("valid");
        assert_eq!(topic.reached_end(), Ok(()));
        assert_eq!(url(&topic, "a").as_deref(), Some("http://h/1"));
        assert_eq!(url(&topic, "b").as_deref(), Some("http://h/2"));
        assert_eq!(topic.tenants().len(), 2);
        topic.read_again();
        let refused = topic.reached_end().expect_err("all are gone");
        assert!(
            refused[0].to_string().contains("removes 2 of 2"),
            "{refused:?}"
        );
        assert_eq!(topic.tenants().len(), 2);
    }
}
