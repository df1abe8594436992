//! Mistakes and warnings about settings and files, in words for the operator.
//! Never holds a secret, a header's value or a URL's query.

use std::fmt;

/// A wrong setting or file. It ends the start with exit code 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The setting's flag, or the tenant and the key in the tenants file.
    pub name: String,
    /// Shows the value where that is safe, and what is allowed.
    pub text: String,
}

impl Mistake {
    /// Returns a mistake in `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// Something that is allowed, but probably unintended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects mistakes while reading goes on.
#[derive(Default)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// Returns the value. Adds the mistake where there is none.
    pub fn take<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        read.map_err(|text| self.0.push(Mistake::new(name, text)))
            .ok()
    }

    /// Returns the value if there are no mistakes.
    ///
    /// # Errors
    /// Every mistake.
    pub fn unless_any<T>(self, value: impl FnOnce() -> Option<T>) -> Result<T, Vec<Mistake>> {
        match value() {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

/// Returns both values.
///
/// # Errors
/// The mistakes of both.
pub fn both<A, B>(
    a: Result<A, Vec<Mistake>>,
    b: Result<B, Vec<Mistake>>,
) -> Result<(A, B), Vec<Mistake>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => Err([a.err(), b.err()].into_iter().flatten().flatten().collect()),
    }
}
