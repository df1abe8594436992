//! Decides the outcome of an answered attempt from its final status line and
//! headers. Never looks at the body. Pure. Runs on the runtimes of attempts.

use super::url_check::origin;
use crate::model::attempt::{ErrorClass, Outcome};
use crate::model::time::UnixMillis;
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};
use std::time::{Duration, UNIX_EPOCH};

const LOCATION_CHARS_MAX: usize = 200;

/// Returns the outcome of an answered attempt.
pub(super) fn judge(response: &Response, started_at: UnixMillis) -> Outcome {
    let status = response.status().as_u16();
    let Some(class) = ErrorClass::of_status(status) else {
        return Outcome::Delivered { status };
    };
    let detail = match (class, location(response)) {
        (ErrorClass::Http3xx, Some(target)) => format!("answered {status} to {target}"),
        _ => format!("answered {status}"),
    };
    let retry_after = match status {
        429 | 503 => retry_after(response.headers(), started_at),
        _ => None,
    };
    Outcome::Failed {
        class,
        status: Some(status),
        retry_after,
        detail,
    }
}

/// Returns how long an overloaded receiver asks for a pause: seconds, or a date.
/// A date counts from the receiver's `Date` header, so that different clocks change
/// nothing; without that header it counts from our clock.
fn retry_after(headers: &HeaderMap, started_at: UnixMillis) -> Option<Duration> {
    let text = text(headers, RETRY_AFTER)?;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too long to parse is longer than any delay.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = |name| httpdate::parse_http_date(self::text(headers, name)?).ok();
    let until = date(RETRY_AFTER)?;
    let now = match date(DATE) {
        Some(theirs) => theirs,
        None => UNIX_EPOCH + Duration::from_millis(u64::try_from(started_at.0).ok()?),
    };
    // A date in the past asks for no pause.
    Some(until.duration_since(now).unwrap_or_default())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// Returns scheme, host and port of a redirect's target. Its path may hold a token.
fn location(response: &Response) -> Option<String> {
    let text = response.headers().get(LOCATION)?.to_str().ok()?;
    let target = response.url().join(text).ok()?;
    match target.host_str() {
        Some(_) => Some(origin(&target).chars().take(LOCATION_CHARS_MAX).collect()),
        None => Some(format!("the scheme {}", target.scheme())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date_by_the_receivers_clock() {
        #[track_caller]
        fn check(headers: &[(HeaderName, &str)], expected: Option<u64>) {
            let headers: HeaderMap = headers
                .iter()
                .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).expect("valid")))
                .collect();
            let started_at = UnixMillis(1_700_000_000_000);
            let found = retry_after(&headers, started_at);
            assert_eq!(found, expected.map(Duration::from_secs), "{headers:?}");
        }
        // 1,700,000,000 is Tue, 14 Nov 2023 22:13:20.
        let soon = "Tue, 14 Nov 2023 22:14:20 GMT";
        let old_forms = [
            "Tuesday, 14-Nov-23 22:14:20 GMT",
            "Tue Nov 14 22:14:20 2023",
        ];
        check(&[], None);
        check(&[(RETRY_AFTER, "0")], Some(0));
        check(&[(RETRY_AFTER, " 120 ")], Some(120));
        check(&[(RETRY_AFTER, "99999999999999999999999")], Some(u64::MAX));
        check(&[(RETRY_AFTER, soon)], Some(60));
        for old in old_forms {
            check(&[(RETRY_AFTER, old)], Some(60));
        }
        check(&[(RETRY_AFTER, "Tue, 14 Nov 2023 22:12:20 GMT")], Some(0));
        check(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:37 GMT")], Some(0));
        // The receiver's clock is an hour behind.
        let behind = [
            (RETRY_AFTER, "Tue, 14 Nov 2023 21:14:20 GMT"),
            (DATE, "Tue, 14 Nov 2023 21:13:20 GMT"),
        ];
        check(&behind, Some(60));
        check(&[(RETRY_AFTER, soon), (DATE, "now")], Some(60));
        for nonsense in [
            "", "-1", "+5", "1.5", "1e3", "soon", "0x10", "10 s", "12, 14",
        ] {
            check(&[(RETRY_AFTER, nonsense)], None);
        }
    }
}
