//! Profiles of the service under a backlog and at a steady rate. `tests/perf/profile`
//! draws them. perf samples the CPU time of all threads of the service.

use super::steady::Load;
use super::{Bench, Sizes, until_count};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const RATE: usize = 1_000;
/// Samples for each second of CPU time.
const FREQUENCY: &str = "299";
/// Frame pointers are missing: a sample keeps this much of its stack.
const CALL_GRAPH: &str = "dwarf,16384";

/// Leaves `backlog.data` and `steady.data` in this directory.
pub fn measure(bench: &Bench, sizes: &Sizes, to: &Path) {
    let mut run = bench.run("profile-backlog", "10s", 0);
    for number in 0..sizes.records {
        bench.publish(&run.topic, number);
    }
    bench.publisher.flush();
    let service = bench.start(&run, "10s");
    until_count(&mut run.receiver, 1);
    let sampler = Sampler::start(service.pid(), &to.join("backlog.data"));
    until_count(&mut run.receiver, sizes.records);
    sampler.stop();
    service.drain();
    let load = Load::new("profile-steady", RATE, sizes.seconds);
    load.run_sampled(bench, Some(&to.join("steady.data")));
}

/// A running perf.
pub struct Sampler(Child);

impl Sampler {
    /// Starts to sample a process.
    pub fn start(pid: u32, to: &Path) -> Self {
        let child = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", FREQUENCY])
            .args(["--call-graph", CALL_GRAPH, "-p", &pid.to_string(), "-o"])
            .arg(to)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("perf is installed"))
    }

    /// Has perf write its samples.
    pub fn stop(mut self) {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status().ok();
        self.0.wait().ok();
    }
}
