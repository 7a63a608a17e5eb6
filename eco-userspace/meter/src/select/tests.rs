// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines with several ways to the same joules.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::*;
use crate::{Descriptor, Load, MeterError, Microjoules, Position, Quality, Reading, Window};

struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, folder: &str, files: &[(&str, &str)]) {
        let folder = self.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
    }

    fn with_powercap(self) -> Self {
        for (zone, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core")] {
            let files = [
                ("name", name),
                ("energy_uj", "1000"),
                ("max_energy_range_uj", "262143328850"),
            ];
            self.write(&format!("class/powercap/{zone}"), &files);
        }
        self
    }

    fn with_acpi(self) -> Self {
        let files = [("name", "power_meter"), ("power1_average", "200000000")];
        self.write("class/hwmon/hwmon0", &files);
        self
    }

    fn with_chip(self, number: u32, name: &str, attribute: &str, label: &str) -> Self {
        let files = [("name", name), (attribute, "90000000"), ("label", label)];
        self.write(&format!("class/hwmon/hwmon{number}"), &files);
        self
    }

    fn with_battery(self) -> Self {
        let files = [
            ("type", "Battery"),
            ("power_now", "9000000"),
            ("status", "Full"),
        ];
        self.write("class/power_supply/BAT0", &files);
        self
    }

    fn options(&self) -> Options {
        Options {
            sysfs: self.path().into(),
            procfs: self.path().into(),
            dev: self.path().into(),
            ..Options::default()
        }
    }

    fn found(&self) -> Vec<(Domain, Source)> {
        listed(&discover(&self.options()).meters)
    }
}

fn listed(meters: &[Box<dyn Meter>]) -> Vec<(Domain, Source)> {
    let each = meters.iter().map(|meter| meter.descriptor());
    each.map(|d| (d.domain, d.source)).collect()
}

struct Fake(Descriptor);

impl Fake {
    fn boxed(source: Source, domain: Domain, device: &str) -> Box<dyn Meter> {
        Box::new(Self(Descriptor {
            name: format!("{device}/{domain}"),
            domain,
            device: device.into(),
            source,
        }))
    }
}

impl Meter for Fake {
    fn descriptor(&self) -> &Descriptor {
        &self.0
    }
    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        Ok(Reading {
            total: Microjoules(1),
            window: Window::default(),
            quality: Quality::Measured,
        })
    }
    fn position(&self) -> Option<Position> {
        (self.0.source == Source::RaplPowercap).then_some(Position {
            raw: 1,
            range: 0,
            at_ns: 1,
        })
    }
    fn counted_since(&self, _earlier: &Position) -> Option<Microjoules> {
        None
    }
}

fn found(meters: Vec<Box<dyn Meter>>, findings: Vec<Finding>) -> Found {
    Found { meters, findings }
}

#[test]
fn perf_is_preferred_to_powercap_and_each_joule_is_counted_once() {
    use Domain::{Dram, Package};
    use Source::{RaplPerf, RaplPowercap};
    let perf = found(
        vec![
            Fake::boxed(RaplPerf, Package, "package-0"),
            Fake::boxed(RaplPerf, Package, "package-1"),
        ],
        vec![],
    );
    let powercap = found(
        vec![
            Fake::boxed(RaplPowercap, Package, "package-0"),
            Fake::boxed(RaplPowercap, Dram, "package-0"),
            Fake::boxed(RaplPowercap, Package, "package-1-die-0"),
        ],
        vec![],
    );
    let mut findings = Vec::new();
    let meters = pair(perf, powercap, &mut findings);
    let expected = [
        (Package, RaplPerf),
        (Package, RaplPerf),
        (Dram, RaplPowercap),
    ];
    assert_eq!(listed(&meters), expected);
    // A pair goes on across a restart; a perf meter alone cannot.
    assert!(meters[0].position().is_some());
    assert!(meters[1].position().is_none());
    assert!(findings[0].what.contains("package-1-die-0"));
}

