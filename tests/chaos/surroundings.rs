//! Runs the faults of tenants and of brokers that stay up, one at a time.

use super::ledger::{Fault, FaultKind};
use super::plan::{PlannedSurrounding, Surrounding};
use super::world::World;
use std::thread;
use std::time::{Duration, Instant};

/// A slow broker answers nothing for this time, then for a short time all.
const STOPPED: Duration = Duration::from_millis(1_300);
const ANSWERS: Duration = Duration::from_millis(200);

/// Runs this part of the plan.
pub fn break_surroundings(world: &World, plan: &[PlannedSurrounding]) -> Vec<Fault> {
    plan.iter()
        .map(|planned| {
            thread::sleep(Duration::from_millis(planned.after_ms));
            let fault = perform(world, planned.fault, Duration::from_millis(planned.for_ms));
            let (at, over) = (fault.at - world.started, fault.over - fault.at);
            println!(
                "{:>7.1} s  {:?}, {} ms",
                at.as_secs_f32(),
                planned.fault,
                over.as_millis()
            );
            fault
        })
        .collect()
}

fn perform(world: &World, fault: Surrounding, span: Duration) -> Fault {
    let at = Instant::now();
    let (kind, replica) = match fault {
        Surrounding::HangingTenant { tenant } => {
            world.receiver().hang(Some(tenant));
            thread::sleep(span);
            world.receiver().hang(None);
            (FaultKind::HangingTenant, None)
        }
        Surrounding::SlowBroker { broker } => {
            while at.elapsed() < span {
                // A broker that is down has no process to stop.
                let brokers = world.brokers();
                world.cluster.broker(broker).freeze();
                thread::sleep(STOPPED);
                world.cluster.broker(broker).thaw();
                drop(brokers);
                thread::sleep(ANSWERS);
            }
            (FaultKind::SlowBroker, None)
        }
        Surrounding::UnreachableBroker { replica, broker } => {
            let way = world.cluster.way(replica);
            way.cut_port(broker);
            thread::sleep(span);
            way.heal();
            (FaultKind::UnreachableBroker, Some(replica))
        }
    };
    let tenant = match fault {
        Surrounding::HangingTenant { tenant } => Some(tenant),
        _ => None,
    };
    Fault {
        kind,
        replica,
        tenant,
        at,
        over: Instant::now(),
        recovery: None,
    }
}
