// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Accounts: what each unit used and burnt, since the agent has known it.
//!
//! Every unit, of whatever kind, has an account: processes, the kernel, and the views over the
//! same joules (containers, services, users, jobs).

use eco_intensity::Emissions;
use eco_meter::Domain;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::carbon::books::CarbonRow;

/// Energy by meter, in µJ, in the order of the agent's meters.
pub type Row = Vec<u64>;

/// Energy and what it emitted: booked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// The energy, in µJ.
    pub uj: u64,
    /// At the intensity of its tick; zero where that is not known.
    pub emissions: Emissions,
}

#[cfg(test)]
impl Amount {
    /// Energy that emitted nothing.
    pub(crate) fn of_uj(uj: u64) -> Self {
        Self {
            uj,
            emissions: Emissions::ZERO,
        }
    }
}

/// A kind of unit: the value of the `kind` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One process, with its short-lived children.
    Process,
    /// The kernel's own threads.
    Kernel,
    /// Whoever is not shown by name.
    Other,
    /// A job, of eco or another manager.
    Job,
    /// A part of a job: a rank, or a run within a run.
    Run,
    /// A container.
    Container,
    /// A systemd service or scope.
    Systemd,
    /// All processes of a user.
    User,
    /// A Kubernetes pod.
    Pod,
    /// What a pod used in its containers of one name; shown with the pod, and nowhere else.
    PodContainer,
    /// A step of a Slurm job.
    Step,
    /// A virtual machine.
    Vm,
    /// A cgroup that is nothing of the above, by its path.
    Cgroup,
}

impl Kind {
    /// Every kind that can be asked for.
    pub const ALL: [Self; 12] = [
        Self::Process,
        Self::Kernel,
        Self::Other,
        Self::Job,
        Self::Run,
        Self::Container,
        Self::Systemd,
        Self::User,
        Self::Pod,
        Self::Step,
        Self::Vm,
        Self::Cgroup,
    ];

    /// The value of the `kind` label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kernel => "kernel",
            Self::Other => "other",
            Self::Job => "job",
            Self::Run => "run",
            Self::Container => "container",
            Self::Systemd => "systemd",
            Self::User => "user",
            Self::Pod => "pod",
            Self::PodContainer => "pod_container",
            Self::Step => "step",
            Self::Vm => "vm",
            Self::Cgroup => "cgroup",
        }
    }

    /// The kind of this label.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// Where an account is kept. A number that comes again belongs to another unit: the generation
/// tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId {
    index: u32,
    generation: u32,
}

/// What a unit used and burnt.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// CPU time, in ns.
    pub cpu_ns: u64,
    /// Energy.
    pub energy: Row,
    /// What that emitted; empty where no intensity was ever known.
    pub carbon: CarbonRow,
    /// CPU time in the last tick, in ns.
    pub tick_ns: u64,
    /// Energy in the last tick, over the meters that make up [`Sum::total`], in µJ.
    pub tick_uj: u64,
    /// Energy per second of late, for ranking; no unit that anyone should rely on.
    pub score: f32,
    tick: u64,
}

/// Which meters add up to a unit's total without counting any joule twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    counted: Vec<bool>,
}

impl Sum {
    /// Packages, memory and accelerators; or, without packages, the widest meter there is.
    #[must_use]
    pub fn of(domains: &[Domain]) -> Self {
        let has = |domain| domains.contains(&domain);
        let wanted: &[Domain] = if has(Domain::Package) {
            &[Domain::Package, Domain::Dram, Domain::Gpu]
        } else if has(Domain::Psys) {
            &[Domain::Psys, Domain::Gpu]
        } else if has(Domain::Board) {
            &[Domain::Board]
        } else {
            &[Domain::Core, Domain::Uncore, Domain::Dram, Domain::Gpu]
        };
        Self {
            counted: domains
                .iter()
                .map(|domain| wanted.contains(domain))
                .collect(),
        }
    }

    /// Those of `domains` that are among `counted`.
    #[must_use]
    pub fn only(domains: &[Domain], counted: &[Domain]) -> Self {
        Self {
            counted: domains
                .iter()
                .map(|domain| counted.contains(domain))
                .collect(),
        }
    }

