// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco serve`, from real stores, and in a real cluster.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod cluster;
mod keda;
mod scale;
mod stores;
