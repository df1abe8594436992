//! The published records: from a record number to its bytes, and to the body that
//! must arrive. Most have about 1.5 kB, one of 2,000 has [`LARGE_BYTES`]. For most
//! tenants 30 % of the attempts fail.

use crate::support::sample;

/// Tenants whose receivers answer at once.
pub const TENANTS: u64 = 20;
/// Partitions of the source topic.
pub const PARTITIONS: u32 = 12;

/// The size of a large record.
const LARGE_BYTES: usize = 900_000;

/// The kind of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// For a tenant that answers at once.
    Plain,
    /// The same, already wrapped, with extra blanks.
    Wrapped,
    /// The same, of 900 kB.
    Large,
    /// For a slow tenant.
    Slow,
    /// For a tenant that always answers 503.
    Failing,
    /// For a tenant without a callback.
    Unlisted,
    /// Not JSON.
    Undecodable,
    /// Without a tenantId.
    NoTenant,
}

/// Returns the kind of this record.
pub fn kind(number: u64) -> Kind {
    match number {
        n if n % 500 == 11 => Kind::Undecodable,
        n if n % 500 == 12 => Kind::NoTenant,
        n if n % 500 == 13 => Kind::Unlisted,
        n if n % 2_000 == 19 => Kind::Large,
        n if n % 100 == 7 => Kind::Failing,
        // A tenant that fails this often gets one or two attempts at once. It
        // must keep up with these, or the end of the run would wait for it alone.
        n if n % 100 == 3 => Kind::Slow,
        n if n % 10 == 5 => Kind::Wrapped,
        _ => Kind::Plain,
    }
}

/// Returns the id of a record, which is also its key.
pub fn id(number: u64) -> String {
    format!("chaos-{number}")
}

/// Returns the record number of an id.
pub fn number(id: &str) -> Option<u64> {
    id.strip_prefix("chaos-")?.parse().ok()
}

/// Returns the tenant of a record.
pub fn tenant(number: u64) -> String {
    match kind(number) {
        Kind::Slow => "slow".to_owned(),
        Kind::Failing => "failing".to_owned(),
        Kind::Unlisted => "unlisted".to_owned(),
        _ => format!("t{}", number % TENANTS),
    }
}

/// Returns whether the record is for one of the [`TENANTS`], and of usual size.
pub fn is_usual(number: u64) -> bool {
    matches!(kind(number), Kind::Plain | Kind::Wrapped)
}

/// Returns every tenant with a callback.
pub fn tenants() -> Vec<String> {
    let quick = (0..TENANTS).map(|n| format!("t{n}"));
    quick
        .chain(["slow", "failing"].map(str::to_owned))
        .collect()
}

/// Returns the partition of the source topic for a record.
pub fn partition(number: u64) -> u32 {
    crc32fast::hash(&number.to_be_bytes()) % PARTITIONS
}

/// Returns the published value of a record.
pub fn value(number: u64) -> Vec<u8> {
    let id = id(number);
    match kind(number) {
        Kind::Undecodable => format!("{{\"id\":\"{id}\",").into_bytes(),
        Kind::NoTenant => format!("{{\"id\":\"{id}\",\"callType\":\"IB\"}}").into_bytes(),
        Kind::Wrapped => {
            let bare = sample::record(&id, &tenant(number));
            [b"{ \"data\" :\n", bare.as_slice(), b" }\r\n"].concat()
        }
        Kind::Large => {
            let mut value = sample::record(&id, &tenant(number));
            let end = value.pop();
            value.extend_from_slice(b", \"padding\": \"");
            value.resize(LARGE_BYTES, b'x');
            value.push(b'"');
            value.extend(end);
            value
        }
        _ => sample::record(&id, &tenant(number)),
    }
}

/// Returns the body that must arrive, byte for byte.
pub fn body(number: u64) -> Vec<u8> {
    match kind(number) {
        Kind::Wrapped => value(number),
        _ => sample::wrapped(&value(number)),
    }
}

/// Returns the reason of the dead letter that the record must become, if it must.
pub fn must_be_dead(number: u64) -> Option<&'static str> {
    match kind(number) {
        Kind::Undecodable => Some("undecodable"),
        Kind::NoTenant => Some("no_tenant_id"),
        _ => None,
    }
}
