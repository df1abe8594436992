//! A TCP proxy between a client and Kafka that knows the protocol's framing. It can
//! hold back, lose or cut single requests and answers by their kind. It can let
//! them go later, also on a connection whose client has gone. So an older request
//! can reach the broker after a newer one, and the answer to a request that is
//! carried out can be lost.
//!
//! Nothing in the messages is changed but the brokers' ports, so that clients
//! come back through it. Brokers are at 127.0.0.1. Two threads a connection.

use super::delay_line::DelayLine;
use super::{ports, wait};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, BufReader, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// A kind of request, by the number that Kafka gives it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api(i16);

#[allow(missing_docs, reason = "the names are Kafka's")]
impl Api {
    pub const PRODUCE: Self = Self(0);
    pub const FETCH: Self = Self(1);
    pub const METADATA: Self = Self(3);
    pub const OFFSET_COMMIT: Self = Self(8);
    pub const OFFSET_FETCH: Self = Self(9);
    pub const FIND_COORDINATOR: Self = Self(10);
    pub const JOIN_GROUP: Self = Self(11);
    pub const HEARTBEAT: Self = Self(12);
    pub const LEAVE_GROUP: Self = Self(13);
    pub const SYNC_GROUP: Self = Self(14);
    pub const INIT_PRODUCER_ID: Self = Self(22);
    pub const END_TXN: Self = Self(26);
    pub const TXN_OFFSET_COMMIT: Self = Self(28);
    const DESCRIBE_CLUSTER: Self = Self(60);

    /// All that goes to a group's coordinator.
    pub const GROUP: &'static [Self] = &[
        Self::OFFSET_COMMIT,
        Self::OFFSET_FETCH,
        Self::FIND_COORDINATOR,
        Self::JOIN_GROUP,
        Self::HEARTBEAT,
        Self::LEAVE_GROUP,
        Self::SYNC_GROUP,
    ];
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "api {}", self.0)
    }
}

/// Which of the two messages of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// To the broker.
    Request,
    /// Back from it.
    Answer,
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It waits, and with it all that comes behind on its connection, until
    /// [`Trap::release`].
    Hold,
    /// It waits for this long, and with it all that comes behind on its connection.
    Delay(Duration),
    /// It is lost; what comes behind goes on.
    Lose,
    /// It is lost and its connection is closed.
    Cut,
}

/// What a message must be to be caught.
#[derive(Clone, Debug)]
pub struct Wanted {
    way: Way,
    apis: Vec<Api>,
    holding: Vec<u8>,
    skipped: usize,
    count: usize,
}

impl Wanted {
    /// One of these requests, before the broker gets it.
    pub fn request(apis: &[Api]) -> Self {
        Self::message(Way::Request, apis)
    }

    /// The answer to one of these requests, before the client gets it.
    pub fn answer(apis: &[Api]) -> Self {
        Self::message(Way::Answer, apis)
    }

    fn message(way: Way, apis: &[Api]) -> Self {
        Self {
            way,
            apis: apis.to_vec(),
            holding: Vec::new(),
            skipped: 0,
            count: 1,
        }
    }

    /// Only those in which these bytes stand.
    pub fn holding(mut self, bytes: &[u8]) -> Self {
        self.holding = bytes.to_vec();
        self
    }

    /// Not the first so many.
    pub fn after(mut self, skipped: usize) -> Self {
        self.skipped = skipped;
        self
    }

    /// All of them, instead of the first alone.
    pub fn all(mut self) -> Self {
        self.count = usize::MAX;
        self
    }

    fn fits(&self, way: Way, api: Api, body: &[u8]) -> bool {
        self.way == way
            && self.apis.contains(&api)
            && (self.holding.is_empty() || find(body, &self.holding).is_some())
    }
}

struct TrapState {
    wanted: Wanted,
    fate: Fate,
    caught: usize,
    released: bool,
}

#[derive(Default)]
struct State {
    traps: Vec<TrapState>,
    seen: BTreeMap<(Api, Way), usize>,
    /// Both sockets of every connection, by its number.
    connections: BTreeMap<usize, [TcpStream; 2]>,
    next_connection: usize,
    cut: bool,
    over: bool,
}

struct Shared {
    /// The brokers' ports, each with ours.
    ports: Vec<(u16, u16)>,
    /// How long a message takes in one direction.
    one_way: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

/// The proxy; all its connections end when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a port for each of these brokers, each `host:port`.
    pub fn start(brokers: &[&str]) -> Self {
        Self::start_far(brokers, Duration::ZERO)
    }

