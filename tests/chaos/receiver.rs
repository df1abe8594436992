//! The tenants' receiver: notes every POST, compares its body byte for byte,
//! and answers by the seed. One thread.

use super::records::{self, Kind};
use crate::support::http_parts::{Request, read_request};
use crate::support::lateness::Lateness;
use crate::support::ports;
use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Of 1,000 attempts so many fail.
pub const FAILING_PERMILLE: u32 = 300;
/// How long a slow tenant takes.
const SLOW: Duration = Duration::from_millis(200);

/// One POST of a known record as it arrived.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Seen {
    /// When it was read whole.
    pub at: Instant,
    /// The replica that sent it.
    pub replica: usize,
    /// Its `ringback-attempt`.
    pub attempt: u8,
    /// What was answered; 0 before.
    pub status: u16,
    /// Whether body and tenant are the record's.
    pub exact: bool,
}

impl Seen {
    /// Whether the answer was a success.
    pub fn succeeded(&self) -> bool {
        self.status == 200
    }
}

/// Every POST, by record number, in order of arrival.
#[derive(Default)]
pub struct Noted {
    /// Of records that could have been published.
    pub posts: HashMap<u64, Vec<Seen>>,
    /// Requests that are not of such a record.
    pub strays: u64,
}

/// The server; it ends when dropped.
pub struct Receiver {
    port: u16,
    noted: Arc<Mutex<Noted>>,
    lateness: Lateness,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts it.
    pub fn start(seed: u64) -> Self {
        let noted = Arc::<Mutex<Noted>>::default();
        let listener = ports::listen("127.0.0.1:0");
        let port = listener.local_addr().expect("it is bound").port();
        let (stop, stopped) = oneshot::channel();
        let for_thread = noted.clone();
        let lateness = Lateness::default();
        let watched = lateness.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                tokio::spawn(watched.watch());
                tokio::spawn(accept(listener, seed, for_thread));
                stopped.await.ok();
            });
        });
        Self {
            port,
            noted,
            lateness,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How late it was at times.
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// What was noted until now.
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

/// The path of a tenant's callback as this replica is told it.
pub fn path(replica: usize, tenant: &str) -> String {
    format!("/{replica}/{tenant}")
}

async fn accept(listener: StdListener, seed: u64, noted: Arc<Mutex<Noted>>) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).ok();
            tokio::spawn(serve(socket, seed, noted.clone()));
        }
    }
}

async fn serve(mut socket: TcpStream, seed: u64, noted: Arc<Mutex<Noted>>) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(request) = read_request(&mut socket, &mut buffer).await {
        let at = Instant::now();
        let Some((number, seen)) = read(&request, at) else {
            noted.lock().expect("no holder panics").strays += 1;
            return;
        };
        let (place, status) = {
            let mut noted = noted.lock().expect("no holder panics");
            let posts = noted.posts.entry(number).or_default();
            let place = posts.len();
            let status = judge(seed, number, place);
            posts.push(seen);
            if records::kind(number) != Kind::Slow {
                posts[place].status = status;
            }
            (place, status)
        };
        if records::kind(number) == Kind::Slow {
            tokio::time::sleep(SLOW).await;
        }
        let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n");
        if socket.write_all(head.as_bytes()).await.is_err() {
            return;
        }
        let mut noted = noted.lock().expect("no holder panics");
        if let Some(posts) = noted.posts.get_mut(&number) {
            posts[place].status = status;
        }
    }
}

fn read(request: &Request, at: Instant) -> Option<(u64, Seen)> {
    let number = records::number(request.header("webhook-id")?)?;
    let (replica, tenant) = request.path().strip_prefix('/')?.split_once('/')?;
    let seen = Seen {
        at,
        replica: replica.parse().ok()?,
        attempt: request.header("ringback-attempt")?.parse().ok()?,
        status: 0,
        exact: tenant == records::tenant(number) && request.body == records::body(number),
    };
    Some((number, seen))
}

fn judge(seed: u64, number: u64, earlier: usize) -> u16 {
    if records::kind(number) == Kind::Failing {
        return 503;
    }
    let chance = crc32fast::hash(format!("{seed}/{number}/{earlier}").as_bytes()) % 1_000;
    if chance < FAILING_PERMILLE { 503 } else { 200 }
}