    /// Whether the meter at `index` counts.
    #[must_use]
    pub fn counts(&self, index: usize) -> bool {
        self.counted.get(index).copied().unwrap_or(false)
    }

    /// The sum of a row, in µJ.
    #[must_use]
    pub fn total(&self, row: &[u64]) -> u64 {
        row.iter()
            .enumerate()
            .filter(|(i, _)| self.counts(*i))
            .map(|(_, uj)| uj)
            .sum()
    }
}

/// All accounts.
#[derive(Debug, Default)]
pub struct Accounts {
    slots: Vec<(u32, Option<Account>)>,
    free: Vec<u32>,
    tick: u64,
    meters: usize,
    counts_carbon: bool,
    touched: Vec<AccountId>,
}

impl Accounts {
    /// Makes room for so many meters in every row.
    pub fn set_meters(&mut self, meters: usize) {
        self.meters = meters;
        for account in self.slots.iter_mut().filter_map(|slot| slot.1.as_mut()) {
            account.energy.resize(meters, 0);
            if self.counts_carbon {
                account.carbon.resize(meters);
            }
        }
    }

    /// Counts carbon from here on.
    pub(crate) fn open_carbon(&mut self) {
        self.counts_carbon = true;
        self.set_meters(self.meters);
    }

    /// Opens an account at zero.
    pub fn open(&mut self) -> AccountId {
        let carbon_meters = if self.counts_carbon { self.meters } else { 0 };
        let account = Account {
            energy: vec![0; self.meters],
            carbon: CarbonRow::zeros(carbon_meters),
            ..Account::default()
        };
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.0 = slot.0.wrapping_add(1);
                slot.1 = Some(account);
                AccountId {
                    index,
                    generation: slot.0,
                }
            }
            None => {
                self.slots.push((0, Some(account)));
                AccountId {
                    index: (self.slots.len() - 1) as u32,
                    generation: 0,
                }
            }
        }
    }

    /// Closes it; its id is worth nothing from now on.
    pub fn close(&mut self, id: AccountId) -> Option<Account> {
        let slot = self
            .slots
            .get_mut(id.index as usize)
            .filter(|slot| slot.0 == id.generation)?;
        let account = slot.1.take()?;
        self.free.push(id.index);
        Some(account)
    }

    /// An account that is open.
    #[must_use]
    pub fn get(&self, id: AccountId) -> Option<&Account> {
        self.slots
            .get(id.index as usize)
            .filter(|slot| slot.0 == id.generation)?
            .1
            .as_ref()
    }

    /// The same, to change.
    pub fn get_mut(&mut self, id: AccountId) -> Option<&mut Account> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|slot| slot.0 == id.generation)?
            .1
            .as_mut()
    }

    /// Begins a tick: what accounts say of "the last tick" is about this one now. `keep` is how
    /// much of a score stays.
    pub fn begin_tick(&mut self, keep: f32) {
        self.tick += 1;
        self.touched.clear();
        for (_, account) in &mut self.slots {
            if let Some(account) = account {
                account.tick_ns = 0;
                account.tick_uj = 0;
                account.score *= keep;
            }
        }
    }

    /// Books CPU time.
    pub fn add_cpu(&mut self, id: AccountId, ns: u64) {
        self.touch(id);
        if let Some(account) = self.get_mut(id) {
            account.cpu_ns += ns;
            account.tick_ns += ns;
        }
    }

    /// Books energy of the meter at `meter`.
    pub fn add_energy(&mut self, id: AccountId, meter: usize, amount: Amount, in_sum: bool) {
        self.touch(id);
        if let Some(account) = self.get_mut(id) {
            if let Some(cell) = account.energy.get_mut(meter) {
                *cell += amount.uj;
            }
            account.carbon.add(meter, amount.emissions);
            if in_sum {
                account.tick_uj += amount.uj;
                account.score += amount.uj as f32;
            }
        }
    }

    /// Moves all that was booked on `from` to `into`, as what is to be known of them all along.
    /// What comes for `from` afterwards can be moved again.
    pub fn transfer(&mut self, from: AccountId, into: AccountId) {
        if from == into || self.get(into).is_none() {
            return;
        }
        let Some(giver) = self.get_mut(from) else {
            return;
        };
        let cpu_ns = std::mem::take(&mut giver.cpu_ns);
        let mut energy = std::mem::take(&mut giver.energy);
        let meters = if giver.carbon.is_empty() {
            0
        } else {
            energy.len()
        };
        let carbon = std::mem::replace(&mut giver.carbon, CarbonRow::zeros(meters));
        if let Some(taker) = self.get_mut(into) {
            taker.cpu_ns += cpu_ns;
            for (sum, uj) in taker.energy.iter_mut().zip(&energy) {
                *sum += uj;
            }
            taker.carbon.add_all(&carbon);
        }
        energy.fill(0);
        if let Some(giver) = self.get_mut(from) {
            giver.energy = energy;
        }
    }

    /// The accounts that something was booked on in this tick.
    #[must_use]
    pub fn touched(&self) -> &[AccountId] {
        &self.touched
    }

    fn touch(&mut self, id: AccountId) {
        let tick = self.tick;
        let Some(account) = self.get_mut(id) else {
            return;
        };
        if account.tick != tick {
            account.tick = tick;
            self.touched.push(id);
        }
    }
}

