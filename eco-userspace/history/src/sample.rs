// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a tick leaves in the history: who used how much since the sample before.

use std::sync::Arc;

use eco_intensity::{Intensity, Pue};
use eco_meter::Domain;
use rusqlite::{Connection, params};
use serde::Serialize;

use crate::{UnixSeconds, run::Run};

/// So many runs wait for a disk at most; those that end after them are not kept.
const MOST_RUNS: usize = 1_000;

/// How many domains there are, each with a column of its own.
pub const DOMAINS: usize = Domain::ALL.len();

/// Energy by domain, in µJ, in the order of [`Domain::ALL`]; `None` where it is not metered.
pub type EnergyByDomain = [Option<u64>; DOMAINS];

/// Somebody who uses energy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Unit {
    /// `process`, `kernel`, `other`, `job`, `container`, …: as in `/v1/units`. Processes are
    /// one unit per command: the history would grow by each that ever ran.
    pub kind: String,
    /// Unique within the kind.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// Whose it is, where that is one user.
    pub user: Option<String>,
    /// Pods: their namespace.
    pub namespace: Option<String>,
    /// Jobs: who manages them.
    pub manager: Option<String>,
}

/// A meter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Meter {
    /// `package-0`.
    pub name: String,
    /// What it covers.
    pub domain: Domain,
    /// Which one.
    pub device: String,
    /// `rapl-powercap`, `model`, ….
    pub source: String,
    /// Whether its joules are an estimate.
    pub estimated: bool,
}

/// An intensity, with what it is multiplied by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Priced {
    /// The intensity.
    pub intensity: Intensity,
    /// The ratio.
    pub pue: Pue,
}

impl Priced {
    /// Its number in the file, which it is given if it has none.
    pub(crate) fn id(&self, db: &Connection) -> rusqlite::Result<i64> {
        let it = &self.intensity;
        let sql = "INSERT INTO intensities (zone, g_per_kwh, kind, source, estimated, pue)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            ON CONFLICT DO UPDATE SET zone = excluded.zone RETURNING id";
        let row = params![
            it.zone,
            it.g_per_kwh.get(),
            it.kind.label(),
            it.source,
            it.estimated,
            self.pue.get(),
        ];
        db.query_row(sql, row, |row| row.get(0))
    }
}

/// What a unit used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitAmounts {
    /// CPU time, in ns.
    pub cpu_ns: u64,
    /// Energy without idle.
    pub energy_uj: EnergyByDomain,
    /// What that emitted, each joule once, in ng CO2e; `None` where no intensity was known.
    pub carbon_ng: Option<u64>,
}

/// What a meter counted, in µJ. What is neither idle nor unattributed nor of a downtime is the
/// units'.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterAmounts {
    /// All of it.
    pub energy_uj: u64,
    /// Idle.
    pub idle_uj: u64,
    /// Nobody's, while the agent ran.
    pub unattributed_uj: u64,
    /// Counted while no agent ran.
    pub downtime_uj: u64,
}

/// What was used in one tick, or in several that could not be written one by one.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The second that it belongs to.
    pub at: UnixSeconds,
    /// How long it took, in ms.
    pub span_ms: u64,
    /// CPU time of all, in ns.
    pub cpu_ns: u64,
    /// What the node emitted, each joule once, in ng CO2e.
    pub carbon_ng: Option<u64>,
    /// What carbon was counted at.
    pub intensity: Option<Arc<Priced>>,
    /// Units that there was no room for; what they used is in `other`, or in no view.
    pub left_out: u64,
    /// Each meter once.
    pub meters: Vec<(Arc<Meter>, MeterAmounts)>,
    /// Each unit once.
    pub units: Vec<(Arc<Unit>, UnitAmounts)>,
    /// Jobs that were closed since the sample before.
    pub runs: Vec<Run>,
}

impl Sample {
    /// Takes in the sample that follows. The result belongs to the later second.
    pub fn merge(&mut self, later: Self) {
        self.at = later.at;
        self.span_ms += later.span_ms;
        self.cpu_ns += later.cpu_ns;
        self.carbon_ng = sum(self.carbon_ng, later.carbon_ng);
        self.intensity = later.intensity.or(self.intensity.take());
        self.left_out += later.left_out;
        // While a disk is full they wait here, and not without end.
        let room = MOST_RUNS.saturating_sub(self.runs.len());
        self.runs.extend(later.runs.into_iter().take(room));
        for (meter, amounts) in later.meters {
            match self.meters.iter_mut().find(|(known, _)| *known == meter) {
                Some((_, sums)) => sums.add(&amounts),
                None => self.meters.push((meter, amounts)),
            }
        }
        for (unit, amounts) in later.units {
            let same = |known: &Unit| known.kind == unit.kind && known.name == unit.name;
            match self.units.iter_mut().find(|(known, _)| same(known)) {
                Some((known, sums)) => {
                    sums.add(&amounts);
                    *known = unit;
                }
                None => self.units.push((unit, amounts)),
            }
        }
    }
}

