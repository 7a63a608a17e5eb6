// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel that counts what the test says, behind trees like `bus/event_source`.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

use super::*;

const JOULE: u64 = 1 << 32;
const SCALE: &str = "2.3283064365386962890625e-10\n";

/// Type, config, CPU.
type At = (u32, u64, u32);

/// What the stand-in counts.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<BTreeMap<At, Dial>>>);

#[derive(Clone, Copy, Default)]
struct Dial {
    counts: u64,
    base: u64,
    offline: bool,
    opened: u32,
}

impl Machine {
    fn add(&self, at: At, joules: u64) {
        let mut dials = self.0.lock().unwrap();
        let dial = dials.entry(at).or_default();
        dial.counts = dial.counts.wrapping_add(joules * JOULE);
    }

    fn set_offline(&self, at: At, offline: bool) {
        self.0.lock().unwrap().entry(at).or_default().offline = offline;
    }

    fn opened(&self) -> Vec<At> {
        let dials = self.0.lock().unwrap();
        let opened = dials.iter().filter(|(_, dial)| dial.opened > 0);
        opened.map(|(at, _)| *at).collect()
    }
}

impl Open for Machine {
    fn open(&self, kind: u32, config: u64, cpu: u32) -> io::Result<Box<dyn Count>> {
        let at = (kind, config, cpu);
        let mut dials = self.0.lock().unwrap();
        let dial = dials.entry(at).or_default();
        if dial.offline {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        dial.opened += 1;
        dial.base = dial.counts;
        Ok(Box::new(Hand {
            machine: self.clone(),
            at,
        }))
    }
}

struct Hand {
    machine: Machine,
    at: At,
}

impl Count for Hand {
    fn count(&mut self) -> io::Result<u64> {
        let dials = self.machine.0.lock().unwrap();
        let dial = dials[&self.at];
        if dial.offline {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(dial.counts.wrapping_sub(dial.base))
    }
}

struct Sys(TempDir);

impl Sys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pmu(&self, name: &str, kind: u32, cpumask: &str) -> PathBuf {
        let folder = self.path().join("bus/event_source/devices").join(name);
        fs::create_dir_all(folder.join("events")).unwrap();
        fs::create_dir_all(folder.join("format")).unwrap();
        fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
        fs::write(folder.join("cpumask"), format!("{cpumask}\n")).unwrap();
        fs::write(folder.join("format/event"), "config:0-7\n").unwrap();
        folder
    }

    fn event(&self, pmu: &Path, name: &str, code: &str) {
        let path = pmu.join("events").join(name);
        fs::write(&path, format!("event={code}\n")).unwrap();
        fs::write(path.with_file_name(format!("{name}.scale")), SCALE).unwrap();
        fs::write(path.with_file_name(format!("{name}.unit")), "Joules\n").unwrap();
    }

