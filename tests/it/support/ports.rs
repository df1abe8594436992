//! Free ports for processes that must be told one, and listeners of our own. The
//! ports lie below the range from which the system takes ports for outgoing
//! connections, so none is taken between the look and the use.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// Connections that may wait to be taken: far more than a replica opens at once.
/// The service opens more connections at its start than the 128 of the standard
/// library. A connection that finds no place is tried again only after a second,
/// which makes its POST late.
const WAITING_MAX: i32 = 4_096;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 on which nothing listens, not handed out before.
pub fn free() -> u16 {
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}

/// A listener at this address for a runtime: it does not block.
pub fn listen(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).expect("a port is free");
    // Once more, for its length: the standard library has no say in it.
    rustix::net::listen(&listener, WAITING_MAX).expect("the socket is open");
    listener.set_nonblocking(true).expect("the socket is open");
    listener
}
