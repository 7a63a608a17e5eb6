// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The system call behind a perf meter, and the two traits that a test puts in its place.

use std::io;

use perf_event::{Builder, Counter, events::Raw};

/// Opens counters of energy.
pub(crate) trait Open: Send {
    /// Opens the event `config` of the PMU `kind` on `cpu`, for all processes, counting from zero.
    ///
    /// # Errors
    /// What the kernel says: `EACCES` without CAP_PERFMON, `EINVAL` for an event it lacks.
    fn open(&self, kind: u32, config: u64, cpu: u32) -> io::Result<Box<dyn Count>>;
}

/// An open counter.
pub(crate) trait Count: Send {
    /// Counts since it was opened. The kernel unrolls the hardware's 32 bits itself.
    ///
    /// # Errors
    /// When the counter is gone: its CPU went offline.
    fn count(&mut self) -> io::Result<u64>;
}

/// `perf_event_open(2)`.
pub(crate) struct Kernel;

impl Open for Kernel {
    fn open(&self, kind: u32, config: u64, cpu: u32) -> io::Result<Box<dyn Count>> {
        let mut builder = Builder::new(Raw::new(config));
        builder.attrs_mut().type_ = kind;
        // A RAPL PMU counts a package, whoever runs: it refuses to exclude anyone.
        builder
            .any_pid()
            .one_cpu(cpu as usize)
            .exclude_kernel(false)
            .exclude_hv(false)
            .enabled(true);
        Ok(Box::new(builder.build()?))
    }
}

impl Count for Counter {
    fn count(&mut self) -> io::Result<u64> {
        self.read()
    }
}
