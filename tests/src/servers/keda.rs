// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KEDA, as far as an external scaler meets it: its own client (xtask/servers/keda).

use std::{net::SocketAddr, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Installed, find_or_skip, server::run};

/// KEDA's client of one scaler.
pub struct Keda {
    installed: Installed,
    scaler: SocketAddr,
    is_secure: bool,
}

impl Keda {
    /// One that will ask a scaler, as for a trigger that has nothing about TLS, or has
    /// `enableTLS` and `unsafeSsl`. Prints `skipped: why` and answers `None` where it is not
    /// built.
    #[must_use]
    pub fn find(scaler: SocketAddr, is_secure: bool) -> Option<Self> {
        let [installed] = find_or_skip(["keda"])?;
        Some(Self {
            installed,
            scaler,
            is_secure,
        })
    }

    /// Calls a method for a ScaledObject of a namespace whose trigger has this metadata. Of a
    /// stream it is the first answer.
    ///
    /// # Errors
    /// When the scaler refuses: with its code and its words.
    pub fn call(&self, method: &str, namespace: &str, metadata: &[&str]) -> Result<Value> {
        let mut keda = Command::new(self.installed.path("bin/keda"));
        if self.is_secure {
            keda.arg("-tls");
        }
        keda.args([&self.scaler.to_string(), method, namespace]);
        let answer = run(keda.args(metadata))?;
        serde_json::from_str(&answer).with_context(|| format!("{method}: {answer}"))
    }
}
