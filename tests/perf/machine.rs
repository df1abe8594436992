//! CPU time, memory and cores of a process, from the kernel.

use super::support::process;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// The kernel reports CPU time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of all threads of a process, ended ones included.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    // The name in brackets may hold any text; only numbers follow it.
    let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u32>().expect("a number of ticks");
    TICK * (ticks(11) + ticks(12))
}

/// Returns the maximum resident memory of a process, in MiB.
pub fn resident_max(pid: u32) -> f64 {
    process::resident_max_kib(pid) as f64 / 1_024.0
}

/// Confines all threads of a process to these cores (`0` or `0-1`).
pub fn confine(pid: u32, cores: &str) {
    let done = Command::new("taskset")
        .args(["-acp", cores, &pid.to_string()])
        .output();
    let done = done.expect("taskset is part of util-linux");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Returns the core of the measured process, the cores of the other processes,
/// and all cores.
pub fn cores() -> (String, String, String) {
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    match count {
        1 => ("0".to_owned(), "0".to_owned(), "0".to_owned()),
        n => (
            "0".to_owned(),
            format!("1-{}", n - 1),
            format!("0-{}", n - 1),
        ),
    }
}
