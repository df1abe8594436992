//! Runs the plan: one thread for each replica, one for the brokers.

use super::ledger::{Fault, FaultKind};
use super::plan::{BrokerDown, Planned, PlannedFault};
use super::world::World;
use crate::support::ringback::Ringback;
use crate::support::wait;
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// A working replica sends within this time, whatever else is down.
const WORK_MAX: Duration = Duration::from_secs(90);
/// The maximum wait for the requested step of a transaction.
const TRANSACTION_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Drives one replica through its part of the plan.
pub struct Driver<'w> {
    world: &'w World,
    replica: usize,
    running: Ringback,
    /// Its faults so far.
    pub faults: Vec<Fault>,
    /// Ends of the process that no fault explains.
    pub unexpected_ends: Vec<String>,
}

impl<'w> Driver<'w> {
    /// Starts the replica.
    pub fn new(world: &'w World, replica: usize) -> Self {
        Self {
            world,
            replica,
            running: world.start(replica),
            faults: Vec::new(),
            unexpected_ends: Vec::new(),
        }
    }

    /// Runs the replica's part of the plan, and leaves the replica running.
    pub fn run_plan(mut self, plan: &[Planned]) -> (Ringback, Vec<Fault>, Vec<String>) {
        self.until_working();
        for planned in plan {
            self.pass(Duration::from_millis(planned.work_ms));
            self.perform(planned.fault);
            if let Some(fault) = self.faults.last().copied() {
                let (at, over) = (fault.at - self.world.started, fault.over - fault.at);
                println!(
                    "{:>7.1} s  replica {}  {:?}, {} ms",
                    at.as_secs_f32(),
                    self.replica,
                    planned.fault,
                    over.as_millis()
                );
            }
        }
        (self.running, self.faults, self.unexpected_ends)
    }

    fn perform(&mut self, fault: PlannedFault) {
        let receivers = self.world.receivers_way(self.replica);
        let kafka = self.world.cluster.way(self.replica);
        match fault {
            PlannedFault::Kill => self.kill(FaultKind::Kill, Duration::ZERO),
            PlannedFault::KillStarting { after_ms } => {
                self.restart();
                self.pass(Duration::from_millis(after_ms));
                self.kill(FaultKind::Kill, Duration::ZERO);
            }
            PlannedFault::KillInTransaction { request, fate } => {
                let springs = kafka.trap(request, fate);
                // Without a transaction within this time it is a plain kill.
                let sprung = springs.recv_timeout(TRANSACTION_MAX).is_ok();
                let kind = if sprung {
                    FaultKind::KillInTransaction
                } else {
                    FaultKind::Kill
                };
                self.kill(kind, Duration::ZERO);
                kafka.disarm();
            }
            PlannedFault::KillAbsent { for_ms } => {
                self.kill(FaultKind::KillAbsent, Duration::from_millis(for_ms));
            }
            PlannedFault::Stop { for_ms } => {
                let at = Instant::now();
                self.running.signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(for_ms));
                self.running.signal(Signal::CONT);
                self.over(FaultKind::Stop, at);
            }
            PlannedFault::Drain => self.restart(),
            PlannedFault::CutKafka { for_ms } => {
                let at = Instant::now();
                kafka.cut();
                self.pass(Duration::from_millis(for_ms));
                kafka.heal();
                self.over(FaultKind::CutKafka, at);
            }
            PlannedFault::CutReceivers { for_ms } => {
                let at = Instant::now();
                receivers.cut();
                self.pass(Duration::from_millis(for_ms));
                // Held bytes must not arrive beside their repetition.
                receivers.close();
                receivers.heal();
                self.over(FaultKind::CutReceivers, at);
            }
        }
    }

    /// Kills the replica with kill -9 and starts it again after `absent`.
    fn kill(&mut self, kind: FaultKind, absent: Duration) {
        self.restart_if_ended();
        let at = Instant::now();
        self.running.kill_now();
        self.world.cluster.way(self.replica).close();
        std::thread::sleep(absent);
        self.running = self.world.start(self.replica);
        self.over(kind, at);
    }

    /// Stops the replica with SIGTERM and starts it again once it has ended.
    fn restart(&mut self) {
        self.restart_if_ended();
        let at = Instant::now();
        let outages = self.world.outages();
        self.running.signal(Signal::TERM);
        let ended = wait::until_some("a drained replica's end", WORK_MAX, || self.running.over());
        // Without a broker the drain cannot commit in time: exit code 1.
        let calm = outages.is_multiple_of(2) && outages == self.world.outages();
        if ended.code() != Some(0) && (calm || ended.code() != Some(1)) {
            let code = format!("replica {} drained and ended with {ended}", self.replica);
            self.unexpected_ends.push(code);
        }
        self.running = self.world.start(self.replica);
        self.over(FaultKind::Drain, at);
    }

    /// Ends a fault, and waits until the replica works again.
    fn over(&mut self, kind: FaultKind, at: Instant) {
        let over = Instant::now();
        let worked = self.until_working();
        self.faults.push(Fault {
            kind,
            replica: Some(self.replica),
            tenant: None,
            at,
            over,
            recovery: Some(worked - over),
        });
    }

    /// Waits until the replica sends; returns the time.
    fn until_working(&mut self) -> Instant {
        let way = self.world.receivers_way(self.replica);
        let before = way.sent_bytes();
        let started = Instant::now();
        while way.sent_bytes() == before {
            self.restart_if_ended();
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

    /// Lets the replica work for this time.
    fn pass(&mut self, time: Duration) {
        let started = Instant::now();
        while started.elapsed() < time {
            self.restart_if_ended();
            std::thread::sleep(LOOK_EVERY.min(time));
        }
    }

    /// Restarts the replica if it ended by itself, as an orchestrator does.
    fn restart_if_ended(&mut self) {
        if let Some(status) = self.running.over() {
            let since = self.world.started.elapsed().as_secs();
            self.unexpected_ends
                .push(format!("replica {} at {since} s: {status}", self.replica));
            self.running = self.world.start(self.replica);
        }
    }
}

/// Runs the brokers' part: one broker at a time, the next once all copies are in
/// sync.
pub fn break_brokers(world: &World, plan: &[BrokerDown]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for down in plan {
        std::thread::sleep(Duration::from_millis(down.after_ms));
        wait::until_some("every copy to be in sync", WORK_MAX, || {
            world.cluster.in_sync().then_some(())
        });
        let brokers = world.brokers();
        let at = Instant::now();
        let broker = world.cluster.broker(down.broker);
        world.count_outage();
        broker.kill();
        std::thread::sleep(Duration::from_millis(down.for_ms));
        broker.start();
        world.count_outage();
        drop(brokers);
        let fault = Fault {
            kind: FaultKind::BrokerDown,
            replica: None,
            tenant: None,
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
