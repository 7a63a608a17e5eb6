// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which meters are used, where a machine has several ways to the same joules.
//!
//! The rules, all here:
//!
//! 1. One meter for a domain of a device. For CPU domains: RAPL by perf, then RAPL by powercap,
//!    then a sensor chip. Where perf and powercap both count one, perf is believed, powercap is
//!    read beside it as a check and answers for the time in which no agent ran.
//! 2. One source for the board, since each measures all of it: the configured controller
//!    (Redfish) if it answers, a sensor chip, the firmware's meter (ACPI), the controller through
//!    IPMI, a battery. Several meters of that one source add up (two supplies, two batteries).
//! 3. Domains nest, and are never added to what contains them: the board and `psys` contain the
//!    packages, a package its cores and its uncore. (Whoever sums picks one of each nest: the
//!    agent's `Sum`.)
//! 4. The model only where nothing covers packages, psys or board. A battery covers nothing: it
//!    is silent on mains; nor does a controller that has not answered yet.

use std::{fs, path::PathBuf};

use crate::{
    Domain, Finding, Found, Meter, Source, acpi, battery,
    cpuinfo::CpuInfo,
    crosscheck::CrossChecked,
    hwmon, ipmi,
    model::{ModelConfig, ModelMeter},
    perf, powercap,
    redfish::{self, RedfishConfig},
};

/// Where meters are looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `/sys`, or a tree like it.
    pub sysfs: PathBuf,
    /// `/proc`, or a tree like it.
    pub procfs: PathBuf,
    /// `/dev`, or a folder like it: where the IPMI device is.
    pub dev: PathBuf,
    /// The model, for machines without a meter.
    pub model: ModelConfig,
    /// The management controller to ask, if a person has named one.
    pub redfish: Option<RedfishConfig>,
}

impl Default for Options {
    /// This machine, without a controller.
    fn default() -> Self {
        Self {
            sysfs: "/sys".into(),
            procfs: "/proc".into(),
            dev: "/dev".into(),
            model: ModelConfig::default(),
            redfish: None,
        }
    }
}

/// Finds the meters of this machine's CPUs, memory and board, and chooses among them.
///
/// Never fails: what is missing and how to get it becomes a [`Finding`].
#[must_use]
pub fn discover(options: &Options) -> Found {
    let sysfs = options.sysfs.as_path();
    let cpuinfo = fs::read(options.procfs.join("cpuinfo")).unwrap_or_default();
    let cpu = CpuInfo::parse(&String::from_utf8_lossy(&cpuinfo));
    let mut findings = Vec::new();
    let mut powercap = powercap::discover(sysfs);
    if matches!(cpu.vendor.as_str(), "AuthenticAMD" | "HygonGenuine") {
        drop_single_cores(&mut powercap);
    }
    let mut meters = pair(perf::discover(sysfs), powercap, &mut findings);
    let mut boards = Vec::new();
    let mut chips = hwmon::discover(sysfs);
    findings.append(&mut chips.findings);
    for meter in chips.meters {
        let descriptor = meter.descriptor();
        if descriptor.domain == Domain::Board {
            boards.push(meter);
        } else if has_domain(&meters, descriptor.domain) {
            let what = format!("repeats {}; RAPL is used", descriptor.domain);
            findings.push(Finding::new(format!("hwmon {}", descriptor.name), what, ""));
        } else {
            meters.push(meter);
        }
    }
    let (board, is_answering) = choose_board(options, boards, &mut findings);
    meters.extend(board);
    if !is_covered(&meters, is_answering) {
        stand_in(options, &mut meters, &mut findings);
    }
    Found { meters, findings }
}

/// AMD counts each core for itself, and powercap reads the counter of one core a package
/// (`drivers/powercap/intel_rapl_msr.c`): not the package's cores.
fn drop_single_cores(powercap: &mut Found) {
    let before = powercap.meters.len();
    powercap
        .meters
        .retain(|meter| meter.descriptor().domain != Domain::Core);
    if powercap.meters.len() < before {
        powercap.findings.push(Finding::new(
            "powercap",
            "its `core` zones count one core each on AMD; not used",
            "",
        ));
    }
}

