// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How series come and go in `/metrics` without losing or doubling a joule.
//!
//! Two kinds. *Processes* are part of the sum that makes up the node: the top ones are shown by
//! name, the rest is `other`. *Views* (jobs, containers, …) repeat the same joules under other
//! names and are outside the sum. The rules are those of the published interface:
//!
//! - a process is first shown at zero; until that zero was seen its joules go to `other`;
//! - when it leaves, its last value stays until it was seen; then the series goes and its value
//!   moves to `departed`;
//! - a view is first shown at zero too, and holds its first joules back until that was seen.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::{
    accounts::{AccountId, Accounts, Amount, Kind, Row},
    carbon::books::CarbonRow,
    scrapers::{Moment, Scrapers},
};

/// How long a view that nothing can be added to stays where nobody scrapes.
const UNSEEN_STAYS: Moment = Moment::from_secs(300);

/// Where a series is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Shown at zero since then, not known to be seen.
    Announced(Moment),
    /// Seen: counts.
    Live,
    /// Shown at its last value since then, not known to be seen.
    Leaving(Moment),
}

impl Phase {
    /// Since when it waits to be seen; `None` while it counts.
    #[must_use]
    pub fn since(self) -> Option<Moment> {
        match self {
            Self::Live => None,
            Self::Announced(since) | Self::Leaving(since) => Some(since),
        }
    }
}

/// Names a process for people and for Prometheus: what it is called, its id and its start.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessName {
    /// What it calls itself.
    pub comm: String,
    /// Its id.
    pub pid: u32,
    /// Its start, in ns since boot.
    pub start_ns: u64,
    /// Its start in seconds of Unix time.
    pub start_unix: u64,
}

impl ProcessName {
    /// `comm[pid]@start`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}[{}]@{}", self.comm, self.pid, self.start_unix)
    }
}

/// A process's series.
#[derive(Clone, Debug)]
pub struct ProcessSeries {
    /// Whose.
    pub name: ProcessName,
    /// The label, made once.
    pub label: String,
    /// The account that feeds it; `None` once it has left.
    pub account: Option<AccountId>,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it shows, in µJ by meter.
    pub energy: Row,
    /// What that emitted; empty where no intensity was ever known.
    pub carbon: CarbonRow,
    /// What it shows, in ns.
    pub cpu_ns: u64,
}

/// The processes that are shown by name.
#[derive(Debug)]
pub struct ProcessBoard {
    series: Vec<ProcessSeries>,
    top: usize,
    counts_carbon: bool,
}

impl ProcessBoard {
    /// An empty one, for so many processes at once.
    #[must_use]
    pub fn new(top: usize) -> Self {
        Self {
            series: Vec::new(),
            top,
            counts_carbon: false,
        }
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &ProcessSeries> {
        self.series.iter()
    }

    /// Puts back what an earlier agent showed.
    pub fn restore(&mut self, series: ProcessSeries) {
        self.series.push(series);
    }

    /// Whether more may be shown.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let staying = self
            .series
            .iter()
            .filter(|s| !matches!(s.phase, Phase::Leaving(_)))
            .count();
        // The leaving count too, or churn without a scrape would pile them up.
        staying < self.top && self.series.len() < 2 * self.top
    }

