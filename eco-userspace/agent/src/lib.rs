// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The node agent: one tick, one ledger, and the outlets that read it.
//!
//! - [`core`] does the tick: usage, meters, attribution into the [`ledger`]; [`workloads`] says
//!   whom a use belongs to.
//! - [`service`] owns it on a thread and lets outlets ask between two ticks.
//! - [`outlets`] are metrics, their receivers, and the history; [`http`] is the API, whose shapes
//!   are in [`api`] and its answers in [`query`].

pub mod api;
pub mod carbon;
pub mod config;
pub mod core;
pub mod http;
pub mod ledger;
pub mod outlets;
pub mod own;
pub mod query;
pub mod series;
pub mod service;
pub mod workloads;
