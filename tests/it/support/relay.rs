//! A relay of bytes on one or several ports, which can be cut and healed. Of Kafka's
//! protocol it reads only where a request begins and what kind it is. So a process
//! can be killed in the middle of a transaction.

use super::lateness::Lateness;
use super::ports;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What passes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// Kafka's requests, each with its length before it.
    Kafka,
    /// Anything.
    Bytes,
}

/// Kinds of requests, by the protocol's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// EndTxn.
    EndTransaction = 26,
    /// TxnOffsetCommit.
    TransactionOffsets = 28,
}

/// What happens to a trapped request; its answer never arrives either way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It does not arrive.
    Withheld,
    /// It arrives.
    Passed,
}

struct Trap {
    request: Request,
    fate: Fate,
    sprung: mpsc::Sender<()>,
}

/// Whether bytes pass, and which connections are still good.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Passage {
    cut: bool,
    /// The one port that is cut though others are not.
    cut_port: Option<usize>,
    /// Connections of an earlier era are closed.
    era: u64,
}

impl Passage {
    fn is_cut(self, port: usize) -> bool {
        self.cut || self.cut_port == Some(port)
    }
}

struct Control {
    speech: Speech,
    passage: watch::Sender<Passage>,
    trap: Mutex<Option<Trap>>,
    sent_bytes: AtomicU64,
}

/// The relay; it ends when dropped.
pub struct Relay {
    ports: Vec<u16>,
    control: Arc<Control>,
    lateness: Lateness,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts it: one port of its own for each of these targets.
    pub fn start(targets: &[u16], speech: Speech) -> Self {
        let control = Arc::new(Control {
            speech,
            passage: watch::Sender::default(),
            trap: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
        });
        let mut ways = Vec::new();
        for target in targets {
            let listener = ports::listen("127.0.0.1:0");
            ways.push((listener, *target));
        }
        let port =
            |(listener, _): &(StdListener, u16)| listener.local_addr().expect("it is bound").port();
        let ports = ways.iter().map(port).collect();
        let (stop, stopped) = oneshot::channel();
        let for_thread = control.clone();
        let lateness = Lateness::default();
        let watched = lateness.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(async {
                tokio::spawn(watched.watch());
                for (port, (listener, target)) in ways.into_iter().enumerate() {
                    tokio::spawn(accept(listener, port, target, for_thread.clone()));
                }
                stopped.await.ok();
            });
        });
        Self {
            ports,
            control,
            lateness,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its ports, in the order of the targets.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// From now on nothing passes, and connections stay.
    pub fn cut(&self) {
        self.control
            .passage
            .send_modify(|passage| passage.cut = true);
    }

    /// From now on nothing passes on the port of this target, from 0.
    pub fn cut_port(&self, target: usize) {
        self.control
            .passage
            .send_modify(|passage| passage.cut_port = Some(target));
    }

    /// All passes again, what was held too.
    pub fn heal(&self) {
        self.control.passage.send_modify(|passage| {
            passage.cut = false;
            passage.cut_port = None;
        });
    }

    /// Closes all connections, with what is held on them.
    pub fn close(&self) {
        self.control.passage.send_modify(|passage| passage.era += 1);
    }

    /// Waits for the next request of this kind, which meets this fate; says
    /// when it did.
    pub fn trap(&self, request: Request, fate: Fate) -> mpsc::Receiver<()> {
        let (sprung, springs) = mpsc::channel();
        *self.control.trap.lock().expect("no holder panics") = Some(Trap {
            request,
            fate,
            sprung,
        });
        springs
    }

    /// Takes the trap away.
    pub fn disarm(&self) {
        self.control.trap.lock().expect("no holder panics").take();
    }

    /// How late what passes was at times.
    pub fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// How many bytes came from the clients.
    pub fn sent_bytes(&self) -> u64 {
        self.control.sent_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

async fn accept(listener: StdListener, port: usize, target: u16, control: Arc<Control>) {
    let listener = TcpListener::from_std(listener).expect("it does not block");
    loop {
        if let Ok((client, _)) = listener.accept().await {
            tokio::spawn(connection(client, port, target, control.clone()));
        }
    }
}

/// Runs until one side closes or [`Relay::close`].
async fn connection(client: TcpStream, port: usize, target: u16, control: Arc<Control>) {
    let mut passage = control.passage.subscribe();
    let era = passage.borrow().era;
    let relayed = async {
        open(&mut control.passage.subscribe(), port).await;
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
            return;
        };
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let mute = AtomicBool::new(false);
        tokio::select! {
            _ = send(from_client, to_server, port, &control, &mute) => {}
            _ = answer(from_server, to_client, port, &control, &mute) => {}
        }
    };
    tokio::select! {
        _ = relayed => {}
        _ = passage.wait_for(|now| now.era != era) => {}
    }
}

/// Waits until bytes pass.
async fn open(passage: &mut watch::Receiver<Passage>, port: usize) {
    // The sender exists as long as any connection.
    passage.wait_for(|now| !now.is_cut(port)).await.ok();
}

/// From the client; `None` once it is closed.
async fn send(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    port: usize,
    control: &Control,
    mute: &AtomicBool,
) -> Option<()> {
    let mut passage = control.passage.subscribe();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match control.speech {
            Speech::Bytes => {
                bytes.reserve(64 << 10);
                let read = from.read_buf(&mut bytes).await.ok()?;
                (read > 0).then_some(())?;
            }
            Speech::Kafka => {
                let length = from.read_i32().await.ok()?;
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.resize(4 + usize::try_from(length).ok()?, 0);
                from.read_exact(&mut bytes[4..]).await.ok()?;
            }
        }
        open(&mut passage, port).await;
        control
            .sent_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let trap = control.sprung(&bytes);
        if let Some(trap) = &trap {
            mute.store(true, Ordering::Relaxed);
            if trap.fate == Fate::Withheld {
                trap.sprung.send(()).ok();
                std::future::pending::<()>().await;
            }
        }
        to.write_all(&bytes).await.ok()?;
        if let Some(trap) = trap {
            trap.sprung.send(()).ok();
        }
    }
}

/// To the client; `None` once the server has closed.
async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    port: usize,
    control: &Control,
    mute: &AtomicBool,
) -> Option<()> {
    let mut passage = control.passage.subscribe();
    let mut bytes = Vec::with_capacity(64 << 10);
    loop {
        bytes.clear();
        let read = from.read_buf(&mut bytes).await.ok()?;
        (read > 0).then_some(())?;
        open(&mut passage, port).await;
        if mute.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        to.write_all(&bytes).await.ok()?;
    }
}

impl Control {
    /// The trap, where this request is the one that it waits for.
    fn sprung(&self, bytes: &[u8]) -> Option<Trap> {
        let kind = i16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]);
        let mut trap = self.trap.lock().expect("no holder panics");
        trap.take_if(|trap| trap.request as i16 == kind)
    }
}
