// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which zones there are, and what each is called.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{Descriptor, Domain, Finding, Source};

/// The control type that reads the MSRs (or TPMI), on Intel and AMD alike.
const MAIN_CONTROL: &str = "intel-rapl";

/// A second way to the same package counter, on some client parts.
const MMIO_CONTROL: &str = "intel-rapl-mmio";

/// Control type, package, subzone: no driver nests deeper.
const DEEPEST: usize = 3;

/// A zone whose counter could be opened.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) descriptor: Descriptor,
    pub(super) counter_path: PathBuf,
    pub(super) counter_file: File,
    /// In µJ; zero if unknown.
    pub(super) range: u64,
    /// The highest power limit that the zone takes, if it tells one.
    pub(super) rated_watts: Option<f64>,
}

/// Finds the zones under `class`, in the order of their numbers, the MSRs' before their doubles.
pub(super) fn scan(class: &Path, findings: &mut Vec<Finding>) -> Vec<Zone> {
    let mut folders = BTreeMap::new();
    if let Err(error) = collect(class, 1, &mut folders) {
        findings.push(no_folder(class, &error));
        return Vec::new();
    }
    if folders.is_empty() {
        findings.push(finding(class, "no RAPL zone is registered", LOAD_DRIVER));
    }
    let mut naming = Naming::default();
    let mut zones = Vec::new();
    for (id, folder) in &folders {
        if let Some((domain, device)) = naming.identify(id, folder, findings)
            && let Some(zone) = open(id, folder, domain, device, &mut naming, findings)
        {
            zones.push(zone);
        }
    }
    zones
}

/// A zone's folder name: `intel-rapl:0:1` is the control type and the way down the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ZoneId {
    /// Sorts `intel-rapl` before `intel-rapl-mmio`, and a parent before its children.
    control: String,
    way: Vec<u32>,
}

impl ZoneId {
    fn parse(name: &str) -> Option<Self> {
        let (control, way) = name.split_once(':')?;
        let way: Vec<u32> = way
            .split(':')
            .map(|n| n.parse().ok())
            .collect::<Option<_>>()?;
        (control == MAIN_CONTROL || control == MMIO_CONTROL).then(|| Self {
            control: control.to_owned(),
            way,
        })
    }

    fn parent(&self) -> Option<Self> {
        let (_, above) = self.way.split_last()?;
        (!above.is_empty()).then(|| Self {
            control: self.control.clone(),
            way: above.to_vec(),
        })
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.control)?;
        self.way.iter().try_for_each(|step| write!(f, ":{step}"))
    }
}

/// Gathers zone folders by id: a subzone is often both a class entry and nested in its parent.
fn collect(folder: &Path, depth: usize, into: &mut BTreeMap<ZoneId, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let id = ZoneId::parse(name);
        let is_control = name == MAIN_CONTROL || name == MMIO_CONTROL;
        if id.is_none() && !is_control {
            continue;
        }
        let path = entry.path();
        if depth < DEEPEST {
            // One zone that cannot be listed costs only its children.
            let _ = collect(&path, depth + 1, into);
        }
        if let Some(id) = id {
            into.entry(id).or_insert(path);
        }
    }
    Ok(())
}

/// Gives out names, each once.
#[derive(Default)]
struct Naming {
    /// The device of each package, for its subzones.
    devices: HashMap<ZoneId, String>,
    /// Counters that became meters, by the device's plain name, with how many of them.
    taken: HashMap<(Domain, String), u32>,
}

impl Naming {
    /// What a zone measures, before doubles are told apart. `None` (and a finding) if unknown.
    fn identify(
        &self,
        id: &ZoneId,
        folder: &Path,
        findings: &mut Vec<Finding>,
    ) -> Option<(Domain, String)> {
        let name = match fs::read_to_string(folder.join("name")) {
            Ok(name) => name.trim().to_owned(),
            Err(error) => {
                findings.push(finding(
                    folder,
                    &format!("the zone has no name: {error}"),
                    "",
                ));
                return None;
            }
        };
        let domain = match name.as_str() {
            "core" => Domain::Core,
            "uncore" => Domain::Uncore,
            "dram" => Domain::Dram,
            "psys" => return Some((Domain::Psys, name)),
            package if package.starts_with("package-") => return Some((Domain::Package, name)),
            other => {
                let what = format!("the zone's name {other:?} is not one that eco knows");
                findings.push(finding(folder, &what, "Please report it."));
                return None;
            }
        };
        let device = id.parent().map_or_else(
            || "unknown".to_owned(),
            |parent| {
                let known = self.devices.get(&parent).cloned();
                known.unwrap_or_else(|| parent.to_string())
            },
        );
        Some((domain, device))
    }

