// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The real loader against a library that goes by a script.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    thread,
    time::{Duration, Instant},
};

use eco_amd_smi_standin::lab::Lab;
use eco_amdsmi::{Device, Driver, Energy, NotOpened, OpenError, Options, Trouble};

/// No test waits that long; it is there so that none hangs for ever.
const LONG: Duration = Duration::from_secs(60);

fn options(lab: &Lab) -> Options {
    Options {
        library: lab.library().into(),
        deadline: LONG,
        patience: LONG,
        on_thread: None,
    }
}

fn open(lab: &Lab) -> Driver {
    Driver::open(&options(lab)).unwrap()
}

/// One GPU of 100 W, and what else the script says of it and goes wrong.
fn one(more: &str) -> String {
    format!("[[gpu]]\naddress = \"0000:03:00.0\"\nidle_watts = 100.0\n{more}")
}

fn energy(device: &Device) -> Energy {
    device.take().unwrap().unwrap()
}

fn microjoules(energy: Energy) -> u64 {
    energy.unit.microjoules(energy.counts).unwrap()
}

#[test]
fn a_gpu_says_where_it_is_and_what_it_has_drawn() {
    let lab = Lab::new(&one("counts = 6553600")).unwrap();
    let driver = open(&lab);
    assert_eq!(driver.version.as_deref(), Some("26.1.0"));
    let device = &driver.devices[0];
    let identity = device.identity(Instant::now() + LONG).unwrap();
    assert_eq!(identity.address.as_deref(), Ok("0000:03:00.0"));
    let first = energy(device);
    // 100 J before the script began.
    assert!(microjoules(first) >= 100_000_000);
    thread::sleep(Duration::from_millis(50));
    let last = energy(device);
    let counted = microjoules(last) - microjoules(first);
    // 100 W for the time between the two reads, which each took a moment; and a count of grain.
    let most = (last.after_ns - first.before_ns) / 10 + 16;
    let least = (last.before_ns - first.after_ns) / 10 - 16;
    assert!(
        (least..=most).contains(&counted),
        "{least} {counted} {most}"
    );
}

#[test]
fn every_gpu_of_every_socket_is_found() {
    let script = one("") + "[[gpu]]\naddress = \"0001:c1:1f.5\"\nidle_watts = 1.0\n";
    let lab = Lab::new(&script).unwrap();
    let driver = open(&lab);
    let addresses = driver.devices.iter().map(|device| {
        let identity = device.identity(Instant::now() + LONG).unwrap();
        identity.address.unwrap()
    });
    assert_eq!(
        addresses.collect::<Vec<_>>(),
        ["0000:03:00.0", "0001:c1:1f.5"]
    );
}

#[test]
fn what_does_not_start_becomes_an_error_that_says_what_to_do() {
    let missing = Options::of("/nowhere/libamd_smi.so");
    let why = Driver::open(&missing).err().unwrap();
    assert!(matches!(why, OpenError::NoLibrary { .. }), "{why}");
    for (code, says) in [
        (34, "not loaded"),
        (10, "no permission"),
        (18, "initialisation"),
        (99_999, "amdsmi_status_t 99999"),
    ] {
        let lab = Lab::new(&format!("init = {code}")).unwrap();
        let why = Driver::open(&options(&lab)).err().unwrap();
        assert!(why.to_string().contains(says), "{code}: {why}");
        assert!(!why.advice().is_empty());
    }
}

#[test]
fn the_versions_record_is_read_in_both_of_its_shapes() {
    for version in ["24.5.1.0", "25.3.0"] {
        let lab = Lab::new(&format!("version = \"{version}\"\n{}", one(""))).unwrap();
        assert_eq!(open(&lab).version.as_deref(), Some(version));
    }
}

#[test]
fn a_library_whose_accumulator_is_known_to_stand_still_is_too_old() {
    let lab = Lab::new(&format!("version = \"23.4.0.0\"\n{}", one(""))).unwrap();
    let why = Driver::open(&options(&lab)).err().unwrap();
    assert!(matches!(why, OpenError::TooOld(_)), "{why}");
}

#[test]
fn a_library_that_lacks_a_function_is_too_old_and_a_missing_version_is_no_matter() {
    for function in ["amdsmi_get_processor_handles", "amdsmi_get_energy_count"] {
        let lab = Lab::lacking(&one(""), &[function]).unwrap();
        let why = Driver::open(&options(&lab)).err().unwrap();
        assert!(matches!(why, OpenError::TooOld(_)), "{why}");
        assert!(why.to_string().contains(function), "{why}");
    }
    let lab = Lab::lacking(&one(""), &["amdsmi_get_lib_version"]).unwrap();
    let driver = open(&lab);
    assert_eq!(driver.version, None);
    energy(&driver.devices[0]);
}

#[test]
fn a_library_that_hangs_when_it_starts_is_left_alone() {
    let script = "[[fault]]\ncall = \"amdsmi_init\"\nseconds = 5.0\nwhat = \"hang\"";
    let lab = Lab::new(script).unwrap();
    let options = Options {
        patience: Duration::from_millis(10),
        ..options(&lab)
    };
    let why = Driver::open(&options).err().unwrap();
    assert!(
        matches!(why, OpenError::NotOpened(NotOpened::Hangs(_))),
        "{why}"
    );
}

#[test]
fn a_gpu_without_an_accumulator_says_so_in_each_of_three_ways() {
    for fault in [
        "what = \"error\"\ncode = 2",
        "what = \"error\"\ncode = 3",
        "what = \"unknown\"",
    ] {
        let fault = format!("[[fault]]\ncall = \"amdsmi_get_energy_count\"\n{fault}");
        let lab = Lab::new(&one(&fault)).unwrap();
        let answer = open(&lab).devices[0].take().unwrap();
        assert_eq!(answer, Err(Trouble::Untold), "{fault}");
    }
}

#[test]
fn garbage_is_no_energy() {
    for more in [
        "resolution = 0.0",
        "resolution = -15.3",
        "resolution = nan",
        "resolution = inf",
        "counts = 9000000000000000000",
    ] {
        let lab = Lab::new(&one(more)).unwrap();
        let why = open(&lab).devices[0].take().unwrap().unwrap_err();
        assert!(matches!(why, Trouble::Nonsense { .. }), "{more}: {why}");
    }
}

#[test]
fn a_gpu_that_fails_says_what_was_asked_and_what_came() {
    let fault = "[[fault]]\ncall = \"amdsmi_get_energy_count\"\nwhat = \"error\"\ncode = 30";
    let lab = Lab::new(&one(fault)).unwrap();
    let why = open(&lab).devices[0]
        .take()
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(why.contains("amdsmi_get_energy_count"), "{why}");
    assert!(why.contains("busy"), "{why}");
}

#[test]
fn a_gpu_that_hangs_holds_up_no_other() {
    let script = one("")
        + "[[gpu]]\naddress = \"0000:04:00.0\"\nidle_watts = 100.0\n\
           [[fault]]\ngpu = 0\ncall = \"amdsmi_get_energy_count\"\nwhat = \"hang\"\n";
    let lab = Lab::new(&script).unwrap();
    let driver = Driver::open(&Options {
        patience: Duration::from_secs(2),
        ..options(&lab)
    })
    .unwrap();
    let [ill, well] = &driver.devices[..] else {
        panic!("two GPUs")
    };
    assert!(ill.identity(Instant::now()).is_none());
    assert!(well.identity(Instant::now() + LONG).is_some());
    ill.ask();
    energy(well);
    energy(well);
    assert!(ill.waiting().is_some());
}
