//! Tenants as the tenants file describes them. Reading the file is `config`'s.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A tenant's name: 1 to 256 bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// The largest length in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Checks a name.
    ///
    /// Errors: empty, longer than [`TenantId::BYTES_MAX`] bytes, or with a control character.
    pub fn new(text: &str) -> Result<Self, TenantIdRefused> {
        if text.is_empty() || text.len() > Self::BYTES_MAX || text.chars().any(char::is_control) {
            return Err(TenantIdRefused);
        }
        Ok(Self(text.into()))
    }

    /// The text.
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

/// The text is not a tenant's name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TenantIdRefused;

impl fmt::Display for TenantIdRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tenant id has 1 to 256 bytes without control characters")
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The limit of attempts at once for one tenant where the file names none.
pub const MAX_IN_FLIGHT_DEFAULT: u32 = 64;

/// One tenant's settings, already checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// The callback URL; secret because its query may hold a token.
    pub url: Secret,
    /// Standard Webhooks secrets (`whsec_…`), newest first.
    pub secrets: Vec<Secret>,
    /// Extra request headers, names in lower case.
    pub headers: Vec<(String, Secret)>,
    /// Attempts at once, at least 1.
    pub max_in_flight: u32,
    /// Whether callbacks are sent.
    pub enabled: bool,
}

/// All tenants, as one unchangeable whole that is replaced on reload.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tenants {
    by_id: HashMap<TenantId, Arc<Tenant>>,
}

impl Tenants {
    /// The tenant with a callback that is switched on, if there is one.
    #[must_use]
    pub fn callback(&self, id: &TenantId) -> Option<&Arc<Tenant>> {
        self.by_id.get(id).filter(|tenant| tenant.enabled)
    }

    /// Whether this tenant is listed, switched on or not.
    #[must_use]
    pub fn contains(&self, id: &TenantId) -> bool {
        self.by_id.contains_key(id)
    }

    /// How many are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.by_id.values()
    }
}

impl FromIterator<Tenant> for Tenants {
    fn from_iter<I: IntoIterator<Item = Tenant>>(tenants: I) -> Self {
        let by_id = tenants
            .into_iter()
            .map(|tenant| (tenant.id.clone(), Arc::new(tenant)))
            .collect();
        Self { by_id }
    }
}