    /// The same, with brokers that are this round trip away.
    pub fn start_far(brokers: &[&str], round_trip: Duration) -> Self {
        let port = |address: &&str| {
            let (_, port) = address.rsplit_once(':').expect("host:port");
            port.parse::<u16>().expect("a port")
        };
        let listeners: Vec<(u16, TcpListener)> = brokers
            .iter()
            .map(|address| {
                let listener = TcpListener::bind(("127.0.0.1", ports::free()));
                (port(address), listener.expect("a port that is free"))
            })
            .collect();
        let ports = listeners.iter().map(|(theirs, listener)| {
            let ours = listener.local_addr().expect("it is bound").port();
            (*theirs, ours)
        });
        let shared = Arc::new(Shared {
            ports: ports.collect(),
            one_way: round_trip / 2,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        for (theirs, listener) in listeners {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&shared, &listener, theirs));
        }
        Self { shared }
    }

    /// What to bootstrap from.
    pub fn address(&self) -> String {
        let ports = self.shared.ports.iter();
        let all: Vec<String> = ports.map(|(_, port)| format!("127.0.0.1:{port}")).collect();
        all.join(",")
    }

    /// Catches the messages that fit from now on. Of several traps the first
    /// that fits catches.
    pub fn trap(&self, fate: Fate, wanted: Wanted) -> Trap<'_> {
        let mut state = self.shared.lock();
        state.traps.push(TrapState {
            wanted,
            fate,
            caught: 0,
            released: false,
        });
        Trap {
            shared: &self.shared,
            number: state.traps.len() - 1,
        }
    }

    /// How many such messages have come, caught ones included.
    pub fn seen(&self, way: Way, api: Api) -> usize {
        let state = self.shared.lock();
        state.seen.get(&(api, way)).copied().unwrap_or_default()
    }

    /// Closes every connection and takes no new one.
    pub fn cut(&self) {
        let mut state = self.shared.lock();
        state.cut = true;
        state.close_all();
    }

    /// Takes connections again.
    pub fn mend(&self) {
        self.shared.lock().cut = false;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        state.close_all();
        drop(state);
        self.shared.changed.notify_all();
        for (_, port) in &self.shared.ports {
            // Wakes the thread that accepts.
            drop(TcpStream::connect(("127.0.0.1", *port)));
        }
    }
}

/// A trap that was set; see [`Proxy::trap`].
pub struct Trap<'p> {
    shared: &'p Shared,
    number: usize,
}

impl Trap<'_> {
    /// How many messages it has caught.
    pub fn caught(&self) -> usize {
        self.shared.lock().traps[self.number].caught
    }

    /// Waits until it has caught one.
    #[track_caller]
    pub fn until_caught(&self) {
        let wanted = self.shared.lock().traps[self.number].wanted.clone();
        wait::until(&format!("{wanted:?}"), || self.caught() > 0);
    }

    /// Lets what it holds go on, and catches nothing more.
    pub fn release(&self) {
        self.shared.lock().traps[self.number].released = true;
        self.shared.changed.notify_all();
    }
}

