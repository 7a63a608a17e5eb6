// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How series come and go in `/metrics` without losing or doubling a joule.
//!
//! Two kinds. *Processes* are part of the sum that makes up the node: the top ones are shown by
//! name, the rest is `other`. *Views* (jobs, containers, …) repeat the same joules under other
//! names and are outside the sum. The rules are those of the published interface:
//!
//! - a process is first shown at zero; until that zero was seen its joules go to `other`;
//! - when it leaves, its last value stays until it was seen, and lingers: then the series goes
//!   and its value moves to `departed`;
//! - a view is first shown at zero too, and holds its first joules back until that was seen.
//!
//! Why it lingers stands in [`scrapers`](crate::series::scrapers). Where many leave, those go first whose
//! going misleads least.

mod promotion;
pub mod scrapers;
mod views;

use serde::{Deserialize, Serialize};

use crate::{
    carbon::books::CarbonRow,
    ledger::accounts::{AccountId, Accounts, Amount, Row},
    series::scrapers::{Moment, Scrapers},
};

pub use self::views::{Tags, ViewBoard, ViewSeries};

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

impl ProcessSeries {
    fn is_zero(&self) -> bool {
        self.cpu_ns == 0 && self.energy.iter().all(|&uj| uj == 0)
    }

    /// About what `increase()` would add to it if it went now, in no unit.
    fn misleads(&self, now: Moment) -> f64 {
        let Phase::Leaving(since) = self.phase else {
            return f64::INFINITY;
        };
        let lingered = now.saturating_sub(since).as_secs_f64().max(1.0);
        self.energy.iter().sum::<u64>() as f64 / lingered
    }
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

