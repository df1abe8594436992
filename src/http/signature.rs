//! Signatures of callbacks: Standard Webhooks, symmetric, `v1`. Signs requests, and
//! verifies received ones. Never shows a key. Pure; runs on any thread.
//!
//! Source: the Standard Webhooks specification, "Signature scheme".

use crate::model::tenant::Secret;
use crate::model::time::UnixMillis;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use ring::hmac;
use std::error::Error;
use std::fmt;
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// The maximum difference between a timestamp and the receiver's clock, in both
/// directions. The official libraries use the same value.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

const SECRET_PREFIX: &str = "whsec_";
const VERSION: &str = "v1";
/// `v1,`, the base64 of 32 bytes, and a space.
const SIGNATURE_LEN: usize = 48;

/// The keys of one tenant. Each key signs, so that a receiver can verify with the
/// old or the new secret while a secret is replaced.
#[derive(Clone)]
pub struct Keys(Vec<hmac::Key>);

impl Keys {
    /// Reads secrets in the form of the tenants file: `whsec_` and then base64.
    ///
    /// Errors: the first malformed secret.
    pub fn read(secrets: &[Secret]) -> Result<Self, MalformedSecret> {
        let key = |secret: &Secret| {
            let encoded = secret.0.strip_prefix(SECRET_PREFIX)?;
            let bytes = STANDARD.decode(encoded).ok().filter(|b| !b.is_empty())?;
            Some(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        };
        let keys = secrets.iter().map(key).enumerate();
        keys.map(|(at, key)| key.ok_or(MalformedSecret { at }))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether there is no key.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the value of `webhook-signature`, or `None` without a key.
    /// `timestamp` is the value of `webhook-timestamp`, in seconds since the epoch.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> Option<HeaderValue> {
        if self.is_empty() {
            return None;
        }
        let timestamp = timestamp.to_string();
        let mut text = String::with_capacity(self.0.len() * SIGNATURE_LEN);
        for key in &self.0 {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(VERSION);
            text.push(',');
            STANDARD.encode_string(tag(key, id, &timestamp, body), &mut text);
        }
        Some(HeaderValue::try_from(text).expect("base64, commas and spaces are visible ASCII"))
    }

    /// Checks that the headers sign this body with one of the keys, at a time at most
    /// [`TOLERANCE`] from `now`. The duration of the check reveals nothing about the
    /// correct signature.
    ///
    /// Errors: the first mistake.
    pub fn verify(
        &self,
        signed: &Signed<'_>,
        body: &[u8],
        now: UnixMillis,
    ) -> Result<(), Unverified> {
        let signature = signed.signature.ok_or(Unverified::NotSigned)?;
        if self.is_empty() {
            return Err(Unverified::NoSecret);
        }
        let id = signed.id.ok_or(Unverified::Malformed)?;
        let timestamp = signed.timestamp.ok_or(Unverified::Malformed)?;
        let seconds: i64 = timestamp.parse().map_err(|_| Unverified::Malformed)?;
        let clock = now.0.div_euclid(1_000);
        let away = clock.abs_diff(seconds);
        if away > TOLERANCE.as_secs() {
            return Err(if seconds > clock {
                Unverified::TooNew { ahead: away }
            } else {
                Unverified::TooOld { age: away }
            });
        }
        let mut received = signature.split(' ').filter_map(|signature| {
            let (version, encoded) = signature.split_once(',')?;
            (version == VERSION).then(|| STANDARD.decode(encoded).unwrap_or_default())
        });
        // The signed text counts, not the number that was parsed from it.
        let tags = self.0.iter().map(|key| tag(key, id, timestamp, body));
        let tags: Vec<hmac::Tag> = tags.collect();
        let matches = |received: Vec<u8>| {
            tags.iter()
                .any(|tag| bool::from(tag.as_ref().ct_eq(&received)))
        };
        if received.any(matches) {
            Ok(())
        } else {
            Err(Unverified::WrongSecret)
        }
    }
}

/// Shows the number of keys only.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} redacted]", self.0.len())
    }
}

/// Returns the HMAC-SHA256 of `id.timestamp.body`, without a copy of the text.
fn tag(key: &hmac::Key, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
    let mut hmac = hmac::Context::with_key(key);
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        hmac.update(part);
    }
    hmac.sign()
}

/// The headers of a request that the signature covers, and the signature. A header
/// may be missing.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`.
    pub id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub signature: Option<&'a str>,
}

/// A request does not verify. Times are in seconds, more than [`TOLERANCE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unverified {
    NotSigned,
    /// Signed, and there is no key to verify it with.
    NoSecret,
    /// No `v1` signature matches a key.
    WrongSecret,
    TooOld {
        age: u64,
    },
    TooNew {
        ahead: u64,
    },
    /// The id or the timestamp is missing, or the timestamp is not a whole number.
    Malformed,
}

impl Unverified {
    /// Returns its name for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSigned => "not_signed",
            Self::NoSecret => "no_secret",
            Self::WrongSecret => "wrong_secret",
            Self::TooOld { .. } => "too_old",
            Self::TooNew { .. } => "too_new",
            Self::Malformed => "malformed",
        }
    }
}

/// Explains it to the tenant, with a hint where there is one.
impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = TOLERANCE.as_secs();
        match self {
            Self::NotSigned => write!(f, "not signed: the tenant has no secrets at the sender"),
            Self::NoSecret => write!(f, "signed, not verified: give --secret"),
            Self::WrongSecret => write!(
                f,
                "NOT VERIFIED: wrong secret, or the body is not byte for byte what was sent"
            ),
            Self::TooOld { age } => write!(
                f,
                "NOT VERIFIED: timestamp too old: {age} s, at most {limit} are allowed; \
                 somebody has sent it again, or this clock is wrong"
            ),
            Self::TooNew { ahead } => write!(
                f,
                "NOT VERIFIED: timestamp too new: {ahead} s ahead of this clock, \
                 at most {limit} are allowed"
            ),
            Self::Malformed => write!(
                f,
                "NOT VERIFIED: webhook-id or webhook-timestamp is missing or malformed"
            ),
        }
    }
}