    fn cpu(&self, cpu: u32, package: u32, die: u32) {
        let folder = self
            .path()
            .join(format!("devices/system/cpu/cpu{cpu}/topology"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("physical_package_id"), package.to_string()).unwrap();
        fs::write(folder.join("die_id"), die.to_string()).unwrap();
    }

    fn two_sockets() -> Self {
        let sys = Self::new();
        let pmu = sys.pmu("power", 23, "0,18");
        sys.event(&pmu, "energy-pkg", "0x02");
        sys.event(&pmu, "energy-ram", "0x03");
        sys.cpu(0, 0, 0);
        sys.cpu(18, 1, 0);
        sys
    }

    fn find(&self, machine: &Machine) -> Found {
        discover_with(self.path(), &mut || Box::new(machine.clone()))
    }
}

fn names(found: &Found) -> Vec<(String, Domain)> {
    let each = found.meters.iter().map(|meter| meter.descriptor());
    each.map(|d| (d.name.clone(), d.domain)).collect()
}

fn read(meter: &mut Box<dyn Meter>) -> (u64, Quality) {
    let reading = meter.read(&Load::default()).unwrap();
    (reading.total.0, reading.quality)
}

#[test]
fn each_socket_is_counted_once_by_the_cpu_that_the_mask_names() {
    let (sys, machine) = (Sys::two_sockets(), Machine::default());
    let mut found = sys.find(&machine);
    let expected = [
        ("package-0".to_owned(), Domain::Package),
        ("package-1".to_owned(), Domain::Package),
        ("package-0/dram".to_owned(), Domain::Dram),
        ("package-1/dram".to_owned(), Domain::Dram),
    ];
    assert_eq!(names(&found), expected);
    assert_eq!(found.findings, []);
    assert_eq!(
        machine.opened(),
        [(23, 2, 0), (23, 2, 18), (23, 3, 0), (23, 3, 18)]
    );
    machine.add((23, 2, 18), 70);
    assert_eq!(read(&mut found.meters[0]), (0, Quality::Still(1)));
    assert_eq!(read(&mut found.meters[1]), (70_000_000, Quality::Measured));
}

#[test]
fn dies_are_named_as_powercap_names_them() {
    let sys = Sys::new();
    let pmu = sys.pmu("power", 9, "0,8");
    sys.event(&pmu, "energy-pkg", "0x02");
    sys.cpu(0, 0, 0);
    sys.cpu(8, 0, 1);
    let found = sys.find(&Machine::default());
    let expected = ["package-0-die-0", "package-0-die-1"].map(|n| (n.to_owned(), Domain::Package));
    assert_eq!(names(&found), expected);
}

#[test]
fn cores_add_up_to_their_package() {
    let sys = Sys::new();
    let pmu = sys.pmu("power_core", 31, "0-3");
    sys.event(&pmu, "energy-core", "0x01");
    for cpu in 0..4 {
        sys.cpu(cpu, cpu / 2, 0);
    }
    let machine = Machine::default();
    let mut found = sys.find(&machine);
    let expected = ["package-0/core", "package-1/core"].map(|n| (n.to_owned(), Domain::Core));
    assert_eq!(names(&found), expected);
    for cpu in 0..4 {
        machine.add((31, 1, cpu), u64::from(cpu) + 1);
    }
    assert_eq!(read(&mut found.meters[0]).0, 3_000_000);
    assert_eq!(read(&mut found.meters[1]).0, 7_000_000);
}

#[test]
fn a_cpu_that_goes_offline_and_comes_back_keeps_the_total() {
    let (sys, machine) = (Sys::two_sockets(), Machine::default());
    let mut found = sys.find(&machine);
    let (meter, at) = (&mut found.meters[0], (23, 2, 0));
    machine.add(at, 10);
    assert_eq!(read(meter), (10_000_000, Quality::Measured));
    machine.set_offline(at, true);
    let error = meter.read(&Load::default()).unwrap_err().to_string();
    assert!(error.contains("CPU 0"), "{error}");
    machine.add(at, 1_000);
    machine.set_offline(at, false);
    assert_eq!(read(meter), (10_000_000, Quality::Reset));
    machine.add(at, 5);
    assert_eq!(read(meter), (15_000_000, Quality::Measured));
}

#[test]
fn a_counter_of_64_bits_that_wraps_loses_nothing() {
    let (sys, machine) = (Sys::two_sockets(), Machine::default());
    let mut found = sys.find(&machine);
    let meter = &mut found.meters[0];
    // 5 GJ in steps; 2⁶⁴ counts are 4.29 GJ.
    for gigajoules in 1..=5 {
        machine.add((23, 2, 0), 1_000_000_000);
        let expected = gigajoules * 1_000_000_000_000_000;
        assert_eq!(read(meter), (expected, Quality::Measured));
    }
}

#[test]
fn a_pmu_of_the_wrong_shape_is_a_finding_and_no_meter() {
    type Spoil = fn(&Path);
    let spoils: [(Spoil, &str); 6] = [
        (|pmu| fs::write(pmu.join("type"), "-1").unwrap(), "type"),
        (|pmu| fs::write(pmu.join("cpumask"), "").unwrap(), "no CPU"),
        (
            |pmu| fs::write(pmu.join("cpumask"), "0-99999999").unwrap(),
            "no CPU",
        ),
        (
            |pmu| fs::write(pmu.join("events/energy-pkg"), "event=0x1ff").unwrap(),
            "event code",
        ),
        (
            |pmu| fs::write(pmu.join("events/energy-pkg.scale"), "nan").unwrap(),
            "scale",
        ),
        (
            |pmu| fs::write(pmu.join("events/energy-pkg.unit"), "Watts").unwrap(),
            "scale",
        ),
    ];
    for (spoil, word) in spoils {
        let sys = Sys::new();
        let pmu = sys.pmu("power", 23, "0");
        sys.event(&pmu, "energy-pkg", "0x02");
        spoil(&pmu);
        let found = sys.find(&Machine::default());
        assert_eq!(names(&found), []);
        assert!(
            found.findings[0].what.contains(word),
            "{:?}",
            found.findings
        );
    }
}

#[test]
fn a_kernel_that_refuses_is_a_finding_with_advice() {
    struct Refuses;
    impl Open for Refuses {
        fn open(&self, _: u32, _: u64, _: u32) -> io::Result<Box<dyn Count>> {
            Err(io::Error::from_raw_os_error(libc::EACCES))
        }
    }
    let sys = Sys::two_sockets();
    let found = discover_with(sys.path(), &mut || Box::new(Refuses));
    assert_eq!(names(&found), []);
    assert_eq!(
        found.findings.len(),
        2,
        "one a kind of event, not one a socket"
    );
    assert!(found.findings[0].advice.contains("CAP_PERFMON"));
}

#[test]
fn a_tree_that_is_not_sys_opens_nothing_in_the_kernel() {
    let sys = Sys::two_sockets();
    assert_eq!(names(&discover(sys.path())), []);
}

#[test]
fn the_real_system_call_counts() {
    // No RAPL is needed for this: the kernel's own software clock goes the same way.
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
    let mut counter = match Kernel.open(PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, 0) {
        Ok(counter) => counter,
        Err(why) => {
            println!("skipped: the kernel lets this user open no counter: {why}");
            return;
        }
    };
    let first = counter.count().unwrap();
    let mut next = first;
    while next == first {
        next = counter.count().unwrap();
    }
    assert!(next > first);
}
