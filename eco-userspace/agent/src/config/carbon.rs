// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keys of carbon.

use eco_intensity::{GramsPerKwh, Intensity, Kind, Pue, zones};

use super::{ConfigError, Settings};
use crate::carbon::CarbonConfig;

/// The source of what the configuration says itself.
const SOURCE: &str = "configured";

impl Settings {
    /// Makes sense of what is said about carbon. A constant goes before the table; a zone beside
    /// it says where the constant is true, and need not be in the table then.
    pub(super) fn carbon(&self) -> Result<CarbonConfig, ConfigError> {
        let zone = self.get("carbon.zone");
        let standing = match (self.get("carbon.g_per_kwh"), zone) {
            ("", "") => None,
            ("", zone) => Some(
                zones::find(zone)
                    .map(zones::Zone::intensity)
                    .map_err(|unknown| self.bad("carbon.zone", &unknown.to_string()))?,
            ),
            _ => Some(Intensity {
                zone: self.label("carbon.zone")?,
                g_per_kwh: self.checked("carbon.g_per_kwh", GramsPerKwh::new)?,
                kind: Kind::Average,
                source: SOURCE.to_owned(),
                // One number for every hour stands in for each of them.
                estimated: true,
                valid_until: None,
            }),
        };
        Ok(CarbonConfig {
            standing,
            pue: self.checked("carbon.pue", Pue::new)?,
        })
    }

    fn checked<T>(
        &self,
        key: &str,
        check: impl Fn(f64) -> Result<T, eco_intensity::OutOfRange>,
    ) -> Result<T, ConfigError> {
        let number = self.get(key).trim().parse();
        let number = number.map_err(|_| self.bad(key, "must be a number"))?;
        check(number).map_err(|why| self.bad(key, &why.to_string()))
    }

    fn label(&self, key: &str) -> Result<String, ConfigError> {
        let text = self.get(key).trim();
        if text.len() > 64 || text.chars().any(char::is_control) {
            return Err(self.bad(key, "must have at most 64 bytes and no control characters"));
        }
        Ok(text.to_owned())
    }
}
