//! Long runs of commands, shared by `tests/soak/run` and short tests.

#[allow(dead_code, reason = "each test program uses a part")]
pub mod killed;
