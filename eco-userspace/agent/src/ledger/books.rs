// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The books: every joule that a meter counted is in exactly one of them.
//!
//! `node = processes shown by name + kernel + other + departed + idle + unattributed`, for each
//! meter, to the microjoule, after every tick.

use eco_attribution::{Apportioner, Claim, IdlePolicy, Interval, Outcome, Reason};
use eco_intensity::Rate;
use eco_meter::Microjoules;
use rustc_hash::FxHashMap;

use crate::{
    carbon::books::CarbonBooks,
    ledger::accounts::{AccountId, Accounts, Amount, Row, Sum},
    series::{
        ProcessBoard, ViewBoard,
        scrapers::{Moment, Scrapers},
    },
};

/// How many views one use can belong to: container, service, user, a job within a job, a place
/// (virtual machine or bare cgroup), pod, container of a pod, job of another manager, step, and the
/// larger jobs that those jobs are parts of.
pub const VIEWS: usize = 12;

/// Who pays for a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A process.
    Process(AccountId),
    /// A kernel thread.
    Kernel,
    /// Nobody that is known by name.
    Nobody,
}

/// CPU time used in a tick, and all who answer for it.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// Who pays.
    pub payer: Payer,
    /// The views that it is in.
    pub views: [Option<AccountId>; VIEWS],
    /// How much, in ns.
    pub ns: u64,
    /// Whether it takes part where idle is shared equally.
    pub eligible: bool,
}

/// The books.
pub struct Books {
    /// Every unit's account.
    pub accounts: Accounts,
    /// The kernel's.
    pub kernel: AccountId,
    /// Of those who are known by no name.
    pub nobody: AccountId,
    /// The processes that are shown by name.
    pub board: ProcessBoard,
    /// The views.
    pub views: ViewBoard,
    /// All that the meters counted.
    pub node: Row,
    /// Idle.
    pub idle: Row,
    /// Nobody's, by reason, in the order of [`Reason::ALL`].
    pub unattributed: [Row; Reason::ALL.len()],
    /// What the kernel used, in all agents' lives.
    pub kernel_energy: Row,
    /// The same, in ns.
    pub kernel_cpu_ns: u64,
    /// Of everyone who is not shown by name, in all agents' lives.
    pub other_energy: Row,
    /// The same, in ns.
    pub other_cpu_ns: u64,
    /// Of processes that were shown by name and are no more.
    pub departed: Row,
    /// What all of it emitted.
    pub carbon: CarbonBooks,
    /// Which meters add up to a total.
    pub sum: Sum,
    /// Idle energy that a job's share of CPU time would carry, in µJ.
    pub job_idle: FxHashMap<AccountId, f64>,
    apportioner: Apportioner,
    outcome: Outcome,
    claims: Vec<Claim>,
    series_of: FxHashMap<AccountId, usize>,
    policy: IdlePolicy,
}

impl Books {
    /// Empty books.
    #[must_use]
    pub fn new(policy: IdlePolicy, top: usize) -> Self {
        let mut accounts = Accounts::default();
        let kernel = accounts.open();
        let nobody = accounts.open();
        Self {
            accounts,
            kernel,
            nobody,
            board: ProcessBoard::new(top),
            views: ViewBoard::default(),
            node: Row::new(),
            idle: Row::new(),
            unattributed: Default::default(),
            kernel_energy: Row::new(),
            kernel_cpu_ns: 0,
            other_energy: Row::new(),
            other_cpu_ns: 0,
            departed: Row::new(),
            carbon: CarbonBooks::default(),
            sum: Sum::default(),
            job_idle: FxHashMap::default(),
            apportioner: Apportioner::default(),
            outcome: Outcome::default(),
            claims: Vec::new(),
            series_of: FxHashMap::default(),
            policy,
        }
    }

    /// Makes room for so many meters.
    pub fn set_meters(&mut self, meters: usize, sum: Sum) {
        self.sum = sum;
        self.accounts.set_meters(meters);
        self.board.set_meters(meters);
        self.views.set_meters(meters);
        self.carbon.set_meters(meters);
        for row in self.rows_mut() {
            row.resize(meters, 0);
        }
    }

    /// Sets what a microjoule emits from here on; `None`: that is not known.
    pub fn set_carbon_rate(&mut self, rate: Option<Rate>) {
        if rate.is_some() && !self.carbon.is_open() {
            self.open_carbon();
        }
        self.carbon.set_rate(rate);
    }

