// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Names of OpenTelemetry's semantic conventions for what has other names in `/metrics`.

use super::spans::Attribute;
use crate::{samples::Sample, wire::Writer};

/// The attributes of all data points are field 7.
const ATTRIBUTES: u32 = 7;

/// Endings of names that say the unit, and the unit in UCUM.
const UNITS: [(&str, &str); 4] = [
    ("_joules", "J"),
    ("_seconds", "s"),
    ("_grams", "g"),
    ("_bytes", "By"),
];

/// `eco_unit_energy_joules_total` is `eco.unit.energy` in J: what a collector that shows it to
/// Prometheus makes the old name of again.
pub(super) fn name_and_unit(name: &str) -> (String, &'static str) {
    let name = name.strip_suffix("_total").unwrap_or(name);
    let unit = UNITS
        .iter()
        .find_map(|(ending, unit)| Some((name.strip_suffix(ending)?, *unit)));
    let (stem, unit) = unit.unwrap_or((name, "1"));
    (stem.replacen('_', ".", 2), unit)
}

/// One `KeyValue` with text.
pub(super) fn pair(out: &mut Writer, field: u32, key: &str, value: &str) {
    let pair = out.open(field);
    out.text(1, key);
    let any = out.open(2);
    out.text(1, value);
    out.close(any);
    out.close(pair);
}

/// One `KeyValue`.
pub(super) fn any(out: &mut Writer, field: u32, key: &str, value: &Attribute<'_>) {
    let pair = out.open(field);
    out.text(1, key);
    let any = out.open(2);
    match value {
        Attribute::Text(text) => out.text(1, text),
        Attribute::Flag(flag) => out.number(2, (*flag).into()),
        Attribute::Count(count) => out.number(3, *count),
        Attribute::Number(number) => out.double(4, *number),
    }
    out.close(any);
    out.close(pair);
}

/// A sample's labels, but the node, which is the resource.
pub(super) fn write(out: &mut Writer, sample: &Sample<'_>) {
    let is_pod = sample.name.starts_with("eco_pod_");
    for (label, value) in &sample.labels {
        let key = match *label {
            "node" => continue,
            "namespace" if is_pod => "k8s.namespace.name",
            "pod" if is_pod => "k8s.pod.name",
            "container" if is_pod => "k8s.container.name",
            "uid" => "k8s.pod.uid",
            other => other,
        };
        pair(out, ATTRIBUTES, key, value);
    }
    let name = sample.label("name");
    match sample.label("kind") {
        "process" => process(out, name),
        "container" => pair(out, ATTRIBUTES, "container.id", name),
        _ => {}
    }
    if sample.label("manager") == "kubernetes"
        && let Some((namespace, job)) = sample.label("job").split_once('/')
    {
        pair(out, ATTRIBUTES, "k8s.namespace.name", namespace);
        pair(out, ATTRIBUTES, "k8s.job.name", job);
    }
}

/// `comm[pid]@start`, where comm may hold anything.
fn process(out: &mut Writer, name: &str) {
    let Some((comm, rest)) = name.rsplit_once('[') else {
        return;
    };
    let pid = rest.split(']').next().and_then(|pid| pid.parse().ok());
    if let Some(pid) = pid {
        pair(out, ATTRIBUTES, "process.executable.name", comm);
        let attribute = out.open(ATTRIBUTES);
        out.text(1, "process.pid");
        let any = out.open(2);
        out.number(3, pid);
        out.close(any);
        out.close(attribute);
    }
}

/// Whether a domain is the whole machine, whose metrics have names of their own.
pub(super) fn is_host(domain: &str) -> bool {
    matches!(domain, "psys" | "board")
}

/// What a meter is of.
pub(super) fn hardware(out: &mut Writer, domain: &str, device: &str, source: &str) {
    let kind = match domain {
        "dram" => "memory",
        "gpu" => "gpu",
        "psys" | "board" => "enclosure",
        _ => "cpu",
    };
    pair(out, ATTRIBUTES, "hw.id", device);
    pair(out, ATTRIBUTES, "hw.type", kind);
    pair(out, ATTRIBUTES, "hw.name", device);
    pair(out, ATTRIBUTES, "eco.domain", domain);
    pair(out, ATTRIBUTES, "eco.source", source);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_unit_and_gets_dots() {
        for (name, wanted) in [
            ("eco_unit_energy_joules_total", ("eco.unit.energy", "J")),
            ("eco_unit_cpu_seconds_total", ("eco.unit.cpu", "s")),
            ("eco_agent_resident_bytes", ("eco.agent.resident", "By")),
            ("eco_ticks_total", ("eco.ticks", "1")),
        ] {
            let (name, unit) = name_and_unit(name);
            assert_eq!((name.as_str(), unit), wanted);
        }
    }

    #[test]
    fn a_process_that_calls_itself_something_strange_is_still_told_by_its_pid() {
        let mut out = Writer::default();
        process(&mut out, "a[1]@b[42]@7");
        let said = String::from_utf8_lossy(out.bytes()).into_owned();
        assert!(
            said.contains("process.pid") && said.contains("a[1]@b"),
            "{said}"
        );
        let mut out = Writer::default();
        for name in ["", "x", "x[", "x[y]@1"] {
            process(&mut out, name);
        }
        assert_eq!(out.len(), 0);
    }
}
