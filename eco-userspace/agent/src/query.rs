// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Answers to what the HTTP API is asked, read from the books between two ticks.

mod advice;
mod node;
mod part;
mod parts;
mod population;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eco_intensity::Emissions;
use eco_usage::{State, Tier, bpf::kernel_release};
use jiff::Timestamp;

use crate::{
    api,
    carbon::books::CarbonRow,
    core::Core,
    ledger::{
        accounts::{AccountId, Kind, Row},
        window::Booked,
    },
    own,
    series::{Phase, Tags, ViewSeries},
    workloads::jobs::{Job, Membership},
};

use self::{node::node, parts::Parts, population::Population};
pub use self::{
    parts::Within,
    workloads::{managed_job, pod},
};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Root, the agent's own user, or whoever the operator lets in over TCP.
    Administrator,
    /// A user, who sees their own.
    User(u32),
}

/// What is asked of `/v1/units`.
#[derive(Clone, Debug, Default)]
pub struct UnitsRequest {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// At most so many.
    pub top: Option<usize>,
    /// The span of the means; the last tick if absent.
    pub window: Option<Duration>,
    /// Only what lies wholly in this unit.
    pub within: Option<Within>,
    /// Whether each unit names those that it lies in.
    pub parents: bool,
}

/// The shortest span that users get means over: what a shorter one shows tells of others.
const USERS_WINDOW: Duration = Duration::from_secs(1);

/// `GET /v1/status`.
#[must_use]
pub fn status(core: &mut Core) -> api::Status {
    let costs = core.usage.costs();
    let uptime = core.started.elapsed().as_secs_f64();
    let own_cpu = own::cpu_ns() as f64 / 1e9;
    let own_energy = core.books.sum.total(&core.own_energy) as f64 / 1e6;
    let mut discrepancies: BTreeMap<String, u64> = core
        .frame
        .counters
        .named()
        .iter()
        .map(|(k, v)| ((*k).to_owned(), *v))
        .collect();
    discrepancies.insert("ring_full".into(), costs.fold.ring_full);
    discrepancies.insert("deaths_lost".into(), costs.fold.lost);
    discrepancies.insert("failed_scans".into(), core.failed_scans);
    let latencies = core.latencies.named();
    api::Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        node: core.node.clone(),
        kernel: kernel_release(),
        cpus: core.cpus,
        uptime_seconds: uptime,
        interval_seconds: core.config.interval.as_secs_f64(),
        ticks: core.ticks,
        tier: core.usage.tier().label().into(),
        tier_reason: core.tier_reason.clone(),
        meters: (0..core.meters.len())
            .map(|at| meter_status(core, at))
            .collect(),
        identity: identity(core),
        processes: core.frame.processes,
        tasks: core.frame.threads,
        discrepancies,
        self_cost: api::SelfCost {
            cpu_seconds: own_cpu,
            cpu_percent: 100.0 * own_cpu / uptime.max(1e-3),
            resident_bytes: own::resident_bytes(),
            energy_joules: own_energy,
            bpf_map_bytes: costs.map_bytes,
        },
        latencies: latencies
            .iter()
            .map(|(n, d)| ((*n).to_owned(), d.summary()))
            .collect(),
        capabilities: own::capabilities(),
        carbon: core.intensities.answer(Timestamp::now()),
        state: api::StateStatus {
            directory: core.store.folder(),
            problem: core.store.problem.clone(),
        },
        history: core
            .history
            .status()
            .map(|(file, status)| api::HistoryStatus {
                file,
                bytes: status.bytes,
                written: status.written,
                merged: status.merged,
                problem: status.problem,
            }),
        advice: advice::advice(core),
        notes: advice::notes(core),
    }
}

