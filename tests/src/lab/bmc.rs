// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's management controller: Redfish over HTTPS, with a certificate of its own making, a
//! session that must be opened, and one slow value.

use std::{fs, path::Path, path::PathBuf};

use anyhow::{Context, Result};
use eco_redfish_standin::{Identity, Resource, Server};

use super::scenario;

/// The account that the controller knows; it is reached from this machine only.
const USER: &str = "monitor";

const PASSWORD: &str = "only-for-the-lab";

/// A controller on a port of this machine. Dropped, it answers nobody any more.
pub(super) struct Bmc {
    server: Server,
    authority: PathBuf,
    password: PathBuf,
    shown_uw: u64,
}

impl Bmc {
    /// Starts one; the CA that vouches for it and its password are put into `folder`.
    ///
    /// # Errors
    /// When no port is to be had, or the files cannot be written.
    pub(super) fn start(folder: &Path, bmc: &scenario::Bmc) -> Result<Self> {
        let identity = Identity::good("127.0.0.1")?;
        let server = Server::tls(&identity).context("the management controller")?;
        let started = Self {
            server,
            authority: folder.join("bmc.pem"),
            password: folder.join("bmc.password"),
            shown_uw: 0,
        };
        fs::write(&started.authority, identity.authority)?;
        fs::write(&started.password, PASSWORD)?;
        let mut script = started.server.script();
        USER.clone_into(&mut script.user);
        PASSWORD.clone_into(&mut script.password);
        script.tell_by(match bmc.resource {
            scenario::Resource::Power => Resource::Power,
            scenario::Resource::Environment => Resource::Environment,
        });
        // Until there is a mean: as if the machine had rested before.
        script.tell_watts(bmc.idle_watts.round());
        drop(script);
        Ok(started)
    }

    /// Shows so much from now on: in whole watts, as most controllers tell them.
    pub(super) fn show(&mut self, microwatts: u64) {
        // It is a page of JSON, and moves rarely.
        if std::mem::replace(&mut self.shown_uw, microwatts) != microwatts {
            self.server.set_watts((microwatts as f64 / 1e6).round());
        }
    }

    /// Answers nobody, or everybody again.
    pub(super) fn set_away(&self, is_away: bool) {
        self.server.script().is_away = is_away;
    }

    /// How eco's agent is told of it.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let text = |path: &Path| path.display().to_string();
        vec![
            ("ECO_REDFISH__URL", self.server.url()),
            ("ECO_REDFISH__USER", USER.to_owned()),
            ("ECO_REDFISH__PASSWORD_FILE", text(&self.password)),
            ("ECO_REDFISH__CA_FILE", text(&self.authority)),
        ]
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        self.set_away(true);
    }
}
