//! Fairness between tenants: which record waits in its tenant's lane, which is
//! diverted, and which starts next. Never IO, never a clock. Runs on the runner's
//! thread.
//!
//! `lanes` holds the waiting records, `admission` decides about one more record.
//! `overdue` ends the waits that are too long. `diverts` estimates waits, and how
//! long a diverted record stays away, by what `divert_load` measures.
//! `limit` bounds the attempts of one tenant at once, `slots` those of all tenants.
//! `start_slots` and `ramp_up` bound how fast attempts start. `rate` counts recent
//! outcomes. `failing` lists the failing tenants for operators and decides nothing.

mod admission;
mod divert_load;
mod diverts;
mod failing;
mod lanes;
mod limit;
mod overdue;
mod ramp_up;
mod rate;
mod slots;
mod start_slots;

pub use admission::{Admission, Occupancy};
pub use diverts::{Divert, Ladder};
pub use failing::{Failing, Failure};
pub use lanes::{LaneId, Lanes};
pub use limit::Round;
pub use ramp_up::RampUp;
pub use start_slots::{START_SLOTS, StartSlots};

#[cfg(test)]
mod tests;
