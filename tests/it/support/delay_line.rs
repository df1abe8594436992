//! A delay line: messages arrive in their order, each after the same time. So a
//! connection is as long as one to a broker far away.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// The sending end of a connection of some length.
pub enum DelayLine {
    Near(TcpStream),
    Far(Duration, Sender<(Instant, Vec<u8>)>),
}

impl DelayLine {
    /// Returns a line to this socket. A line with a length has a thread, which ends
    /// after the line is dropped.
    pub fn new(mut to: TcpStream, length: Duration) -> Self {
        if length.is_zero() {
            return Self::Near(to);
        }
        let (sender, messages) = mpsc::channel::<(Instant, Vec<u8>)>();
        thread::spawn(move || {
            for (at, message) in messages {
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if to.write_all(&message).is_err() {
                    return;
                }
            }
        });
        Self::Far(length, sender)
    }

    /// Sends a message.
    ///
    /// Errors: the socket is closed. A line with a length notices it later.
    pub fn send(&mut self, message: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Near(to) => to.write_all(&message),
            Self::Far(length, sender) => {
                let sent = sender.send((Instant::now() + *length, message));
                sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}
