// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RAPL through the kernel's perf PMUs, `power` and `power_core`: Intel and AMD.
//!
//! Preferred over powercap: the kernel extends the hardware's 32 bits itself (no wrap is lost
//! between two reads), needs no root after the counter is open, and corrects known quirks of the
//! energy unit. The counter begins when it is opened, so it tells nothing of the time in which no
//! agent ran; [`crate::select`] pairs it with powercap, which does.

mod events;
mod kernel;
mod scale;

use std::{collections::BTreeMap, io, path::Path};

use self::{
    events::{Energy, Pmu},
    kernel::{Count, Kernel, Open},
};
use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Quality, Reading,
    Source, Window, boottime_ns, sysfs,
};

/// The PMU of packages, and that of cores (AMD, Linux 6.15).
const PMUS: [&str; 2] = ["power", "power_core"];

/// Finds the RAPL events of all sockets under `sysfs`.
///
/// The counters live in the running kernel, not in the tree: under any other `sysfs` than `/sys`
/// its event codes would open something else, so nothing is opened there.
#[must_use]
pub fn discover(sysfs: &Path) -> Found {
    if sysfs != Path::new("/sys") {
        return Found::default();
    }
    discover_with(sysfs, &mut || Box::new(Kernel))
}

fn discover_with(sysfs: &Path, opener: &mut dyn FnMut() -> Box<dyn Open>) -> Found {
    let mut found = Found::default();
    for name in PMUS {
        let Some(pmu) = events::read(sysfs, name, &mut found.findings) else {
            continue;
        };
        for event in &pmu.events {
            for (descriptor, cpus) in devices(sysfs, &pmu, event) {
                match PerfMeter::open(descriptor, &pmu, event, cpus, opener()) {
                    Ok(meter) => found.meters.push(Box::new(meter)),
                    Err(why) => {
                        let place = pmu.folder.join("events").join(&event.name);
                        found.findings.push(refused(&place, &why));
                        // The next package is refused for the same reason.
                        break;
                    }
                }
            }
        }
    }
    found
}

/// What an event measures, with the CPUs whose counts add up to it.
fn devices(sysfs: &Path, pmu: &Pmu, event: &Energy) -> Vec<(Descriptor, Vec<u32>)> {
    let places: Vec<(u32, Topology)> = pmu
        .cpus
        .iter()
        .map(|cpu| (*cpu, Topology::of(sysfs, *cpu)))
        .collect();
    let packages = |package| {
        let same = places.iter().filter(|(_, at)| at.package == package);
        same.map(|(_, at)| at.die)
            .collect::<std::collections::BTreeSet<_>>()
    };
    let mut devices: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
    for (cpu, at) in &places {
        // Cores are added up to their package: no other meter is finer.
        let is_per_core = event.name == "energy-core";
        let die = if is_per_core || packages(at.package).len() < 2 {
            0
        } else {
            at.die
        };
        let cpus = devices.entry((at.package, die)).or_default();
        // One counter a package, even if the mask names more of its CPUs.
        if is_per_core || cpus.is_empty() {
            cpus.push(*cpu);
        }
    }
    let several_dies = |package| devices.keys().filter(|key| key.0 == package).count() > 1;
    let mut named = Vec::new();
    for (at, ((package, die), cpus)) in devices.iter().enumerate() {
        // As powercap names its zones, so that the two can be paired.
        let device = match event.domain {
            Domain::Psys if at == 0 => "psys".to_owned(),
            Domain::Psys => format!("psys#{}", at + 1),
            _ if several_dies(*package) => format!("package-{package}-die-{die}"),
            _ => format!("package-{package}"),
        };
        let name = match event.domain {
            Domain::Package | Domain::Psys => device.clone(),
            domain => format!("{device}/{domain}"),
        };
        let descriptor = Descriptor {
            name,
            domain: event.domain,
            device,
            source: Source::RaplPerf,
        };
        named.push((descriptor, cpus.clone()));
    }
    named
}

/// Where a CPU sits; what the kernel does not tell is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Topology {
    package: u32,
    die: u32,
}

impl Topology {
    fn of(sysfs: &Path, cpu: u32) -> Self {
        let folder = sysfs.join(format!("devices/system/cpu/cpu{cpu}/topology"));
        let id = |name: &str| {
            let id = sysfs::number(&folder.join(name)).unwrap_or(0);
            u32::try_from(id).unwrap_or(0)
        };
        Self {
            package: id("physical_package_id"),
            die: id("die_id"),
        }
    }
}

