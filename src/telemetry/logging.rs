//! Sets up the log: lines on standard error, as text or JSON. A thread of its own
//! writes the lines, so a blocked standard error blocks nothing else. Lines that
//! do not fit into its queue are left out and counted. Never decides what is
//! logged. The runner spawns [`LogWriter::run`] on that thread.
//!
//! Limit: 4,096 lines wait, at some 550 bytes each 2.2 MB. At the 10 lines a
//! second of `log_limit` that is several minutes of a blocked standard error.

use crate::model::log_levels::{LogLevel, LogLevels};
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry};

const LINES_WAITING_MAX: usize = 4_096;
const FLUSH_MAX: Duration = Duration::from_secs(1);
const OURS: &str = "ringback";

/// The layers below the one that writes.
type Filtered = Layered<Targets, Registry>;

/// The form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// Readable text.
    Text,
    /// One JSON object on each line.
    Json,
}

impl LogFormat {
    /// Returns `Text` where standard error is a terminal, else `Json`.
    #[must_use]
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// The log filter. Other crates log from `warn` on, unless the levels name them.
#[derive(Clone, Debug)]
pub struct LogFilter(Targets);

impl LogFilter {
    /// Returns the filter for these levels.
    #[must_use]
    pub fn new(levels: &LogLevels) -> Self {
        let ours = filter_of(levels.own);
        let named = levels.targets.iter();
        let named = named.map(|(target, level)| (target.as_str(), filter_of(*level)));
        let others = ours.min(LevelFilter::WARN);
        let targets = Targets::new()
            .with_default(others)
            // Logs an error for each failed handshake, as the line of the attempt does.
            .with_target("rustls_platform_verifier", LevelFilter::OFF)
            // Repeats the results of its calls, and logs the end of a fenced client
            // as an error. The lines of librdkafka have a target of their own.
            .with_target("rdkafka", LevelFilter::OFF)
            // Log each malformed message of a name server.
            .with_target("hickory_net", LevelFilter::OFF)
            .with_target("hickory_resolver", LevelFilter::OFF)
            .with_target(OURS, ours)
            .with_targets(named);
        Self(targets)
    }
}

fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Sets up the log of the process.
///
/// Errors: the process has a log already.
pub fn start(filter: &LogFilter, format: LogFormat) -> Result<(Log, LogWriter), LogError> {
    let (lines, waiting) = sync_channel(LINES_WAITING_MAX);
    let log = Log {
        lines,
        left_out: Arc::default(),
    };
    let writer = LogWriter {
        waiting,
        left_out: Arc::clone(&log.left_out),
    };
    subscriber(filter, format, &log)
        .try_init()
        .map_err(LogError)?;
    Ok((log, writer))
}

/// Returns what writes the lines that pass the filter.
///
/// The filter is a layer of its own. A filter of the other layer (`with_filter`) would
/// lose lines. It remembers for each thread that a record of the `log` crate was filtered
/// out, and then drops the next line of that thread, too.
fn subscriber(filter: &LogFilter, format: LogFormat, log: &Log) -> impl Subscriber + Send + Sync {
    let layer = tracing_subscriber::fmt::layer().with_writer(log.clone());
    let layer: Box<dyn Layer<Filtered> + Send + Sync> = match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(filter.0.clone())
        .with(layer)
}

/// The sending end of the queue of log lines.
#[derive(Clone)]
pub struct Log {
    lines: SyncSender<Message>,
    left_out: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Log {
    /// Waits until all earlier lines are written, at most one second.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            // A blocked standard error must not delay the end of the process.
            let (Ok(()) | Err(_)) = wait.recv_timeout(FLUSH_MAX);
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self)
    }
}

/// Sends one line to the queue. The subscriber writes each line in one piece.
pub struct Line<'a>(&'a Log);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.0.lines.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                self.0.left_out.fetch_add(1, Ordering::Relaxed);
            }
            // The writer has stopped: the process ends.
            Err(TrySendError::Disconnected(_)) => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the lines of the queue to standard error.
