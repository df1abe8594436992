//! Verifies a request's signature, and says what to do where it does not fit.
//! Pure.
//!
//! Source: Standard Webhooks, "Verifying webhook authenticity".

use crate::http::signature::{Keys, Signed, TOLERANCE, Unverified};
use crate::model::time::UnixMillis;
use serde::Serialize;

/// The result of verifying.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "snake_case")]
pub enum SignatureVerdict {
    Verified,
    NotSigned,
    /// Signed, and the receiver has no secret to verify it with.
    NoSecret,
    WrongSecret,
    TooOld,
    TooNew,
    Malformed,
}

/// Returns the verdict on a request, and its text for people.
pub fn verify<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    body: &[u8],
    keys: Option<&Keys>,
    now: UnixMillis,
) -> (SignatureVerdict, String) {
    use SignatureVerdict::{Malformed, NoSecret, NotSigned, TooNew, TooOld, Verified, WrongSecret};
    let result = |verdict, text: &str| (verdict, text.to_owned());
    let malformed = result(
        Malformed,
        "NOT VERIFIED: webhook-id or webhook-timestamp is missing or malformed",
    );
    let Some(signature) = header("webhook-signature") else {
        let text = "not signed: the tenant has no secrets at the sender";
        return result(NotSigned, text);
    };
    let Some(keys) = keys else {
        return result(NoSecret, "signed, not verified: give --secret");
    };
    let (Some(id), Some(timestamp)) = (header("webhook-id"), header("webhook-timestamp")) else {
        return malformed;
    };
    let signed = Signed {
        id,
        timestamp,
        signature,
    };
    let limit = TOLERANCE.as_secs();
    match keys.verify(&signed, body, now) {
        Ok(()) => result(Verified, "verified"),
        Err(Unverified::NoMatch) => result(
            WrongSecret,
            "NOT VERIFIED: wrong secret, or the body is not byte for byte what was sent",
        ),
        Err(Unverified::MalformedTimestamp) => malformed,
        Err(Unverified::Stale { away }) => {
            let away = away.as_secs();
            let is_ahead = timestamp.parse().is_ok_and(|at: i64| at > now.0 / 1_000);
            let (verdict, what, hint) = match is_ahead {
                true => (TooNew, format!("new: {away} s ahead of this clock"), ""),
                false => (
                    TooOld,
                    format!("old: {away} s"),
                    "; somebody has sent it again, or this clock is wrong",
                ),
            };
            let text =
                format!("NOT VERIFIED: timestamp too {what}, at most {limit} are allowed{hint}");
            (verdict, text)
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
            verify(header, b"body", keys, UnixMillis(now * 1_000)).0
        };
        // Leaked, since the closures need 'static texts.
        let all = all.map(|(name, value)| (name, &*value.to_owned().leak()));
        assert_eq!(judge(&all, Some(&right), AT), SignatureVerdict::Verified);
        assert_eq!(judge(&all, None, AT), SignatureVerdict::NoSecret);
        assert_eq!(
            judge(&all, Some(&keys("whsec_d3Jvbmc=")), AT),
            SignatureVerdict::WrongSecret
        );
        assert_eq!(
            judge(&all, Some(&right), AT + 301),
            SignatureVerdict::TooOld
        );
        assert_eq!(
            judge(&all, Some(&right), AT - 301),
            SignatureVerdict::TooNew
        );
        assert_eq!(
            judge(&all[..2], Some(&right), AT),
            SignatureVerdict::NotSigned
        );
        assert_eq!(
            judge(&all[1..], Some(&right), AT),
            SignatureVerdict::Malformed
        );
        let odd = [all[0], ("webhook-timestamp", "x"), all[2]];
        assert_eq!(judge(&odd, Some(&right), AT), SignatureVerdict::Malformed);
    }
}