impl State {
    fn close_all(&mut self) {
        for socket in self.connections.values().flatten() {
            // Those that are closed already need no closing.
            socket.shutdown(Shutdown::Both).ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// What becomes of a message; a hold is waited out here.
    fn judge(&self, way: Way, api: Api, body: &[u8]) -> Option<Fate> {
        let mut state = self.lock();
        *state.seen.entry((api, way)).or_default() += 1;
        let fits = |trap: &TrapState| !trap.released && trap.wanted.fits(way, api, body);
        let number = (0..state.traps.len()).find(|at| {
            let trap = &mut state.traps[*at];
            if !fits(trap) || trap.caught >= trap.wanted.count {
                return false;
            }
            let skipped = trap.wanted.skipped > 0;
            trap.wanted.skipped = trap.wanted.skipped.saturating_sub(1);
            !skipped
        })?;
        state.traps[number].caught += 1;
        let fate = state.traps[number].fate;
        match fate {
            Fate::Hold => {}
            Fate::Delay(span) => {
                drop(state);
                thread::sleep(span);
                return None;
            }
            Fate::Lose | Fate::Cut => return Some(fate),
        }
        let held = |state: &mut State| !state.traps[number].released && !state.over;
        let waited = self.changed.wait_while(state, held);
        drop(waited.expect("no holder panics"));
        None
    }
}

fn accept(shared: &Arc<Shared>, listener: &TcpListener, broker: u16) {
    for client in listener.incoming().flatten() {
        let upstream = TcpStream::connect(("127.0.0.1", broker));
        let mut state = shared.lock();
        if state.over {
            return;
        }
        let Some(upstream) = upstream.ok().filter(|_| !state.cut) else {
            continue;
        };
        let number = state.next_connection;
        state.next_connection += 1;
        for socket in [&client, &upstream] {
            socket.set_nodelay(true).expect("the socket is open");
        }
        let both = [clone(&client), clone(&upstream)];
        state.connections.insert(number, both);
        drop(state);
        let asked = Arc::new(Asked::default());
        let (there, back) = (Arc::clone(shared), Arc::clone(shared));
        let (from, to, open) = (clone(&client), clone(&upstream), Arc::clone(&asked));
        thread::spawn(move || requests(&there, from, to, &open));
        thread::spawn(move || {
            answers(&back, upstream, client, &asked);
            back.lock().connections.remove(&number);
        });
    }
}

fn clone(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a socket can be cloned")
}

/// What a connection's broker has been asked and has not answered.
#[derive(Default)]
struct Asked {
    open: Mutex<VecDeque<(i32, Api)>>,
    answered: Condvar,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(i32, Api)>> {
        self.open.lock().expect("no holder panics")
    }
}

fn requests(shared: &Shared, client: TcpStream, broker: TcpStream, asked: &Asked) {
    let mut line = DelayLine::new(clone(&broker), shared.one_way);
    let mut client = BufReader::new(client);
    while let Some(frame) = read_frame(&mut client) {
        let api = Api(i16::from_be_bytes([frame[4], frame[5]]));
        let fate = shared.judge(Way::Request, api, &frame[4..]);
        match fate {
            Some(Fate::Lose) => continue,
            Some(Fate::Cut) => {
                close(client.get_ref(), &broker);
                return;
            }
            Some(Fate::Hold | Fate::Delay(_)) | None => {}
        }
        let id = i32::from_be_bytes([frame[8], frame[9], frame[10], frame[11]]);
        asked.lock().push_back((id, api));
        if line.send(frame).is_err() {
            break;
        }
    }
    // The client has gone; what the broker was asked is still carried out.
    let waits = |open: &mut VecDeque<_>| !open.is_empty();
    let limit = wait::PATIENCE;
    let waited = asked
        .answered
        .wait_timeout_while(asked.lock(), limit, waits);
    drop(waited.expect("no holder panics"));
    close(client.get_ref(), &broker);
}

fn answers(shared: &Shared, broker: TcpStream, client: TcpStream, asked: &Asked) {
    let mut line = DelayLine::new(clone(&client), shared.one_way);
    let mut broker = BufReader::new(broker);
    while let Some(mut frame) = read_frame(&mut broker) {
        let id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
        let mut open = asked.lock();
        let at = open.iter().position(|(asked, _)| *asked == id);
        let (_, api) = at.and_then(|at| open.remove(at)).expect("it was asked");
        drop(open);
        asked.answered.notify_all();
        match shared.judge(Way::Answer, api, &frame[4..]) {
            Some(Fate::Lose) => continue,
            Some(Fate::Cut) => break,
            Some(Fate::Hold | Fate::Delay(_)) | None => {}
        }
        readdress(&shared.ports, api, &mut frame);
        // A client that has gone needs no answer; the next may still be held.
        line.send(frame).ok();
    }
    asked.lock().clear();
    asked.answered.notify_all();
    close(broker.get_ref(), &client);
}

fn close(one: &TcpStream, other: &TcpStream) {
    for socket in [one, other] {
        // It may be closed already.
        socket.shutdown(Shutdown::Both).ok();
    }
}

/// A message with the four bytes that tell its length; `None` at the end.
fn read_frame(from: &mut impl Read) -> Option<Vec<u8>> {
    let whole = |from: &mut dyn Read| -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        let mut frame = length.to_vec();
        frame.resize(4 + u32::from_be_bytes(length) as usize, 0);
        from.read_exact(&mut frame[4..])?;
        Ok(frame)
    };
    let frame = whole(from).ok()?;
    // An answer has at least its number, a request a header.
    (frame.len() >= 8).then_some(frame)
}

/// Puts our ports in place of the brokers': wherever an answer tells a broker's
/// address, the port follows the host as four bytes.
fn readdress(ports: &[(u16, u16)], api: Api, frame: &mut [u8]) {
    const HOST: &[u8] = b"127.0.0.1";
    // Records are not searched: new leaders stand behind them.
    const TAIL: usize = 1_024;
    let from = match api {
        Api::METADATA | Api::FIND_COORDINATOR | Api::DESCRIBE_CLUSTER => 4,
        Api::PRODUCE | Api::FETCH => frame.len().saturating_sub(TAIL).max(4),
        _ => return,
    };
    for (theirs, ours) in ports {
        let told = [HOST, &u32::from(*theirs).to_be_bytes()].concat();
        let mut at = from;
        while let Some(found) = find(&frame[at..], &told) {
            at += found + told.len();
            frame[at - 4..at].copy_from_slice(&u32::from(*ours).to_be_bytes());
        }
    }
}

fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    within.windows(wanted.len()).position(|w| w == wanted)
}
