// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Power: what the books grew by in the last few seconds, series by series.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::{
    core::Core,
    ledger::accounts::{AccountId, Row},
    series::scrapers::Moment,
};

/// What power is a mean over, as in Kepler (`monitor.interval`, 5 s by default).
const WINDOW: Duration = Duration::from_secs(5);

/// Energy in µJ by meter, of everything that is shown.
#[derive(Debug, Default)]
struct Energies {
    node: Row,
    idle: Row,
    kernel: Row,
    other: Row,
    processes: FxHashMap<String, Row>,
    views: FxHashMap<AccountId, Row>,
    busy_ns: u64,
}

/// Means over the last whole window.
#[derive(Debug, Default)]
pub(super) struct Power {
    /// When the window that is open began, and how all stood then.
    since: Moment,
    before: Energies,
    /// What was drawn in the last one, and how long it was.
    drawn: Energies,
    span: Duration,
}

impl Power {
    /// Ends a window when it is time. Until the first has ended, all power is zero.
    pub(super) fn keep_up(&mut self, core: &Core) {
        let span = core.now().saturating_sub(self.since);
        let is_first = self.before.node.is_empty();
        if span < WINDOW && !is_first {
            return;
        }
        let now = Energies::of(core);
        if !is_first {
            self.drawn = now.beyond(&self.before);
            self.span = span;
        }
        self.before = now;
        self.since = core.now();
    }

    /// The node's, idle included, in W by meter.
    pub(super) fn node(&self, meter: usize) -> f64 {
        self.watts(cell(&self.drawn.node, meter))
    }

    /// The idle part of it.
    pub(super) fn idle(&self, meter: usize) -> f64 {
        self.watts(cell(&self.drawn.idle, meter))
    }

    /// The part of it that is not idle.
    pub(super) fn active(&self, meter: usize) -> f64 {
        let (node, idle) = (&self.drawn.node, &self.drawn.idle);
        self.watts(cell(node, meter).saturating_sub(cell(idle, meter)))
    }

    /// The kernel's.
    pub(super) fn kernel(&self) -> Drawn<'_> {
        self.of(Some(&self.drawn.kernel))
    }

    /// That of everyone who has no series.
    pub(super) fn other(&self) -> Drawn<'_> {
        self.of(Some(&self.drawn.other))
    }

    /// A process's, by its label.
    pub(super) fn process(&self, label: &str) -> Drawn<'_> {
        self.of(self.drawn.processes.get(label))
    }

    /// A view's.
    pub(super) fn view(&self, account: AccountId) -> Drawn<'_> {
        self.of(self.drawn.views.get(&account))
    }

    /// The share of the CPUs' time that was used, 0 to 1.
    pub(super) fn usage_ratio(&self, cpus: u32) -> f64 {
        let whole = self.span.as_nanos() as f64 * f64::from(cpus.max(1));
        let share = self.drawn.busy_ns as f64 / whole.max(1.0);
        share.clamp(0.0, 1.0)
    }

    fn of<'a>(&'a self, row: Option<&'a Row>) -> Drawn<'a> {
        Drawn {
            row: row.map_or(&[], Vec::as_slice),
            span: self.span,
        }
    }

    fn watts(&self, microjoules: u64) -> f64 {
        watts(microjoules, self.span)
    }
}

/// What somebody drew in the last window.
pub(super) struct Drawn<'a> {
    row: &'a [u64],
    span: Duration,
}

impl Drawn<'_> {
    /// The mean power over some meters, in W.
    pub(super) fn watts(&self, meters: impl Iterator<Item = usize>) -> f64 {
        let microjoules = meters.map(|at| cell(self.row, at)).sum();
        watts(microjoules, self.span)
    }
}

fn cell(row: &[u64], meter: usize) -> u64 {
    row.get(meter).copied().unwrap_or(0)
}

fn watts(microjoules: u64, span: Duration) -> f64 {
    if span.is_zero() {
        return 0.0;
    }
    microjoules as f64 / 1e6 / span.as_secs_f64()
}

impl Energies {
    fn of(core: &Core) -> Self {
        let books = &core.books;
        let processes = books.board.iter();
        let views = books.views.iter();
        Self {
            node: books.node.clone(),
            idle: books.idle.clone(),
            kernel: books.kernel_energy.clone(),
            other: books.other_energy.clone(),
            processes: processes
                .map(|series| (series.label.clone(), series.energy.clone()))
                .collect(),
            views: views
                .filter_map(|view| {
                    let account = books.accounts.get(view.account)?;
                    Some((view.account, account.energy.clone()))
                })
                .collect(),
            busy_ns: core.frame.busy_ns,
        }
    }

    fn beyond(&self, before: &Self) -> Self {
        Self {
            node: beyond(&self.node, Some(&before.node)),
            idle: beyond(&self.idle, Some(&before.idle)),
            kernel: beyond(&self.kernel, Some(&before.kernel)),
            other: beyond(&self.other, Some(&before.other)),
            processes: self
                .processes
                .iter()
                .map(|(label, row)| (label.clone(), beyond(row, before.processes.get(label))))
                .collect(),
            views: self
                .views
                .iter()
                .map(|(account, row)| (*account, beyond(row, before.views.get(account))))
                .collect(),
            busy_ns: self.busy_ns.saturating_sub(before.busy_ns),
        }
    }
}

/// What a row has grown by. One that was not there before was at zero.
fn beyond(now: &[u64], before: Option<&Row>) -> Row {
    let before = before.map_or(&[][..], Vec::as_slice);
    let cells = now.iter().enumerate();
    cells
        .map(|(meter, uj)| uj.saturating_sub(cell(before, meter)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_what_grew_over_the_time_it_took() {
        let before = Energies {
            node: vec![5_000_000],
            ..Energies::default()
        };
        let now = Energies {
            node: vec![25_000_000, 1_000_000],
            idle: vec![8_000_000],
            processes: FxHashMap::from_iter([("a".to_owned(), vec![1_000_000, 3_000_000])]),
            busy_ns: 4_000_000_000,
            ..Energies::default()
        };
        let power = Power {
            drawn: now.beyond(&before),
            span: Duration::from_secs(4),
            ..Power::default()
        };
        assert_eq!(
            (power.node(0), power.idle(0), power.active(0)),
            (5.0, 2.0, 3.0)
        );
        assert_eq!(power.process("a").watts(0..2), 1.0);
        assert_eq!(power.process("b").watts(0..9), 0.0);
        assert_eq!(power.usage_ratio(2), 0.5);
    }

    #[test]
    fn before_the_first_window_there_is_no_power_and_no_nan() {
        let power = Power::default();
        assert_eq!((power.node(0), power.usage_ratio(0)), (0.0, 0.0));
        assert_eq!(power.other().watts(0..3), 0.0);
    }
}
