//! Epoch times for people: UTC, and local time where that differs. Pure but for
//! the system's time zone.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The moment in UTC, to the millisecond; none beyond the years -9999 to 9999.
#[must_use]
pub fn utc(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    Some(format!("{at:.3}"))
}

/// The same by the system's clock on the wall, with its offset; none where that
/// is UTC.
#[must_use]
pub fn local(ms: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(ms).ok()?;
    let zoned = at.to_zoned_datetime(TimeZone::system());
    (zoned.offset().seconds() != 0).then(|| zoned.strftime("%Y-%m-%d %H:%M:%S%.3f %:z").to_string())
}

/// Both, as far as they are to be had.
#[must_use]
pub fn both(ms: i64) -> Option<String> {
    let utc = utc(ms)?;
    Some(match local(ms) {
        Some(local) => format!("{utc} = {local}"),
        None => utc,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_in_utc_and_nonsense_is_not() {
        for (ms, expected) in [
            (1_606_188_550_000, Some("2020-11-24T03:29:10.000Z")),
            (1_605_318_636_358, Some("2020-11-14T01:50:36.358Z")),
            (-1, Some("1969-12-31T23:59:59.999Z")),
            (i64::MAX, None),
            (i64::MIN, None),
        ] {
            assert_eq!(utc(ms).as_deref(), expected, "{ms}");
        }
    }
}