/// `GET /v1/units`.
#[must_use]
pub fn units(core: &Core, request: &UnitsRequest, caller: Caller) -> api::Units {
    let wanted = |kind: Kind| request.kind.is_none_or(|only| only == kind);
    let least = if caller == Caller::Administrator {
        Duration::ZERO
    } else {
        USERS_WINDOW
    };
    let booked = core
        .recent
        .last(request.window.unwrap_or_default().max(least));
    let parts = Parts::new(core, request, caller);
    let mut units = Vec::new();
    if wanted(Kind::Process) {
        units.extend(processes(core, &booked, caller, &parts));
    }
    if caller == Caller::Administrator && request.within.is_none() {
        for (kind, account) in [
            (Kind::Kernel, core.books.kernel),
            (Kind::Other, core.books.nobody),
        ] {
            if wanted(kind) {
                units.extend(unit(core, kind, kind.label().to_owned(), account, &booked));
            }
        }
    }
    let shown = |view: &&ViewSeries| {
        view.kind != Kind::PodContainer && wanted(view.kind) && !lingers(core, view)
    };
    let population = match request.kind {
        Some(Kind::Process) => Population::default(),
        _ => Population::of(core),
    };
    for view in core.books.views.iter().filter(shown) {
        if may_see(core, view, caller) && parts.holds(view.account) {
            let mut unit = view_unit(core, view, &booked, &population);
            parts.place(core, view, unit.as_mut());
            units.extend(unit);
        }
    }
    let by_power = |a: &api::Unit, b: &api::Unit| {
        b.watts
            .total_cmp(&a.watts)
            .then(b.cpu_seconds.total_cmp(&a.cpu_seconds))
    };
    units.sort_by(|a, b| by_power(a, b).then_with(|| a.name.cmp(&b.name)));
    units.truncate(request.top.unwrap_or(usize::MAX));
    if let Some(rate) = core.intensities.rate(Timestamp::now()) {
        for unit in &mut units {
            unit.carbon_grams_per_hour = Some(node::grams_per_hour(rate, unit.watts));
        }
    }
    api::Units {
        at: jiff::Timestamp::now().to_string(),
        window_seconds: booked.span.as_secs_f64(),
        node: node(core, &booked),
        units,
    }
}

/// Whether a view is shown to scrapers alone, who have seen that it is over.
fn lingers(core: &Core, view: &ViewSeries) -> bool {
    matches!(view.phase, Phase::Leaving(since) if core.scrapers.have_seen(since, core.now()))
}

/// No process lives on less: a fork and an exit alone take several times as long.
const SHORTEST_PROCESS_NS: u64 = 20_000;

/// A job, open or just closed.
#[must_use]
pub fn job(core: &Core, job: &Job, ended: Option<String>) -> api::Job {
    let (cpu_ns, energy, carbon) = whole(core, job.account);
    let uncovered = core.books.sum.total(&core.books.carbon.uncovered);
    let meters: Vec<api::JobMeter> = core
        .meters
        .iter()
        .zip(&energy)
        .filter(|(slot, _)| slot.is_present())
        .map(|(slot, uj)| api::JobMeter {
            name: slot.descriptor.name.clone(),
            domain: slot.descriptor.domain.label().into(),
            source: slot.descriptor.source.label().into(),
            joules: *uj as f64 / 1e6,
        })
        .collect();
    let (cpu_before, energy_before) = job.agent_before;
    let idle = core
        .books
        .job_idle
        .get(&job.account)
        .copied()
        .unwrap_or(0.0);
    api::Job {
        id: job.id.clone(),
        manager: "eco".into(),
        name: job.name.clone(),
        user: core.homes.user_name(job.uid),
        part_of: part::of(core, job),
        started: job.started.clone(),
        ended,
        traceparent: job.own_span().map(|span| span.to_string()),
        membership: match job.membership {
            Membership::Cgroup(_) => "cgroup".into(),
            Membership::Descent { .. } => "descent".into(),
        },
        cpu_seconds: cpu_ns as f64 / 1e9,
        processes: job.processes,
        processes_exact: counts_all(core, job),
        running: core.jobs.running(job, &core.usage),
        energy_joules: present_by_domain(core, &energy),
        carbon_grams: carbon_by_domain(core, &carbon),
        carbon: core.intensities.answer(Timestamp::now()),
        carbon_is_partial: uncovered > job.uncovered_before,
        idle_share_joules: idle / 1e6,
        meters,
        estimated: estimated(core),
        tier: core.usage.tier().label().into(),
        agent_cpu_seconds: own::cpu_ns().saturating_sub(cpu_before) as f64 / 1e9,
        agent_energy_joules: core
            .books
            .sum
            .total(&core.own_energy)
            .saturating_sub(energy_before) as f64
            / 1e6,
    }
}

/// Whether every process of a job was seen, if only when it died.
fn counts_all(core: &Core, job: &Job) -> bool {
    let all_recorded = match &job.membership {
        Membership::Cgroup(path) => {
            let ns = core.usage.unrecorded_ns(path);
            ns.is_some_and(|ns| ns < SHORTEST_PROCESS_NS)
        }
        Membership::Descent { .. } => true,
    };
    all_recorded && !job.missed_deaths && core.usage.tier() == Tier::Iter
}

