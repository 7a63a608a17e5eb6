// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cluster's API: energy and carbon of pods, namespaces, nodes and jobs.
//!
//! Questions come in three languages: eco's own (HTTP and JSON), Kubernetes' custom metrics, and
//! KEDA's external scaler. All are answered from the cluster's store, through PromQL, or from
//! the agents where there is none. Nothing is kept here, so any number of replicas may run.

mod api;
mod auth;
mod client;
mod cluster;
mod config;
mod consumption;
mod custom_metrics;
mod http_client;
mod keda;
mod listener;
mod own_metrics;
mod pod_metrics;
mod refusal;
mod server;
mod service;
mod store;
#[cfg(test)]
mod test_server;
mod tls;

pub use api::GROUP;
pub use client::{Client, ClientError};
pub use cluster::in_cluster;
pub use config::{AccessRule, Config, ConfigError, Keda, USUAL_POWER_WINDOW};
pub use http_client::{HttpError, Remote};
pub use server::{ServeError, Server, serve};
pub use store::{Source, StoreError};
pub use tls::{Tls, TlsError};
