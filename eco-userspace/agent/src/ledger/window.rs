// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The last minute, tick by tick: for means over a window.

use std::{collections::VecDeque, time::Duration};

use rustc_hash::FxHashMap;

use crate::ledger::accounts::{AccountId, Accounts, Row};

/// How far back it goes.
pub const LONGEST: Duration = Duration::from_secs(60);

/// At most so many entries are kept, whatever the tick and the number of tasks.
const MOST_ENTRIES: usize = 200_000;

/// What was booked in the last ticks.
#[derive(Debug, Default)]
pub struct Recent {
    ticks: VecDeque<Tick>,
    entries: usize,
    span: Duration,
}

#[derive(Debug, Default)]
struct Tick {
    span: Duration,
    busy_ns: u64,
    entries: Vec<(AccountId, u64, u64)>,
    node: Row,
    idle: Row,
}

/// What was booked in a window.
#[derive(Debug, Default)]
pub struct Booked {
    /// How long the window is: whole ticks, at least what was asked for if that is remembered.
    pub span: Duration,
    /// CPU time in ns and energy in µJ of each account that had any.
    pub units: FxHashMap<AccountId, (u64, u64)>,
    /// What the meters counted, in µJ.
    pub node: Row,
    /// The idle part of it, in µJ.
    pub idle: Row,
    /// CPU time of all, in ns.
    pub busy_ns: u64,
}

impl Recent {
    /// Takes in a tick. `node` and `idle` are what was booked in it.
    pub fn record(
        &mut self,
        span: Duration,
        busy_ns: u64,
        accounts: &Accounts,
        node: impl Iterator<Item = u64>,
        idle: impl Iterator<Item = u64>,
    ) {
        let mut tick = Tick::default();
        while self.span > LONGEST || self.entries > MOST_ENTRIES {
            let Some(oldest) = self.ticks.pop_front() else {
                break;
            };
            self.span = self.span.saturating_sub(oldest.span);
            self.entries -= oldest.entries.len();
            // Its memory serves the new one.
            tick = oldest;
        }
        tick.entries.clear();
        tick.entries
            .extend(accounts.touched().iter().filter_map(|id| {
                let account = accounts.get(*id)?;
                Some((*id, account.tick_ns, account.tick_uj))
            }));
        tick.span = span;
        tick.busy_ns = busy_ns;
        tick.node.clear();
        tick.node.extend(node);
        tick.idle.clear();
        tick.idle.extend(idle);
        self.span += span;
        self.entries += tick.entries.len();
        self.ticks.push_back(tick);
    }

    /// Adds up the last ticks, until they cover `window`; at least one.
    #[must_use]
    pub fn last(&self, window: Duration) -> Booked {
        let mut booked = Booked::default();
        for tick in self.ticks.iter().rev() {
            booked.span += tick.span;
            booked.busy_ns += tick.busy_ns;
            for (id, ns, uj) in &tick.entries {
                let sums = booked.units.entry(*id).or_default();
                sums.0 += ns;
                sums.1 += uj;
            }
            add(&mut booked.node, &tick.node);
            add(&mut booked.idle, &tick.idle);
            // A tick is never to the millisecond.
            if booked.span + tick.span / 2 >= window {
                break;
            }
        }
        booked
    }
}

fn add(sums: &mut Row, row: &[u64]) {
    sums.resize(row.len().max(sums.len()), 0);
    for (sum, uj) in sums.iter_mut().zip(row) {
        *sum += uj;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::accounts::Amount;

    #[test]
    fn a_window_is_made_of_whole_ticks_and_never_longer_than_what_is_remembered() {
        let mut accounts = Accounts::default();
        accounts.set_meters(1);
        let id = accounts.open();
        let mut recent = Recent::default();
        let second = Duration::from_secs(1);
        let three = Amount {
            uj: 3,
            ..Amount::default()
        };
        for _ in 0..200 {
            accounts.begin_tick(1.0);
            accounts.add_cpu(id, 10);
            accounts.add_energy(id, 0, three, true);
            recent.record(second, 10, &accounts, [5].into_iter(), [2].into_iter());
        }
        assert_eq!(recent.last(Duration::ZERO).units[&id], (10, 3));
        let ten = recent.last(10 * second);
        assert_eq!(
            (ten.span, ten.units[&id], ten.node[0], ten.idle[0]),
            (10 * second, (100, 30), 50, 20)
        );
        let all = recent.last(1000 * second);
        assert!(
            all.span <= LONGEST + 2 * second && all.span >= LONGEST,
            "{:?}",
            all.span
        );
    }

    #[test]
    fn nothing_is_remembered_of_nothing() {
        assert_eq!(Recent::default().last(LONGEST).span, Duration::ZERO);
    }
}
