//! How an attempt ends: one outcome, and for a failed one a class from a
//! closed list with a one-line advice that a tenant can act on.

use super::named_enum::named_enum;
use super::time::UnixMillis;
use std::time::Duration;

/// The largest number of attempts for one record.
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
    /// What the tenant can do about it, in one line.
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
                "TLS failed: install a valid certificate with its whole chain for the URL's host name"
            }
            Self::RefusedAddress => {
                "the callback URL leads to an address that is not reachable from the internet: configure one that is"
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

    /// The same for this status in particular, where there is more to say.
    #[must_use]
    pub const fn advice_on(self, status: Option<u16>) -> &'static str {
        match status {
            Some(401 | 403) => {
                "the receiver asks for permission: let the callback's path in, or have the header it wants configured"
            }
            Some(404 | 405) => {
                "nothing takes POSTs at this path: check the path of the callback URL"
            }
            Some(410) => {
                "the receiver says that the callback URL is gone for good: configure the new one, or have callbacks switched off; until then each record is still tried"
            }
            Some(413) => {
                "the receiver finds the record too large: raise its limit for request bodies"
            }
            _ => self.advice(),
        }
    }

    /// The class of a final HTTP status, or `None` for success (2xx).
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

/// How one attempt ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A final 2xx.
    Delivered {
        /// The status.
        status: u16,
    },
    /// Everything else.
    Failed {
        /// Its class.
        class: ErrorClass,
        /// The HTTP status, where there was one.
        status: Option<u16>,
        /// How long the receiver asked us to wait (429 and 503).
        ///
        /// Source: RFC 9110, section 10.2.3, Retry-After.
        retry_after: Option<Duration>,
        /// What happened, without any byte of the record, of the URL's query
        /// or of the answer's body; for the log.
        detail: String,
    },
}

/// An attempt that has ended, with its times by the process's clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttemptResult {
    /// How.
    pub outcome: Outcome,
    /// When it started.
    pub started_at: UnixMillis,
    /// How long it took.
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