    /// The series that `account` feeds.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Option<usize> {
        self.series.iter().position(|s| s.account == Some(account))
    }

    /// Shows a process, at zero.
    pub fn announce(&mut self, name: ProcessName, account: AccountId, meters: usize, now: Moment) {
        let label = name.label();
        let carbon_meters = if self.counts_carbon { meters } else { 0 };
        self.series.push(ProcessSeries {
            name,
            label,
            account: Some(account),
            phase: Phase::Announced(now),
            energy: vec![0; meters],
            carbon: CarbonRow::zeros(carbon_meters),
            cpu_ns: 0,
        });
    }

    /// Takes a process's joules, if its series counts. `false`: they are `other`'s.
    pub fn add_energy(&mut self, series: usize, meter: usize, amount: Amount) -> bool {
        match self.series.get_mut(series) {
            Some(s) if s.phase == Phase::Live => {
                if let Some(cell) = s.energy.get_mut(meter) {
                    *cell += amount.uj;
                }
                s.carbon.add(meter, amount.emissions);
                true
            }
            _ => false,
        }
    }

    /// The same for CPU time.
    pub fn add_cpu(&mut self, series: usize, ns: u64) -> bool {
        match self.series.get_mut(series) {
            Some(s) if s.phase == Phase::Live => {
                s.cpu_ns += ns;
                true
            }
            _ => false,
        }
    }

    /// The process has exited, or makes room for another.
    pub fn leave(&mut self, account: AccountId, now: Moment) {
        for series in self
            .series
            .iter_mut()
            .filter(|s| s.account == Some(account))
        {
            series.phase = Phase::Leaving(now);
            series.account = None;
        }
    }

    /// A series of an earlier agent whose process is here again.
    pub fn adopt(&mut self, name: &ProcessName, account: AccountId) {
        let same = |s: &&mut ProcessSeries| {
            (s.name.pid, s.name.start_ns) == (name.pid, name.start_ns)
                && !matches!(s.phase, Phase::Leaving(_))
        };
        for series in self.series.iter_mut().filter(same) {
            series.account = Some(account);
        }
    }

    /// Those of an earlier agent whose process did not come back have left.
    pub fn leave_orphans(&mut self, now: Moment) {
        for series in self.series.iter_mut().filter(|s| s.account.is_none()) {
            series.phase = Phase::Leaving(now);
        }
    }

    /// The one with the least power of late, with that.
    #[must_use]
    pub fn weakest(&self, accounts: &Accounts) -> Option<(f32, AccountId)> {
        let scored = self.series.iter().filter_map(|s| {
            let account = s.account?;
            Some((accounts.get(account)?.score, account))
        });
        scored.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Moves on who was seen. Gives out what is to be moved to `departed`.
    pub fn advance(
        &mut self,
        scrapers: &Scrapers,
        now: Moment,
        mut departed: impl FnMut(&ProcessSeries),
    ) {
        self.series.retain_mut(|series| match series.phase {
            Phase::Announced(since) if scrapers.have_seen(since, now) => {
                series.phase = Phase::Live;
                true
            }
            Phase::Leaving(since) => {
                // A series that never showed anything but zero has nothing to be seen.
                let nothing = series.cpu_ns == 0 && series.energy.iter().all(|&uj| uj == 0);
                let done = nothing || scrapers.have_seen(since, now);
                if done {
                    departed(series);
                }
                !done
            }
            _ => true,
        });
    }

    /// Makes room for so many meters in every row.
    pub fn set_meters(&mut self, meters: usize) {
        for series in &mut self.series {
            series.energy.resize(meters, 0);
            if self.counts_carbon {
                series.carbon.resize(meters);
            }
        }
    }

    /// Counts carbon from here on.
    pub(crate) fn open_carbon(&mut self, meters: usize) {
        self.counts_carbon = true;
        self.set_meters(meters);
    }
}

/// A view's series.
#[derive(Clone, Debug)]
pub struct ViewSeries {
    /// What kind of unit.
    pub kind: Kind,
    /// Its name, unique within the kind.
    pub name: String,
    /// The account that it shows, whole, once it is live.
    pub account: AccountId,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it had when an earlier agent stopped, in µJ by meter; on top of the account.
    pub base_energy: Row,
    /// What that emitted.
    pub base_carbon: CarbonRow,
    /// The same for CPU time, in ns.
    pub base_cpu_ns: u64,
    /// Whose job it is; empty for other kinds.
    pub user: String,
    /// What else names it.
    pub tags: Tags,
}

/// What names a view beside its name, which is unique but may say little to people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tags {
    /// Nothing.
    #[default]
    None,
    /// A pod, or its containers of one name. Its view is named by uid: pods of one name may
    /// follow each other within a minute.
    Pod {
        /// Its namespace; empty as long as nobody knows.
        namespace: String,
        /// Its name, or else its uid.
        pod: String,
        /// Its uid.
        uid: String,
        /// The container's name; empty for what is used outside of any.
        container: String,
    },
    /// A job of another manager than eco, or a step of one.
    Job {
        /// `slurm` or `kubernetes`.
        manager: String,
        /// As that manager calls it.
        id: String,
    },
}

impl ViewSeries {
    /// The name for people, and the value of the label `name`.
    #[must_use]
    pub fn title(&self) -> std::borrow::Cow<'_, str> {
        match &self.tags {
            Tags::Pod { namespace, pod, .. } if namespace.is_empty() => pod.as_str().into(),
            Tags::Pod { namespace, pod, .. } => format!("{namespace}/{pod}").into(),
            _ => self.name.as_str().into(),
        }
    }
}

/// All views.
#[derive(Debug, Default)]
pub struct ViewBoard {
    series: BTreeMap<AccountId, ViewSeries>,
    by_name: FxHashMap<(Kind, String), AccountId>,
}

impl ViewBoard {
    /// All, in the order of their accounts.
    pub fn iter(&self) -> impl Iterator<Item = &ViewSeries> {
        self.series.values()
    }

    /// The view of that name. One that was leaving stays, and goes on from where it was.
    pub fn find(&mut self, kind: Kind, name: &str) -> Option<AccountId> {
        let account = self.by_name.get(&(kind, name.to_owned()))?;
        let series = self.series.get_mut(account)?;
        if matches!(series.phase, Phase::Leaving(_)) {
            series.phase = Phase::Live;
        }
        Some(series.account)
    }

    /// A new view.
    pub fn announce(&mut self, view: ViewSeries) {
        let name = (view.kind, view.name.clone());
        self.by_name.insert(name, view.account);
        self.series.insert(view.account, view);
    }

    /// Nothing can be added to it any more.
    pub fn leave(&mut self, account: AccountId, now: Moment) {
        if let Some(series) = self.series.get_mut(&account) {
            // Held-back joules must show before the last value can be seen.
            series.phase = match series.phase {
                Phase::Announced(since) => Phase::Announced(since),
                _ => Phase::Leaving(now),
            };
        }
    }

