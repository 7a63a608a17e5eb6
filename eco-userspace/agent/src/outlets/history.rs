// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What each tick leaves in the history: the difference of the books to the tick before.
//!
//! For each meter and tick, processes + kernel + other + idle + unattributed + downtime is what
//! it counted, in the history as in the books. Processes are one unit per command, and only
//! those that are shown by name: the rest is `other`.

pub(crate) mod runs;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eco_history::{
    FILE_NAME, hardware,
    recorder::{Recorder, Status},
    retention::Retention,
    run::{Hardware, Run},
    sample::{self, Meter, MeterAmounts, Priced, Sample, Unit, UnitAmounts},
};
use eco_intensity::Emissions;
use jiff::Timestamp;
use rustc_hash::FxHashMap;

use crate::{
    carbon::books::CarbonRow,
    core::Core,
    ledger::accounts::{Account, AccountId, Kind, Row},
    series::{Tags, ViewSeries},
};

/// At most so many units have a row for each tick: those with the most energy.
const MOST_UNITS: usize = 500;

/// A nanogram in the ledger's unit of 2.8·10⁻¹⁹ g: [`Emissions`].
const PER_NANOGRAM: u128 = 3_600_000_000;

/// What is configured.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The file; `None`: no history is written.
    pub path: Option<PathBuf>,
    /// How long, and how much.
    pub retention: Retention,
}

/// Compares the books with those of the tick before.
#[derive(Default)]
pub struct History {
    recorder: Option<Recorder>,
    known: FxHashMap<AccountId, Known>,
    node: Vec<NodeBefore>,
    meters: Vec<Arc<Meter>>,
    priced: Option<Arc<Priced>>,
    carbon: Emissions,
    kernel: Known,
    round: u64,
    /// Counted while no agent ran, in µJ by meter, and not told yet.
    downtime: Row,
    /// The title of the view that is looked at.
    title: String,
    /// Jobs that were closed since the last sample.
    closed: Vec<Run>,
    hardware: Hardware,
}

/// Where a unit's account stood.
#[derive(Default)]
struct Known {
    unit: Arc<Unit>,
    cpu_ns: u64,
    energy: Row,
    carbon: Emissions,
    round: u64,
}

/// Where a meter's books stood.
#[derive(Clone, Copy, Default)]
struct NodeBefore {
    node: u64,
    idle: u64,
    unattributed: u64,
}

impl History {
    /// Starts the thread that writes. After capabilities were dropped: it inherits them.
    pub fn start(&mut self, config: &HistoryConfig, procfs: &Path) {
        let Some(path) = &config.path else {
            return;
        };
        self.hardware = hardware::of(procfs);
        match Recorder::start(path, config.retention.clone()) {
            Ok(recorder) => self.recorder = Some(recorder),
            Err(why) => tracing::error!(error = %why, "no history: no thread"),
        }
    }

    /// Where the file is and how it fares; `None` where none is written.
    #[must_use]
    pub fn status(&self) -> Option<(String, Status)> {
        let recorder = self.recorder.as_ref()?;
        Some((recorder.path().display().to_string(), recorder.status()))
    }

    /// Takes note of what a meter counted while no agent ran.
    pub(crate) fn book_downtime(&mut self, meter: usize, uj: u64) {
        self.downtime.resize(self.downtime.len().max(meter + 1), 0);
        self.downtime[meter] += uj;
    }
}

/// The file within the state directory, or the one that is named.
#[must_use]
pub fn place(named: Option<&str>, state: Option<&Path>) -> Option<PathBuf> {
    named
        .map(PathBuf::from)
        .or_else(|| state.map(|folder| folder.join(FILE_NAME)))
}

/// Records a tick that took `span`, before the accounts of the dead are closed.
pub(crate) fn record(core: &mut Core, span: Duration, cpu_ns: u64) {
    if core.history.recorder.is_none() {
        return;
    }
    let mut history = std::mem::take(&mut core.history);
    let sample = history.sample(core, span, cpu_ns);
    // The first only says where the books stood when this agent began.
    if let Some(recorder) = history.recorder.as_mut()
        && (!span.is_zero() || history.downtime.iter().any(|uj| *uj > 0))
    {
        history.downtime.fill(0);
        recorder.put(sample);
    }
    core.history = history;
}

