// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node agent: one tick, one ledger, and the outlets that read it.
//!
//! - [`core`] does the tick: usage, meters, attribution into the [`books`].
//! - [`service`] owns it on a thread and lets outlets ask between two ticks.
//! - [`http`] is the API, [`metrics`] what Prometheus reads, [`saved`] what outlives the agent.

pub mod accounts;
pub mod api;
pub mod books;
pub mod carbon;
mod charges;
pub mod cluster_job;
pub mod config;
pub mod core;
pub mod exposition;
pub mod gpus;
pub mod history;
pub mod homes;
pub mod http;
pub mod jobs;
mod kepler;
pub mod latency;
pub mod memory;
pub mod meters;
pub mod metrics;
pub mod own;
pub mod pods;
pub mod privileges;
mod promotion;
mod provisional;
pub mod push;
pub mod query;
mod resume;
pub mod saved;
pub mod scrapers;
pub mod series;
pub mod service;
pub mod slurm;
mod stream;
pub mod window;
pub mod work;
