// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the books' energy emitted, in rows beside the energy's own.
//!
//! Each amount is booked where its energy is, at the intensity of its tick, as an exact product:
//! so what adds up in microjoules adds up here. Until an intensity is known for the first time
//! every row is empty, and costs nothing.

use eco_attribution::Reason;
use eco_intensity::{Emissions, Rate};
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{
        accounts::{Amount, Row},
        saved::SavedCarbon,
    },
    series::ProcessBoard,
};

/// Emissions by meter, in the order of the agent's meters; empty where none are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CarbonRow(Vec<Emissions>);

impl CarbonRow {
    /// Nothing is counted.
    pub const EMPTY: Self = Self(Vec::new());

    /// Zero for each of so many meters.
    #[must_use]
    pub fn zeros(meters: usize) -> Self {
        Self(vec![Emissions::ZERO; meters])
    }

    /// Whether nothing is counted at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// By meter.
    pub fn iter(&self) -> impl Iterator<Item = Emissions> {
        self.0.iter().copied()
    }

    /// Of the meter at `meter`.
    #[must_use]
    pub fn get(&self, meter: usize) -> Emissions {
        self.0.get(meter).copied().unwrap_or_default()
    }

    /// Books emissions of the meter at `meter`.
    pub fn add(&mut self, meter: usize, emissions: Emissions) {
        if let Some(cell) = self.0.get_mut(meter) {
            *cell += emissions;
        }
    }

    /// Takes over all that another row has.
    pub fn add_all(&mut self, other: &Self) {
        for (cell, emissions) in self.0.iter_mut().zip(other.iter()) {
            *cell += emissions;
        }
    }

    /// Makes room for so many meters.
    pub fn resize(&mut self, meters: usize) {
        self.0.resize(meters, Emissions::ZERO);
    }
}

/// The emissions of the books.
#[derive(Debug, Default)]
pub struct CarbonBooks {
    /// Of all that the meters counted.
    pub node: CarbonRow,
    /// Of idle.
    pub idle: CarbonRow,
    /// Of nobody, by reason, in the order of [`Reason::ALL`].
    pub unattributed: [CarbonRow; Reason::ALL.len()],
    /// Of the kernel.
    pub kernel: CarbonRow,
    /// Of everyone who is not shown by name.
    pub other: CarbonRow,
    /// Of processes that were shown by name and are no more.
    pub departed: CarbonRow,
    /// Energy of times without any intensity, in µJ by meter.
    pub uncovered: Row,
    rate: Option<Rate>,
    is_open: bool,
}

impl CarbonBooks {
    /// Whether emissions are counted: since an intensity was known for the first time, in all
    /// agents' lives.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Begins to count, with room for so many meters.
    pub(crate) fn open(&mut self, meters: usize) {
        self.is_open = true;
        self.rows_mut().for_each(|row| row.resize(meters));
    }

    /// Makes room for so many meters.
    pub(crate) fn set_meters(&mut self, meters: usize) {
        self.uncovered.resize(meters, 0);
        if self.is_open {
            self.open(meters);
        }
    }

    /// Goes on from what an earlier agent left of the meter at `meter`.
    pub(crate) fn resume(&mut self, meter: usize, saved: &SavedCarbon) {
        self.node.add(meter, saved.node);
        self.idle.add(meter, saved.idle);
        self.kernel.add(meter, saved.kernel);
        self.other.add(meter, saved.other);
        self.departed.add(meter, saved.departed);
        for (row, emissions) in self.unattributed.iter_mut().zip(&saved.unattributed) {
            row.add(meter, *emissions);
        }
        if let Some(cell) = self.uncovered.get_mut(meter) {
            *cell = saved.uncovered;
        }
    }

    /// Leaves the meter at `meter` to the next agent.
    pub(crate) fn saved(&self, meter: usize) -> SavedCarbon {
        SavedCarbon {
            node: self.node.get(meter),
            idle: self.idle.get(meter),
            kernel: self.kernel.get(meter),
            other: self.other.get(meter),
            departed: self.departed.get(meter),
            unattributed: self.unattributed.iter().map(|row| row.get(meter)).collect(),
            uncovered: self.uncovered.get(meter).copied().unwrap_or(0),
        }
    }

    /// Sets what a microjoule emits from here on.
    pub(crate) fn set_rate(&mut self, rate: Option<Rate>) {
        self.rate = rate;
    }

    /// So much energy with its emissions.
    pub(crate) fn amount(&self, uj: u64) -> Amount {
        let emissions = self.rate.map(|rate| rate.emissions(uj));
        Amount {
            uj,
            emissions: emissions.unwrap_or_default(),
        }
    }

    /// Books what a meter counted, whoever is to pay for it.
    pub(crate) fn book_node(&mut self, meter: usize, amount: Amount) {
        self.node.add(meter, amount.emissions);
        if self.rate.is_none()
            && let Some(cell) = self.uncovered.get_mut(meter)
        {
            *cell += amount.uj;
        }
    }

    /// What the rows of a meter miss of, or have beyond, what it emitted: always zero.
    #[must_use]
    pub fn conservation_error(&self, meter: usize, board: &ProcessBoard) -> i128 {
        let signed = |emissions: Emissions| i128::try_from(emissions.0).unwrap_or(i128::MAX);
        let shown: Emissions = board.iter().map(|series| series.carbon.get(meter)).sum();
        let rows = [&self.idle, &self.kernel, &self.other, &self.departed];
        let parts: Emissions = rows
            .into_iter()
            .chain(&self.unattributed)
            .map(|row| row.get(meter))
            .sum();
        signed(self.node.get(meter)) - signed(shown) - signed(parts)
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut CarbonRow> {
        [
            &mut self.node,
            &mut self.idle,
            &mut self.kernel,
            &mut self.other,
            &mut self.departed,
        ]
        .into_iter()
        .chain(&mut self.unattributed)
    }
}
