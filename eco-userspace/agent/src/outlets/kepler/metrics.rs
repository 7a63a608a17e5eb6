// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Kepler's part of `/metrics`.
//!
//! `state` is `running` as long as a series of joules is there, through its process's or pod's
//! end: with another label it would be another series, and `increase()` would lose its last
//! joules. Only a process whose id and name another has taken since is `terminated`, long after
//! its last joule. Who is no more draws nothing, and has no series of watts.

use eco_meter::{Domain, Source};

use super::{Kepler, catalogue, labels::ProcessLabels, power::Drawn};
use crate::{
    core::Core,
    ledger::accounts::{Kind, Row},
    outlets::{
        exposition::{Exposition, Family},
        metrics::{shown, sum},
    },
    series::{Phase, ProcessSeries, Tags, ViewSeries},
};

/// What Kepler calls zones; a GPU and the board have series of their own.
const ZONES: [Domain; 5] = [
    Domain::Package,
    Domain::Core,
    Domain::Uncore,
    Domain::Dram,
    Domain::Psys,
];

/// The most labels that a series has beside its zone.
const MOST_LABELS: usize = 7;

const RUNNING: (&str, &str) = ("state", "running");
const TERMINATED: (&str, &str) = ("state", "terminated");

/// Where these stand in the labels of a process.
const STATE: usize = 0;
const EXE: usize = 3;

/// Labels of a series.
type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

/// Writes them all.
pub(crate) fn write(core: &Core, text: &mut Exposition<'_>) {
    let Some(kepler) = &core.kepler else {
        return;
    };
    text.call_node("node_name", &core.node);
    let has = |zone: &Domain| core.domains.contains(zone);
    let page = Page {
        core,
        kepler,
        zones: ZONES.into_iter().filter(has).collect(),
    };
    page.node(text);
    page.gpus(text);
    page.platform(text);
    page.processes(text);
    page.containers(text);
    page.pods(text);
    page.machines(text);
    text.family(&catalogue::BUILD_INFO);
    let labels = [
        ("arch", std::env::consts::ARCH),
        ("branch", ""),
        ("revision", "eco"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("goversion", ""),
    ];
    text.integer(&labels, 1);
    text.call_node("node", &core.node);
}

struct Page<'a> {
    core: &'a Core,
    kepler: &'a Kepler,
    /// Those that this machine has.
    zones: Vec<Domain>,
}

/// The families of one kind of unit.
struct Families {
    joules: &'static Family,
    watts: &'static Family,
    gpu_watts: Option<&'static Family>,
}

impl<'a> Page<'a> {
    fn node(&self, text: &mut Exposition<'_>) {
        let (books, power) = (&self.core.books, &self.kepler.power);
        let cell = |row: &Row, at: usize| row.get(at).copied().unwrap_or(0);
        let active = |at| cell(&books.node, at).saturating_sub(cell(&books.idle, at));
        self.zone_joules(text, &catalogue::NODE_JOULES, |at| cell(&books.node, at));
        self.zone_watts(text, &catalogue::NODE_WATTS, |at| power.node(at));
        self.zone_joules(text, &catalogue::NODE_ACTIVE_JOULES, active);
        self.zone_watts(text, &catalogue::NODE_ACTIVE_WATTS, |at| power.active(at));
        self.zone_joules(text, &catalogue::NODE_IDLE_JOULES, |at| {
            cell(&books.idle, at)
        });
        self.zone_watts(text, &catalogue::NODE_IDLE_WATTS, |at| power.idle(at));
        text.family(&catalogue::NODE_USAGE_RATIO);
        text.real(&[], power.usage_ratio(self.core.cpus));
        text.family(&catalogue::NODE_CPU_INFO);
        for processor in &self.kepler.processors {
            let labels = [
                ("processor", processor.number.as_str()),
                ("vendor_id", &processor.vendor),
                ("model_name", &processor.model),
                ("physical_id", &processor.package),
                ("core_id", &processor.core),
            ];
            text.integer(&labels, 1);
        }
    }

    fn zone_joules(
        &self,
        text: &mut Exposition<'_>,
        family: &'static Family,
        of: impl Fn(usize) -> u64,
    ) {
        text.family(family);
        self.each_zone(|at, labels| text.joules(labels, of(at)));
    }

    fn zone_watts(
        &self,
        text: &mut Exposition<'_>,
        family: &'static Family,
        of: impl Fn(usize) -> f64,
    ) {
        text.family(family);
        self.each_zone(|at, labels| text.real(labels, of(at)));
    }

