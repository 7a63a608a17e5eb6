// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is measured beside processes: containers, pods, users and jobs, and which of them a use
//! belongs to.

pub mod cluster_job;
pub mod homes;
pub mod job_trace;
pub mod jobs;
pub mod pods;
mod provisional;
pub mod slurm;
pub mod work;
