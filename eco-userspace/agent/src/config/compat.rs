// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose names are served beside eco's own.

use super::{ConfigError, Settings};

/// Another exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compat {
    /// Kepler, since 0.10.
    Kepler,
}

impl Settings {
    pub(super) fn compat(&self) -> Result<Option<Compat>, ConfigError> {
        match self.get("compat") {
            "" => Ok(None),
            "kepler" => Ok(Some(Compat::Kepler)),
            _ => Err(self.bad("compat", "must be kepler, or empty for none")),
        }
    }
}