/// Energy by domain label, in joules, for the edge: rows added up over devices.
#[must_use]
pub fn by_domain(row: &[u64], domains: &[Domain]) -> crate::api::ByDomain {
    let mut sums: FxHashMap<Domain, u64> = FxHashMap::default();
    for (uj, domain) in row.iter().zip(domains) {
        *sums.entry(*domain).or_default() += uj;
    }
    sums.into_iter()
        .map(|(domain, uj)| (domain.label().to_owned(), uj as f64 / 1e6))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_account_takes_nothing_and_its_number_is_another_unit() {
        let mut accounts = Accounts::default();
        accounts.set_meters(1);
        let first = accounts.open();
        let seven = Amount {
            uj: 7,
            ..Amount::default()
        };
        accounts.add_energy(first, 0, seven, true);
        assert_eq!(accounts.close(first).unwrap().energy, [7]);
        let second = accounts.open();
        accounts.add_energy(first, 0, seven, true);
        assert_eq!(accounts.get(second).unwrap().energy, [0]);
        assert!(accounts.get(first).is_none());
        assert!(accounts.close(first).is_none());
    }

    #[test]
    fn what_is_moved_is_neither_lost_nor_doubled() {
        let mut accounts = Accounts::default();
        accounts.set_meters(2);
        let (from, into) = (accounts.open(), accounts.open());
        accounts.add_energy(into, 0, Amount::of_uj(1), true);
        for _ in 0..2 {
            accounts.add_energy(from, 0, Amount::of_uj(7), true);
            accounts.add_cpu(from, 3);
            accounts.transfer(from, into);
            accounts.transfer(from, into);
        }
        accounts.transfer(into, into);
        assert_eq!(accounts.get(into).unwrap().energy, [15, 0]);
        assert_eq!(accounts.get(into).unwrap().cpu_ns, 6);
        assert_eq!(accounts.get(from).unwrap().energy, [0, 0]);
        let closed = accounts.open();
        accounts.close(closed);
        accounts.transfer(into, closed);
        assert_eq!(accounts.get(into).unwrap().energy, [15, 0]);
    }

    #[test]
    fn a_total_counts_no_joule_twice() {
        use Domain::{Board, Core, Dram, Gpu, Package, Psys};
        let sum = |domains: &[Domain]| Sum::of(domains).total(&vec![1; domains.len()]);
        assert_eq!(sum(&[Package, Core, Dram, Package, Gpu, Psys, Board]), 4);
        assert_eq!(sum(&[Psys, Board, Gpu]), 2);
        assert_eq!(sum(&[Board]), 1);
        assert_eq!(sum(&[]), 0);
    }
}