impl History {
    fn sample(&mut self, core: &Core, span: Duration, cpu_ns: u64) -> Sample {
        self.round += 1;
        self.name_meters(core);
        let meters = self.meter_amounts(core);
        let mut units = Vec::new();
        let named_cpu_ns = self.processes(core, &mut units);
        let kernel = core.books.accounts.get(core.books.kernel);
        let kernel = kernel.map(|account| self.kernel.advance(core, account));
        let kernel_cpu_ns = kernel.map_or(0, |amounts| amounts.cpu_ns);
        units.extend(kernel.map(|amounts| (kernel_unit(), amounts)));
        self.views(core, &mut units);
        let round = self.round;
        self.known.retain(|_, known| known.round == round);

        units.retain(|(_, amounts)| !amounts.is_nothing());
        let left_out = cut(&mut units);
        units.push((
            other_unit(),
            self.other(
                core,
                &meters,
                &units,
                cpu_ns.saturating_sub(named_cpu_ns + kernel_cpu_ns),
            ),
        ));
        let carbon = self.node_carbon(core);
        let intensity = self.priced(core);
        let meters = self.meters.iter().cloned().zip(meters);
        Sample {
            at: second(span),
            span_ms: span.as_millis() as u64,
            cpu_ns,
            carbon_ng: carbon,
            intensity,
            left_out,
            meters: meters.collect(),
            units,
            runs: std::mem::take(&mut self.closed),
        }
    }

    /// The processes that are shown by name, added up by command. Gives their CPU time.
    fn processes(&mut self, core: &Core, units: &mut Vec<(Arc<Unit>, UnitAmounts)>) -> u64 {
        let mut by_command: FxHashMap<Arc<Unit>, UnitAmounts> = FxHashMap::default();
        let mut cpu_ns = 0;
        for series in core.books.board.iter() {
            let Some(id) = series.account else { continue };
            let Some(account) = core.books.accounts.get(id) else {
                continue;
            };
            let Some(known) = self.known.get_mut(&id) else {
                // What it used before it was shown was `other`'s.
                let mut known = Known::new(process_unit(&series.name.comm), self.round);
                known.advance(core, account);
                self.known.insert(id, known);
                continue;
            };
            known.round = self.round;
            let amounts = known.advance(core, account);
            cpu_ns += amounts.cpu_ns;
            by_command
                .entry(known.unit.clone())
                .or_default()
                .add(&amounts);
        }
        units.extend(by_command);
        cpu_ns
    }

    fn views(&mut self, core: &Core, units: &mut Vec<(Arc<Unit>, UnitAmounts)>) {
        for view in core.books.views.iter() {
            let Some(account) = core.books.accounts.get(view.account) else {
                continue;
            };
            let round = self.round;
            // A view's account opens at zero in the tick in which it is met.
            let known = self
                .known
                .entry(view.account)
                .or_insert_with(|| Known::new(view_unit(view), round));
            known.round = round;
            if account.cpu_ns == known.cpu_ns && account.energy == known.energy {
                continue;
            }
            self.title.clear();
            view.write_title(&mut self.title);
            if known.unit.title != self.title {
                known.unit = view_unit(view);
            }
            let amounts = known.advance(core, account);
            units.push((known.unit.clone(), amounts));
        }
    }

    /// Whatever the meters counted and nobody else has.
    fn other(
        &self,
        core: &Core,
        meters: &[MeterAmounts],
        units: &[(Arc<Unit>, UnitAmounts)],
        cpu_ns: u64,
    ) -> UnitAmounts {
        let mut left = UnitAmounts {
            cpu_ns,
            ..UnitAmounts::default()
        };
        for (slot, amounts) in core.meters.iter().zip(meters) {
            let units = amounts
                .energy_uj
                .saturating_sub(amounts.idle_uj + amounts.unattributed_uj + amounts.downtime_uj);
            let cell = &mut left.energy_uj[sample::slot(slot.descriptor.domain)];
            *cell = Some(cell.unwrap_or(0) + units);
        }
        // Also those processes that there was no row for: so the sum holds.
        for (unit, amounts) in units {
            if !matches!(unit.kind.as_str(), "process" | "kernel") {
                continue;
            }
            for (cell, uj) in left.energy_uj.iter_mut().zip(amounts.energy_uj) {
                *cell = cell.map(|all| all.saturating_sub(uj.unwrap_or(0)));
            }
        }
        left
    }

    fn meter_amounts(&mut self, core: &Core) -> Vec<MeterAmounts> {
        let books = &core.books;
        let is_first = self.node.is_empty();
        self.node.resize(core.meters.len(), NodeBefore::default());
        let mut amounts = Vec::with_capacity(core.meters.len());
        for (at, before) in self.node.iter_mut().enumerate() {
            let downtime_uj = self.downtime.get(at).copied().unwrap_or(0);
            let now = NodeBefore {
                node: books.node[at],
                idle: books.idle[at],
                unattributed: books.unattributed.iter().map(|row| row[at]).sum(),
            };
            if is_first {
                // Where the books stood, but for the downtime, which is told with this sample.
                *before = NodeBefore {
                    node: now.node.saturating_sub(downtime_uj),
                    unattributed: now.unattributed.saturating_sub(downtime_uj),
                    ..now
                };
            }
            amounts.push(MeterAmounts {
                energy_uj: now.node.saturating_sub(before.node),
                idle_uj: now.idle.saturating_sub(before.idle),
                unattributed_uj: now
                    .unattributed
                    .saturating_sub(before.unattributed + downtime_uj),
                downtime_uj,
            });
            *before = now;
        }
        amounts
    }

