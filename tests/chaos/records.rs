//! What is published: record number to bytes, and what must arrive for it.
//! Some 1.5 kB each; most of tenants of whom 30 % of the attempts fail.

use crate::support::sample;

/// Tenants whose receivers answer at once.
pub const TENANTS: u64 = 20;
/// Partitions of the source topic.
pub const PARTITIONS: u32 = 12;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Of a tenant that answers at once.
    Plain,
    /// The same, already wrapped, with blanks of its own.
    Wrapped,
    /// Of a tenant that takes a while to answer.
    Slow,
    /// Of a tenant that always answers 503.
    Failing,
    /// Of a tenant without a callback.
    Unlisted,
    /// No JSON.
    Undecodable,
    /// Without a tenantId.
    NoTenant,
}

/// What this record is.
pub fn kind(number: u64) -> Kind {
    match number {
        n if n % 500 == 11 => Kind::Undecodable,
        n if n % 500 == 12 => Kind::NoTenant,
        n if n % 500 == 13 => Kind::Unlisted,
        n if n % 100 == 7 => Kind::Failing,
        // One that fails so often gets one or two attempts at once, and must
        // keep up with that, or the end would wait for it alone.
        n if n % 100 == 3 => Kind::Slow,
        n if n % 10 == 5 => Kind::Wrapped,
        _ => Kind::Plain,
    }
}

/// Its id, and its key.
pub fn id(number: u64) -> String {
    format!("chaos-{number}")
}

/// The number of an id.
pub fn number(id: &str) -> Option<u64> {
    id.strip_prefix("chaos-")?.parse().ok()
}

/// Its tenant.
pub fn tenant(number: u64) -> String {
    match kind(number) {
        Kind::Slow => "slow".to_owned(),
        Kind::Failing => "failing".to_owned(),
        Kind::Unlisted => "unlisted".to_owned(),
        _ => format!("t{}", number % TENANTS),
    }
}

/// Every tenant that has a callback.
pub fn tenants() -> Vec<String> {
    let quick = (0..TENANTS).map(|n| format!("t{n}"));
    quick
        .chain(["slow", "failing"].map(str::to_owned))
        .collect()
}

/// The partition of the source topic that it is published to.
pub fn partition(number: u64) -> u32 {
    crc32fast::hash(&number.to_be_bytes()) % PARTITIONS
}

/// What is published.
pub fn value(number: u64) -> Vec<u8> {
    let id = id(number);
    match kind(number) {
        Kind::Undecodable => format!("{{\"id\":\"{id}\",").into_bytes(),
        Kind::NoTenant => format!("{{\"id\":\"{id}\",\"callType\":\"IB\"}}").into_bytes(),
        Kind::Wrapped => {
            let bare = sample::record(&id, &tenant(number));
            [b"{ \"data\" :\n", bare.as_slice(), b" }\r\n"].concat()
        }
        _ => sample::record(&id, &tenant(number)),
    }
}

/// The body that must arrive, byte for byte.
pub fn body(number: u64) -> Vec<u8> {
    match kind(number) {
        Kind::Wrapped => value(number),
        _ => sample::wrapped(&value(number)),
    }
}

/// The reason of the dead letter that it must become, where it must.
pub fn must_be_dead(number: u64) -> Option<&'static str> {
    match kind(number) {
        Kind::Undecodable => Some("undecodable"),
        Kind::NoTenant => Some("no_tenant_id"),
        _ => None,
    }
}
