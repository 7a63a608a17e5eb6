// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keys of carbon.

use eco_intensity::{GramsPerKwh, Intensity, Kind, OutOfRange, Pue, zones};
use jiff::Timestamp;

use super::{ConfigError, Settings};
use crate::carbon::CarbonConfig;

/// The source of what the configuration says itself.
const SOURCE: &str = "configured";

impl Settings {
    /// Makes sense of what is said about carbon. A constant goes before the table; a zone beside
    /// it says where the constant is true, and need not be in the table then.
    pub(super) fn carbon(&self) -> Result<CarbonConfig, ConfigError> {
        let zone = self.get("carbon.zone").trim();
        let standing = match (self.get("carbon.g_per_kwh"), zone) {
            ("", "") => None,
            ("", zone) => Some(
                zones::find(zone)
                    .map(zones::Zone::intensity)
                    .map_err(|unknown| self.bad("carbon.zone", &unknown.to_string()))?,
            ),
            (_, zone) => Some(self.constant(zone)?),
        };
        Ok(CarbonConfig {
            standing,
            pue: self.checked("carbon.pue", Pue::new)?,
        })
    }

    fn checked<T>(
        &self,
        key: &str,
        check: impl Fn(f64) -> Result<T, OutOfRange>,
    ) -> Result<T, ConfigError> {
        let number = self.get(key).trim().parse();
        let number = number.map_err(|_| self.bad(key, "must be a number"))?;
        check(number).map_err(|why| self.bad(key, &why.to_string()))
    }

    fn constant(&self, zone: &str) -> Result<Intensity, ConfigError> {
        let constant = Intensity {
            zone: zone.to_owned(),
            g_per_kwh: self.checked("carbon.g_per_kwh", GramsPerKwh::new)?,
            kind: Kind::Average,
            source: SOURCE.to_owned(),
            // One number for every hour stands in for each of them.
            estimated: true,
            valid_until: None,
        };
        if zone.is_empty() {
            return Ok(constant);
        }
        let checked = constant.checked(Timestamp::MIN);
        checked.map_err(|why| self.bad("carbon.zone", &why.to_string()))
    }
}
