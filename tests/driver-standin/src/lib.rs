// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the stand-ins for GPU drivers have in common: a copy of a shared library that reads
//! `scenario.toml` from its own folder, and goes by it on `CLOCK_BOOTTIME`.

mod clock;
mod fault;
mod lab;
mod script;

pub use clock::clock_ns;
pub use fault::{Fault, for_ever};
pub use lab::{Lab, Library};
pub use script::{SCRIPT, ScriptError, parse, read_beside};
