// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The quantities that every room passes on, each with its unit in the type.

use std::{fmt, iter::Sum, ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// Energy in whole microjoules: what meters count and the ledger keeps.
///
/// Integers, because a sum of shares must equal the meter to the microjoule.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Microjoules(pub u64);

impl Microjoules {
    /// No energy.
    pub const ZERO: Self = Self(0);

    /// The same energy in joules, for the edge.
    #[must_use]
    pub fn joules(self) -> Joules {
        Joules(self.0 as f64 / 1e6)
    }

    /// The mean power over `span`; `None` when the span is empty.
    #[must_use]
    pub fn over(self, span: Duration) -> Option<Watts> {
        let seconds = span.as_secs_f64();
        (seconds > 0.0).then(|| Watts(self.joules().0 / seconds))
    }

    /// The difference, or zero where `earlier` is the larger.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Microjoules {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sum for Microjoules {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

/// Energy in joules, for people and for the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Joules(pub f64);

/// Power in watts.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Watts(pub f64);

impl Watts {
    /// The energy that this power makes in `span`, rounded to a microjoule;
    /// zero for a negative or undefined power.
    #[must_use]
    pub fn during(self, span: Duration) -> Microjoules {
        let microjoules = self.0 * span.as_secs_f64() * 1e6;
        // `as` saturates and maps NaN to zero, which is what a bad power is worth.
        Microjoules(microjoules.round().max(0.0) as u64)
    }
}

impl fmt::Display for Watts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} W", self.0)
    }
}

impl fmt::Display for Joules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} J", self.0)
    }
}