/// Whose a job is, as a number.
#[must_use]
pub fn owns(job: &Job, caller: Caller) -> bool {
    match caller {
        Caller::Administrator => true,
        Caller::User(uid) => job.uid == uid,
    }
}

fn processes<'a>(
    core: &'a Core,
    booked: &'a Booked,
    caller: Caller,
    parts: &'a Parts,
) -> impl Iterator<Item = api::Unit> {
    core.slots.iter().filter_map(move |(account, slot)| {
        let process = core.usage.process(*slot)?;
        if process.state != State::Alive || !sees_uid(process.uid, caller) {
            return None;
        }
        let parents = parts.parents(core, *slot)?;
        let comm = process.comm.text().into_owned();
        let start = core.start_unix(process);
        let name = format!("{comm}[{}]@{start}", process.key.pid);
        let mut unit = unit(core, Kind::Process, name, *account, booked)?;
        unit.label = comm;
        unit.pid = Some(process.key.pid);
        unit.parent = Some(process.parent.pid);
        unit.user = Some(core.homes.user_name(process.uid));
        let cgroup = core.usage.cgroup(process.cgroup);
        unit.cgroup = cgroup
            .and_then(|c| c.paths.as_ref())
            .map(|p| p.telling().to_owned());
        unit.tasks = process.threads.into();
        unit.parents = parents;
        Some(unit)
    })
}

fn view_unit(
    core: &Core,
    view: &ViewSeries,
    booked: &Booked,
    population: &Population,
) -> Option<api::Unit> {
    let mut unit = unit(core, view.kind, view.name.clone(), view.account, booked)?;
    let (cpu_ns, energy, carbon) = whole(core, view.account);
    unit.energy_joules = present_by_domain(core, &energy);
    unit.carbon_grams = carbon_by_domain(core, &carbon);
    unit.cpu_seconds = cpu_ns as f64 / 1e9;
    unit.tasks = population.in_view(view.account);
    if let Tags::Pod { pod, uid, .. } = &view.tags {
        unit.name = view.title();
        unit.label.clone_from(pod);
        unit.uid = Some(uid.clone());
    }
    if view.kind == Kind::Container {
        // As every runtime's own tools shorten it.
        unit.label = view.name.chars().take(12).collect();
    }
    if matches!(view.kind, Kind::Job | Kind::Run | Kind::Step) {
        unit.user = Some(view.user.clone()).filter(|user| !user.is_empty());
        if let Some(job) = core.jobs.find(&view.name) {
            unit.label.clone_from(&job.name);
            // Those too that have used nothing yet.
            unit.tasks = core.jobs.running(job, &core.usage);
        }
    }
    Some(unit)
}

/// What a view has used: CPU time in ns, energy in µJ (`None` where nothing is metered) and
/// carbon in g (`None` where no intensity was ever known), over the meters that add up.
pub(crate) fn used(core: &Core, account: AccountId) -> (u64, Option<u64>, Option<f64>) {
    let (cpu_ns, energy, carbon) = whole(core, account);
    let is_metered = core.meters.iter().any(|slot| slot.is_present());
    let counted = carbon.iter().enumerate();
    let counted = counted.filter(|(meter, _)| core.books.sum.counts(*meter));
    let grams: f64 = counted.map(|(_, emissions)| emissions.grams().0).sum();
    (
        cpu_ns,
        is_metered.then(|| core.books.sum.total(&energy)),
        (!carbon.is_empty()).then_some(grams),
    )
}

/// A view's CPU time in ns, energy in µJ by meter and what that emitted, those under earlier
/// agents included.
pub(crate) fn whole(core: &Core, account: AccountId) -> (u64, Row, CarbonRow) {
    let Some(booked) = core.books.accounts.get(account) else {
        return Default::default();
    };
    let Some(view) = core.books.views.of(account) else {
        return (booked.cpu_ns, booked.energy.clone(), booked.carbon.clone());
    };
    let energy = booked
        .energy
        .iter()
        .zip(&view.base_energy)
        .map(|(a, b)| a + b)
        .collect();
    let mut carbon = booked.carbon.clone();
    carbon.add_all(&view.base_carbon);
    (booked.cpu_ns + view.base_cpu_ns, energy, carbon)
}

