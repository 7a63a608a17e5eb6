// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel programs say in words, on stderr. Only in builds with the feature
//! `kernel-log`, for whoever works on them: counters tell the same to everyone else.

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Reads the ring that the programs write words into.
pub(crate) struct KernelLog(Option<EbpfLogger<&'static Stderr>>);

impl KernelLog {
    pub(crate) fn open(ebpf: &mut Ebpf) -> Self {
        let logger = EbpfLogger::init_with_logger(ebpf, &Stderr);
        if let Err(why) = &logger {
            eprintln!("eco-ebpf: its words cannot be read: {why}");
        }
        Self(logger.ok())
    }

    /// Passes on what was said since the last call.
    pub(crate) fn pass_on(&mut self) {
        if let Some(logger) = &mut self.0 {
            logger.flush();
        }
    }
}

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("eco-ebpf: {}: {}", record.level(), record.args());
    }

    fn flush(&self) {}
}
