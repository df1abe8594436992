//! Moments as they are typed: RFC 3339, epoch milliseconds, or an age. The present
//! time comes in as an argument. Never decides which moments a command allows.

use crate::model::time::{UnixMillis, parse_duration};
use jiff::Timestamp;
use std::time::Duration;

/// Smaller numbers are seconds, or no time at all. As milliseconds this is 1973.
const EPOCH_MS_MIN: i64 = 100_000_000_000;

/// Reads `2026-11-30T12:00:00Z`, `1764504000000` or `2h`, which is two hours before
/// `now`. Ages have the units `ms`, `s`, `m`, `h` and `d`.
///
/// # Errors
/// Any other text; the error names the text and the notations.
pub fn moment(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let at: Option<i64> = text.parse().ok();
        let at = at.filter(|at| *at >= EPOCH_MS_MIN && Timestamp::from_millisecond(*at).is_ok());
        return at.map(UnixMillis).ok_or_else(|| {
            format!("'{text}' is not a time in epoch milliseconds, which has 12 to 15 digits")
        });
    }
    if let Some(age) = age(text) {
        return Ok(now.minus(age));
    }
    let at: Timestamp = text.parse().map_err(|_| {
        format!(
            "'{text}' is not a time: write 2026-11-30T12:00:00Z, epoch milliseconds, or an age \
             such as 30m, 2h or 7d"
        )
    })?;
    Ok(UnixMillis(at.as_millisecond()))
}

/// Reads a moment that has passed.
///
/// # Errors
/// Any other text, and a moment in the future.
pub fn past_moment(text: &str, now: UnixMillis) -> Result<UnixMillis, String> {
    let at = moment(text, now)?;
    if at > now {
        return Err(format!(
            "'{text}' is in the future: it is {} now",
            now.rfc3339()
        ));
    }
    Ok(at)
}

fn age(text: &str) -> Option<Duration> {
    let Some(days) = text.strip_suffix('d') else {
        return parse_duration(text).ok();
    };
    if !days.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let days: u64 = days.parse().ok()?;
    Some(Duration::from_secs(days.checked_mul(24 * 3_600)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_764_504_000_000);

    #[test]
    fn moments_are_read_in_each_notation() {
        #[track_caller]
        fn check(text: &str, expected: i64) {
            assert_eq!(moment(text, NOW), Ok(UnixMillis(expected)), "{text}");
        }
        check("2025-11-30T12:00:00Z", NOW.0);
        check("2025-11-30T20:00:00.250+08:00", NOW.0 + 250);
        check("2025-11-30 12:00:00Z", NOW.0);
        check("1764504000000", NOW.0);
        check(" 2h ", NOW.0 - 7_200_000);
        check("7d", NOW.0 - 7 * 86_400_000);
        check("500ms", NOW.0 - 500);
    }

    #[test]
    fn other_texts_are_refused_with_what_is_allowed() {
        for text in [
            "",
            "yesterday",
            "2h30m",
            "-2h",
            "d",
            "1w",
            "2025-11-30",
            "2025-11-30T12:00:00",
        ] {
            let why = moment(text, NOW).expect_err(text);
            assert!(why.contains(text) && why.contains("7d"), "{why}");
        }
        for text in ["1764504000", "0", "99999999999999999999"] {
            let why = moment(text, NOW).expect_err(text);
            assert!(why.contains("milliseconds"), "{why}");
        }
        assert!(past_moment("2025-11-30T12:00:00Z", NOW).is_ok());
        let why = past_moment("2025-11-30T12:00:00.001Z", NOW).expect_err("the future");
        assert!(
            why.contains("in the future: it is 2025-11-30T12:00:00.000Z now"),
            "{why}"
        );
    }
}
