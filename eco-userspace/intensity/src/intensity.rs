// SPDX-License-Identifier: Apache-2.0 OR MIT
//! An intensity with all that one must know to use it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{GramsPerKwh, OutOfRange};

/// The longest zone and source, in bytes: both are labels of a metric.
const LONGEST_ZONE: usize = 64;
const LONGEST_SOURCE: usize = 256;

/// What the number is a mean over. The two answer different questions and are never mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All that generates: what the electricity that was used emitted.
    #[default]
    Average,
    /// What would generate less or more: what using less or more would change.
    Marginal,
}

impl Kind {
    /// The value of the `kind` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Marginal => "marginal",
        }
    }
}

/// What a kWh emits, where, and who says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intensity {
    /// The grid: a code of [`crate::zones`], or what a provider calls it. Empty where only a
    /// number was configured.
    pub zone: String,
    /// The number.
    pub g_per_kwh: GramsPerKwh,
    /// What it is a mean over.
    pub kind: Kind,
    /// Who says so, with the year and the like.
    pub source: String,
    /// Whether it only stands in for the value of this hour, as a yearly average does.
    #[serde(default)]
    pub estimated: bool,
    /// When it ends to be true; absent: it holds until another replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

/// Why something is no intensity.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum IntensityError {
    /// The number cannot be.
    #[error("g_per_kwh: {0}")]
    Number(#[from] OutOfRange),
    /// Not fit for a label.
    #[error("{field}: give 1 to {longest} bytes without control characters")]
    Text {
        /// `zone` or `source`.
        field: &'static str,
        /// In bytes.
        longest: usize,
    },
    /// Over already.
    #[error("valid_until: {until} is over; it is {now} now")]
    Expired {
        /// When it was over.
        until: Timestamp,
        /// The clock of whoever refuses it.
        now: Timestamp,
    },
}

impl Intensity {
    /// Checks what somebody handed in, and passes it on.
    ///
    /// # Errors
    /// When a text is no label, or the value is over at `now`.
    pub fn checked(self, now: Timestamp) -> Result<Self, IntensityError> {
        check_text("zone", &self.zone, LONGEST_ZONE)?;
        check_text("source", &self.source, LONGEST_SOURCE)?;
        match self.valid_until {
            Some(until) if until <= now => Err(IntensityError::Expired { until, now }),
            _ => Ok(self),
        }
    }

    /// Whether it still holds at `now`.
    #[must_use]
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.valid_until.is_none_or(|until| now < until)
    }

    /// Where it comes from, for people: `zone DE, average, Ember, 2023, estimated`.
    #[must_use]
    pub fn provenance(&self) -> String {
        let mut parts = Vec::new();
        if !self.zone.is_empty() {
            parts.push(format!("zone {}", self.zone));
        }
        parts.push(self.kind.label().to_owned());
        parts.push(self.source.clone());
        if self.estimated {
            parts.push("estimated".to_owned());
        }
        parts.join(", ")
    }
}

fn check_text(field: &'static str, text: &str, longest: usize) -> Result<(), IntensityError> {
    if text.trim().is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        return Err(IntensityError::Text { field, longest });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    fn pushed() -> Intensity {
        Intensity {
            zone: "DE".into(),
            g_per_kwh: GramsPerKwh::new(360.0).unwrap(),
            kind: Kind::Average,
            source: "a provider".into(),
            estimated: false,
            valid_until: None,
        }
    }

    #[test]
    fn it_holds_until_its_end_and_not_at_it() {
        let at = |text: &str| Intensity {
            valid_until: Some(text.parse().unwrap()),
            ..pushed()
        };
        assert!(pushed().is_valid_at(now()));
        assert!(at("2026-01-02T03:04:06Z").is_valid_at(now()));
        for over in ["2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z"] {
            assert!(!at(over).is_valid_at(now()));
            let refused = at(over).checked(now());
            assert!(matches!(refused, Err(IntensityError::Expired { .. })));
        }
    }

    #[test]
    fn what_no_label_should_hold_is_refused() {
        let long = "x".repeat(300);
        for bad in ["", "  ", "a\nb", "a\u{1b}[2J", &long] {
            let zone = Intensity {
                zone: bad.into(),
                ..pushed()
            };
            let source = Intensity {
                source: bad.into(),
                ..pushed()
            };
            for wrong in [zone, source] {
                let refused = wrong.checked(now());
                assert!(
                    matches!(refused, Err(IntensityError::Text { .. })),
                    "{bad:?}"
                );
            }
        }
        assert_eq!(pushed().checked(now()), Ok(pushed()));
    }

    #[test]
    fn people_are_told_where_it_comes_from() {
        assert_eq!(pushed().provenance(), "zone DE, average, a provider");
        let constant = Intensity {
            zone: String::new(),
            estimated: true,
            ..pushed()
        };
        assert_eq!(constant.provenance(), "average, a provider, estimated");
    }
}
