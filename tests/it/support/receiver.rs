//! A tenant's HTTP server under a script: HTTP/1.1 with keep-alive, one thread,
//! every tenant under its own path `/t/<tenant>`. It notes every POST.

use super::http_parts::{Request, read_request};
use super::ports;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// What a tenant does with a POST.
#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    /// 200.
    Ok,
    /// 503 to the first so many POSTs of each record, then 200.
    FailFirst(usize),
    /// This status, always.
    Always(u16),
    /// 302 to a path that would answer 200.
    Redirect,
    /// 503 with `Retry-After` to the first POST of each record, then 200.
    RetryAfter(u32),
    /// 503 to so many of 1,000 POSTs, by chance from the seed; else 200.
    FailShare {
        /// How many of 1,000.
        permille: u64,
        /// From which the chance comes.
        seed: u64,
    },
    /// 200 after this long.
    Slow(Duration),
    /// Never an answer.
    Hang,
    /// The connection is closed without one.
    Close,
}

/// What is kept of a POST's bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Head and body.
    All,
    /// A checksum of the body.
    #[allow(dead_code, reason = "the benchmark keeps no bodies")]
    Checksum,
}

/// One POST as it arrived.
#[derive(Clone, Debug)]
pub struct Post {
    /// When it was read whole.
    pub at: Instant,
    /// The same for other processes: microseconds since the Unix epoch.
    pub at_us: u64,
    /// The tenant whose path it came to.
    pub tenant: String,
    /// Its `ringback-attempt`, 0 where there is none.
    pub attempt: u8,
    /// What was answered, once it was.
    pub status: Option<u16>,
    /// Length and CRC-32 of the body.
    pub sum: (usize, u32),
    /// Head and body, where they are kept.
    pub bytes: Option<(String, Vec<u8>)>,
}

impl Post {
    /// Whether the answer was a success.
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|s| (200..300).contains(&s))
    }

    /// The value of a header of the kept head.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.bytes.as_ref().expect("the head is kept");
        super::http_parts::header(head, name)
    }
}

/// Every POST of every record, by record id, in order of arrival.
pub type Posts = HashMap<String, Vec<Post>>;

struct Shared {
    keep: Keep,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    posts: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    by_id: Posts,
    total: usize,
    succeeded: usize,
    connections: usize,
    strays: usize,
}

/// The server; it ends when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Starts it on a port of its own.
    pub fn start(keep: Keep) -> Self {
        Self::start_at("127.0.0.1:0", keep)
    }

    /// Starts it at this address.
    pub fn start_at(address: &str, keep: Keep) -> Self {
        let shared = Arc::new(Shared {
            keep,
            behaviours: Mutex::default(),
            posts: Mutex::default(),
        });
        let listener = ports::listen(address);
        let address = listener.local_addr().expect("it is bound");
        let (stop, stopped) = oneshot::channel();
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(accept(listener, for_thread, stopped));
        });
        Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// The URL of a tenant's callback.
    pub fn url(&self, tenant: &str) -> String {
        format!("http://{}/t/{tenant}", self.address)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets what a tenant does from now on; without it: [`Behaviour::Ok`].
    pub fn behave(&self, tenant: &str, behaviour: Behaviour) {
        let mut behaviours = self.shared.behaviours.lock().expect("no holder panics");
        behaviours.insert(tenant.to_owned(), behaviour);
    }

    /// All POSTs until now.
    pub fn posts(&self) -> Posts {
        self.shared.noted().by_id.clone()
    }

    /// The POSTs of one record until now.
    pub fn posts_of(&self, id: &str) -> Vec<Post> {
        let noted = self.shared.noted();
        noted.by_id.get(id).cloned().unwrap_or_default()
    }

    /// How many POSTs have arrived.
    pub fn count(&self) -> usize {
        self.shared.noted().total
    }

    /// How many POSTs were answered 2xx.
    pub fn successes(&self) -> usize {
        self.shared.noted().succeeded
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.shared.noted().connections
    }

    /// How many requests came that were no POST to a tenant.
    pub fn strays(&self) -> usize {
        self.shared.noted().strays
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

async fn accept(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                socket.set_nodelay(true).ok();
                shared.noted().connections += 1;
                tokio::spawn(serve(socket, shared.clone()));
            }
        }
    }
}

