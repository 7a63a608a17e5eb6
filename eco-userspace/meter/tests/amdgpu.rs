// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AMD GPUs by the files of a made-up sysfs and a scripted amd-smi.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use eco_amd_smi_standin::lab::Lab;
use eco_amdsmi::Options;
use eco_meter::{
    Load, Meter, Quality, Reading, Source,
    amdgpu::{Search, discover},
};

/// No test waits that long; it is there so that none hangs for ever.
const LONG: Duration = Duration::from_secs(60);

/// A card at `0000:0<number>:00.0`, with a power where one is given.
fn card(root: &Path, number: u32, power: Option<&str>) {
    let folder = root.join(format!("class/drm/card{number}/device"));
    let chip = folder.join("hwmon/hwmon3");
    fs::create_dir_all(&chip).unwrap();
    fs::create_dir_all(folder.join("power")).unwrap();
    fs::write(folder.join("vendor"), "0x1002\n").unwrap();
    let uevent = format!("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0{number}:00.0\n");
    fs::write(folder.join("uevent"), uevent).unwrap();
    if let Some(power) = power {
        fs::write(chip.join("power1_average"), power).unwrap();
    }
}

fn gpu(number: u32, watts: f64) -> String {
    format!("[[gpu]]\naddress = \"0000:0{number}:00.0\"\nidle_watts = {watts:.1}\n")
}

fn search(root: &Path, lab: &Lab) -> Search {
    let options = Options {
        library: lab.library().into(),
        deadline: LONG,
        patience: LONG,
        on_thread: None,
    };
    discover(root, &options)
}

fn read(meter: &mut Box<dyn Meter>) -> Reading {
    meter.read(&Load::default()).unwrap()
}

/// The power between two reads, in W, as the meter counts.
fn watts(meter: &mut Box<dyn Meter>) -> f64 {
    let first = read(meter);
    thread::sleep(Duration::from_millis(100));
    let last = read(meter);
    let span = last.window.middle_ns() - first.window.middle_ns();
    (last.total.0 - first.total.0) as f64 * 1e3 / span as f64
}

#[test]
fn each_card_is_counted_once_by_the_accumulator_at_its_address() {
    let root = tempfile::tempdir().unwrap();
    // In another order than amd-smi's, and each with a power that is not the truth.
    for number in [1, 2, 3] {
        card(root.path(), number, Some("77000000\n"));
    }
    let lab = Lab::new(&(gpu(2, 200.0) + &gpu(1, 100.0) + &gpu(2, 900.0))).unwrap();
    let mut search = search(root.path(), &lab);
    let sources = search.gpus.iter().map(|gpu| gpu.meter.descriptor().source);
    assert_eq!(
        sources.collect::<Vec<_>>(),
        [Source::AmdSmi, Source::AmdSmi, Source::Amdgpu]
    );
    for (gpu, truth) in search.gpus.iter_mut().zip([100.0, 200.0, 77.0]) {
        let found = watts(&mut gpu.meter);
        // The window of a read is the clock's error.
        assert!((found / truth - 1.0).abs() < 0.2, "{found} {truth}");
    }
    let findings: Vec<_> = search.findings.iter().map(|f| f.what.as_str()).collect();
    assert_eq!(
        findings,
        ["amd-smi does not show this GPU: its power is integrated over the ticks"]
    );
}

#[test]
fn a_card_without_a_sensor_is_counted_by_its_accumulator_alone() {
    let root = tempfile::tempdir().unwrap();
    card(root.path(), 1, None);
    let lab = Lab::new(&gpu(1, 100.0)).unwrap();
    let search = search(root.path(), &lab);
    assert_eq!(search.gpus[0].meter.descriptor().source, Source::AmdSmi);
    assert!(search.findings.is_empty());
}

#[test]
fn the_second_die_of_a_package_is_left_out_whatever_amd_smi_says() {
    let root = tempfile::tempdir().unwrap();
    card(root.path(), 1, Some("300000000\n"));
    card(root.path(), 2, Some("0\n"));
    let lab = Lab::new(&(gpu(1, 300.0) + &gpu(2, 300.0))).unwrap();
    let search = search(root.path(), &lab);
    assert_eq!(search.gpus.len(), 1);
    assert_eq!(search.findings[0].place, "card2");
}

