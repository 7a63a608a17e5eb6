// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine on which nearly nothing runs, and then one that works: what it takes to learn what
//! idle costs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{cgroup::machine_cpu_ns, length, workload::Workload};

/// How far a bill may be off its truth where idle was learned just before it: the project's own
/// bar at full length. The noise of ten quiet seconds moved a bill of seconds by 1.2 % on a
/// machine of this project's CI.
#[must_use]
pub fn bill_bar() -> f64 {
    length::of(0.03, 0.01)
}

/// CPUs that may be busy on a quiet machine: its own agents and daemons.
const QUIET_CPUS: f64 = 0.15;

/// For so much longer than it has to last, quiet is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// CPU seconds that show an agent what work costs: it looks once a second, and takes five looks
/// at about one utilisation together.
const WORK: &str = "burn 8";

/// Gives an agent, which has just been started, what one has after its first hour: so many
/// seconds with next to nothing to do, and then some work. `false`: others keep the machine busy.
///
/// Without the work it would not know what a CPU second costs, and so not what of a quiet
/// machine's power its few daemons draw: whatever comes next would be charged some percent wrong
/// for its first seconds.
///
/// # Errors
/// When the machine's CPU time cannot be read, or nothing can be run.
pub fn has_learned_idle(seconds: u32) -> Result<bool> {
    if !has_been_quiet(seconds)? {
        return Ok(false);
    }
    Workload::new(WORK)?.run()?;
    Ok(true)
}

/// Waits until so many seconds were quiet, in a row or not. `false`: others keep the machine
/// busy.
///
/// # Errors
/// When the machine's CPU time cannot be read.
pub fn has_been_quiet(seconds: u32) -> Result<bool> {
    let since = Instant::now();
    let patience = PATIENCE + Duration::from_secs(seconds.into());
    let mut quiet = 0;
    while quiet < seconds {
        if since.elapsed() > patience {
            return Ok(false);
        }
        let (before, begun) = (machine_cpu_ns()?, Instant::now());
        thread::sleep(Duration::from_secs(1));
        let busy = (machine_cpu_ns()? - before) as f64 / begun.elapsed().as_nanos() as f64;
        quiet += u32::from(busy < QUIET_CPUS);
    }
    Ok(true)
}
