//! What is wrong with a setting or a file, in words for the operator. Never a
//! secret, a header's value or a URL's query.

use std::fmt;

/// One thing that ends the start with exit code 2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// The setting's flag, or the file with the tenant and the key in it.
    pub name: String,
    /// The value where it may be shown, and what is allowed.
    pub text: String,
}

impl Mistake {
    /// A mistake in `name`.
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

/// One thing that is allowed, but is probably not meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Collects mistakes while reading goes on.
#[derive(Default)]
pub(super) struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// The value, or `None` after noting why there is none.
    pub fn take<T>(&mut self, name: &str, read: Result<T, String>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(text) => {
                self.0.push(Mistake::new(name, text));
                None
            }
        }
    }

    /// Notes a law that does not hold.
    pub fn law(&mut self, name: &str, law: Result<(), String>) {
        self.take(name, law);
    }
}