impl Error for Unverified {}

/// A secret is not `whsec_` and then base64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedSecret {
    /// The index of the secret, from 0.
    pub at: usize,
}

impl fmt::Display for MalformedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "secret {}: not {SECRET_PREFIX} and then base64", self.at)
    }
}

impl Error for MalformedSecret {}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    /// The example of the official libraries' own tests, signed with `OLD`.
    const EXAMPLE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    const AT: i64 = 1_614_265_330;

    fn keys(secrets: &[&str]) -> Keys {
        let secrets: Vec<Secret> = secrets.iter().map(|&s| Secret(s.to_owned())).collect();
        Keys::read(&secrets).expect("well formed")
    }

    fn signature(keys: &Keys) -> String {
        let value = keys.sign(ID, AT, BODY).expect("there is a key");
        value.to_str().expect("visible ASCII").to_owned()
    }

    #[test]
    fn the_example_of_the_official_libraries_is_signed_as_they_do() {
        assert_eq!(signature(&keys(&[OLD])), EXAMPLE);
    }

    #[test]
    fn every_secret_signs_and_none_signs_nothing() {
        let both = signature(&keys(&[NEW, OLD]));
        let (new, old) = both.split_once(' ').expect("two");
        assert_eq!((new, old), (&*signature(&keys(&[NEW])), EXAMPLE));
        assert_eq!(keys(&[]).sign(ID, AT, BODY), None);
    }

    const SIGNED: Signed<'_> = Signed {
        id: Some(ID),
        timestamp: Some("1614265330"),
        signature: Some(EXAMPLE),
    };

    #[track_caller]
    fn check(signed: Signed<'_>, now: i64, expected: Result<(), Unverified>) {
        let verified = keys(&[OLD]).verify(&signed, BODY, UnixMillis(now * 1_000 + 999));
        assert_eq!(verified, expected);
    }

    #[test]
    fn only_the_signed_content_verifies() {
        let both = signature(&keys(&[NEW, OLD]));
        let signed = Signed {
            signature: Some(&both),
            ..SIGNED
        };
        let now = UnixMillis(AT * 1_000);
        let no_match = Err(Unverified::WrongSecret);
        for (secrets, body, expected) in [
            (&[OLD][..], BODY, Ok(())),
            (&[NEW], BODY, Ok(())),
            (&["whsec_b3RoZXI="], BODY, no_match),
            (&[], BODY, Err(Unverified::NoSecret)),
            (&[OLD], b"{\"test\":2432232314}", no_match),
        ] {
            assert_eq!(keys(secrets).verify(&signed, body, now), expected);
        }
        let mut other = signed;
        other.id = Some("msg_2");
        check(other, AT, no_match);
        other = signed;
        other.timestamp = Some("1614265331");
        check(other, AT, no_match);
    }

    #[test]
    fn a_timestamp_verifies_within_five_minutes() {
        check(SIGNED, AT + 300, Ok(()));
        check(SIGNED, AT - 300, Ok(()));
        check(SIGNED, AT + 301, Err(Unverified::TooOld { age: 301 }));
        check(SIGNED, AT - 301, Err(Unverified::TooNew { ahead: 301 }));
        let mut other = SIGNED;
        for timestamp in ["", "x", "1.5", "99999999999999999999"] {
            other.timestamp = Some(timestamp);
            check(other, AT, Err(Unverified::Malformed));
        }
        other.timestamp = Some("-9223372036854775808");
        check(other, 0, Err(Unverified::TooOld { age: 1 << 63 }));
    }

    #[test]
    fn a_request_without_one_of_the_headers_does_not_verify() {
        let mut without = SIGNED;
        without.id = None;
        check(without, AT, Err(Unverified::Malformed));
        without = SIGNED;
        without.timestamp = None;
        check(without, AT, Err(Unverified::Malformed));
        without.signature = None;
        check(without, AT, Err(Unverified::NotSigned));
    }

    #[test]
    fn a_signature_of_another_form_does_not_verify() {
        let other_version = EXAMPLE.replace("v1,", "v1a,");
        let cut = &EXAMPLE[..EXAMPLE.len() - 4];
        let without_version = &EXAMPLE[3..];
        let forms = ["", " ", "v1", "v1,", "v1,?", cut, &other_version];
        let mut other = SIGNED;
        for signature in forms.into_iter().chain([without_version]) {
            other.signature = Some(signature);
            check(other, AT, Err(Unverified::WrongSecret));
        }
        let among_others = format!("v2,x v1,?  {EXAMPLE} v1a,y");
        other.signature = Some(&among_others);
        check(other, AT, Ok(()));
    }

    #[test]
    fn a_malformed_secret_is_named_by_its_place_and_no_secret_is_shown() {
        for bad in [
            "",
            "whsec_",
            "hunter2",
            "whsec_?",
            "WHSEC_aHVudGVyMg==",
            "whsec_aHVudGVyMg",
        ] {
            let secrets = [Secret(OLD.to_owned()), Secret(bad.to_owned())];
            let error = Keys::read(&secrets).expect_err(bad);
            assert_eq!(error, MalformedSecret { at: 1 });
        }
        assert_eq!(format!("{:?}", keys(&[OLD, NEW])), "[2 redacted]");
    }
}
