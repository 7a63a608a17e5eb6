// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `libnvidia-ml.so` without a GPU: the C ABI of NVML, answered from a script.
//!
//! Loaded as a shared library it reads `scenario.toml` from its own folder: GPUs, what each
//! process does on them from when to when, MIG instances, and faults. Energy integrates that
//! script on `CLOCK_BOOTTIME` from the first `nvmlInit_v2`, so what every process truly costs is
//! known to the microjoule. Each copy of the file is a machine of its own.
//!
//! Linked as a Rust crate it offers [`lab`], which puts such a folder up for a test.

mod abi;
pub mod lab;
mod mig;
pub mod scenario;
pub mod truth;
mod world;
