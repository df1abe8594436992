//! Moments and delays. A moment is [`UnixMillis`], the wait of a delay topic is
//! [`Delay`], and every other duration is a `std::time::Duration`. Never reads a
//! clock. Pure values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A moment.
///
/// Units: milliseconds since the Unix epoch, as in a Kafka record's timestamp.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Returns this moment plus a duration, in whole milliseconds, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns this moment minus a duration, in whole milliseconds, saturating.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the time from `earlier` to this moment; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let ms = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_millis(ms.unsigned_abs())
    }

    /// Returns this moment as RFC 3339 in UTC with milliseconds. Outside of the years
    /// -9999 to 9999 it is a number.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(at) => format!("{at:.3}"),
            Err(_) => self.to_string(),
        }
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A constant wait between two attempts. Each delay has a topic, whose name has the
/// text of the delay in the largest exact unit. So `60s` and `1m` are one delay,
/// written `1m`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Delay {
    ms: u64,
}

impl Delay {
    /// The shortest delay, 100 ms.
    pub const MIN: Self = Self { ms: 100 };
    /// The longest delay, 7 days.
    pub const MAX: Self = Self {
        ms: 7 * 24 * 3_600_000,
    };

    /// Checks a delay.
    ///
    /// Errors: the duration is outside of [`Delay::MIN`] to [`Delay::MAX`], or not in
    /// whole milliseconds.
    pub fn new(duration: Duration) -> Result<Self, String> {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let delay = Self { ms };
        if delay < Self::MIN || delay > Self::MAX || Duration::from_millis(ms) != duration {
            return Err(format!(
                "a delay of {} is not allowed: 100ms to 168h in whole milliseconds",
                DurationText(duration)
            ));
        }
        Ok(delay)
    }

    /// Returns the delay as a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DurationText(self.duration()).fmt(f)
    }
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(parse_duration(text)?)
    }
}

/// A duration in the notation of the settings: in the largest exact unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurationText(pub Duration);

const UNITS: [(&str, u128); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        if ms == 0 {
            return f.write_str("0s");
        }
        let (unit, size) = UNITS
            .into_iter()
            .find(|(_, size)| ms.is_multiple_of(*size))
            .expect("every whole number of milliseconds is a multiple of 1 ms");
        write!(f, "{}{unit}", ms / size)
    }
}

/// Reads `500ms`, `10s`, `1m` or `1h`.
///
/// Errors: any other text; the error names the text and the notation.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration: write 500ms, 10s, 1m or 1h");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let (_, size) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let ms = u128::from(number) * size;
    let ms = u64::try_from(ms).map_err(|_| wrong())?;
    Ok(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_with_milliseconds() {
        let shown = UnixMillis(1_764_504_000_250).rfc3339();
        assert_eq!(shown, "2025-11-30T12:00:00.250Z");
        assert_eq!(UnixMillis(i64::MAX).rfc3339(), i64::MAX.to_string());
    }

    #[test]
    fn durations_read_back_as_the_largest_exact_unit() {
        #[track_caller]
        fn check(text: &str, canonical: &str) {
            assert_eq!(
                text.parse::<Delay>().map(|d| d.to_string()),
                Ok(canonical.to_owned())
            );
        }
        check("60s", "1m");
        check("1m", "1m");
        check("90s", "90s");
        check("200ms", "200ms");
        check("1000ms", "1s");
        check("6h", "6h");
        check("168h", "168h");
    }

    #[test]
    fn a_malformed_duration_is_refused_with_its_text() {
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1d",
            "99ms",
            "169h",
            "10 s",
            "99999999999999999999s",
            "9999999999999999h",
        ] {
            let error = text.parse::<Delay>().expect_err(text);
            assert!(error.contains("100ms") || error.contains(text), "{error}");
        }
    }
}
