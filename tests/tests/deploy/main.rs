// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is in deploy/: that it is what it says, and that a real cluster takes it and runs it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod accounts;
mod agent;
mod installation;
mod job;
mod manifests;
mod monitoring;
mod serve;
mod systemd;

use std::path::{Path, PathBuf};

/// A file or folder of deploy/.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

/// The chart, for helm's command line.
fn chart() -> String {
    deploy("helm/eco").display().to_string()
}
