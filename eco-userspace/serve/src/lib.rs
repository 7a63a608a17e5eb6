// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cluster's API.

mod http_client;
mod store;
#[cfg(test)]
mod test_server;

pub use http_client::{HttpError, Remote};
pub use store::{Source, StoreError};
