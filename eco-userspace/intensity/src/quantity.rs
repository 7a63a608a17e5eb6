// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The quantities, each with its unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Mass of greenhouse gases, in grams of CO2 equivalents.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GramsCo2e(pub f64);

/// What a kWh emits, in grams of CO2 equivalents: finite, from zero to [`GramsPerKwh::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct GramsPerKwh(f64);

impl GramsPerKwh {
    /// More is a mistake, most likely of units. It is what lignite emits that is burnt at an
    /// efficiency of 12 % (101 kg CO2/GJ: IPCC 2006 Guidelines, volume 2, table 1.4), and more
    /// than twice the worst year of the worst zone in [`crate::zones`].
    pub const MOST: f64 = 3_000.0;

    /// Takes a value in g CO2e/kWh.
    ///
    /// # Errors
    /// When it is negative, larger than [`Self::MOST`], or no number.
    pub fn new(value: f64) -> Result<Self, OutOfRange> {
        within("an intensity in g/kWh", value, 0.0, Self::MOST).map(Self)
    }

    /// The value in g CO2e/kWh.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Power usage effectiveness (ISO/IEC 30134-2): what a site draws for each joule that its
/// machines draw. At least 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Pue(f64);

impl Pue {
    /// The machine alone.
    pub const ONE: Self = Self(1.0);

    /// More is a mistake: the worst sites of surveys are near 3.
    pub const MOST: f64 = 10.0;

    /// Takes a ratio.
    ///
    /// # Errors
    /// When it is smaller than 1, larger than [`Self::MOST`], or no number.
    pub fn new(value: f64) -> Result<Self, OutOfRange> {
        within("a PUE", value, 1.0, Self::MOST).map(Self)
    }

    /// The ratio.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A number that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{value} cannot be {what}; it is a number from {least} to {most}")]
pub struct OutOfRange {
    what: &'static str,
    value: f64,
    least: f64,
    most: f64,
}

impl TryFrom<f64> for GramsPerKwh {
    type Error = OutOfRange;
    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl From<GramsPerKwh> for f64 {
    fn from(value: GramsPerKwh) -> Self {
        value.0
    }
}

impl Default for Pue {
    fn default() -> Self {
        Self::ONE
    }
}

impl TryFrom<f64> for Pue {
    type Error = OutOfRange;
    fn try_from(value: f64) -> Result<Self, OutOfRange> {
        Self::new(value)
    }
}

impl From<Pue> for f64 {
    fn from(value: Pue) -> Self {
        value.0
    }
}

impl fmt::Display for GramsPerKwh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} g/kWh", self.0)
    }
}

fn within(what: &'static str, value: f64, least: f64, most: f64) -> Result<f64, OutOfRange> {
    // A NaN is in no range.
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(OutOfRange {
            what,
            value,
            least,
            most,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_true_is_no_quantity() {
        for value in [-0.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3_000.1] {
            assert!(GramsPerKwh::new(value).is_err(), "{value}");
        }
        for value in [0.0, 0.999, f64::NAN, 10.1, f64::INFINITY] {
            assert!(Pue::new(value).is_err(), "{value}");
        }
        for value in [0.0, 24.7, GramsPerKwh::MOST] {
            assert_eq!(GramsPerKwh::new(value).map(GramsPerKwh::get), Ok(value));
        }
        assert_eq!(Pue::new(1.0), Ok(Pue::ONE));
    }

    #[test]
    fn an_error_says_what_would_be_right() {
        let said = GramsPerKwh::new(-1.0).unwrap_err().to_string();
        assert_eq!(
            said,
            "-1 cannot be an intensity in g/kWh; it is a number from 0 to 3000"
        );
    }

    #[test]
    fn json_cannot_bring_in_what_the_type_refuses() {
        assert!(serde_json::from_str::<GramsPerKwh>("360.5").is_ok());
        for text in ["-1", "1e9", "1e999", "null", "\"360\"", "NaN"] {
            assert!(serde_json::from_str::<GramsPerKwh>(text).is_err(), "{text}");
        }
    }
}
