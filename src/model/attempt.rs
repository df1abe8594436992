//! The outcome of an attempt. A failed attempt has a class from a closed list, and
//! each class has an advice of one line for the tenant. Never decides what follows
//! from an outcome. Pure values; any thread may use them.

use super::named_enum::named_enum;
use super::time::UnixMillis;
use std::time::Duration;

/// The maximum number of attempts for one record.
///
/// Source: the callback contract, "at most 10 notifications".
pub const ATTEMPTS_MAX: u8 = 10;

named_enum! {
    /// The class of a failed attempt. The names are in headers, metrics and logs.
    pub enum ErrorClass {
        /// No final status line and headers within the deadline.
        Timeout = "timeout",
        /// The host name does not resolve.
        Dns = "dns",
        /// No connection.
        Connect = "connect",
        /// The TLS handshake failed, or the certificate is not trusted.
        Tls = "tls",
        /// Callbacks must not reach the address.
        RefusedAddress = "refused_address",
        /// The egress proxy refused the attempt, or could not be reached.
        Proxy = "proxy",
        /// The connection was closed or reset before an answer.
        Reset = "reset",
        /// The answer is not valid HTTP.
        Protocol = "protocol",
        /// A redirect; none is followed.
        Http3xx = "http_3xx",
        /// A client error other than 429.
        Http4xx = "http_4xx",
        /// Too many requests.
        Http429 = "http_429",
        /// A server error.
        Http5xx = "http_5xx",
        /// A process reserved the attempt and stopped before it recorded the outcome.
        InDoubt = "in_doubt",
    }
}

impl ErrorClass {
    /// Returns what the tenant can do, in one line.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Timeout => {
                "no answer within 5 s: store the record first and work on it after answering; if nothing arrives at all, check the firewall"
            }
            Self::Dns => {
                "the host name of the callback URL does not resolve: check the URL, and the DNS zone and its name servers"
            }
            Self::Connect => {
                "nothing accepts connections at the callback URL: check host, port and firewall"
            }
            Self::Tls => {
                "TLS failed: serve TLS 1.2 or 1.3 at this port, with a valid certificate and its whole chain for the URL's host name"
            }
            Self::RefusedAddress => {
                "the callback URL leads to an address that is not reachable from the internet: configure one that is"
            }
            Self::Proxy => {
                "the fault is on the side of the sender, not of the receiver: check the egress proxy, its credentials and its rules"
            }
            Self::Reset => {
                "the connection was closed before an answer: look for crashes and idle timeouts at the receiver"
            }
            Self::Protocol => {
                "the answer was not valid HTTP: check what listens at the callback URL"
            }
            Self::Http3xx => "redirects are not followed: configure the final URL",
            Self::Http4xx => {
                "the receiver refused the request: check path, method POST and access rules of the callback URL"
            }
            Self::Http429 => "the receiver limits the rate: raise its limit or lower maxInFlight",
            Self::Http5xx => "the receiver failed: look into its own logs",
            Self::InDoubt => {
                "the sender was stopped in the middle: the attempt may or may not have arrived"
            }
        }
    }

    /// Returns the advice for this status where it has its own, else [`Self::advice`].
    #[must_use]
    pub const fn advice_on(self, status: Option<u16>) -> &'static str {
        match status {
            _ if self.is_senders() => self.advice(),
            Some(401 | 403) => {
                "the receiver refuses access: check the secret with which it verifies signatures, allow the path of the callback, or have the required header configured"
            }
            Some(404 | 405) => {
                "the receiver accepts no POST at this path: check the path of the callback URL"
            }
            Some(410) => {
                "the receiver says that the callback URL is gone permanently: configure the new one, or have callbacks disabled; until then each record is still attempted"
            }
            Some(413) => {
                "the record is too large for the receiver: raise its limit for request bodies"
            }
            _ => self.advice(),
        }
    }

    /// Returns whether the fault is that of the sender, and says nothing about the
    /// tenant.
    #[must_use]
    pub const fn is_senders(self) -> bool {
        matches!(self, Self::Proxy)
    }

    /// Returns the class of a final HTTP status, or `None` for success (2xx).
    ///
    /// 101, other final 1xx and statuses from 600 are [`ErrorClass::Protocol`].
    #[must_use]
    pub const fn of_status(status: u16) -> Option<Self> {
        match status {
            200..=299 => None,
            300..=399 => Some(Self::Http3xx),
            429 => Some(Self::Http429),
            400..=499 => Some(Self::Http4xx),
            500..=599 => Some(Self::Http5xx),
            _ => Some(Self::Protocol),
        }
    }
}

/// The outcome of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The receiver answered 2xx.
    Delivered { status: u16 },
    Failed {
        class: ErrorClass,
        /// The HTTP status, if the receiver answered.
        status: Option<u16>,
        /// The pause that the receiver asked for (429 and 503).
        ///
        /// Source: RFC 9110, section 10.2.3, Retry-After.
        retry_after: Option<Duration>,
        /// A description for the log. It holds nothing of the record, of the query
        /// of the URL or of the body of the answer.
        detail: String,
    },
}

/// An ended attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptResult {
    pub outcome: Outcome,
    /// The wall time.
    pub started_at: UnixMillis,
    pub duration: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_class() {
        for status in 100..=999_u16 {
            let expected = match status / 100 {
                2 => None,
                3 => Some(ErrorClass::Http3xx),
                4 if status == 429 => Some(ErrorClass::Http429),
                4 => Some(ErrorClass::Http4xx),
                5 => Some(ErrorClass::Http5xx),
                _ => Some(ErrorClass::Protocol),
            };
            assert_eq!(ErrorClass::of_status(status), expected, "{status}");
        }
    }

    #[test]
    fn every_class_has_a_name_and_an_advice_of_one_line() {
        for class in ErrorClass::ALL {
            assert_eq!(ErrorClass::from_name(class.name()), Some(class));
            assert!(!class.advice().is_empty() && !class.advice().contains('\n'));
            assert_eq!(class.advice_on(None), class.advice());
        }
    }

    #[test]
    fn a_url_that_is_gone_has_its_own_advice() {
        let class = ErrorClass::of_status(410).expect("a failed attempt");
        assert_eq!(class, ErrorClass::Http4xx);
        assert!(class.advice_on(Some(410)).contains("gone"));
        assert_eq!(class.advice_on(Some(418)), class.advice());
    }
}
