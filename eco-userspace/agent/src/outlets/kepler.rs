// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kepler's series (names of 0.10 and later) beside eco's own, for whoever has dashboards and
//! alerts on them: `--compat kepler`.
//!
//! They are read from the same books, so their sums are eco's. What Kepler has and the books do
//! not is kept here: power as a mean over some seconds, and what a process or container is called
//! beside its name. A label once given stays, or else a counter would be another series.

pub(crate) mod catalogue;
mod labels;
pub(crate) mod metrics;
mod power;
mod processors;

use crate::core::Core;

use self::{labels::Labels, power::Power, processors::Processor};

/// What Kepler's series need beside the books.
pub(crate) struct Kepler {
    processors: Vec<Processor>,
    labels: Labels,
    power: Power,
}

impl Kepler {
    /// Nothing seen yet. `cpuinfo` is what the kernel's file of that name says.
    pub(crate) fn new(cpuinfo: &str) -> Self {
        Self {
            processors: processors::read(cpuinfo),
            labels: Labels::default(),
            power: Power::default(),
        }
    }
}

impl Core {
    /// Keeps up with the books, after each tick.
    pub(crate) fn watch_for_kepler(&mut self) {
        let Some(mut kepler) = self.kepler.take() else {
            return;
        };
        kepler.labels.keep_up(self);
        kepler.power.keep_up(self);
        self.kepler = Some(kepler);
    }
}
