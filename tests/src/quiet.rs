// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A machine on which nearly nothing runs: what it takes to learn what idle costs.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::cgroup::machine_cpu_ns;

/// CPUs that may be busy on a quiet machine: its own agents and daemons.
const QUIET_CPUS: f64 = 0.15;

/// For so much longer than it has to last, quiet is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

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