/// One event on one package.
struct PerfMeter {
    descriptor: Descriptor,
    pmu: u32,
    event: Energy,
    place: String,
    opener: Box<dyn Open>,
    counters: Vec<Counter>,
    /// The highest total that was told.
    total: u64,
    still: u32,
}

/// One open event.
struct Counter {
    cpu: u32,
    open: Option<Box<dyn Count>>,
    /// What it said last. 64 bits of 2⁻³² J wrap after 4.3 GJ: 99 days at 500 W.
    last: u64,
    /// All that it counted, reopened or wrapped.
    sum: u128,
}

impl PerfMeter {
    fn open(
        descriptor: Descriptor,
        pmu: &Pmu,
        event: &Energy,
        cpus: Vec<u32>,
        opener: Box<dyn Open>,
    ) -> io::Result<Self> {
        let place = format!("perf {}/{}", pmu_name(pmu), event.name);
        let mut counters = Vec::new();
        for cpu in cpus {
            let mut open = opener.open(pmu.kind, event.config, cpu)?;
            // An event that opens but cannot be read is no meter.
            let last = open.count()?;
            counters.push(Counter {
                cpu,
                open: Some(open),
                last,
                sum: 0,
            });
        }
        Ok(Self {
            descriptor,
            pmu: pmu.kind,
            event: event.clone(),
            place,
            opener,
            counters,
            total: 0,
            still: 0,
        })
    }

    fn read_by(&mut self, clock: impl Fn() -> u64) -> Result<Reading, MeterError> {
        let before_ns = clock();
        let mut lost = false;
        for counter in &mut self.counters {
            if let Some(why) = counter.advance() {
                lost = true;
                counter.open = None;
                // What it had counted is kept; what comes now starts from zero.
                counter.last = 0;
                let again = self.opener.open(self.pmu, self.event.config, counter.cpu);
                let Ok(again) = again else {
                    return Err(MeterError::NoAnswer {
                        place: self.place.clone(),
                        why: format!("CPU {} does not count: {why}", counter.cpu),
                    });
                };
                counter.open = Some(again);
            }
        }
        let window = Window {
            before_ns,
            after_ns: clock(),
        };
        let quality = self.advance(lost)?;
        Ok(Reading {
            total: Microjoules(self.total),
            window,
            quality,
        })
    }

    fn advance(&mut self, lost: bool) -> Result<Quality, MeterError> {
        let counts: u128 = self.counters.iter().map(|counter| counter.sum).sum();
        let Some(total) = self.event.scale.microjoules(counts) else {
            return Err(MeterError::Garbage {
                path: self.place.clone().into(),
                text: format!("{counts} counts"),
            });
        };
        let moved = total > self.total;
        self.total = self.total.max(total);
        if lost {
            return Ok(Quality::Reset);
        }
        self.still = if moved { 0 } else { self.still + 1 };
        Ok(match self.still {
            0 => Quality::Measured,
            reads => Quality::Still(reads),
        })
    }
}

impl Counter {
    /// Reads on; what went wrong if it cannot, or went back.
    fn advance(&mut self) -> Option<io::Error> {
        let Some(open) = self.open.as_mut() else {
            return Some(io::Error::other("it is not open"));
        };
        match open.count() {
            Ok(counts) => {
                let step = counts.wrapping_sub(self.last);
                if step > u64::MAX / 2 {
                    return Some(io::Error::other("it went back"));
                }
                self.last = counts;
                self.sum += u128::from(step);
                None
            }
            Err(why) => Some(why),
        }
    }
}

impl Meter for PerfMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        self.read_by(boottime_ns)
    }
}

fn pmu_name(pmu: &Pmu) -> String {
    let name = pmu.folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn refused(place: &Path, why: &io::Error) -> Finding {
    let advice = if why.kind() == io::ErrorKind::PermissionDenied {
        "Run the agent as root, or give it CAP_PERFMON; it falls back to powercap."
    } else {
        "The agent falls back to powercap."
    };
    Finding::new(place.display(), format!("cannot be counted: {why}"), advice)
}

#[cfg(test)]
mod tests;
