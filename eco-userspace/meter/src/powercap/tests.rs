// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Trees like `/sys/class/powercap`, honest and hostile.

use std::{cell::Cell, fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::*;
use crate::Domain;

const RANGE: u64 = 262_143_328_850;
const SECOND: u64 = 1_000_000_000;

/// A fake `/sys`.
struct Sys(TempDir);

impl Sys {
    fn new() -> Self {
        let sys = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sys.class()).unwrap();
        sys
    }

    fn class(&self) -> PathBuf {
        self.0.path().join("class/powercap")
    }

    fn zone(&self, path: &str, name: &str) -> PathBuf {
        let folder = self.class().join(path);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        fs::write(folder.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
        fs::write(folder.join("energy_uj"), "1000000\n").unwrap();
        folder
    }

    fn open(&self) -> (Vec<PowercapMeter>, Vec<Finding>) {
        open_all(self.0.path())
    }

    /// A tree with one package, its meter, and the counter's file.
    fn package() -> (Self, PowercapMeter, PathBuf) {
        let sys = Self::new();
        let counter = sys.zone("intel-rapl:0", "package-0").join("energy_uj");
        let (mut meters, findings) = sys.open();
        assert!(findings.is_empty(), "{findings:?}");
        (sys, meters.pop().unwrap(), counter)
    }
}

/// A meter read at moments that the test chooses.
fn read_at(meter: &mut PowercapMeter, second: u64) -> Result<Reading, MeterError> {
    meter.read_by(|| second * SECOND)
}

fn names(meters: &[PowercapMeter]) -> Vec<(&str, Domain, &str)> {
    meters
        .iter()
        .map(|meter| {
            let descriptor = meter.descriptor();
            (
                descriptor.name.as_str(),
                descriptor.domain,
                descriptor.device.as_str(),
            )
        })
        .collect()
}

#[test]
fn every_socket_and_domain_is_found() {
    let sys = Sys::new();
    sys.zone("intel-rapl:1", "package-1");
    sys.zone("intel-rapl:0", "package-0");
    sys.zone("intel-rapl:0:0", "core");
    sys.zone("intel-rapl:0:1", "uncore");
    sys.zone("intel-rapl:0:2", "dram");
    sys.zone("intel-rapl:1:0", "core");
    sys.zone("intel-rapl:2", "psys");
    fs::create_dir(sys.class().join("intel-rapl")).unwrap();
    fs::create_dir(sys.class().join("dtpm")).unwrap();
    let (meters, findings) = sys.open();
    assert_eq!(
        names(&meters),
        [
            ("package-0", Domain::Package, "package-0"),
            ("package-0/core", Domain::Core, "package-0"),
            ("package-0/uncore", Domain::Uncore, "package-0"),
            ("package-0/dram", Domain::Dram, "package-0"),
            ("package-1", Domain::Package, "package-1"),
            ("package-1/core", Domain::Core, "package-1"),
            ("psys", Domain::Psys, "psys"),
        ]
    );
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_zone_that_is_linked_and_nested_is_one_meter() {
    let sys = Sys::new();
    sys.zone("intel-rapl/intel-rapl:0", "package-0");
    sys.zone("intel-rapl/intel-rapl:0/intel-rapl:0:0", "core");
    symlink("intel-rapl/intel-rapl:0", sys.class().join("intel-rapl:0")).unwrap();
    symlink(
        "intel-rapl/intel-rapl:0/intel-rapl:0:0",
        sys.class().join("intel-rapl:0:0"),
    )
    .unwrap();
    // As the driver does: a way back up, which a search must not follow for ever.
    symlink("..", sys.class().join("intel-rapl/intel-rapl:0/device")).unwrap();
    symlink(
        ".",
        sys.class().join("intel-rapl/intel-rapl:0/intel-rapl:7"),
    )
    .unwrap();
    let (meters, _) = sys.open();
    let found = names(&meters);
    assert!(found.starts_with(&[
        ("package-0", Domain::Package, "package-0"),
        ("package-0/core", Domain::Core, "package-0"),
    ]));
    assert_eq!(
        found
            .iter()
            .filter(|(_, domain, _)| *domain == Domain::Core)
            .count(),
        1
    );
}

#[test]
fn dies_keep_their_names_and_doubles_get_a_number() {
    let sys = Sys::new();
    sys.zone("intel-rapl:0", "package-0-die-1");
    sys.zone("intel-rapl:0:0", "dram");
    sys.zone("intel-rapl:1", "package-0");
    sys.zone("intel-rapl:2", "package-0");
    sys.zone("intel-rapl:2:0", "core");
    let (meters, _) = sys.open();
    assert_eq!(
        names(&meters),
        [
            ("package-0-die-1", Domain::Package, "package-0-die-1"),
            ("package-0-die-1/dram", Domain::Dram, "package-0-die-1"),
            ("package-0", Domain::Package, "package-0"),
            ("package-0#2", Domain::Package, "package-0#2"),
            ("package-0#2/core", Domain::Core, "package-0#2"),
        ]
    );
}

#[test]
fn the_same_counter_through_mmio_is_read_once() {
    let sys = Sys::new();
    sys.zone("intel-rapl:0", "package-0");
    sys.zone("intel-rapl-mmio:0", "package-0");
    sys.zone("intel-rapl-mmio:0:0", "dram");
    let (meters, findings) = sys.open();
    assert_eq!(
        names(&meters),
        [
            ("package-0", Domain::Package, "package-0"),
            ("package-0/dram", Domain::Dram, "package-0"),
        ]
    );
    assert_eq!(findings.len(), 1);
    assert!(findings[0].what.contains("repeats"), "{findings:?}");
}

#[test]
fn no_powercap_is_a_finding_with_advice() {
    let empty = tempfile::tempdir().unwrap();
    let found = discover(empty.path());
    assert!(found.meters.is_empty());
    assert!(found.findings[0].advice.contains("modprobe intel_rapl_msr"));
    let no_zones = discover(Sys::new().0.path());
    assert!(no_zones.meters.is_empty());
    assert_eq!(no_zones.findings.len(), 1);
}

#[test]
fn odd_zones_cost_only_themselves() {
    let sys = Sys::new();
    sys.zone("intel-rapl:0", "package-0");
    sys.zone("intel-rapl:1", "gizmo");
    fs::remove_file(sys.zone("intel-rapl:2", "package-2").join("energy_uj")).unwrap();
    fs::remove_file(sys.zone("intel-rapl:3", "package-3").join("name")).unwrap();
    fs::write(sys.class().join("intel-rapl:4"), "not a folder").unwrap();
    let (meters, findings) = sys.open();
    assert_eq!(
        names(&meters),
        [("package-0", Domain::Package, "package-0")]
    );
    assert_eq!(findings.len(), 4, "{findings:?}");
}

#[test]
fn a_counter_that_may_not_be_read_is_a_finding_that_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let sys = Sys::new();
    let counter = sys.zone("intel-rapl:0", "package-0").join("energy_uj");
    fs::set_permissions(&counter, fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&counter).is_ok() {
        println!("skipped: this user reads every file, permissions or not");
        return;
    }
    let (meters, findings) = sys.open();
    assert!(meters.is_empty());
    assert!(
        findings[0].advice.contains("CAP_DAC_READ_SEARCH"),
        "{findings:?}"
    );
}

#[test]
fn a_counter_that_opens_but_cannot_be_read_is_no_meter() {
    let sys = Sys::new();
    let counter = sys.zone("intel-rapl:0", "package-0").join("energy_uj");
    fs::remove_file(&counter).unwrap();
    // The simplest thing that opens and does not read.
    fs::create_dir(&counter).unwrap();
    let (meters, findings) = sys.open();
    assert!(meters.is_empty());
    assert!(findings[0].what.contains("cannot be read"), "{findings:?}");
}

#[test]
fn the_total_follows_the_counter_through_a_wrap() {
    let (_sys, mut meter, counter) = Sys::package();
    fs::write(&counter, format!("{}\n", RANGE - 9)).unwrap();
    assert_eq!(read_at(&mut meter, 1).unwrap().total, Microjoules::ZERO);
    fs::write(&counter, "29999990\n").unwrap();
    let reading = read_at(&mut meter, 2).unwrap();
    assert_eq!(reading.total, Microjoules(30_000_000));
    assert_eq!(reading.quality, Quality::Measured);
    assert_eq!(
        reading.window,
        Window {
            before_ns: 2 * SECOND,
            after_ns: 2 * SECOND
        }
    );
    let position = meter.position().unwrap();
    assert_eq!(
        position,
        Position {
            raw: 29_999_990,
            range: RANGE,
            at_ns: 2 * SECOND
        }
    );
}

#[test]
fn the_window_encloses_the_read() {
    let (_sys, mut meter, _) = Sys::package();
    let clock = Cell::new(0);
    let reading = meter.read_by(|| clock.replace(clock.get() + 10)).unwrap();
    assert!(reading.window.before_ns < reading.window.after_ns);
}

#[test]
fn a_frozen_counter_is_said_to_be_still() {
    let (_sys, mut meter, _) = Sys::package();
    read_at(&mut meter, 1).unwrap();
    for n in 1..=3 {
        let reading = read_at(&mut meter, 1 + u64::from(n)).unwrap();
        assert_eq!(reading.quality, Quality::Still(n));
        assert_eq!(reading.total, Microjoules::ZERO);
    }
}

#[test]
fn a_file_renamed_over_the_counter_is_followed() {
    let (sys, mut meter, counter) = Sys::package();
    read_at(&mut meter, 1).unwrap();
    for second in 2..5 {
        let fresh = sys.class().join("fresh");
        fs::write(&fresh, format!("{}", second * 1_000_000)).unwrap();
        fs::rename(&fresh, &counter).unwrap();
        let reading = read_at(&mut meter, second).unwrap();
        assert_eq!(reading.quality, Quality::Measured);
        assert_eq!(reading.total, Microjoules((second - 1) * 1_000_000));
    }
}

#[test]
fn a_zone_that_vanishes_and_comes_back_is_counted_through() {
    let (_sys, mut meter, counter) = Sys::package();
    read_at(&mut meter, 1).unwrap();
    let folder = counter.parent().unwrap();
    let away = folder.with_file_name("away");
    fs::rename(folder, &away).unwrap();
    // The open file still works on a plain file system; a still value makes the meter look again.
    assert!(matches!(
        read_at(&mut meter, 2),
        Err(MeterError::Gone { .. })
    ));
    assert!(matches!(
        read_at(&mut meter, 3),
        Err(MeterError::Gone { .. })
    ));
    fs::rename(&away, folder).unwrap();
    fs::write(&counter, "91000000").unwrap();
    let reading = read_at(&mut meter, 4).unwrap();
    assert_eq!(reading.total, Microjoules(90_000_000));
    assert_eq!(reading.quality, Quality::Measured);
    // Away again, and back as new.
    fs::write(&counter, "5").unwrap();
    let reading = read_at(&mut meter, 5).unwrap();
    assert_eq!(reading.total, Microjoules(90_000_000));
    assert_eq!(reading.quality, Quality::Reset);
}

#[test]
fn garbage_is_an_error_and_never_energy() {
    let (_sys, mut meter, counter) = Sys::package();
    read_at(&mut meter, 1).unwrap();
    let beyond = (RANGE + 1).to_string();
    let long = "9".repeat(5_000);
    let hostile: [&[u8]; 10] = [
        b"",
        b"\n",
        b"-5",
        b"+5",
        b"12a",
        b"1 2",
        b"18446744073709551616",
        b"\xff\xfe",
        beyond.as_bytes(),
        long.as_bytes(),
    ];
    for (second, text) in (2..).zip(hostile) {
        fs::write(&counter, text).unwrap();
        let result = read_at(&mut meter, second);
        let shown = String::from_utf8_lossy(text);
        assert!(
            matches!(result, Err(MeterError::Garbage { .. })),
            "{shown:.80}: {result:?}"
        );
    }
    fs::write(&counter, "31000000").unwrap();
    let reading = read_at(&mut meter, 20).unwrap();
    assert_eq!(
        reading.total,
        Microjoules(30_000_000),
        "what was counted meanwhile is kept"
    );
}

#[test]
fn a_counter_without_range_is_a_finding_and_a_meter() {
    let sys = Sys::new();
    let folder = sys.zone("intel-rapl:0", "package-0");
    fs::remove_file(folder.join("max_energy_range_uj")).unwrap();
    let (meters, findings) = sys.open();
    assert_eq!(meters.len(), 1);
    assert!(findings[0].what.contains("max_energy_range_uj"));
}

#[test]
fn discovered_meters_work_through_the_trait() {
    let (sys, _, counter) = Sys::package();
    let mut found = discover(sys.0.path());
    let meter = &mut found.meters[0];
    meter.read(&Load::default()).unwrap();
    let position = meter.position().unwrap();
    fs::write(&counter, "1000500").unwrap();
    let reading = meter.read(&Load::default()).unwrap();
    assert_eq!(reading.total, Microjoules(500));
    assert_eq!(meter.counted_since(&position), Some(Microjoules(500)));
    assert_eq!(meter.known_idle(), None);
}
