// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Readings and usage in, shares out: pure functions, with no I/O, no clock and no async.
//!
//! - [`Splitter`] splits an integer by weights and loses nothing.
//! - [`Apportioner`] splits one meter's energy of one tick between idle, units and nobody.
//! - [`Baseline`] learns how much of a meter's power is idle.

mod apportion;
mod baseline;
mod split;

pub use apportion::{Apportioner, IdlePolicy, Interval, Outcome, Reason, Share};
pub use baseline::{Baseline, Basis, Idle};
pub use split::{Claim, Splitter};
