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

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by a test for as long as it has a cluster: each uses both CPUs, and what an autoscaler waits
/// for would be late.
fn one_cluster_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