    fn name_meters(&mut self, core: &Core) {
        for slot in &core.meters[self.meters.len().min(core.meters.len())..] {
            let of = &slot.descriptor;
            self.meters.push(Arc::new(Meter {
                name: of.name.clone(),
                domain: of.domain,
                device: of.device.clone(),
                source: of.source.label().to_owned(),
                estimated: of.source.is_estimate(),
            }));
        }
    }

    fn node_carbon(&mut self, core: &Core) -> Option<u64> {
        let row = &core.books.carbon.node;
        let now = counted_carbon(core, row);
        let before = std::mem::replace(&mut self.carbon, now);
        let known = !row.is_empty() && self.priced(core).is_some() && self.round > 1;
        known.then(|| nanograms(before, now))
    }

    fn priced(&mut self, core: &Core) -> Option<Arc<Priced>> {
        let now = Timestamp::now();
        let intensity = core.intensities.current(now)?;
        let pue = core.intensities.pue();
        let same = |priced: &&Arc<Priced>| priced.intensity == *intensity && priced.pue == pue;
        if self.priced.as_ref().filter(same).is_none() {
            self.priced = Some(Arc::new(Priced {
                intensity: intensity.clone(),
                pue,
            }));
        }
        self.priced.clone()
    }
}

impl Known {
    fn new(unit: Arc<Unit>, round: u64) -> Self {
        Self {
            unit,
            round,
            ..Self::default()
        }
    }

    /// What its account has taken in since the last time.
    fn advance(&mut self, core: &Core, account: &Account) -> UnitAmounts {
        let mut amounts = UnitAmounts {
            cpu_ns: account.cpu_ns.saturating_sub(self.cpu_ns),
            ..UnitAmounts::default()
        };
        self.energy.resize(account.energy.len(), 0);
        for ((slot, now), before) in core.meters.iter().zip(&account.energy).zip(&self.energy) {
            let uj = now.saturating_sub(*before);
            let cell = &mut amounts.energy_uj[sample::slot(slot.descriptor.domain)];
            *cell = Some(cell.unwrap_or(0) + uj);
        }
        if !account.carbon.is_empty() {
            let now = counted_carbon(core, &account.carbon);
            amounts.carbon_ng = Some(nanograms(self.carbon, now));
            self.carbon = now;
        }
        self.cpu_ns = account.cpu_ns;
        self.energy.clone_from(&account.energy);
        amounts
    }
}

/// Of the meters that add up to a total.
fn counted_carbon(core: &Core, row: &CarbonRow) -> Emissions {
    let counted = row.iter().enumerate();
    counted
        .filter(|(at, _)| core.books.sum.counts(*at))
        .map(|(_, emissions)| emissions)
        .sum()
}

/// Whole nanograms from one reading to the next: what is cut off is in the next.
fn nanograms(before: Emissions, now: Emissions) -> u64 {
    let whole = |emissions: Emissions| emissions.0 / PER_NANOGRAM;
    u64::try_from(whole(now).saturating_sub(whole(before))).unwrap_or(u64::MAX)
}

/// Leaves those with the most energy; says how many there were too many.
fn cut(units: &mut Vec<(Arc<Unit>, UnitAmounts)>) -> u64 {
    if units.len() <= MOST_UNITS {
        return 0;
    }
    units.sort_by_key(|(_, amounts)| std::cmp::Reverse(amounts.rank()));
    let left_out = units.len() - MOST_UNITS;
    units.truncate(MOST_UNITS);
    left_out as u64
}

/// The second in whose middle of the tick was.
fn second(span: Duration) -> i64 {
    let middle = i64::try_from(span.as_millis() / 2).unwrap_or(0).min(30_000);
    (Timestamp::now().as_millisecond() - middle).div_euclid(1000)
}

fn unit_of(kind: Kind, name: &str) -> Unit {
    Unit {
        kind: kind.label().to_owned(),
        name: name.to_owned(),
        title: name.to_owned(),
        ..Unit::default()
    }
}

fn kernel_unit() -> Arc<Unit> {
    Arc::new(unit_of(Kind::Kernel, Kind::Kernel.label()))
}

fn other_unit() -> Arc<Unit> {
    Arc::new(unit_of(Kind::Other, Kind::Other.label()))
}

fn process_unit(comm: &str) -> Arc<Unit> {
    Arc::new(unit_of(Kind::Process, comm))
}

fn view_unit(view: &ViewSeries) -> Arc<Unit> {
    let mut unit = unit_of(view.kind, &view.name);
    unit.title = view.title();
    unit.user = Some(view.user.clone()).filter(|user| !user.is_empty());
    match &view.tags {
        Tags::Pod { namespace, .. } => {
            unit.namespace = Some(namespace.clone()).filter(|name| !name.is_empty());
        }
        Tags::Job { manager, .. } => unit.manager = Some(manager.clone()),
        Tags::None => {}
    }
    Arc::new(unit)
}