    /// The device's name for a counter that became a meter.
    fn take(&mut self, domain: Domain, device: String) -> String {
        let count = self.taken.entry((domain, device.clone())).or_insert(0);
        *count += 1;
        if *count == 1 {
            device
        } else {
            format!("{device}#{count}")
        }
    }
}

fn open(
    id: &ZoneId,
    folder: &Path,
    domain: Domain,
    device: String,
    naming: &mut Naming,
    findings: &mut Vec<Finding>,
) -> Option<Zone> {
    if id.control == MMIO_CONTROL && naming.taken.contains_key(&(domain, device.clone())) {
        let what = format!("repeats the {domain} counter of {device}; read once, through MSRs");
        findings.push(finding(folder, &what, ""));
        naming.devices.insert(id.clone(), device);
        return None;
    }
    let counter_path = folder.join("energy_uj");
    let counter_file = match File::open(&counter_path).and_then(readable) {
        Ok(file) => file,
        Err(error) => {
            findings.push(no_counter(&counter_path, &error));
            // Subzones keep their true name even where their package may not be read.
            naming.devices.insert(id.clone(), device);
            return None;
        }
    };
    let device = naming.take(domain, device);
    naming.devices.insert(id.clone(), device.clone());
    let range = number(&folder.join("max_energy_range_uj")).unwrap_or(0);
    if range == 0 {
        let what = "max_energy_range_uj is missing or zero; a wrap of this counter is lost";
        findings.push(finding(folder, what, ""));
    }
    let name = match domain {
        Domain::Core | Domain::Uncore | Domain::Dram => format!("{device}/{domain}"),
        _ => device.clone(),
    };
    let descriptor = Descriptor {
        name,
        domain,
        device,
        source: Source::RaplPowercap,
    };
    Some(Zone {
        descriptor,
        counter_path,
        counter_file,
        range,
        rated_watts: rated_watts(folder),
    })
}

/// A counter that opens but cannot be read (its package is offline, its driver refuses) is no
/// meter: else the model would not stand in for it.
fn readable(file: File) -> io::Result<File> {
    file.read_at(&mut [0], 0)?;
    Ok(file)
}

/// The largest of the zone's limits: long term, short term, peak.
fn rated_watts(folder: &Path) -> Option<f64> {
    (0..3)
        .filter_map(|n| number(&folder.join(format!("constraint_{n}_max_power_uw"))))
        .max()
        .filter(|microwatts| *microwatts > 0)
        .map(|microwatts| microwatts as f64 / 1e6)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

const LOAD_DRIVER: &str = "On bare metal load the driver: `modprobe intel_rapl_msr` (it brings \
    intel_rapl_common, and serves AMD too). A virtual machine is not given RAPL: the labelled \
    model is used there.";

fn no_folder(class: &Path, error: &io::Error) -> Finding {
    if error.kind() == io::ErrorKind::NotFound {
        finding(class, "there is no RAPL here", LOAD_DRIVER)
    } else {
        finding(
            class,
            &format!("cannot be listed: {error}"),
            "Check that /sys is mounted.",
        )
    }
}

fn no_counter(path: &Path, error: &io::Error) -> Finding {
    let advice = if error.kind() == io::ErrorKind::PermissionDenied {
        "Run the agent as root, or give it CAP_DAC_READ_SEARCH: the kernel lets only root read \
         RAPL since 2020 (CVE-2020-8694)."
    } else {
        "Start the agent again once it can be read; until then its energy is missing."
    };
    finding(
        path,
        &format!("the counter cannot be read: {error}"),
        advice,
    )
}

fn finding(place: &Path, what: &str, advice: &str) -> Finding {
    Finding {
        place: place.display().to_string(),
        what: what.to_owned(),
        advice: advice.to_owned(),
    }
}
