//! Tenants with their settings, already checked. Never reads a file; `config` does.
//! Pure values.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The id of a tenant: 1 to 256 bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The maximum length in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Checks an id.
    ///
    /// Errors: the text is empty, longer than [`TenantId::BYTES_MAX`] bytes, or has a
    /// control character.
    pub fn new(text: &str) -> Result<Self, TenantIdRefused> {
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.chars().any(char::is_control) {
            return Err(TenantIdRefused);
        }
        Ok(Self(text.into()))
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The text is not a tenant id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantIdRefused;

impl fmt::Display for TenantIdRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tenant id has 1 to 256 bytes without control characters")
    }
}

/// A text that is never shown, for example a URL or a key.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The default of `maxInFlight`.
pub const MAX_IN_FLIGHT_DEFAULT: u32 = 64;

/// The settings of one tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    pub id: TenantId,
    /// The callback URL. It is secret because its query may hold a token.
    pub url: Secret,
    /// Standard Webhooks secrets (`whsec_…`). The newest comes first.
    pub secrets: Vec<Secret>,
    /// Additional request headers, with names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// The maximum number of attempts in progress, at least 1.
    pub max_in_flight: u32,
    /// The deadline of an attempt, if it is shorter than that of the service.
    pub timeout: Option<Duration>,
    pub enabled: bool,
}

/// All tenants. A change replaces the whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tenants {
    by_id: HashMap<TenantId, Arc<Tenant>>,
    enabled: usize,
}

impl Tenants {
    /// Returns the tenant, if it is listed and enabled.
    #[must_use]
    pub fn callback(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.by_id.get(id).filter(|tenant| tenant.enabled)
    }

    /// Returns the tenant, if it is listed, enabled or not.
    #[must_use]
    pub fn get(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.by_id.get(id)
    }

    /// Adds a tenant or replaces it. Returns whether that changes anything.
    pub fn insert(&mut self, tenant: Arc<Tenant>) -> bool {
        if self.by_id.get(&tenant.id) == Some(&tenant) {
            return false;
        }
        self.enabled += usize::from(tenant.enabled);
        let before = self.by_id.insert(tenant.id.clone(), tenant);
        self.enabled -= usize::from(before.is_some_and(|before| before.enabled));
        true
    }

    /// Removes a tenant. Returns whether it was listed.
    pub fn remove(&mut self, id: &TenantId) -> bool {
        let before = self.by_id.remove(id);
        self.enabled -= usize::from(before.as_ref().is_some_and(|before| before.enabled));
        before.is_some()
    }

    /// Returns whether the tenant is listed, enabled or not.
    #[must_use]
    pub fn contains(&self, id: &TenantId) -> bool {
        self.by_id.contains_key(id)
    }

    /// Returns the number of listed tenants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Returns the number of enabled tenants.
    #[must_use]
    pub fn enabled(&self) -> usize {
        self.enabled
    }

    /// Returns whether no tenant is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns all tenants in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.by_id.values()
    }
}

impl FromIterator<Tenant> for Tenants {
    fn from_iter<I: IntoIterator<Item = Tenant>>(tenants: I) -> Self {
        tenants.into_iter().map(Arc::new).collect()
    }
}

impl FromIterator<Arc<Tenant>> for Tenants {
    fn from_iter<I: IntoIterator<Item = Arc<Tenant>>>(tenants: I) -> Self {
        let by_id: HashMap<_, _> = tenants
            .into_iter()
            .map(|tenant| (tenant.id.clone(), tenant))
            .collect();
        let enabled = by_id.values().filter(|tenant| tenant.enabled).count();
        Self { by_id, enabled }
    }
}
