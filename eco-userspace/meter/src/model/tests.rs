// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model against machines made of files.

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SECOND: u64 = 1_000_000_000;
const CALIBRATED: ModelConfig = ModelConfig {
    idle_watts: Some(20.0),
    max_watts: Some(40.0),
    profile: None,
};
/// No profile of the machine that runs the tests has a say in them.
const NOTHING: ModelConfig = ModelConfig {
    idle_watts: None,
    max_watts: None,
    profile: None,
};

/// A machine's `/proc` and `/sys`, in one folder.
fn machine(cpuinfo: &str, online: Option<&str>) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cpuinfo"), cpuinfo).unwrap();
    if let Some(online) = online {
        let folder = root.path().join("devices/system/cpu");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("online"), online).unwrap();
    }
    root
}

fn set_frequency(root: &TempDir, cpu: u32, current: &str, highest: &str) {
    let folder = root
        .path()
        .join(format!("devices/system/cpu/cpu{cpu}/cpufreq"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("scaling_cur_freq"), current).unwrap();
    fs::write(folder.join("cpuinfo_max_freq"), highest).unwrap();
}

fn detect(root: &TempDir, config: &ModelConfig) -> ModelMeter {
    ModelMeter::detect(root.path(), root.path(), config).unwrap()
}

fn load(busy_ns: u64) -> Load {
    Load { busy_ns, cpus: 2 }
}

#[test]
fn a_known_cpu_takes_its_row_and_says_so() {
    let cpuinfo = "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\n\
        flags : hypervisor\n";
    let meter = detect(&machine(cpuinfo, Some("0-1\n")), &NOTHING);
    assert!(
        meter
            .basis()
            .starts_with("AMD EPYC 4th Gen (Zen 4), 2 CPUs: 1.48 W idle, 4.56 W")
    );
    assert!(meter.basis().contains("SPECpower"), "{}", meter.basis());
    assert_eq!(meter.known_idle(), Some(Watts(1.48)));
    assert!(meter.findings()[0].what.contains("virtual machine"));
    let descriptor = meter.descriptor();
    assert_eq!(
        (descriptor.name.as_str(), descriptor.device.as_str()),
        ("model", "package-0")
    );
    assert!(descriptor.source.is_estimate());
}

#[test]
fn odd_files_lead_to_the_default_row_and_a_finding() {
    for cpuinfo in [
        "",
        "garbage",
        "processor : 0\nvendor_id : \u{fffd}\nmodel : x\n",
    ] {
        for online in [None, Some(""), Some("9-1"), Some("0-99999999")] {
            let meter = detect(&machine(cpuinfo, online), &NOTHING);
            assert!(
                meter.basis().starts_with("unknown CPU, 1 CPUs"),
                "{}",
                meter.basis()
            );
            assert!(!meter.findings().is_empty());
        }
    }
    let nowhere = Path::new("/nowhere/at/all");
    assert!(ModelMeter::detect(nowhere, nowhere, &NOTHING).is_ok());
}

#[test]
fn a_calibration_that_is_no_machine_is_refused() {
    let root = machine("", None);
    let refused = |idle_watts, max_watts| {
        let config = ModelConfig {
            idle_watts,
            max_watts,
            profile: None,
        };
        ModelMeter::detect(root.path(), root.path(), &config).is_err()
    };
    assert!(refused(Some(-1.0), None));
    assert!(refused(Some(f64::NAN), Some(5.0)));
    assert!(refused(Some(1.0), Some(f64::INFINITY)));
    assert!(refused(Some(9.0), Some(8.0)));
    assert!(
        refused(Some(500.0), None),
        "more idle than the table's full load"
    );
    assert!(!refused(Some(8.0), Some(8.0)));
    assert!(!refused(Some(0.0), Some(0.0)));
}

#[test]
fn idle_costs_idle_and_a_busy_cpu_its_part_of_the_rest() {
    let mut meter = detect(&machine("", Some("0-1")), &CALIBRATED);
    assert!(meter.basis().ends_with("configured"), "{}", meter.basis());
    assert_eq!(meter.read_at(0, &load(7)).total, Microjoules::ZERO);
    assert_eq!(
        meter.read_at(SECOND, &load(7)).total,
        Microjoules(20_000_000)
    );
    let reading = meter.read_at(2 * SECOND, &load(7 + SECOND));
    assert_eq!(reading.total, Microjoules(50_000_000));
    assert_eq!(reading.quality, Quality::Estimated);
    assert_eq!(
        meter.read_at(3 * SECOND, &load(7 + 3 * SECOND)).total,
        Microjoules(90_000_000)
    );
    assert_eq!(meter.position(), None);
}

#[test]
fn cpu_time_that_arrives_late_is_charged_when_there_is_room() {
    let mut meter = detect(&machine("", Some("0-1")), &CALIBRATED);
    meter.read_at(0, &load(0));
    assert_eq!(
        meter.read_at(SECOND, &load(3 * SECOND)).total,
        Microjoules(40_000_000)
    );
    assert_eq!(
        meter.read_at(2 * SECOND, &load(3 * SECOND)).total,
        Microjoules(70_000_000)
    );
}

#[test]
fn a_leap_of_cpu_time_is_not_charged_for_ever() {
    let mut meter = detect(&machine("", Some("0-1")), &CALIBRATED);
    meter.read_at(0, &load(0));
    meter.read_at(SECOND, &load(u64::MAX));
    let total = meter.read_at(1_000 * SECOND, &load(u64::MAX)).total;
    assert_eq!(
        total,
        Microjoules(20_000_000_000 + 20_000_000 + 2 * 60 * 10_000_000)
    );
    let total = meter.read_at(1_001 * SECOND, &load(0)).total;
    assert_eq!(
        total,
        Microjoules(20_020_000_000 + 20_000_000 + 2 * 60 * 10_000_000)
    );
}

#[test]
fn a_slow_clock_costs_less_and_idle_cpus_do_not_dilute_it() {
    let root = machine("", Some("0-1"));
    set_frequency(&root, 0, "1500000\n", "3000000\n");
    set_frequency(&root, 1, "750000\n", "3000000\n");
    let mut meter = detect(&root, &CALIBRATED);
    meter.read_at(0, &load(0));
    assert_eq!(
        meter.read_at(SECOND, &load(SECOND)).total,
        Microjoules(25_000_000)
    );
    let both = meter.read_at(2 * SECOND, &load(3 * SECOND)).total;
    assert_eq!(both, Microjoules(25_000_000 + 20_000_000 + 7_500_000));
}

#[test]
fn odd_frequencies_count_as_full() {
    for (current, highest) in [
        ("x", "3000000"),
        ("0", "3000000"),
        ("-1", "1"),
        ("5", "0"),
        ("9", "3"),
    ] {
        let root = machine("", Some("0-1"));
        set_frequency(&root, 0, current, highest);
        let mut meter = detect(&root, &CALIBRATED);
        meter.read_at(0, &load(0));
        assert_eq!(
            meter.read_at(SECOND, &load(SECOND)).total,
            Microjoules(30_000_000)
        );
    }
}

/// Writes a profile of the machine under `root`, and gives the configuration that names it.
fn calibrate(root: &TempDir, coefficients: Coefficients) -> ModelConfig {
    let path = root.path().join("model.toml");
    let profile = Profile {
        version: profile::VERSION,
        date: "2026-11-25T05:00:00Z".to_owned(),
        source: "a wall meter".to_owned(),
        machine: Machine::detect(root.path(), root.path()),
        coefficients,
        error: profile::FitError {
            mean_percent: 1.25,
            worst_percent: 3.0,
            ..profile::FitError::default()
        },
    };
    profile.write(&path).unwrap();
    ModelConfig {
        profile: Some(path),
        ..NOTHING
    }
}

const FITTED: Coefficients = Coefficients {
    idle_watts: 10.0,
    busy_cpu_watts: 4.0,
    active_core_watts: 2.0,
};

#[test]
fn a_profile_of_this_machine_is_used_and_says_its_error() {
    let root = machine("processor : 0\n", Some("0-1"));
    let mut config = calibrate(&root, FITTED);
    let mut meter = detect(&root, &config);
    let said = "calibrated on 2026-11-25 by a wall meter, expected error 1.2 %";
    assert!(meter.basis().starts_with(said), "{}", meter.basis());
    assert_eq!(meter.findings().len(), 1);
    assert!(meter.findings()[0].what.starts_with(said));
    assert!(meter.findings()[0].advice.is_empty());
    assert_eq!(meter.known_idle(), Some(Watts(10.0)));
    meter.read_at(0, &load(0));
    assert_eq!(
        meter.read_at(SECOND, &load(SECOND)).total,
        Microjoules(16_000_000)
    );
    config.max_watts = Some(50.0);
    assert!(
        !detect(&root, &config).basis().contains("calibrated"),
        "what is configured wins"
    );
}

#[test]
fn a_slow_clock_does_not_make_an_active_core_cheaper() {
    let root = machine("processor : 0\n", Some("0-1"));
    set_frequency(&root, 0, "1500000", "3000000");
    let mut meter = detect(&root, &calibrate(&root, FITTED));
    meter.read_at(0, &load(0));
    assert_eq!(
        meter.read_at(SECOND, &load(SECOND)).total,
        Microjoules(14_000_000)
    );
}

#[test]
fn two_threads_on_one_core_share_what_the_core_draws() {
    let root = machine("processor : 0\n", Some("0-1"));
    for cpu in 0..2 {
        let folder = root
            .path()
            .join(format!("devices/system/cpu/cpu{cpu}/topology"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("thread_siblings_list"), "0-1").unwrap();
    }
    let stat = |busy: u64, idle: u64| {
        let lines = format!("cpu  0 0 0 0\ncpu0 {busy} 0 0 {idle}\ncpu1 {busy} 0 0 {idle}\n");
        fs::write(root.path().join("stat"), lines).unwrap();
    };
    stat(0, 0);
    let mut meter = detect(&root, &calibrate(&root, FITTED));
    meter.read_at(0, &load(0));
    stat(100, 0);
    let both = meter.read_at(SECOND, &load(2 * SECOND)).total;
    assert_eq!(both, Microjoules(10_000_000 + 2 * 4_000_000 + 2_000_000));
    stat(200, 0);
    fs::remove_file(root.path().join("stat")).unwrap();
    let untold = meter.read_at(2 * SECOND, &load(3 * SECOND)).total;
    assert_eq!(
        untold,
        Microjoules(both.0 + 10_000_000 + 4_000_000 + 2_000_000)
    );
}

#[test]
fn a_profile_that_is_not_to_be_believed_is_a_finding_and_the_table_is_used() {
    let root = machine("processor : 0\n", Some("0-1"));
    let config = calibrate(&root, FITTED);
    let path = config.profile.clone().unwrap();
    let good = fs::read_to_string(&path).unwrap();
    for (text, reason) in [
        (Some("garbage"), "not a profile"),
        (Some("version = 99\n"), "a later eco"),
        (
            Some(good.replace("cpus = 2", "cpus = 64").as_str()),
            "another machine",
        ),
        (None, "no such profile"),
    ] {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let meter = detect(&root, &config);
        assert!(
            meter.basis().starts_with("unknown CPU, 2 CPUs"),
            "{}",
            meter.basis()
        );
        let finding = &meter.findings()[0];
        assert!(finding.what.contains(reason), "{finding:?}");
        assert!(!finding.advice.is_empty());
    }
}

#[test]
fn without_a_profile_the_expected_error_is_said() {
    for (cpuinfo, said) in [
        ("", "factor of two"),
        (
            "processor : 0\nvendor_id : AuthenticAMD\ncpu family : 25\nmodel : 17\n",
            "expected error is not known",
        ),
    ] {
        let meter = detect(&machine(cpuinfo, Some("0")), &NOTHING);
        let finding = meter.findings().last().unwrap();
        assert!(finding.what.contains(said), "{finding:?}");
        assert!(finding.advice.contains("eco calibrate"));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_to_rounding_however_often_it_is_read(
        steps in proptest::collection::vec((1u64..5_000, 0u64..2), 1..300),
    ) {
        let config = ModelConfig {
            idle_watts: Some(1.234_567),
            max_watts: Some(9.876_543),
            profile: None,
        };
        let root = machine("", Some("0-1"));
        let (mut often, mut once) = (detect(&root, &config), detect(&root, &config));
        often.read_at(0, &load(0));
        once.read_at(0, &load(0));
        let (mut now, mut busy, mut total) = (0, 0, Microjoules::ZERO);
        for (step, cpus) in steps {
            now += step;
            busy += step * cpus;
            total = often.read_at(now, &load(busy)).total;
        }
        prop_assert_eq!(total, once.read_at(now, &load(busy)).total);
    }

    #[test]
    fn no_load_and_no_clock_lowers_the_total(
        readings in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u32>()), 1..50),
    ) {
        let mut meter = detect(&machine("", Some("0-1")), &CALIBRATED);
        let mut before = Microjoules::ZERO;
        for (now, busy_ns, cpus) in readings {
            let total = meter.read_at(now, &Load { busy_ns, cpus }).total;
            prop_assert!(total >= before);
            before = total;
        }
    }
}