    /// Counts carbon from here on.
    pub(crate) fn open_carbon(&mut self) {
        let meters = self.node.len();
        self.carbon.open(meters);
        self.accounts.open_carbon();
        self.board.open_carbon(meters);
    }

    /// Lets the series of processes come and go.
    pub fn advance(&mut self, scrapers: &Scrapers, now: Moment) {
        let (energy, carbon) = (&mut self.departed, &mut self.carbon.departed);
        self.board.advance(scrapers, now, |series| {
            for (sum, uj) in energy.iter_mut().zip(&series.energy) {
                *sum += uj;
            }
            carbon.add_all(&series.carbon);
        });
    }

    fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        [
            &mut self.node,
            &mut self.idle,
            &mut self.kernel_energy,
            &mut self.other_energy,
            &mut self.departed,
        ]
        .into_iter()
        .chain(&mut self.unattributed)
    }

    /// Begins a tick; `keep` is how much of a score stays.
    pub fn begin_tick(&mut self, keep: f32) {
        self.accounts.begin_tick(keep);
        self.series_of.clear();
        for (at, series) in self.board.iter().enumerate() {
            if let Some(account) = series.account {
                self.series_of.insert(account, at);
            }
        }
    }

    /// Books the CPU time of a tick.
    pub fn book_cpu(&mut self, uses: &[Use]) {
        for used in uses {
            match used.payer {
                Payer::Process(account) => {
                    self.accounts.add_cpu(account, used.ns);
                    let series = self.series_of.get(&account);
                    if !series.is_some_and(|&at| self.board.add_cpu(at, used.ns)) {
                        self.other_cpu_ns += used.ns;
                    }
                }
                Payer::Kernel => {
                    self.accounts.add_cpu(self.kernel, used.ns);
                    self.kernel_cpu_ns += used.ns;
                }
                Payer::Nobody => {
                    self.accounts.add_cpu(self.nobody, used.ns);
                    self.other_cpu_ns += used.ns;
                }
            }
            for view in used.views.iter().flatten() {
                self.accounts.add_cpu(*view, used.ns);
            }
        }
    }

    /// Books what a meter counted. `partial`: some of the use in that time is not known, so
    /// nobody in particular can be made to pay.
    pub fn book_energy(&mut self, meter: usize, interval: &Interval, uses: &[Use], partial: bool) {
        self.book_node(meter, interval.energy);
        self.claims.clear();
        if !partial {
            let claims = uses.iter().enumerate().map(|(index, used)| Claim {
                key: index as u64,
                weight: used.ns,
                eligible: used.eligible,
            });
            self.claims.extend(claims);
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        self.apportioner
            .apportion(interval, self.policy, &self.claims, &mut outcome);
        self.idle[meter] += outcome.idle.0;
        let idle = self.carbon.amount(outcome.idle.0);
        self.carbon.idle.add(meter, idle.emissions);
        let reason = if partial {
            Reason::Gap
        } else {
            Reason::NoUsage
        };
        self.book_unattributed(meter, outcome.unattributed, reason);
        if !partial {
            let whole: u64 = uses.iter().map(|used| used.ns).sum();
            let idle_per_ns = outcome.idle.0 as f64 / whole.max(1) as f64;
            for (used, share) in uses.iter().zip(&outcome.shares) {
                self.book_share(meter, used, share.total(), idle_per_ns);
            }
        }
        self.outcome = outcome;
    }

    /// Books what a meter counted, before it is known whose it is.
    fn book_node(&mut self, meter: usize, energy: Microjoules) {
        self.node[meter] += energy.0;
        let amount = self.carbon.amount(energy.0);
        self.carbon.book_node(meter, amount);
    }

    /// Books joules that belong to nobody, and are in `node` already.
    fn book_unattributed(&mut self, meter: usize, energy: Microjoules, reason: Reason) {
        if let Some(row) = Reason::ALL.iter().position(|r| *r == reason) {
            self.unattributed[row][meter] += energy.0;
            let amount = self.carbon.amount(energy.0);
            self.carbon.unattributed[row].add(meter, amount.emissions);
        }
    }

    /// Books what a meter counted while no agent ran.
    pub fn book_downtime(&mut self, meter: usize, energy: Microjoules) {
        self.book_node(meter, energy);
        self.book_unattributed(meter, energy, Reason::Downtime);
    }

    fn book_share(&mut self, meter: usize, used: &Use, share: Microjoules, idle_per_ns: f64) {
        let amount = self.carbon.amount(share.0);
        let in_sum = self.sum.counts(meter);
        match used.payer {
            Payer::Process(account) => {
                self.accounts.add_energy(account, meter, amount, in_sum);
                let series = self.series_of.get(&account);
                if !series.is_some_and(|&at| self.board.add_energy(at, meter, amount)) {
                    self.book_other(meter, amount);
                }
            }
            Payer::Kernel => {
                self.accounts.add_energy(self.kernel, meter, amount, in_sum);
                self.kernel_energy[meter] += amount.uj;
                self.carbon.kernel.add(meter, amount.emissions);
            }
            Payer::Nobody => {
                self.accounts.add_energy(self.nobody, meter, amount, in_sum);
                self.book_other(meter, amount);
            }
        }
        for view in used.views.iter().flatten() {
            self.accounts.add_energy(*view, meter, amount, in_sum);
            if let Some(idle) = self.job_idle.get_mut(view).filter(|_| in_sum) {
                *idle += used.ns as f64 * idle_per_ns;
            }
        }
    }

    fn book_other(&mut self, meter: usize, amount: Amount) {
        self.other_energy[meter] += amount.uj;
        self.carbon.other.add(meter, amount.emissions);
    }

    /// What the books of a meter miss of, or have beyond, what it counted: always zero.
    #[must_use]
    pub fn conservation_error(&self, meter: usize) -> Option<i128> {
        let cell = |row: &Row| row.get(meter).copied().map(i128::from);
        let shown: i128 = self.board.iter().filter_map(|s| cell(&s.energy)).sum();
        let nobody: i128 = self.unattributed.iter().filter_map(cell).sum();
        let parts = shown
            + nobody
            + cell(&self.kernel_energy)?
            + cell(&self.other_energy)?
            + cell(&self.departed)?
            + cell(&self.idle)?;
        Some(cell(&self.node)? - parts)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use eco_meter::{Domain, Watts};
    use proptest::prelude::*;

    use eco_intensity::{GramsPerKwh, Pue};

    use super::*;
    use crate::series::ProcessName;

    /// Of a second in which the grid emits so much; every fifth nobody knows.
    fn rate(second: usize) -> Option<Rate> {
        let grid = GramsPerKwh::new(second as f64 * 7.3).unwrap();
        (!second.is_multiple_of(5)).then(|| Rate::new(grid, Pue::new(1.37).unwrap()))
    }

    fn interval(uj: u64) -> Interval {
        Interval {
            energy: Microjoules(uj),
            span: Duration::from_secs(1),
            idle_power: Some(Watts(3e-6)),
        }
    }

    proptest! {
        #[test]
        fn every_joule_is_in_exactly_one_book_whatever_happens(
            steps in prop::collection::vec((0u64..1000, 0u64..5, 0u8..7), 1..80),
        ) {
            let mut books = Books::new(IdlePolicy::Separate, 3);
            books.set_meters(2, Sum::of(&[Domain::Package, Domain::Core]));
            let mut scrapers = Scrapers::default();
            let mut processes = Vec::new();
            for (at, &(energy, ns, what)) in steps.iter().enumerate() {
                let now = Moment::from_secs(at as u64);
                match what {
                    0 => {
                        let account = books.accounts.open();
                        processes.push(account);
                        if books.board.has_room() {
                            let name = ProcessName {
                                comm: "x".into(), pid: at as u32, start_ns: 1, start_unix: 1,
                            };
                            books.board.announce(name, account, 2, now);
                        }
                    }
                    1 => if let Some(account) = processes.pop() {
                        books.board.leave(account, now);
                        books.accounts.close(account);
                    },
                    2 => scrapers.scraped("p", now),
                    3 => books.book_downtime(1, Microjoules(energy)),
                    _ => {}
                }
                books.advance(&scrapers, now);
                books.set_carbon_rate(rate(at));
                books.begin_tick(0.5);
                let mut uses: Vec<Use> = processes.iter().map(|&account| Use {
                    payer: Payer::Process(account), views: [None; VIEWS], ns, eligible: true,
                }).collect();
                uses.push(Use { payer: Payer::Kernel, views: [None; VIEWS], ns: 1, eligible: false });
                books.book_cpu(&uses);
                books.book_energy(0, &interval(energy), &uses, what == 5);
                books.book_energy(1, &interval(energy / 2), &[], false);
                prop_assert_eq!(books.conservation_error(0), Some(0));
                prop_assert_eq!(books.conservation_error(1), Some(0));
                for meter in 0..2 {
                    prop_assert_eq!(books.carbon.conservation_error(meter, &books.board), 0);
                }
            }
        }
    }
}
