//! The tenants' receiver: notes every POST, compares its body byte for byte,
//! and answers by the seed. One thread.

use super::records::{self, Kind};
use crate::support::http_parts::{Request, read_request};
use crate::support::lateness::Lateness;
use crate::support::ports;
use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The number of failing attempts in 1,000.
pub const FAILING_PERMILLE: u32 = 300;
/// The answer time of a slow tenant.
const SLOW: Duration = Duration::from_millis(200);
/// No tenant hangs.
const NONE: u64 = u64::MAX;

/// A received POST of a record.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ReceivedPost {
    /// When it was completely read.
    pub at: Instant,
    /// The replica that sent it.
    pub replica: usize,
    /// Its `ringback-attempt`.
    pub attempt: u8,
    /// The status of the answer; 0 before it.
    pub status: u16,
    /// Whether body and tenant match the record.
    pub exact: bool,
}

impl ReceivedPost {
    /// Returns whether the answer was a success.
    pub fn succeeded(&self) -> bool {
        self.status == 200
    }
}

/// Every POST by record number, in the order of arrival.
#[derive(Default)]
pub struct Noted {
    /// POSTs with a valid record number.
    pub posts: HashMap<u64, Vec<ReceivedPost>>,
    /// All other requests.
    pub strays: u64,
}

/// The server; a drop ends it.
pub struct Receiver {
    port: u16,
    noted: Arc<Mutex<Noted>>,
    /// The number of the tenant that does not answer.
    hanging: Arc<AtomicU64>,
    lateness: Lateness,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts the receiver.
    pub fn start(seed: u64) -> Self {
        let noted = Arc::<Mutex<Noted>>::default();
        let listener = ports::listen("127.0.0.1:0");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel();
        let hanging = Arc::new(AtomicU64::new(NONE));
        let judge = Judge {
            seed,
            hanging: hanging.clone(),
            noted: noted.clone(),
        };
        let lateness = Lateness::default();
        let watched = lateness.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                tokio::spawn(watched.watch());
                tokio::spawn(accept(listener, judge));
                stopped.await.ok();
            });
        });
        Self {
            port,
            noted,
            hanging,
            lateness,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how late its thread was.
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// From now on this tenant does not answer, and all others do.
    pub fn hang(&self, tenant: Option<u64>) {
        self.hanging
            .store(tenant.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Returns the notes so far.
    pub fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().expect("no holder panics")
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Returns the path of a tenant's callback in this replica's tenants file.
pub fn path(replica: usize, tenant: &str) -> String {
    format!("/{replica}/{tenant}")
}

/// Decides how requests are answered, and notes them.
#[derive(Clone)]
struct Judge {
    seed: u64,
    hanging: Arc<AtomicU64>,
    noted: Arc<Mutex<Noted>>,
}

async fn accept(listener: StdListener, judge: Judge) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).ok();
            tokio::spawn(serve(socket, judge.clone()));
        }
    }
}

async fn serve(mut socket: TcpStream, judge: Judge) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(request) = read_request(&mut socket, &mut buffer).await {
        let at = Instant::now();
        let Some((number, seen)) = read(&request, at) else {
            judge.noted().strays += 1;
            return;
        };
        let hangs = judge.hangs(number);
        let (place, status) = {
            let mut noted = judge.noted();
            let posts = noted.posts.entry(number).or_default();
            let place = posts.len();
            let status = judge.status(number, place);
            posts.push(seen);
            if records::kind(number) != Kind::Slow && !hangs {
                posts[place].status = status;
            }
            (place, status)
        };
        if hangs {
            // Until the sender closes the connection.
            socket.read_u8().await.ok();
            return;
        }
        if records::kind(number) == Kind::Slow {
            tokio::time::sleep(SLOW).await;
        }
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n");
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        if let Some(posts) = judge.noted().posts.get_mut(&number) {
            posts[place].status = status;
        }
    }
}

impl Judge {
    fn noted(&self) -> std::sync::MutexGuard<'_, Noted> {
        self.noted.lock().expect("no holder panics")
    }

    fn hangs(&self, number: u64) -> bool {
        let hanging = self.hanging.load(Ordering::Relaxed);
        records::is_usual(number) && number % records::TENANTS == hanging
    }

    /// Returns the status for a POST of this record, after so many earlier ones.
    fn status(&self, number: u64, earlier: usize) -> u16 {
        if records::kind(number) == Kind::Failing {
            return 503;
        }
        let text = format!("{}/{number}/{earlier}", self.seed);
        let chance = crc32fast::hash(text.as_bytes()) % 1_000;
        if chance < FAILING_PERMILLE { 503 } else { 200 }
    }
}

fn read(request: &Request, at: Instant) -> Option<(u64, ReceivedPost)> {
    let number = records::number(request.header("webhook-id")?)?;
    let (replica, tenant) = request.path().strip_prefix('/')?.split_once('/')?;
    let seen = ReceivedPost {
        at,
        replica: replica.parse().ok()?,
        attempt: request.header("ringback-attempt")?.parse().ok()?,
        status: 0,
        exact: tenant == records::tenant(number) && request.body == records::body(number),
    };
    Some((number, seen))
}