fn unit(
    core: &Core,
    kind: Kind,
    name: String,
    account: AccountId,
    booked: &Booked,
) -> Option<api::Unit> {
    let all = core.books.accounts.get(account)?;
    let (ns, uj) = booked.units.get(&account).copied().unwrap_or_default();
    let seconds = booked.span.as_secs_f64().max(1e-6);
    Some(api::Unit {
        kind: kind.label().into(),
        label: name.clone(),
        name,
        cpu_percent: ns as f64 / 1e7 / seconds,
        watts: uj as f64 / 1e6 / seconds,
        cpu_seconds: all.cpu_ns as f64 / 1e9,
        energy_joules: present_by_domain(core, &all.energy),
        carbon_grams: carbon_by_domain(core, &all.carbon),
        ..api::Unit::default()
    })
}

/// Whether any joule that counts into totals is an estimate.
fn estimated(core: &Core) -> bool {
    core.meters
        .iter()
        .any(|slot| slot.is_present() && slot.descriptor.source.is_estimate())
}

/// Where the joules come from, each source once.
fn sources(core: &Core) -> Vec<String> {
    let present = core.meters.iter().filter(|slot| slot.is_present());
    let labels: BTreeSet<&str> = present.map(|slot| slot.descriptor.source.label()).collect();
    labels.into_iter().map(str::to_owned).collect()
}

/// By domain, over the meters that are there.
fn present_by_domain(core: &Core, row: &[u64]) -> api::ByDomain {
    let mut sums = api::ByDomain::new();
    for (slot, uj) in core.meters.iter().zip(row) {
        if slot.is_present() || *uj > 0 {
            let domain = slot.descriptor.domain.label().to_owned();
            *sums.entry(domain).or_default() += *uj as f64 / 1e6;
        }
    }
    sums
}

/// In grams, by domain, over the meters that are there; `None` where no carbon is counted.
fn carbon_by_domain(core: &Core, row: &CarbonRow) -> Option<api::ByDomain> {
    if row.is_empty() {
        return None;
    }
    let mut sums = api::ByDomain::new();
    for (slot, emissions) in core.meters.iter().zip(row.iter()) {
        if slot.is_present() || emissions > Emissions::ZERO {
            let domain = slot.descriptor.domain.label().to_owned();
            *sums.entry(domain).or_default() += emissions.grams().0;
        }
    }
    Some(sums)
}

fn sees_uid(uid: u32, caller: Caller) -> bool {
    match caller {
        Caller::Administrator => true,
        Caller::User(own) => own == uid,
    }
}

fn may_see(core: &Core, view: &ViewSeries, caller: Caller) -> bool {
    let Caller::User(uid) = caller else {
        return true;
    };
    match view.kind {
        Kind::Run | Kind::Job if view.tags == Tags::None => {
            core.jobs.find(&view.name).is_some_and(|job| job.uid == uid)
        }
        // A name that is a number could be another's whose name is not known.
        Kind::Job | Kind::Step => view.user == core.homes.user_name(uid),
        Kind::User => view.name == core.homes.user_name(uid),
        _ => false,
    }
}

fn meter_status(core: &Core, at: usize) -> api::MeterStatus {
    let slot = &core.meters[at];
    let d = &slot.descriptor;
    let idle = slot.idle_power();
    api::MeterStatus {
        name: d.name.clone(),
        domain: d.domain.label().into(),
        device: d.device.clone(),
        source: d.source.label().into(),
        estimated: d.source.is_estimate(),
        quality: slot.quality.clone(),
        joules: core.books.node[at] as f64 / 1e6,
        watts: slot.watts.0,
        idle_watts: idle.map(|idle| idle.watts.0),
        idle_basis: idle.map_or("", |idle| idle.basis).into(),
        update_seconds: slot.update_period().map(|period| period.as_secs_f64()),
    }
}

fn identity(core: &Core) -> Vec<String> {
    let mounts = core.usage.mounts();
    let mut sources = Vec::new();
    if let Some(place) = &mounts.unified {
        sources.push(format!("cgroup v2 at {}", place.display()));
    }
    if let Some(place) = &mounts.cpuacct {
        sources.push(format!("cgroup v1 cpuacct at {}", place.display()));
    }
    sources.push("/etc/passwd".into());
    let pods = core.homes.pods.directory.status();
    if !pods.source.is_empty() {
        sources.push(format!("{} ({} pods)", pods.source, pods.pods));
    }
    sources
}