#[test]
fn a_card_without_an_accumulator_is_counted_by_its_power_and_that_is_told() {
    let fault = "[[fault]]\ncall = \"amdsmi_get_energy_count\"\n";
    for (fault, has_advice) in [
        (format!("{fault}what = \"error\"\ncode = 2"), false),
        (format!("{fault}what = \"unknown\""), false),
        (format!("{fault}what = \"error\"\ncode = 14"), true),
    ] {
        let root = tempfile::tempdir().unwrap();
        card(root.path(), 1, Some("90000000\n"));
        let lab = Lab::new(&(gpu(1, 50.0) + &fault)).unwrap();
        let mut search = search(root.path(), &lab);
        let meter = &mut search.gpus[0].meter;
        assert_eq!(meter.descriptor().source, Source::Amdgpu);
        let found = watts(meter);
        assert!((found / 90.0 - 1.0).abs() < 0.01, "{found}");
        let finding = &search.findings[0];
        assert!(finding.what.contains("integrated"), "{finding:?}");
        assert_eq!(!finding.advice.is_empty(), has_advice, "{finding:?}");
    }
}

#[test]
fn a_library_that_does_not_start_is_told_and_costs_no_meter() {
    for script in ["init = 18", "version = \"23.4.0.0\"", "not a script"] {
        let root = tempfile::tempdir().unwrap();
        card(root.path(), 1, Some("90000000\n"));
        let lab = Lab::new(script).unwrap();
        let search = search(root.path(), &lab);
        assert_eq!(search.gpus[0].meter.descriptor().source, Source::Amdgpu);
        let finding = &search.findings[0];
        assert_eq!(finding.place, "amd-smi");
        assert!(!finding.advice.is_empty(), "{finding:?}");
    }
}

#[test]
fn a_card_that_sleeps_is_not_asked() {
    let root = tempfile::tempdir().unwrap();
    card(root.path(), 1, None);
    let lab = Lab::new(&gpu(1, 100.0)).unwrap();
    let mut search = search(root.path(), &lab);
    let gpu = &mut search.gpus[0];
    let first = read(&mut gpu.meter);
    let status = gpu.card.folder.join("power/runtime_status");
    fs::write(&status, "suspended\n").unwrap();
    let prompt = gpu.prompt.as_ref().unwrap();
    prompt.ask();
    let asleep = read(&mut gpu.meter);
    assert_eq!(asleep.quality, Quality::Still(0));
    assert_eq!((asleep.total, asleep.window), (first.total, first.window));
    fs::write(&status, "active\n").unwrap();
    assert!(read(&mut gpu.meter).window.before_ns > first.window.after_ns);
    assert_eq!(prompt.late(), 0);
}

#[test]
fn an_accumulator_that_reads_unknown_for_a_while_loses_nothing() {
    let fault = "[[fault]]\nat = 1.0\nseconds = 0.5\nwhat = \"unknown\"";
    let root = tempfile::tempdir().unwrap();
    card(root.path(), 1, None);
    let lab = Lab::new(&(gpu(1, 100.0) + fault)).unwrap();
    let mut search = search(root.path(), &lab);
    let meter = &mut search.gpus[0].meter;
    let end = Instant::now() + LONG;
    let mut until = |wanted: bool| {
        loop {
            let answer = meter.read(&Load::default());
            if answer.is_ok() == wanted {
                return answer;
            }
            assert!(Instant::now() < end, "it never came");
            thread::sleep(Duration::from_millis(5));
        }
    };
    let first = until(true).unwrap();
    let why = until(false).unwrap_err();
    assert!(why.to_string().contains("card1"), "{why}");
    let last = until(true).unwrap();
    let span = last.window.middle_ns() - first.window.middle_ns();
    let found = (last.total.0 - first.total.0) as f64 * 1e3 / span as f64;
    assert!((found / 100.0 - 1.0).abs() < 0.1, "{found}");
}
