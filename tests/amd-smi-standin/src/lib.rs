// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `libamd_smi.so` without a GPU: the part of ROCm's C ABI that tells energy, answered from a
//! script.
//!
//! Loaded as a shared library it reads `scenario.toml` from its own folder: GPUs, what they draw
//! from when to when, and faults. An accumulator integrates that script on `CLOCK_BOOTTIME` from
//! the first `amdsmi_init`, so the truth is known to the microjoule. Each copy of the file is a
//! machine of its own.
//!
//! Linked as a Rust crate it offers [`lab`], which puts such a folder up for a test.

mod abi;
pub mod lab;
pub mod scenario;
mod world;