#[test]
fn what_one_way_lacks_asks_for_nothing_if_the_other_works() {
    let refused = || vec![Finding::new("perf", "refused", "give it CAP_PERFMON")];
    let package = Fake::boxed(Source::RaplPowercap, Domain::Package, "package-0");
    let mut findings = Vec::new();
    pair(
        found(vec![], refused()),
        found(vec![package], vec![]),
        &mut findings,
    );
    assert_eq!(findings[0].advice, "");
    findings.clear();
    pair(
        found(vec![], refused()),
        found(vec![], vec![]),
        &mut findings,
    );
    assert_eq!(findings[0].advice, "give it CAP_PERFMON");
}

#[test]
fn the_model_stands_in_only_where_nothing_covers_the_machine() {
    use Domain::{Board, Core, Package};
    use Source::{Acpi, Battery, Model, RaplPowercap};
    assert_eq!(Machine::new().found(), [(Package, Model)]);
    assert_eq!(Machine::new().with_acpi().found(), [(Board, Acpi)]);
    let rapl = Machine::new().with_powercap().with_acpi();
    let expected = [(Package, RaplPowercap), (Core, RaplPowercap), (Board, Acpi)];
    assert_eq!(rapl.found(), expected);
    let laptop = Machine::new().with_battery();
    assert_eq!(laptop.found(), [(Board, Battery), (Package, Model)]);
}

#[test]
fn the_board_is_counted_by_one_source() {
    use Domain::Board;
    use Source::{Acpi, Hwmon};
    let all = Machine::new()
        .with_acpi()
        .with_battery()
        .with_chip(1, "cffps1", "power1_input", "pin")
        .with_chip(2, "cffps1", "power1_input", "pin");
    assert_eq!(all.found(), [(Board, Hwmon), (Board, Hwmon)]);
    let less = Machine::new().with_acpi().with_battery();
    assert_eq!(less.found(), [(Board, Acpi)]);
}

#[test]
fn a_chip_does_not_repeat_rapl() {
    let machine = Machine::new()
        .with_powercap()
        .with_chip(1, "fam15h_power", "power1_input", "");
    let found = discover(&machine.options());
    let domains: Vec<Domain> = listed(&found.meters).iter().map(|(d, _)| *d).collect();
    assert_eq!(domains, [Domain::Package, Domain::Core]);
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.what.contains("RAPL is used"))
    );
    let alone = Machine::new().with_chip(1, "fam15h_power", "power1_input", "");
    assert_eq!(alone.found(), [(Domain::Package, Source::Hwmon)]);
}

#[test]
fn one_core_of_an_amd_package_is_not_taken_for_all() {
    let machine = Machine::new().with_powercap();
    machine.write(
        "",
        &[("cpuinfo", "processor : 0\nvendor_id : AuthenticAMD")],
    );
    let found = discover(&machine.options());
    assert_eq!(
        listed(&found.meters),
        [(Domain::Package, Source::RaplPowercap)]
    );
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.what.contains("one core each"))
    );
}

#[test]
fn a_controller_that_is_away_yields_to_another_source() {
    let configured = |machine: &Machine| {
        machine.write("", &[("password", "secret")]);
        let options = Options {
            redfish: Some(RedfishConfig {
                // Nothing listens on port 1: refused at once.
                url: "http://127.0.0.1:1".into(),
                password_file: machine.path().join("password"),
                insecure: true,
                ..RedfishConfig::default()
            }),
            ..machine.options()
        };
        discover(&options)
    };
    let found = configured(&Machine::new().with_acpi());
    assert_eq!(listed(&found.meters), [(Domain::Board, Source::Acpi)]);
    assert!(
        found
            .findings
            .iter()
            .any(|f| f.what.contains("in its place"))
    );
    let found = configured(&Machine::new());
    let expected = [
        (Domain::Board, Source::Redfish),
        (Domain::Package, Source::Model),
    ];
    assert_eq!(listed(&found.meters), expected);
    // That it does not answer is the meter's to say: no finding outlives its answer.
    let is_told = |finding: &Finding| finding.place.contains("127.0.0.1");
    assert!(!found.findings.iter().any(is_told));
    assert!(found.meters[0].notes().iter().any(is_told));
}
