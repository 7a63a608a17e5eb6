// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Jobs that were closed, as the history keeps them.

use eco_history::{
    run::{MeterEnergy, PartOf, Run},
    sample::Priced,
};
use eco_intensity::Emissions;
use jiff::Timestamp;

use super::{counted_carbon, nanograms};
use crate::{api, core::Core, query, workloads::jobs::Job};

/// Takes note of a job that is being closed. What its user knows of it (the command, settings,
/// results) they keep in a history of their own.
pub(crate) fn book(core: &mut Core, job: &Job, closed: &api::Job) {
    if core.history.recorder.is_none() {
        return;
    }
    let run = run(core, job, closed);
    core.history.closed.push(run);
}

fn run(core: &Core, job: &Job, closed: &api::Job) -> Run {
    let (cpu_ns, energy, carbon) = query::whole(core, job.account);
    let now = Timestamp::now();
    let started = job.started.parse::<Timestamp>().unwrap_or(now);
    let carbon_ng = || nanograms(Emissions::default(), counted_carbon(core, &carbon));
    Run {
        origin: "eco".to_owned(),
        key: format!("{}/{}", core.node, job.id),
        name: job.name.clone(),
        user: Some(closed.user.clone()),
        started_ms: started.as_millisecond(),
        ended_ms: now.as_millisecond(),
        part_of: closed.part_of.as_ref().map(|part| PartOf {
            manager: part.manager.clone(),
            job: part.job.clone(),
            rank: part.rank,
        }),
        cpu_ns: Some(cpu_ns),
        energy_uj: (!core.meters.is_empty()).then(|| core.books.sum.total(&energy)),
        idle_uj: Some((closed.idle_share_joules * 1e6).round() as u64),
        carbon_ng: closed.carbon_grams.is_some().then(carbon_ng),
        priced: closed.carbon.intensity.clone().map(|intensity| Priced {
            intensity,
            pue: closed.carbon.pue,
        }),
        estimated: closed.estimated,
        measured_by: "agent".to_owned(),
        hardware: Some(core.history.hardware.clone()),
        meters: closed.meters.iter().map(meter).collect(),
        ..Run::default()
    }
}

fn meter(meter: &api::JobMeter) -> MeterEnergy {
    MeterEnergy {
        name: meter.name.clone(),
        domain: meter.domain.clone(),
        source: meter.source.clone(),
        energy_uj: (meter.joules * 1e6).round() as u64,
    }
}