pub struct LogWriter {
    waiting: Receiver<Message>,
    left_out: Arc<AtomicU64>,
}

impl LogWriter {
    /// Writes lines until the process ends. Blocks its thread.
    pub fn run(self) {
        while let Ok(message) = self.waiting.recv() {
            match message {
                Message::Line(line) => self.write(&line),
                // The caller may have stopped waiting.
                Message::Flush(done) => {
                    let (Ok(()) | Err(_)) = done.try_send(());
                }
            }
        }
    }

    fn write(&self, line: &[u8]) {
        let mut stderr = io::stderr().lock();
        // A failure of standard error cannot be reported anywhere.
        let (Ok(()) | Err(_)) = stderr.write_all(line);
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            drop(stderr);
            tracing::warn!(
                lines = left_out,
                "standard error was too slow: log lines were left out"
            );
        }
    }
}

/// The process has a log already.
#[derive(Debug)]
pub struct LogError(TryInitError);

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log cannot be set up: the process has one already")
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_bare_level_applies_to_ringback_and_other_targets_are_named() {
        #[track_caller]
        fn check(text: &str, target: &str, level: Level, shown: bool) {
            let filter = LogFilter::new(&text.parse().expect(text));
            assert_eq!(filter.0.would_enable(target, &level), shown, "{text}");
        }
        check("info", "ringback::engine", Level::INFO, true);
        check("info", "ringback::engine", Level::DEBUG, false);
        check("debug", "ringback", Level::DEBUG, true);
        check("debug", "hyper", Level::INFO, false);
        check("debug", "librdkafka", Level::WARN, true);
        check("info", "rdkafka::consumer", Level::ERROR, false);
        check("error", "librdkafka", Level::WARN, false);
        check("ringback=debug", "ringback::http", Level::DEBUG, true);
        check("warn,hyper=trace", "hyper", Level::TRACE, true);
        check("warn,hyper=trace", "ringback", Level::INFO, false);
        check("info,hyper=debug", "hyper_util::client", Level::DEBUG, true);
        check("info,hyper=debug", "h2", Level::DEBUG, false);
        check("info,rdkafka=info", "rdkafka", Level::INFO, true);
        check("info", "rustls_platform_verifier", Level::ERROR, false);
        check("info", "hickory_net::udp", Level::ERROR, false);
    }

    #[test]
    fn a_line_after_a_record_that_was_filtered_out_is_kept() {
        let (lines, waiting) = sync_channel(8);
        let log = Log {
            lines,
            left_out: Arc::default(),
        };
        let filter = LogFilter::new(&"info".parse().expect("levels"));
        let subscriber = subscriber(&filter, LogFormat::Json, &log);
        tracing::subscriber::with_default(subscriber, || {
            let of_a_crate = tracing::callsite! {
                name: "record",
                kind: tracing::metadata::Kind::EVENT,
                target: "rdkafka",
                level: Level::ERROR,
                fields: message
            };
            // For each record of the `log` crate, its adapter asks so.
            let metadata = tracing::Callsite::metadata(of_a_crate);
            tracing::dispatcher::get_default(|to| assert!(!to.enabled(metadata)));
            tracing::event!(target: "ringback", Level::WARN, "kept");
        });
        assert_eq!(waiting.try_iter().count(), 1);
    }

    #[test]
    fn a_blocked_writer_costs_lines_and_no_time() {
        let (lines, waiting) = sync_channel(2);
        let log = Log {
            lines,
            left_out: Arc::default(),
        };
        for _ in 0..5 {
            log.make_writer().write_all(b"line\n").expect("never fails");
        }
        assert_eq!(log.left_out.load(Ordering::Relaxed), 3);
        assert_eq!(waiting.try_iter().count(), 2);
    }
}