    /// Every meter of a zone; `path` tells those of one zone apart.
    fn each_zone(&self, mut write: impl FnMut(usize, &Labels<'_, 2>)) {
        let mut path = String::new();
        for (at, slot) in self.core.meters.iter().enumerate() {
            let d = &slot.descriptor;
            if ZONES.contains(&d.domain) {
                path.clear();
                path.push_str(d.source.label());
                path.push('/');
                path.push_str(&d.device);
                write(at, &[("zone", d.domain.label()), ("path", &path)]);
            }
        }
    }

    fn gpus(&self, text: &mut Exposition<'_>) {
        if !self.core.domains.contains(&Domain::Gpu) {
            return;
        }
        let power = &self.kepler.power;
        let mut gpus = |family, watts: &dyn Fn(usize) -> f64| {
            text.family(family);
            for (at, slot) in self.core.meters.iter().enumerate() {
                let d = &slot.descriptor;
                let vendor = match d.source {
                    Source::Nvml => "nvidia",
                    Source::Amdgpu => "amd",
                    _ => "",
                };
                let labels = [
                    ("gpu", d.device.as_str()),
                    ("gpu_uuid", ""),
                    ("gpu_name", &d.name),
                    ("vendor", vendor),
                ];
                if d.domain == Domain::Gpu {
                    text.real(&labels, watts(at));
                }
            }
        };
        gpus(&catalogue::NODE_GPU_WATTS, &|at| power.node(at));
        gpus(&catalogue::NODE_GPU_ACTIVE_WATTS, &|at| power.active(at));
        gpus(&catalogue::NODE_GPU_IDLE_WATTS, &|at| power.idle(at));
    }

    fn platform(&self, text: &mut Exposition<'_>) {
        if !self.core.domains.contains(&Domain::Board) {
            return;
        }
        text.family(&catalogue::PLATFORM_WATTS);
        for (at, slot) in self.core.meters.iter().enumerate() {
            let d = &slot.descriptor;
            let labels = [
                ("source", d.source.label()),
                ("bmc_id", d.device.as_str()),
                ("chassis_id", ""),
                ("power_control_id", ""),
                ("power_control_name", &d.name),
            ];
            if d.domain == Domain::Board {
                text.real(&labels, self.kepler.power.node(at));
            }
        }
    }

    /// Those with a series, the kernel and everybody else: together the active part.
    fn processes(&self, text: &mut Exposition<'_>) {
        let (books, power) = (&self.core.books, &self.kepler.power);
        let nameless = ProcessLabels::default();
        let other = process_labels("other", &nameless);
        let kernel = process_labels("kernel", &nameless);
        text.family(&catalogue::PROCESS_JOULES);
        self.joules(text, &other, &books.other_energy, None);
        self.joules(text, &kernel, &books.kernel_energy, None);
        for (series, labels) in self.named() {
            self.joules(text, &labels, &series.energy, None);
        }
        text.family(&catalogue::PROCESS_WATTS);
        self.watts(text, &other, &power.other());
        self.watts(text, &kernel, &power.kernel());
        for (series, labels) in self.living() {
            self.watts(text, &labels, &power.process(&series.label));
        }
        text.family(&catalogue::PROCESS_SECONDS);
        text.seconds(&other[1..], books.other_cpu_ns);
        text.seconds(&kernel[1..], books.kernel_cpu_ns);
        for (series, labels) in self.named() {
            text.seconds(&labels[1..], series.cpu_ns);
        }
        if self.core.domains.contains(&Domain::Gpu) {
            text.family(&catalogue::PROCESS_GPU_WATTS);
            for (series, labels) in self.living() {
                self.gpu_watts(text, &labels, &power.process(&series.label));
            }
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'a ProcessSeries, Labels<'a, 7>)> {
        let kepler = self.kepler;
        self.core.books.board.iter().filter_map(move |series| {
            let known = kepler.labels.process(&series.label)?;
            let mut labels = process_labels(&series.name.comm, known);
            if known.is_succeeded {
                // Another has its id and name: the two must stay two.
                labels[STATE] = TERMINATED;
                labels[EXE].1 = &series.label;
            }
            Some((series, labels))
        })
    }

    fn living(&self) -> impl Iterator<Item = (&'a ProcessSeries, Labels<'a, 7>)> {
        self.named().filter(|(series, labels)| {
            labels[STATE] == RUNNING && !matches!(series.phase, Phase::Leaving(_))
        })
    }

    fn containers(&self, text: &mut Exposition<'_>) {
        let families = Families {
            joules: &catalogue::CONTAINER_JOULES,
            watts: &catalogue::CONTAINER_WATTS,
            gpu_watts: Some(&catalogue::CONTAINER_GPU_WATTS),
        };
        self.views(text, Kind::Container, &families, |view| {
            let labels = self.kepler.labels.container(view.account)?;
            Some([
                ("container_id", view.name.as_str()),
                ("container_name", &labels.name),
                ("runtime", labels.runtime),
                RUNNING,
                ("pod_id", &labels.pod),
            ])
        });
    }

    fn pods(&self, text: &mut Exposition<'_>) {
        let families = Families {
            joules: &catalogue::POD_JOULES,
            watts: &catalogue::POD_WATTS,
            gpu_watts: Some(&catalogue::POD_GPU_WATTS),
        };
        self.views(text, Kind::Pod, &families, |view| {
            let Tags::Pod {
                namespace,
                pod,
                uid,
                ..
            } = &view.tags
            else {
                return None;
            };
            Some([
                ("pod_id", uid.as_str()),
                ("pod_name", pod),
                ("pod_namespace", namespace),
                RUNNING,
            ])
        });
    }

    fn machines(&self, text: &mut Exposition<'_>) {
        let families = Families {
            joules: &catalogue::VM_JOULES,
            watts: &catalogue::VM_WATTS,
            gpu_watts: None,
        };
        self.views(text, Kind::Vm, &families, |view| {
            Some([
                ("vm_id", view.name.as_str()),
                ("vm_name", &view.name),
                // All that eco knows by their cgroups are run by it.
                ("hypervisor", "kvm"),
                RUNNING,
            ])
        });
    }

    fn views<const N: usize>(
        &self,
        text: &mut Exposition<'_>,
        kind: Kind,
        families: &Families,
        labels: impl Fn(&'a ViewSeries) -> Option<Labels<'a, N>>,
    ) {
        let core = self.core;
        let all = || {
            let views = core.books.views.iter().filter(move |v| v.kind == kind);
            views.filter_map(|view| Some((view, labels(view)?)))
        };
        let living = || all().filter(|(view, _)| !matches!(view.phase, Phase::Leaving(_)));
        text.family(families.joules);
        for (view, labels) in all() {
            let (energy, base) = shown(core, view);
            self.joules(text, &labels, energy, base);
        }
        text.family(families.watts);
        for (view, labels) in living() {
            self.watts(text, &labels, &self.kepler.power.view(view.account));
        }
        let has_gpu = core.domains.contains(&Domain::Gpu);
        if let Some(family) = families.gpu_watts.filter(|_| has_gpu) {
            text.family(family);
            for (view, labels) in living() {
                self.gpu_watts(text, &labels, &self.kepler.power.view(view.account));
            }
        }
    }

    /// One sample a zone, over its devices.
    fn joules(
        &self,
        text: &mut Exposition<'_>,
        labels: &[(&str, &str)],
        row: &[u64],
        base: Option<&Row>,
    ) {
        for zone in &self.zones {
            let before = base.map_or(0, |base| sum(self.core, base, *zone));
            with_zone(labels, *zone, |labels| {
                text.joules(labels, before + sum(self.core, row, *zone));
            });
        }
    }

    fn watts(&self, text: &mut Exposition<'_>, labels: &[(&str, &str)], drawn: &Drawn<'_>) {
        for zone in &self.zones {
            with_zone(labels, *zone, |labels| {
                text.real(labels, drawn.watts(self.meters_of(*zone)));
            });
        }
    }

    /// As in Kepler only of those who use one.
    fn gpu_watts(&self, text: &mut Exposition<'_>, labels: &[(&str, &str)], drawn: &Drawn<'_>) {
        let watts = drawn.watts(self.meters_of(Domain::Gpu));
        if watts > 0.0 {
            text.real(labels, watts);
        }
    }

    fn meters_of(&self, domain: Domain) -> impl Iterator<Item = usize> {
        let domains = self.core.domains.iter().enumerate();
        domains
            .filter(move |(_, d)| **d == domain)
            .map(|(at, _)| at)
    }
}

/// The state first, which CPU time has not.
fn process_labels<'a>(comm: &'a str, labels: &'a ProcessLabels) -> Labels<'a, 7> {
    [
        RUNNING,
        ("pid", &labels.pid),
        ("comm", comm),
        // The agent has given up the right to read it.
        ("exe", ""),
        ("type", labels.kind()),
        ("container_id", &labels.container),
        ("vm_id", &labels.vm),
    ]
}

fn with_zone(labels: &[(&str, &str)], zone: Domain, write: impl FnOnce(&[(&str, &str)])) {
    let mut all = [("", ""); MOST_LABELS + 1];
    let used = labels.len().min(MOST_LABELS);
    all[..used].copy_from_slice(&labels[..used]);
    all[used] = ("zone", zone.label());
    write(&all[..=used]);
}