async fn serve(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut buffer = Vec::with_capacity(16 * 1024);
    while let Some(request) = read_request(&mut socket, &mut buffer).await {
        let Some(tenant) = request.path().strip_prefix("/t/").map(str::to_owned) else {
            shared.noted().strays += 1;
            answer(&mut socket, 200, "connection: close\r\n").await;
            return;
        };
        let (verdict, place) = shared.note(&request, &tenant);
        let answered = match verdict {
            Verdict::Answer { status, headers } => answer(&mut socket, status, &headers).await,
            Verdict::Late(wait) => {
                tokio::time::sleep(wait).await;
                match answer(&mut socket, 200, "").await {
                    Some(()) => {
                        shared.answered(&request, place, 200);
                        Some(())
                    }
                    None => None,
                }
            }
            Verdict::Hang => {
                // Until the other side gives up.
                tokio::io::copy(&mut socket, &mut tokio::io::sink())
                    .await
                    .ok();
                None
            }
            Verdict::Close => None,
        };
        if answered.is_none() {
            return;
        }
    }
}

async fn answer(socket: &mut TcpStream, status: u16, headers: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n{headers}\r\n");
    socket.write_all(head.as_bytes()).await.ok()
}

enum Verdict {
    Answer { status: u16, headers: String },
    Late(Duration),
    Hang,
    Close,
}

impl Shared {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.posts.lock().expect("no holder panics")
    }

    /// Notes a POST, decides on its answer, and says which of its record's
    /// POSTs it is.
    fn note(&self, request: &Request, tenant: &str) -> (Verdict, usize) {
        let behaviour = {
            let behaviours = self.behaviours.lock().expect("no holder panics");
            behaviours.get(tenant).copied().unwrap_or(Behaviour::Ok)
        };
        let id = request.header("webhook-id").unwrap_or("").to_owned();
        let attempt = request.header("ringback-attempt");
        let epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let mut post = Post {
            at: Instant::now(),
            at_us: epoch.expect("after 1970").as_micros() as u64,
            tenant: tenant.to_owned(),
            attempt: attempt.and_then(|a| a.parse().ok()).unwrap_or(0),
            status: None,
            sum: (request.body.len(), crc32fast::hash(&request.body)),
            bytes: (self.keep == Keep::All).then(|| (request.head.clone(), request.body.clone())),
        };
        let mut noted = self.noted();
        noted.total += 1;
        let earlier = noted.by_id.get(&id).map_or(0, Vec::len);
        let verdict = judge(behaviour, &id, earlier);
        if let Verdict::Answer { status, .. } = &verdict {
            post.status = Some(*status);
            noted.succeeded += usize::from(post.succeeded());
        }
        noted.by_id.entry(id).or_default().push(post);
        (verdict, earlier)
    }

    /// Notes an answer that was sent later.
    fn answered(&self, request: &Request, place: usize, status: u16) {
        let id = request.header("webhook-id").unwrap_or("");
        let mut noted = self.noted();
        noted.succeeded += 1;
        if let Some(posts) = noted.by_id.get_mut(id) {
            posts[place].status = Some(status);
        }
    }
}

fn judge(behaviour: Behaviour, id: &str, earlier: usize) -> Verdict {
    let plain = |status| Verdict::Answer {
        status,
        headers: String::new(),
    };
    let with = |status, headers: String| Verdict::Answer { status, headers };
    match behaviour {
        Behaviour::Ok => plain(200),
        Behaviour::FailFirst(n) => plain(if earlier < n { 503 } else { 200 }),
        Behaviour::Always(status) => plain(status),
        Behaviour::Redirect => with(302, "location: /elsewhere\r\n".to_owned()),
        Behaviour::RetryAfter(_) if earlier > 0 => plain(200),
        Behaviour::RetryAfter(seconds) => with(503, format!("retry-after: {seconds}\r\n")),
        Behaviour::FailShare { permille, seed } => {
            let text = format!("{seed}/{id}/{earlier}");
            let chance = u64::from(crc32fast::hash(text.as_bytes())) % 1_000;
            plain(if chance < permille { 503 } else { 200 })
        }
        Behaviour::Slow(wait) => Verdict::Late(wait),
        Behaviour::Hang => Verdict::Hang,
        Behaviour::Close => Verdict::Close,
    }
}
