//! Carries the plan out: one thread for each replica, one for the brokers.

use super::ledger::{Fault, FaultKind};
use super::plan::{Blow, BrokerDown, Planned};
use super::world::World;
use crate::support::ringback::Ringback;
use crate::support::wait;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A replica that works sends within this time, whatever is down elsewhere.
const WORK_MAX: Duration = Duration::from_secs(90);
/// How long to wait for the right request of a transaction.
const TRANSACTION_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// One replica through its part of the plan.
pub struct Driver<'w> {
    world: &'w World,
    replica: usize,
    running: Ringback,
    /// What happened to it.
    pub faults: Vec<Fault>,
    /// Ends that nobody asked for.
    pub own_ends: Vec<String>,
}

impl<'w> Driver<'w> {
    /// Starts the replica.
    pub fn new(world: &'w World, replica: usize) -> Self {
        Self {
            world,
            replica,
            running: world.start(replica),
            faults: Vec::new(),
            own_ends: Vec::new(),
        }
    }

    /// Carries out all of its part, and leaves the replica running.
    pub fn carry_out(mut self, plan: &[Planned]) -> (Ringback, Vec<Fault>, Vec<String>) {
        self.until_working();
        for planned in plan {
            self.pass(Duration::from_millis(planned.work_ms));
            self.strike(planned.blow);
            if let Some(fault) = self.faults.last().copied() {
                let (at, over) = (fault.at - self.world.started, fault.over - fault.at);
                println!(
                    "{:>7.1} s  replica {}  {:?}, {} ms",
                    at.as_secs_f32(),
                    self.replica,
                    planned.blow,
                    over.as_millis()
                );
            }
        }
        (self.running, self.faults, self.own_ends)
    }

    fn strike(&mut self, blow: Blow) {
        let receivers = self.world.receivers_way(self.replica);
        let kafka = self.world.cluster.way(self.replica);
        match blow {
            Blow::Kill => self.kill(FaultKind::Kill, Duration::ZERO),
            Blow::KillStarting { after_ms } => {
                self.restart();
                self.pass(Duration::from_millis(after_ms));
                self.kill(FaultKind::Kill, Duration::ZERO);
            }
            Blow::KillInTransaction { request, fate } => {
                let springs = kafka.trap(request, fate);
                // Without a transaction in all this time it is a plain kill.
                let sprung = springs.recv_timeout(TRANSACTION_MAX).is_ok();
                let kind = if sprung {
                    FaultKind::KillInTransaction
                } else {
                    FaultKind::Kill
                };
                self.kill(kind, Duration::ZERO);
                kafka.disarm();
            }
            Blow::KillAbsent { for_ms } => {
                self.kill(FaultKind::KillAbsent, Duration::from_millis(for_ms));
            }
            Blow::Stop { for_ms } => {
                let at = Instant::now();
                self.running.signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(for_ms));
                self.running.signal(Signal::CONT);
                self.over(FaultKind::Stop, at);
            }
            Blow::Drain => self.restart(),
            Blow::CutKafka { for_ms } => {
                let at = Instant::now();
                kafka.cut();
                self.pass(Duration::from_millis(for_ms));
                kafka.heal();
                self.over(FaultKind::CutKafka, at);
            }
            Blow::CutReceivers { for_ms } => {
                let at = Instant::now();
                receivers.cut();
                self.pass(Duration::from_millis(for_ms));
                // What is held must not arrive beside its repetition.
                receivers.close();
                receivers.heal();
                self.over(FaultKind::CutReceivers, at);
            }
        }
    }

    /// kill -9, and a start after so long.
    fn kill(&mut self, kind: FaultKind, absent: Duration) {
        self.note_own_end();
        let at = Instant::now();
        self.running.kill_now();
        self.world.cluster.way(self.replica).close();
        std::thread::sleep(absent);
        self.running = self.world.start(self.replica);
        self.over(kind, at);
    }

    /// SIGTERM, and a start once it has ended.
    fn restart(&mut self) {
        self.note_own_end();
        let at = Instant::now();
        let outages = self.world.outages();
        self.running.signal(Signal::TERM);
        let ended = wait::until_some("a drained replica's end", WORK_MAX, || self.running.over());
        // Without a broker there is nobody to drain to in time: exit code 1.
        let calm = outages.is_multiple_of(2) && outages == self.world.outages();
        if ended.code() != Some(0) && (calm || ended.code() != Some(1)) {
            let code = format!("replica {} drained and ended with {ended}", self.replica);
            self.own_ends.push(code);
        }
        self.running = self.world.start(self.replica);
        self.over(FaultKind::Drain, at);
    }

    /// The fault ends now; the replica works again when this returns.
    fn over(&mut self, kind: FaultKind, at: Instant) {
        let over = Instant::now();
        let worked = self.until_working();
        self.faults.push(Fault {
            kind,
            replica: Some(self.replica),
            at,
            over,
            recovery: Some(worked - over),
        });
    }

    /// Waits until it sends; returns when it did.
    fn until_working(&mut self) -> Instant {
        let way = self.world.receivers_way(self.replica);
        let before = way.sent_bytes();
        let started = Instant::now();
        while way.sent_bytes() == before {
            self.note_own_end();
            let waited = started.elapsed();
            assert!(
                waited < WORK_MAX,
                "replica {} sends nothing for {waited:?}",
                self.replica
            );
            std::thread::sleep(LOOK_EVERY);
        }
        Instant::now()
    }

    /// Lets it work for so long.
    fn pass(&mut self, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            self.note_own_end();
            std::thread::sleep(LOOK_EVERY.min(time));
        }
    }

    /// Starts it again where it ended by itself, as an orchestrator would.
    fn note_own_end(&mut self) {
        if let Some(status) = self.running.over() {
            let since = self.world.started.elapsed().as_secs();
            self.own_ends
                .push(format!("replica {} at {since} s: {status}", self.replica));
            self.running = self.world.start(self.replica);
        }
    }
}

/// The brokers' part: one at a time, the next when all copies are in sync.
pub fn break_brokers(world: &World, plan: &[BrokerDown]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for down in plan {
        std::thread::sleep(Duration::from_millis(down.after_ms));
        wait::until_some("every copy to be in sync", WORK_MAX, || {
            world.cluster.in_sync().then_some(())
        });
        let at = Instant::now();
        let broker = world.cluster.broker(down.broker);
        world.count_outage();
        broker.kill();
        std::thread::sleep(Duration::from_millis(down.for_ms));
        broker.start();
        world.count_outage();
        let fault = Fault {
            kind: FaultKind::BrokerDown,
            replica: None,
            at,
            over: Instant::now(),
            recovery: None,
        };
        faults.push(fault);
        let (at, over) = (fault.at - world.started, fault.over - fault.at);
        println!(
            "{:>7.1} s  broker {}  down, {} ms",
            at.as_secs_f32(),
            down.broker + 1,
            over.as_millis()
        );
    }
    faults
}
