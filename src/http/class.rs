//! Finds the class of an attempt without an answer, and words for its cause. It looks at the types in the
//! chain of the error, never at its text. Knows no policy. Runs on the runtimes of
//! attempts.

use super::address_guard::{DnsError, RefusedAddress};
use super::tls_words;
use crate::model::attempt::ErrorClass;
use std::error::Error;
use std::io;
use std::iter;

/// The maximum length of the detail, in characters.
const DETAIL_CHARS_MAX: usize = 200;
const EOF_IN_TLS: &str = "the connection was closed in the TLS handshake";

/// The step of an attempt that failed. It decides what a socket error means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttemptStep {
    /// Name resolution, connection or TLS handshake.
    Connecting,
    /// Exchange on an open connection.
    Connected,
}

/// What an HTTP/2 receiver did with a POST that it has not processed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unprocessed {
    /// It takes no more streams on this connection, which the pool uses no more.
    GoAway,
    /// It refused the stream. The pool goes on with the connection.
    Refused,
}

/// The classes of a socket error: while connecting, and on an open connection.
/// All other kinds mean `Connect` or `Reset`.
const IO_CLASSES: &[(io::ErrorKind, ErrorClass, ErrorClass)] = {
    use ErrorClass::{Connect, Protocol, Reset, Timeout, Tls};
    use io::ErrorKind as Kind;
    &[
        (Kind::ConnectionRefused, Connect, Reset),
        (Kind::HostUnreachable, Connect, Reset),
        (Kind::NetworkUnreachable, Connect, Reset),
        (Kind::NetworkDown, Connect, Reset),
        (Kind::AddrNotAvailable, Connect, Reset),
        (Kind::PermissionDenied, Connect, Reset),
        (Kind::ConnectionReset, Reset, Reset),
        (Kind::ConnectionAborted, Reset, Reset),
        (Kind::BrokenPipe, Reset, Reset),
        (Kind::NotConnected, Reset, Reset),
        // While connecting, only the TLS handshake reads.
        (Kind::UnexpectedEof, Tls, Reset),
        (Kind::TimedOut, Timeout, Timeout),
        (Kind::InvalidData, Protocol, Protocol),
    ]
};

/// Returns the class of an attempt without a final status line and headers, and a
/// detail for the log. The detail holds nothing of the URL's query, the body or
/// the headers.
#[must_use]
pub fn classify(error: &reqwest::Error) -> (ErrorClass, String) {
    if error.is_timeout() {
        return (ErrorClass::Timeout, "no answer in time".to_owned());
    }
    let step = if error.is_connect() {
        AttemptStep::Connecting
    } else {
        AttemptStep::Connected
    };
    // The error of reqwest itself is skipped: its text has the URL. The deepest
    // error is the cause, the others only wrap it.
    let chain: Vec<&(dyn Error + 'static)> = chain(error).skip(1).collect();
    for link in chain.iter().rev() {
        if let Some(class) = of_link(*link, step) {
            return (class, detail(*link, step));
        }
    }
    let class = match step {
        AttemptStep::Connecting => ErrorClass::Connect,
        AttemptStep::Connected if error.is_builder() => ErrorClass::Protocol,
        AttemptStep::Connected => ErrorClass::Reset,
    };
    let text = chain.last().map_or_else(
        || "the request could not be sent".to_owned(),
        |e| detail(*e, step),
    );
    (class, text)
}

/// Why there is no connection, as far as the error tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnectFault {
    /// The address does not accept a connection, or the name has none.
    NoConnection,
    NoAnswer,
    Tls,
    Other,
}

