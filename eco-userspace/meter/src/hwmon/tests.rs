// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees like `/sys/class/hwmon`, honest and hostile.

use std::fs;

use tempfile::TempDir;

use super::*;

const SECOND: u64 = 1_000_000_000;

struct Sys(TempDir);

impl Sys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn chip(&self, number: u32, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.0.path().join(format!("class/hwmon/hwmon{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
        folder
    }

    fn find(&self) -> Found {
        discover(self.0.path())
    }

    fn meter(&self, folder: &Path, kind: Kind) -> HwmonMeter {
        let chip = Chip {
            folder: folder.to_owned(),
            name: String::new(),
        };
        let channel = chip
            .channels()
            .into_iter()
            .find(|c| c.kind == kind)
            .unwrap();
        let descriptor = Descriptor {
            name: "board".into(),
            domain: Domain::Board,
            device: "board".into(),
            source: Source::Hwmon,
        };
        HwmonMeter::new(descriptor, channel)
    }
}

fn names(found: &Found) -> Vec<(Domain, String)> {
    let each = found.meters.iter().map(|meter| meter.descriptor());
    each.map(|d| (d.domain, d.device.clone())).collect()
}

#[test]
fn a_jetson_has_a_board_and_a_package() {
    let sys = Sys::new();
    sys.chip(
        3,
        "ina3221",
        &[
            ("in1_input", "5000"),
            ("curr1_input", "2000"),
            ("in1_label", "VDD_IN"),
            ("in2_input", "5000"),
            ("curr2_input", "600"),
            ("in2_label", "VDD_CPU_GPU_CV"),
            ("in3_input", "5000"),
            ("curr3_input", "400"),
            ("in3_label", "VDD_SOC"),
            ("in4_input", "5000"),
        ],
    );
    let mut found = sys.find();
    let expected = [
        (Domain::Package, "package-0".to_owned()),
        (Domain::Board, "board".to_owned()),
    ];
    assert_eq!(names(&found), expected);
    assert_eq!(found.findings, []);
    found.meters[1].read(&Load::default()).unwrap();
}

#[test]
fn two_supplies_are_two_devices_and_yield_to_the_board_itself() {
    let sys = Sys::new();
    let psu = [
        ("power1_input", "300000000"),
        ("power1_label", "pin"),
        ("power2_input", "280000000"),
        ("power2_label", "pout1"),
    ];
    sys.chip(1, "cffps1", &psu);
    sys.chip(2, "cffps1", &psu);
    let expected = ["psu-0", "psu-1"].map(|psu| (Domain::Board, psu.to_owned()));
    assert_eq!(names(&sys.find()), expected);
    let input = [("power1_input", "590000000"), ("label", "VDD_IN")];
    sys.chip(3, "ina226", &input);
    let found = sys.find();
    assert_eq!(names(&found), [(Domain::Board, "board".to_owned())]);
    assert_eq!(found.findings.len(), 2, "the supplies are named");
}

#[test]
fn an_energy_counter_is_preferred_and_outlives_the_process() {
    let sys = Sys::new();
    let folder = sys.chip(
        0,
        "amd_energy",
        &[("energy1_input", "1000000"), ("energy1_label", "Esocket0")],
    );
    let mut found = sys.find();
    assert_eq!(names(&found), [(Domain::Package, "package-0".to_owned())]);
    let meter = &mut found.meters[0];
    meter.read(&Load::default()).unwrap();
    fs::write(folder.join("energy1_input"), "1500000").unwrap();
    let reading = meter.read(&Load::default()).unwrap();
    assert_eq!(reading.total, Microjoules(500_000));
    assert_eq!(meter.position().unwrap().raw, 1_500_000);
}

#[test]
fn an_average_stands_for_the_time_before_it() {
    let sys = Sys::new();
    let files = [
        ("power1_average", "100000000"),
        ("power1_average_interval", "1000"),
        ("power1_input", "7"),
    ];
    let folder = sys.chip(0, "x", &files);
    let mut meter = sys.meter(&folder, Kind::Power);
    let reading = meter.read_by(|| 10 * SECOND).unwrap();
    assert_eq!(reading.window.before_ns, 9 * SECOND);
    fs::write(folder.join("power1_average"), "300000000").unwrap();
    let reading = meter.read_by(|| 12 * SECOND).unwrap();
    assert_eq!(reading.total, Microjoules(400_000_000));
    assert_eq!(reading.window.middle_ns(), 11 * SECOND + SECOND / 2);
}

#[test]
fn unknown_chips_are_listed_and_not_used() {
    let sys = Sys::new();
    let files = [("power1_input", "1"), ("power1_label", "pin")];
    sys.chip(0, "tps53679", &files);
    sys.chip(1, "amdgpu", &[("power1_average", "1")]);
    sys.chip(2, "coretemp", &[("temp1_input", "40000")]);
    let found = sys.find();
    assert_eq!(names(&found), []);
    assert_eq!(found.findings.len(), 1);
    assert!(found.findings[0].what.contains("tps53679"));
    assert!(found.findings[0].what.contains("power1_input (pin)"));
}

#[test]
fn hostile_values_are_errors_and_never_energy() {
    let sys = Sys::new();
    let folder = sys.chip(0, "x", &[("power1_input", "100000000")]);
    let mut meter = sys.meter(&folder, Kind::Power);
    meter.read_by(|| SECOND).unwrap();
    for (hostile, second) in ["", "-1", "nan", "99999999999999", "1e9"].iter().zip(2..) {
        fs::write(folder.join("power1_input"), hostile).unwrap();
        let error = meter.read_by(|| second * SECOND).unwrap_err();
        assert!(matches!(error, MeterError::Garbage { .. }), "{error}");
    }
    fs::remove_file(folder.join("power1_input")).unwrap();
    let error = meter.read_by(|| 8 * SECOND).unwrap_err();
    assert!(matches!(error, MeterError::Gone { .. }), "{error}");
    fs::write(folder.join("power1_input"), "100000000").unwrap();
    let reading = meter.read_by(|| 9 * SECOND).unwrap();
    assert_eq!(reading.total, Microjoules(800_000_000));
}

#[test]
fn odd_folders_cost_nothing() {
    let sys = Sys::new();
    assert_eq!(names(&sys.find()), []);
    let class = sys.0.path().join("class/hwmon");
    fs::create_dir_all(class.join("hwmon9/power1_input")).unwrap();
    fs::write(class.join("hwmon8"), "no folder").unwrap();
    sys.chip(
        7,
        "cffps1",
        &[("power99999999999_input", "1"), ("power_input", "1")],
    );
    let found = sys.find();
    assert_eq!(names(&found), []);
    // The driver's old home: attributes beside the device.
    let folder = class.join("hwmon6/device");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("name"), "fam15h_power").unwrap();
    fs::write(folder.join("power1_input"), "45000000").unwrap();
    let found = sys.find();
    assert_eq!(names(&found), [(Domain::Package, "package-0".to_owned())]);
}
