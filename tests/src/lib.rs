// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab that eco is tested in, as a program outside the project would test it: through its
//! two binaries, its socket, its metrics and its JSON.
//!
//! The neighbours that eco works with are real as well: [`servers`].
//!
//! What is measured is held against what the kernel itself counted ([`cgroup`], a workload's own
//! resource usage) and against a meter whose truth is known ([`power`]).

pub mod agent;
pub mod cgroup;
pub mod clock;
pub mod grpc;
pub mod http;
pub mod increase;
pub mod lab;
pub mod launch;
pub mod length;
pub mod metrics;
pub mod needs;
pub mod node;
pub mod pod_resources;
pub mod power;
pub mod process_tree;
pub mod programs;
pub mod quiet;
pub mod run;
pub mod serve;
pub mod servers;
pub mod terminal;
pub mod user;
pub mod wait;
pub mod workload;