/// Returns why an attempt did not connect.
pub(super) fn connect_fault(error: &reqwest::Error) -> ConnectFault {
    if error.is_timeout() {
        return ConnectFault::NoAnswer;
    }
    let links: Vec<&(dyn Error + 'static)> = chain(error).collect();
    let mut faults = links.iter().rev().filter_map(|link| {
        if link.is::<DnsError>() {
            return Some(ConnectFault::NoConnection);
        }
        if link.is::<rustls::Error>() {
            return Some(ConnectFault::Tls);
        }
        let kind = link.downcast_ref::<io::Error>()?.kind();
        match of_io(kind, AttemptStep::Connecting)? {
            ErrorClass::Connect => Some(ConnectFault::NoConnection),
            ErrorClass::Timeout => Some(ConnectFault::NoAnswer),
            _ => None,
        }
    });
    faults.next().unwrap_or(ConnectFault::Other)
}

/// Returns how an HTTP/2 receiver has said that it did not process the request, if it
/// has.
pub(super) fn unprocessed(error: &reqwest::Error) -> Option<Unprocessed> {
    let error = chain(error).find_map(|link| link.downcast_ref::<h2::Error>())?;
    let reason = error.reason()?;
    if !error.is_remote() {
        return None;
    }
    let refused = error.is_reset() && reason == h2::Reason::REFUSED_STREAM;
    let gone = error.is_go_away() && reason != h2::Reason::ENHANCE_YOUR_CALM;
    match (refused, gone) {
        (true, _) => Some(Unprocessed::Refused),
        (_, true) => Some(Unprocessed::GoAway),
        (false, false) => None,
    }
}

/// Returns the error and its causes. An `io::Error` does not return the error that
/// it wraps as its source, so that one is read separately.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    fn cause<'a>(link: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        let link: &'a (dyn Error + 'static) = *link;
        match link
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => link.source(),
        }
    }
    iter::successors(Some(error), cause)
}