impl UnitAmounts {
    /// Takes in more.
    pub fn add(&mut self, more: &Self) {
        self.cpu_ns += more.cpu_ns;
        for (sum_uj, uj) in self.energy_uj.iter_mut().zip(more.energy_uj) {
            *sum_uj = sum(*sum_uj, uj);
        }
        self.carbon_ng = sum(self.carbon_ng, more.carbon_ng);
    }

    /// Over all domains: to rank by, as domains contain each other.
    #[must_use]
    pub fn rank(&self) -> u64 {
        self.energy_uj.iter().flatten().sum()
    }

    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.cpu_ns == 0 && self.rank() == 0
    }
}

impl MeterAmounts {
    /// Takes in more.
    pub fn add(&mut self, more: &Self) {
        self.energy_uj += more.energy_uj;
        self.idle_uj += more.idle_uj;
        self.unattributed_uj += more.unattributed_uj;
        self.downtime_uj += more.downtime_uj;
    }
}

/// Of two amounts that may not be known: what is known of them.
fn sum(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (known, None) | (None, known) => known,
    }
}

/// The whole, each joule once: packages, memory and accelerators; where no package is metered,
/// the platform or the board, which contain them. `None` where nothing is metered.
#[must_use]
pub fn total_uj(energy: &EnergyByDomain) -> Option<u64> {
    let of = |domain| energy[slot(domain)];
    if of(Domain::Package).is_some() {
        let parts = [Domain::Package, Domain::Dram, Domain::Gpu].map(of);
        return Some(parts.into_iter().flatten().sum());
    }
    of(Domain::Psys)
        .map(|psys| psys + of(Domain::Gpu).unwrap_or(0))
        .or_else(|| of(Domain::Board))
        .or_else(|| {
            let parts = [Domain::Core, Domain::Uncore, Domain::Dram, Domain::Gpu].map(of);
            parts.into_iter().flatten().reduce(|sum, uj| sum + uj)
        })
}

/// The place of a domain in a row.
#[must_use]
pub fn slot(domain: Domain) -> usize {
    Domain::ALL.iter().position(|d| *d == domain).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, title: &str) -> Arc<Unit> {
        Arc::new(Unit {
            kind: "pod".into(),
            name: name.into(),
            title: title.into(),
            ..Unit::default()
        })
    }

    fn amounts(cpu_ns: u64, package: Option<u64>) -> UnitAmounts {
        let mut amounts = UnitAmounts {
            cpu_ns,
            ..UnitAmounts::default()
        };
        amounts.energy_uj[0] = package;
        amounts
    }

    #[test]
    fn samples_that_are_merged_lose_nothing_and_know_the_later_name() {
        let mut first = Sample {
            at: 10,
            span_ms: 1000,
            units: vec![(unit("a", "?"), amounts(1, Some(5)))],
            ..Sample::default()
        };
        first.merge(Sample {
            at: 11,
            span_ms: 900,
            carbon_ng: Some(3),
            units: vec![
                (unit("a", "shop/web"), amounts(2, None)),
                (unit("b", "b"), amounts(4, Some(1))),
            ],
            ..Sample::default()
        });
        assert_eq!(
            (first.at, first.span_ms, first.carbon_ng),
            (11, 1900, Some(3))
        );
        assert_eq!(first.units.len(), 2);
        assert_eq!(first.units[0].1, amounts(3, Some(5)));
        assert_eq!(first.units[0].0.title, "shop/web");
    }

    #[test]
    fn a_total_counts_each_joule_once() {
        let row = |domains: &[(Domain, u64)]| {
            let mut row = EnergyByDomain::default();
            for (domain, uj) in domains {
                row[slot(*domain)] = Some(*uj);
            }
            row
        };
        use Domain::{Board, Core, Dram, Gpu, Package, Psys};
        assert_eq!(
            total_uj(&row(&[(Package, 5), (Core, 3), (Dram, 1), (Board, 90)])),
            Some(6)
        );
        assert_eq!(
            total_uj(&row(&[(Psys, 20), (Gpu, 2), (Board, 30)])),
            Some(22)
        );
        assert_eq!(total_uj(&row(&[(Board, 30), (Gpu, 2)])), Some(30));
        assert_eq!(total_uj(&row(&[(Gpu, 2)])), Some(2));
        assert_eq!(total_uj(&row(&[])), None);
    }
}