/// Rule 1, for RAPL. What is wrong with one way asks for no action where the other one works.
fn pair(perf: Found, powercap: Found, findings: &mut Vec<Finding>) -> Vec<Box<dyn Meter>> {
    let (by_perf, by_powercap) = (!perf.meters.is_empty(), !powercap.meters.is_empty());
    for (found, is_made_good) in [(perf.findings, by_powercap), (powercap.findings, by_perf)] {
        findings.extend(found.into_iter().map(|mut finding| {
            if is_made_good {
                finding.advice.clear();
            }
            finding
        }));
    }
    let mut rest = powercap.meters;
    let mut meters = Vec::new();
    for main in perf.meters {
        let twin = rest.iter().position(|second| {
            let (a, b) = (main.descriptor(), second.descriptor());
            (a.domain, &a.device) == (b.domain, &b.device)
        });
        meters.push(match twin {
            Some(at) => Box::new(CrossChecked::new(main, rest.remove(at))),
            None => main,
        });
    }
    let domains: Vec<Domain> = meters
        .iter()
        .map(|meter| meter.descriptor().domain)
        .collect();
    for meter in rest {
        let descriptor = meter.descriptor();
        if domains.contains(&descriptor.domain) {
            // The same packages under other names: counted once.
            let what = format!("{} has no twin in perf, which is used", descriptor.name);
            findings.push(Finding::new("powercap", what, ""));
        } else {
            meters.push(meter);
        }
    }
    meters
}

/// Rule 2, and whether the choice is a meter already (rather than one that may become one).
/// Sources after the one that is used are not even opened.
fn choose_board(
    options: &Options,
    chips: Vec<Box<dyn Meter>>,
    findings: &mut Vec<Finding>,
) -> (Vec<Box<dyn Meter>>, bool) {
    let sysfs = options.sysfs.as_path();
    let mut waiting = Vec::new();
    let mut troubles = Vec::new();
    if let Some(mut found) = options.redfish.as_ref().map(redfish::discover) {
        if found.findings.is_empty() {
            return (found.meters, true);
        }
        if found.meters.is_empty() {
            findings.append(&mut found.findings);
        }
        (waiting, troubles) = (found.meters, found.findings);
    }
    let mut used = chips;
    let others: [&dyn Fn() -> Found; 2] = [&|| acpi::discover(sysfs), &|| {
        ipmi::discover(sysfs, &options.dev)
    }];
    for source in others {
        if used.is_empty() {
            let mut found = source();
            findings.append(&mut found.findings);
            used = found.meters;
        }
    }
    if let Some(meter) = used.first() {
        if !waiting.is_empty() {
            findings.append(&mut troubles);
            let source = meter.descriptor().source.label();
            let what = format!("does not answer; {source} is used in its place");
            let advice = "Start the agent again once it answers.";
            findings.push(Finding::new("redfish", what, advice));
        }
        return (used, true);
    }
    // It says itself what is wrong, for as long as it is.
    if !waiting.is_empty() {
        return (waiting, false);
    }
    let mut found = battery::discover(sysfs);
    findings.append(&mut found.findings);
    (found.meters, true)
}

fn has_domain(meters: &[Box<dyn Meter>], domain: Domain) -> bool {
    meters
        .iter()
        .any(|meter| meter.descriptor().domain == domain)
}

/// Rule 4.
fn is_covered(meters: &[Box<dyn Meter>], is_answering: bool) -> bool {
    meters.iter().any(|meter| {
        let descriptor = meter.descriptor();
        let covers = matches!(
            descriptor.domain,
            Domain::Package | Domain::Psys | Domain::Board
        );
        let is_sure = match descriptor.source {
            Source::Battery => false,
            // It is asked for the first time at its discovery, and waited for.
            Source::Redfish => is_answering,
            _ => true,
        };
        covers && is_sure
    })
}

fn stand_in(options: &Options, meters: &mut Vec<Box<dyn Meter>>, findings: &mut Vec<Finding>) {
    match ModelMeter::detect(&options.procfs, &options.sysfs, &options.model) {
        Ok(meter) => {
            findings.extend_from_slice(meter.findings());
            meters.push(Box::new(meter));
        }
        Err(why) => findings.push(Finding::new(
            "model",
            why.to_string(),
            "no joules until this is put right",
        )),
    }
}

#[cfg(test)]
mod tests;