/// Returns the class of one error of the chain, if its type has one.
fn of_link(link: &(dyn Error + 'static), step: AttemptStep) -> Option<ErrorClass> {
    if link.is::<DnsError>() {
        return Some(ErrorClass::Dns);
    }
    if link.is::<RefusedAddress>() {
        return Some(ErrorClass::RefusedAddress);
    }
    if link.is::<rustls::Error>() {
        return Some(ErrorClass::Tls);
    }
    if let Some(error) = link.downcast_ref::<h2::Error>() {
        return error.reason().map(of_h2);
    }
    if let Some(error) = link.downcast_ref::<io::Error>() {
        return of_io(error.kind(), step);
    }
    link.downcast_ref::<hyper::Error>().and_then(of_hyper)
}

fn of_io(kind: io::ErrorKind, step: AttemptStep) -> Option<ErrorClass> {
    let (_, connecting, connected) = IO_CLASSES.iter().find(|(listed, _, _)| *listed == kind)?;
    Some(match step {
        AttemptStep::Connecting => *connecting,
        AttemptStep::Connected => *connected,
    })
}

fn of_h2(reason: h2::Reason) -> ErrorClass {
    match reason {
        h2::Reason::PROTOCOL_ERROR
        | h2::Reason::FLOW_CONTROL_ERROR
        | h2::Reason::FRAME_SIZE_ERROR
        | h2::Reason::COMPRESSION_ERROR
        | h2::Reason::SETTINGS_TIMEOUT
        | h2::Reason::STREAM_CLOSED
        | h2::Reason::INADEQUATE_SECURITY
        | h2::Reason::HTTP_1_1_REQUIRED => ErrorClass::Protocol,
        _ => ErrorClass::Reset,
    }
}

fn of_hyper(error: &hyper::Error) -> Option<ErrorClass> {
    if error.is_timeout() {
        return Some(ErrorClass::Timeout);
    }
    if error.is_parse() || error.is_user() {
        return Some(ErrorClass::Protocol);
    }
    let broken = error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
        || error.is_body_write_aborted()
        || error.is_shutdown();
    if broken {
        return Some(ErrorClass::Reset);
    }
    // Without a cause it is an answer that came before its request.
    error.source().is_none().then_some(ErrorClass::Protocol)
}

/// Returns the cause in one error's words, without any text from the other side.
fn detail(link: &(dyn Error + 'static), step: AttemptStep) -> String {
    if let Some(error) = link.downcast_ref::<h2::Error>() {
        // The text of this error repeats the debug bytes of a GOAWAY.
        return match error.reason() {
            Some(reason) => format!("http/2: {}", reason.description()),
            None => "http/2 failed".to_owned(),
        };
    }
    if let Some(error) = link.downcast_ref::<rustls::Error>() {
        return tls_words::of(error);
    }
    if let Some(error) = link.downcast_ref::<hyper::Error>() {
        return hyper_words(error);
    }
    if let Some(error) = link.downcast_ref::<io::Error>() {
        return match (error.kind(), step) {
            (io::ErrorKind::UnexpectedEof, AttemptStep::Connecting) => EOF_IN_TLS.to_owned(),
            _ => io_words(error),
        };
    }
    link.to_string().chars().take(DETAIL_CHARS_MAX).collect()
}

/// Returns the cause of a failed handshake.
pub(super) fn handshake_words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(error) => tls_words::of(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => EOF_IN_TLS.to_owned(),
        None => io_words(error),
    }
}

/// Returns the cause of a socket error.
pub(super) fn io_words(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let words = match error.kind() {
        Kind::ConnectionRefused => "the connection was refused: nothing listens at this port",
        Kind::ConnectionReset => "the connection was reset before an answer",
        Kind::ConnectionAborted | Kind::BrokenPipe | Kind::NotConnected | Kind::UnexpectedEof => {
            "the connection was closed before an answer"
        }
        Kind::HostUnreachable | Kind::NetworkUnreachable => "no route leads to the address",
        Kind::TimedOut => "no answer in time",
        Kind::InvalidData => "the answer is not valid HTTP",
        _ => return error.to_string().chars().take(DETAIL_CHARS_MAX).collect(),
    };
    words.to_owned()
}

fn hyper_words(error: &hyper::Error) -> String {
    let words = if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        "the connection was closed before an answer"
    } else if error.is_parse_too_large() {
        "the head of the answer is too large"
    } else if error.is_parse() {
        "the answer is not valid HTTP"
    } else if error.source().is_none() {
        "the answer came before its request, or is not valid HTTP"
    } else {
        "the HTTP exchange failed"
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::names::Unresolved;
    use super::*;

    #[test]
    fn every_kind_of_socket_error_has_a_class_at_every_step() {
        use ErrorClass::{Connect, Reset};
        let check = |kind, connecting, connected| {
            assert_eq!(
                of_io(kind, AttemptStep::Connecting),
                Some(connecting),
                "{kind:?}"
            );
            assert_eq!(
                of_io(kind, AttemptStep::Connected),
                Some(connected),
                "{kind:?}"
            );
        };
        for &(kind, connecting, connected) in IO_CLASSES {
            check(kind, connecting, connected);
        }
        check(io::ErrorKind::ConnectionRefused, Connect, Reset);
        check(io::ErrorKind::ConnectionReset, Reset, Reset);
        assert_eq!(of_io(io::ErrorKind::Other, AttemptStep::Connecting), None);
    }

    #[test]
    fn an_error_inside_a_socket_error_is_found_by_its_type() {
        #[track_caller]
        fn check(inner: impl Into<Box<dyn Error + Send + Sync>>, expected: ErrorClass) {
            let outer = io::Error::other(io::Error::other(inner));
            let links: Vec<_> = chain(&outer).collect();
            let class = links
                .iter()
                .rev()
                .find_map(|link| of_link(*link, AttemptStep::Connecting));
            assert_eq!(class, Some(expected));
        }
        check(
            DnsError::new("a.invalid", Unresolved::NoSuchName),
            ErrorClass::Dns,
        );
        check(RefusedAddress::new("10.0.0.1"), ErrorClass::RefusedAddress);
        check(rustls::Error::DecryptError, ErrorClass::Tls);
        check(
            h2::Error::from(h2::Reason::PROTOCOL_ERROR),
            ErrorClass::Protocol,
        );
        check(
            h2::Error::from(h2::Reason::REFUSED_STREAM),
            ErrorClass::Reset,
        );
    }
}