    /// Whatever shows and cannot grow any more leaves: views of an earlier agent whose units
    /// were not seen again.
    pub fn leave_dead(&mut self, now: Moment, alive: impl Fn(&ViewSeries) -> bool) {
        for series in self.series.values_mut() {
            if series.phase == Phase::Live && !alive(series) {
                series.phase = Phase::Leaving(now);
            }
        }
    }

    /// The view that an account feeds.
    #[must_use]
    pub fn of(&self, account: AccountId) -> Option<&ViewSeries> {
        self.series.get(&account)
    }

    /// Moves on who was seen. `alive` says whether an account may still grow; gives out the
    /// accounts whose series went.
    pub fn advance(
        &mut self,
        scrapers: &Scrapers,
        now: Moment,
        alive: impl Fn(&ViewSeries) -> bool,
        mut gone: impl FnMut(&ViewSeries),
    ) {
        let by_name = &mut self.by_name;
        let mut gone = |series: &ViewSeries| {
            by_name.remove(&(series.kind, series.name.clone()));
            gone(series);
        };
        self.series.retain(|_, series| match series.phase {
            Phase::Announced(since) if scrapers.have_seen(since, now) => {
                series.phase = if alive(series) {
                    Phase::Live
                } else {
                    Phase::Leaving(now)
                };
                true
            }
            Phase::Leaving(since) if scrapers.have_seen(since, now) => {
                gone(series);
                false
            }
            Phase::Announced(since) | Phase::Leaving(since)
                if !scrapers.any(now)
                    && now.saturating_sub(since) > UNSEEN_STAYS
                    && !alive(series) =>
            {
                gone(series);
                false
            }
            _ => true,
        });
    }

    /// Makes room for so many meters in every row.
    pub fn set_meters(&mut self, meters: usize) {
        for series in self.series.values_mut() {
            series.base_energy.resize(meters, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Accounts;

    fn uj(uj: u64) -> Amount {
        Amount {
            uj,
            ..Amount::default()
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn name(pid: u32) -> ProcessName {
        ProcessName {
            comm: "hog".into(),
            pid,
            start_ns: 1,
            start_unix: 1,
        }
    }

    #[test]
    fn a_process_counts_only_after_its_zero_was_seen_and_departs_after_its_last_value_was() {
        let mut accounts = Accounts::default();
        let account = accounts.open();
        let mut scrapers = Scrapers::default();
        let mut board = ProcessBoard::new(10);
        board.announce(name(1), account, 1, at(0));
        assert!(!board.add_energy(0, 0, uj(5)), "not seen yet: other's");
        board.advance(&scrapers, at(1), |_| panic!("nothing departs"));
        scrapers.scraped("p", at(2));
        board.advance(&scrapers, at(3), |_| panic!("nothing departs"));
        assert!(board.add_energy(0, 0, uj(7)));
        board.leave(account, at(4));
        assert!(!board.add_energy(0, 0, uj(9)), "left: other's");
        board.advance(&scrapers, at(5), |_| panic!("its last value was not seen"));
        assert_eq!(board.iter().next().unwrap().energy, [7]);
        scrapers.scraped("p", at(6));
        board.advance(&scrapers, at(7), |_| {
            panic!("the longest gap was four seconds")
        });
        let mut departed = 0;
        board.advance(&scrapers, at(8), |series| departed += series.energy[0]);
        assert_eq!(departed, 7);
        assert_eq!(board.iter().count(), 0);
    }

    #[test]
    fn churn_without_a_scrape_is_bounded() {
        let mut accounts = Accounts::default();
        let mut board = ProcessBoard::new(4);
        let mut scrapers = Scrapers::default();
        for pid in 0..100 {
            if board.has_room() {
                let account = accounts.open();
                board.announce(name(pid), account, 1, at(0));
                scrapers.scraped("p", at(1));
                board.advance(&scrapers, at(2), |_| {});
                board.add_energy(board.of(account).unwrap(), 0, uj(1));
                board.leave(account, at(3));
            }
        }
        assert!(board.iter().count() <= 8);
    }

    #[test]
    fn a_view_that_dies_before_its_zero_was_seen_still_shows_what_it_held_back() {
        let mut accounts = Accounts::default();
        let account = accounts.open();
        let mut scrapers = Scrapers::default();
        let mut board = ViewBoard::default();
        board.announce(ViewSeries {
            kind: Kind::Job,
            name: "j".into(),
            account,
            phase: Phase::Announced(at(0)),
            base_energy: vec![],
            base_carbon: CarbonRow::EMPTY,
            base_cpu_ns: 0,
            user: String::new(),
            tags: Tags::None,
        });
        board.leave(account, at(1));
        scrapers.scraped("p", at(2));
        board.advance(&scrapers, at(3), |_| false, |_| panic!("not shown yet"));
        assert_eq!(board.iter().next().unwrap().phase, Phase::Leaving(at(3)));
        scrapers.scraped("p", at(4));
        let mut gone = 0;
        board.advance(&scrapers, at(5), |_| false, |_| gone += 1);
        assert_eq!(gone, 1);
    }
}
