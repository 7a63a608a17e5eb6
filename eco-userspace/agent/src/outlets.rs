// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the numbers go by themselves: to whoever scrapes, to those that the agent pushes to, and
//! to the history on disk.

pub mod exposition;
pub mod history;
pub(crate) mod kepler;
pub mod metrics;
pub mod push;
pub mod traces;