    /// Shows a process, at zero; or from where it was, if its series is still there.
    pub fn announce(&mut self, name: ProcessName, account: AccountId, meters: usize, now: Moment) {
        let mut left = self.series.iter_mut().filter(|s| s.account.is_none());
        if let Some(series) = left.find(|series| series.name == name) {
            series.account = Some(account);
            series.phase = if series.is_zero() {
                Phase::Announced(now)
            } else {
                Phase::Live
            };
            return;
        }
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
                let done = series.is_zero() || scrapers.may_go(since, now);
                if done {
                    departed(series);
                }
                !done
            }
            _ => true,
        });
        self.make_room(scrapers, now, departed);
    }

    /// Sends away the lingering beyond three quarters of the top, that some may always come.
    fn make_room(
        &mut self,
        scrapers: &Scrapers,
        now: Moment,
        mut departed: impl FnMut(&ProcessSeries),
    ) {
        let most = self.top - self.top / 4;
        let is_leaving = |s: &&ProcessSeries| matches!(s.phase, Phase::Leaving(_));
        let mut excess = self
            .series
            .iter()
            .filter(is_leaving)
            .count()
            .saturating_sub(most);
        if excess == 0 {
            return;
        }
        self.series
            .sort_by(|a, b| a.misleads(now).total_cmp(&b.misleads(now)));
        self.series.retain(|series| {
            let goes = excess > 0
                && matches!(series.phase, Phase::Leaving(since) if scrapers.have_seen(since, now));
            if goes {
                excess -= 1;
                departed(series);
            }
            !goes
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

#[cfg(test)]
mod tests {
    use super::{views::MOST_LINGERING, *};
    use crate::ledger::accounts::{Accounts, Kind};

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

    fn view(name: &str, account: AccountId) -> ViewSeries {
        ViewSeries {
            kind: Kind::Job,
            name: name.into(),
            account,
            phase: Phase::Announced(at(0)),
            base_energy: vec![],
            base_carbon: CarbonRow::EMPTY,
            base_cpu_ns: 0,
            user: String::new(),
            tags: Tags::None,
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
        board.advance(&scrapers, at(8), |_| panic!("it lingers"));
        let mut departed = 0;
        for second in (10..=404).step_by(4) {
            scrapers.scraped("p", at(second));
        }
        board.advance(&scrapers, at(404), |series| departed += series.energy[0]);
        assert_eq!(departed, 7);
        assert_eq!(board.iter().count(), 0);
    }

    #[test]
    fn a_process_that_is_shown_again_goes_on_from_where_it_was() {
        let mut accounts = Accounts::default();
        let account = accounts.open();
        let mut scrapers = Scrapers::default();
        let mut board = ProcessBoard::new(10);
        board.announce(name(1), account, 1, at(0));
        scrapers.scraped("p", at(2));
        board.advance(&scrapers, at(3), |_| {});
        board.add_energy(0, 0, uj(7));
        board.leave(account, at(4));
        assert!(!board.add_energy(0, 0, uj(9)), "other's");
        board.announce(name(1), account, 1, at(5));
        assert!(board.add_energy(0, 0, uj(1)));
        assert_eq!(board.iter().count(), 1, "no label twice");
        assert_eq!(board.iter().next().unwrap().energy, [8]);
    }

    #[test]
    fn the_dead_never_keep_the_living_from_being_shown() {
        let mut accounts = Accounts::default();
        let mut board = ProcessBoard::new(8);
        let mut scrapers = Scrapers::default();
        let mut departed = Vec::new();
        for round in 0..100_u32 {
            let account = accounts.open();
            assert!(board.has_room(), "round {round}");
            let second = u64::from(round) * 4;
            board.announce(name(round), account, 1, at(second));
            scrapers.scraped("p", at(second + 1));
            scrapers.scraped("p", at(second + 3));
            board.advance(&scrapers, at(second + 3), |s| departed.push(s.energy[0]));
            // Every tenth is a large one.
            let joules = if round % 10 == 0 { 1_000 } else { 1 };
            board.add_energy(board.of(account).unwrap(), 0, uj(joules));
            board.leave(account, at(second + 3));
        }
        assert!(board.iter().count() <= 8);
        let kept = board.iter().map(|s| s.energy[0]).sum::<u64>();
        assert_eq!(departed.iter().sum::<u64>() + kept, 10_090);
        assert!(departed.iter().take(20).all(|uj| *uj == 1), "{departed:?}");
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
        board.announce(view("j", account));
        board.leave(account, at(1));
        scrapers.scraped("p", at(2));
        board.advance(&scrapers, at(3), |_| false, |_| panic!("not shown yet"));
        assert_eq!(board.iter().next().unwrap().phase, Phase::Leaving(at(3)));
        scrapers.scraped("p", at(4));
        board.advance(&scrapers, at(5), |_| false, |_| panic!("it lingers"));
        let mut gone = 0;
        for second in (6..=204).step_by(2) {
            scrapers.scraped("p", at(second));
        }
        board.advance(&scrapers, at(204), |_| false, |_| gone += 1);
        assert_eq!(gone, 1);
    }

    #[test]
    fn views_that_linger_are_bounded_and_the_latest_stay() {
        let mut accounts = Accounts::default();
        let mut scrapers = Scrapers::default();
        scrapers.scraped("p", at(0));
        scrapers.scraped("p", at(60));
        let mut board = ViewBoard::default();
        let mut gone = Vec::new();
        for number in 0..MOST_LINGERING + 50 {
            let mut view = view(&format!("j{number}"), accounts.open());
            view.phase = Phase::Leaving(Moment::from_millis(number as u64));
            board.announce(view);
        }
        board.advance(
            &scrapers,
            at(61),
            |_| false,
            |view| gone.push(view.name.clone()),
        );
        assert_eq!(board.iter().count(), MOST_LINGERING);
        assert_eq!((gone.len(), gone[0].as_str()), (50, "j0"));
        assert!(board.find(Kind::Job, "j0").is_none());
        assert!(board.find(Kind::Job, "j50").is_some());
    }
}
