// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a RAPL PMU offers, as its folder under `bus/event_source/devices` tells it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::scale::Scale;
use crate::{Domain, Finding, sysfs};

/// A PMU that counts energy.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pmu {
    pub(super) folder: PathBuf,
    /// `perf_event_attr.type`.
    pub(super) kind: u32,
    /// The CPUs on which to open: one a package (or die, or core).
    pub(super) cpus: Vec<u32>,
    pub(super) events: Vec<Energy>,
}

/// One event of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Energy {
    pub(super) name: String,
    pub(super) domain: Domain,
    /// `perf_event_attr.config`.
    pub(super) config: u64,
    pub(super) scale: Scale,
}

/// Reads the PMU called `name` under `sysfs`; `None` where the kernel has none.
pub(super) fn read(sysfs: &Path, name: &str, findings: &mut Vec<Finding>) -> Option<Pmu> {
    let folder = sysfs.join("bus/event_source/devices").join(name);
    if !folder.is_dir() {
        return None;
    }
    let kind = sysfs::number(&folder.join("type")).and_then(|kind| u32::try_from(kind).ok());
    let Some(kind) = kind else {
        findings.push(odd(&folder.join("type"), "is no PMU type"));
        return None;
    };
    let cpus = sysfs::cpu_list(&sysfs::text(&folder.join("cpumask")).unwrap_or_default());
    if cpus.is_empty() {
        findings.push(odd(&folder.join("cpumask"), "names no CPU"));
        return None;
    }
    let mut names: Vec<String> = fs::read_dir(folder.join("events"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("energy-") && !name.contains('.'))
        .collect();
    names.sort();
    let events = names
        .iter()
        .filter_map(|name| event(&folder, name, findings))
        .collect();
    Some(Pmu {
        folder,
        kind,
        cpus,
        events,
    })
}

/// The kernel's names for RAPL events: `arch/x86/events/rapl.c`.
fn domain(event: &str) -> Option<Domain> {
    Some(match event {
        "energy-pkg" => Domain::Package,
        "energy-cores" | "energy-core" => Domain::Core,
        "energy-ram" => Domain::Dram,
        "energy-gpu" => Domain::Uncore,
        "energy-psys" => Domain::Psys,
        _ => return None,
    })
}

fn event(folder: &Path, name: &str, findings: &mut Vec<Finding>) -> Option<Energy> {
    let path = folder.join("events").join(name);
    let Some(domain) = domain(name) else {
        findings.push(odd(&path, "is an energy event that eco does not know"));
        return None;
    };
    let layout = sysfs::text(&folder.join("format/event")).unwrap_or_default();
    let config = sysfs::text(&path).and_then(|text| config(&text, &layout));
    let Some(config) = config else {
        findings.push(odd(&path, "is no event code"));
        return None;
    };
    let unit = sysfs::text(&folder.join("events").join(format!("{name}.unit")));
    let scale = sysfs::text(&folder.join("events").join(format!("{name}.scale")))
        .filter(|_| unit.as_deref() == Some("Joules"))
        .and_then(|text| Scale::parse(&text));
    let Some(scale) = scale else {
        findings.push(odd(&path, "tells no scale in Joules"));
        return None;
    };
    Some(Energy {
        name: name.to_owned(),
        domain,
        config,
        scale,
    })
}

/// `event=0x02`, placed where `format/event` says: `config:0-7`.
fn config(text: &str, layout: &str) -> Option<u64> {
    let code = text.strip_prefix("event=")?;
    let code = match code.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => code.parse().ok()?,
    };
    let bits = match layout {
        "" => "0-7",
        layout => layout.strip_prefix("config:")?,
    };
    let (low, high) = bits.split_once('-').unwrap_or((bits, bits));
    let (low, high): (u32, u32) = (low.parse().ok()?, high.parse().ok()?);
    let width = high.checked_sub(low)?.checked_add(1)?;
    if high > 63 || (width < 64 && code >> width != 0) {
        return None;
    }
    Some(code << low)
}

fn odd(path: &Path, what: &str) -> Finding {
    Finding::new(path.display(), what, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_goes_where_the_format_says() {
        assert_eq!(config("event=0x02", "config:0-7"), Some(2));
        assert_eq!(config("event=5", ""), Some(5));
        assert_eq!(config("event=0x02", "config:8-15"), Some(0x200));
        assert_eq!(
            config("event=0xffffffffffffffff", "config:0-63"),
            Some(u64::MAX)
        );
        for (text, layout) in [
            ("event=0x1ff", "config:0-7"),
            ("event=0x02", "config1:0-7"),
            ("event=0x02", "config:7-0"),
            ("event=0x02", "config:0-4294967295"),
            ("event=0x02,umask=1", "config:0-7"),
            ("event=", ""),
            ("0x02", ""),
        ] {
            assert_eq!(config(text, layout), None, "{text} {layout}");
        }
    }
}
