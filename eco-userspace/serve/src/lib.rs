// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cluster's API.

mod api;
mod auth;
mod cluster;
mod consumption;
mod custom_metrics;
mod http_client;
mod own_metrics;
mod pod_metrics;
mod refusal;
mod service;
mod store;
#[cfg(test)]
mod test_server;

pub use http_client::{HttpError, Remote};
pub use store::{Source, StoreError};
