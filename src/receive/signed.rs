//! What a request's signature is worth, in words that say what to do. Pure.
//!
//! Source: Standard Webhooks, "Verifying webhook authenticity".

use crate::http::signature::{Keys, Signed, TOLERANCE, Unverified};
use crate::model::time::UnixMillis;
use std::fmt;
use std::time::Duration;

/// What became of verifying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is signed with one of the secrets, now.
    Verified,
    /// There is no `webhook-signature`.
    NotSigned,
    /// It is signed, and no secret was given to verify it with.
    NoSecret,
    /// No signature fits: another secret, or other bytes.
    WrongSecret,
    /// The timestamp is too far back.
    TooOld(Duration),
    /// The timestamp is too far ahead.
    TooNew(Duration),
    /// A header that the signature needs is missing or no number.
    Malformed,
}

impl Verdict {
    /// Judges a request by its headers and body.
    #[must_use]
    pub fn of<'a>(
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        keys: Option<&Keys>,
        now: UnixMillis,
    ) -> Self {
        let Some(signature) = header("webhook-signature") else {
            return Self::NotSigned;
        };
        let Some(keys) = keys else {
            return Self::NoSecret;
        };
        let (Some(id), Some(timestamp)) = (header("webhook-id"), header("webhook-timestamp"))
        else {
            return Self::Malformed;
        };
        let signed = Signed {
            id,
            timestamp,
            signature,
        };
        match keys.verify(&signed, body, now) {
            Ok(()) => Self::Verified,
            Err(Unverified::NoMatch) => Self::WrongSecret,
            Err(Unverified::MalformedTimestamp) => Self::Malformed,
            Err(Unverified::Stale { away }) => {
                let ahead = timestamp.parse().is_ok_and(|at: i64| at > now.0 / 1_000);
                if ahead {
                    Self::TooNew(away)
                } else {
                    Self::TooOld(away)
                }
            }
        }
    }

    /// Its name in a JSON line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::NotSigned => "not_signed",
            Self::NoSecret => "no_secret",
            Self::WrongSecret => "wrong_secret",
            Self::TooOld(_) => "too_old",
            Self::TooNew(_) => "too_new",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = TOLERANCE.as_secs();
        match self {
            Self::Verified => f.write_str("verified"),
            Self::NotSigned => f.write_str("not signed: the tenant has no secrets at the sender"),
            Self::NoSecret => f.write_str("signed, not verified: give --secret"),
            Self::WrongSecret => f.write_str(
                "NOT VERIFIED: wrong secret, or the body is not byte for byte what was sent",
            ),
            Self::TooOld(away) => write!(
                f,
                "NOT VERIFIED: timestamp too old: {} s, at most {limit} are allowed; somebody has sent it again, or this clock is wrong",
                away.as_secs()
            ),
            Self::TooNew(away) => write!(
                f,
                "NOT VERIFIED: timestamp too new: {} s ahead of this clock, at most {limit} are allowed",
                away.as_secs()
            ),
            Self::Malformed => {
                f.write_str("NOT VERIFIED: webhook-id or webhook-timestamp is missing or malformed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tenant::Secret;

    const AT: i64 = 1_700_000_000;

    #[test]
    fn each_way_to_fail_has_its_name() {
        let keys = |text: &str| Keys::read(&[Secret(text.to_owned())]).expect("a secret");
        let right = keys("whsec_cmlnaHQ=");
        let signature = right.sign("id", AT, b"body").expect("it has a key");
        let signature = signature.to_str().expect("ASCII").to_owned();
        let at = AT.to_string();
        let all = [
            ("webhook-id", "id"),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", signature.as_str()),
        ];
        let judge = |headers: &[(&str, &'static str)], keys: Option<&Keys>, now: i64| {
            let header = |name: &str| headers.iter().find(|h| h.0 == name).map(|h| h.1);
            Verdict::of(header, b"body", keys, UnixMillis(now * 1_000)).name()
        };
        // Leaked, so that the headers live as long as the closures want.
        let all = all.map(|(name, value)| (name, &*value.to_owned().leak()));
        assert_eq!(judge(&all, Some(&right), AT), "verified");
        assert_eq!(judge(&all, None, AT), "no_secret");
        assert_eq!(
            judge(&all, Some(&keys("whsec_d3Jvbmc=")), AT),
            "wrong_secret"
        );
        assert_eq!(judge(&all, Some(&right), AT + 301), "too_old");
        assert_eq!(judge(&all, Some(&right), AT - 301), "too_new");
        assert_eq!(judge(&all[..2], Some(&right), AT), "not_signed");
        assert_eq!(judge(&all[1..], Some(&right), AT), "malformed");
        let odd = [all[0], ("webhook-timestamp", "x"), all[2]];
        assert_eq!(judge(&odd, Some(&right), AT), "malformed");
    }
}
