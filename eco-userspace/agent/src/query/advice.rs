// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a person should know of this agent: what is missing, and what is merely so.

use jiff::Timestamp;

use crate::core::{Core, meters::MeterSlot};

/// Findings about which there is nothing to do.
pub(super) fn notes(core: &Core) -> Vec<String> {
    findings(core)
        .filter(|finding| finding.advice.is_empty())
        .map(|finding| format!("{}: {}", finding.place, finding.what))
        .collect()
}

/// One line for each thing that is missing: what, and how to get it.
pub(super) fn advice(core: &Core) -> Vec<String> {
    let mut advice: Vec<String> = findings(core)
        .filter(|finding| !finding.advice.is_empty())
        .map(|finding| format!("{}: {}. {}", finding.place, finding.what, finding.advice))
        .collect();
    if core.usage.tier() == eco_usage::Tier::Procfs {
        advice.push(format!("CPU time: {}", core.tier_reason));
    }
    if core.usage.mounts().are_partial(&core.config.procfs) {
        advice.push(
            "cgroups: this agent is in a cgroup namespace and sees its own cgroup only. Mount the \
             host's /sys, and give it with --sysfs"
                .into(),
        );
    }
    let homes = &core.homes;
    let troubles = homes.pods.directory.status().troubles.into_iter();
    let troubles = troubles.chain(homes.slurm.directory.trouble());
    advice.extend(troubles.map(|t| format!("{}: {}. {}", t.place, t.what, t.advice)));
    advice.extend(core.store.problem.clone());
    let history = core.history.status();
    advice.extend(history.and_then(|(_, status)| status.problem));
    advice.extend(core.intensities.advice(Timestamp::now()));
    for slot in core.meters.iter().filter(|slot| slot.is_stuck()) {
        advice.push(format!(
            "meter {} has not moved for {} reads; joules are booked when it does",
            slot.descriptor.name, slot.still
        ));
    }
    advice
}

/// What the search for meters noticed, and what the meters have to say now.
fn findings(core: &Core) -> impl Iterator<Item = eco_meter::Finding> {
    let notes = core.meters.iter().flat_map(MeterSlot::notes);
    core.findings.iter().cloned().chain(notes)
}
