// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The real wrapper against a driver that goes by a script.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    thread,
    time::{Duration, Instant},
};

use eco_nvml::{
    Activity, Answer, Counted, Device, Driver, Energy, Kind, NotOpened, OpenError, Options,
    PerProcess, Trouble,
};
use eco_nvml_standin::lab::Lab;

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

/// One look.
fn look(device: &Device) -> Answer {
    device.turn().unwrap();
    Answer {
        energy: device.energy().unwrap(),
        activity: device.activity().unwrap(),
    }
}

fn energy(device: &Device) -> Result<Energy, Trouble> {
    look(device).energy
}

fn activity(device: &Device) -> Activity {
    look(device).activity.unwrap()
}

/// Looks until `found` says that this is it.
fn until<T>(device: &Device, mut found: impl FnMut(Answer) -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = found(look(device)) {
            return found;
        }
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_gpu_says_who_it_is_and_what_it_has_drawn() {
    let lab = Lab::new("[[gpu]]\nidle_watts = 100.0\ncounter_millijoules = 5000000").unwrap();
    let driver = open(&lab);
    assert_eq!(driver.version.as_deref(), Some("570.86.15"));
    let device = &driver.devices[0];
    let identity = device.identity(Instant::now() + LONG).unwrap();
    assert_eq!(identity.name.as_deref(), Some("Scripted GPU"));
    assert!(identity.uuid.unwrap().starts_with("GPU-"));
    let read = || {
        let energy = energy(device).unwrap();
        assert!(energy.before_ns <= energy.after_ns);
        match energy.counted {
            Counted::SinceLoad(millijoules) => (millijoules, energy),
            other @ Counted::Sampled(_) => panic!("{other:?}"),
        }
    };
    let (first, earlier) = read();
    thread::sleep(Duration::from_millis(50));
    let (second, later) = read();
    assert!(first >= 5_000_000);
    // 100 W for the time between the two reads, which each took a moment.
    let most = (later.after_ns - earlier.before_ns) / 10_000 + 1;
    let least = (later.before_ns - earlier.after_ns) / 10_000 - 1;
    assert!(
        (least..=most).contains(&(second - first)),
        "{first} {second}"
    );
}

#[test]
fn what_no_driver_answers_becomes_an_error_that_says_what_to_do() {
    let missing = Options::of("/nowhere/libnvidia-ml.so.1");
    let why = Driver::open(&missing).err().unwrap();
    assert!(matches!(why, OpenError::NoLibrary { .. }), "{why}");
    for (code, says) in [
        (9, "module is not loaded"),
        (18, "different versions"),
        (4, "no permission"),
        (999, "internal driver error"),
    ] {
        let lab = Lab::new(&format!("init = {code}")).unwrap();
        let why = Driver::open(&options(&lab)).err().unwrap();
        assert!(why.to_string().contains(says), "{code}: {why}");
        assert!(!why.advice().is_empty());
    }
}

#[test]
fn a_library_that_lacks_what_every_driver_has_is_too_old() {
    let lab = Lab::lacking("[[gpu]]\nidle_watts = 1.0", &["nvmlInit_v2"]).unwrap();
    let why = Driver::open(&options(&lab)).err().unwrap();
    assert!(matches!(why, OpenError::TooOld(_)), "{why}");
}

#[test]
fn a_driver_that_hangs_when_it_starts_is_left_alone() {
    let script = "[[fault]]\ncall = \"nvmlInit_v2\"\nseconds = 5.0\nwhat = \"hang\"";
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
fn without_an_energy_counter_the_drivers_samples_of_power_are_integrated() {
    for script in ["energy_counter = false", "energy_counter = true"] {
        let script = format!("[[gpu]]\nidle_watts = 200.0\nsample_ms = 20\n{script}");
        // Neither a GPU without one nor a driver without the function.
        let lab = Lab::lacking(&script, &["nvmlDeviceGetTotalEnergyConsumption"]).unwrap();
        let driver = open(&lab);
        let mut sum = 0;
        until(&driver.devices[0], |answer| {
            match answer.energy.unwrap().counted {
                Counted::Sampled(integral) => sum += integral.microjoules,
                other @ Counted::SinceLoad(_) => panic!("{other:?}"),
            }
            // 4 J for each sample.
            (sum >= 20_000_000).then_some(())
        });
        assert_eq!(sum % 4_000_000, 0, "{sum}");
    }
}

#[test]
fn a_gpu_that_can_tell_neither_energy_nor_samples_says_so() {
    let functions = [
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetSamples",
    ];
    let lab = Lab::lacking("[[gpu]]\nidle_watts = 1.0", &functions).unwrap();
    let why = energy(&open(&lab).devices[0]).unwrap_err();
    assert!(matches!(why, Trouble::Untold(_)), "{why}");
}

#[test]
fn an_unknown_value_is_no_energy_and_no_memory() {
    let script = "
        [[gpu]]
        idle_watts = 1.0
        [[gpu.process]]
        pid = 5
        memory = 4096
        [[fault]]
        what = \"unknown\"
        seconds = 0.3";
    let lab = Lab::new(script).unwrap();
    let driver = open(&lab);
    let device = &driver.devices[0];
    let answer = look(device);
    // It is not known whether it ever will be; its samples of power are.
    assert!(matches!(
        answer.energy.unwrap().counted,
        Counted::Sampled(_)
    ));
    assert_eq!(answer.activity.unwrap().running[0].memory, None);
    until(device, |answer| {
        let memory = answer.activity.unwrap().running[0].memory;
        (memory == Some(4096)).then_some(())
    });
}

#[test]
fn a_name_that_is_no_text_is_left_out_and_told() {
    let lab = Lab::new("[[gpu]]\nidle_watts = 1.0\nname = [255, 254, 65]").unwrap();
    let driver = open(&lab);
    let identity = driver.devices[0].identity(Instant::now() + LONG).unwrap();
    assert_eq!(identity.name, None);
    assert!(identity.oddities[0].contains("utf-8"), "{identity:?}");
    assert!(energy(&driver.devices[0]).is_ok());
}

#[test]
fn a_gpu_off_the_bus_is_lost_and_found_again() {
    let script = "
        [[gpu]]
        idle_watts = 50.0
        [[gpu]]
        idle_watts = 50.0
        [[fault]]
        gpu = 1
        at = 0.2
        seconds = 0.3
        what = \"lost\"";
    let lab = Lab::new(script).unwrap();
    let driver = open(&lab);
    let [healthy, ill] = &driver.devices[..] else {
        panic!("two GPUs")
    };
    let trouble = until(ill, |answer| answer.energy.err());
    assert_eq!(trouble, Trouble::Lost);
    assert!(energy(healthy).is_ok());
    until(ill, |answer| answer.energy.ok());
}

#[test]
fn utilisation_is_told_once_and_by_process() {
    let script = "
        [[gpu]]
        idle_watts = 1.0
        sample_ms = 50
        [[gpu.process]]
        pid = 11
        sm = 60
        [[gpu.process]]
        pid = 12
        sm = 30
        encoder = 5
        kind = \"graphics\"";
    let lab = Lab::new(script).unwrap();
    let driver = open(&lab);
    let mut seen = Vec::new();
    let running = until(&driver.devices[0], |answer| {
        let activity = answer.activity.unwrap();
        let PerProcess::Told(samples) = activity.samples else {
            panic!("{activity:?}")
        };
        seen.extend(samples);
        (seen.len() >= 8).then_some(activity.running)
    });
    let mut keys: Vec<_> = seen.iter().map(|s| (s.at_unix_us, s.pid)).collect();
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all, "no sample comes twice");
    for sample in &seen {
        let (sm, encoder) = if sample.pid == 11 { (60, 0) } else { (30, 5) };
        assert_eq!((sample.sm, sample.encoder), (sm, encoder));
    }
    let kinds: Vec<Kind> = running.iter().map(|process| process.kind).collect();
    assert_eq!(kinds, [Kind::Compute, Kind::Graphics]);
}

#[test]
fn a_buffer_that_holds_less_than_the_time_between_two_looks_is_told() {
    let script = |kept| {
        format!(
            "[[gpu]]\nidle_watts = 1.0\nsample_ms = 50\nsamples_kept = {kept}\n\
             [[gpu.process]]\npid = 11\nsm = 60"
        )
    };
    for (kept, overflows) in [(3, true), (1_000, false)] {
        let lab = Lab::new(&script(kept)).unwrap();
        let driver = open(&lab);
        let device = &driver.devices[0];
        // What it has told, it must have dropped before anybody can know that it drops.
        until(device, |answer| {
            let PerProcess::Told(samples) = answer.activity.unwrap().samples else {
                return None;
            };
            (!samples.is_empty()).then_some(())
        });
        thread::sleep(Duration::from_millis(1_500));
        let late = activity(device);
        assert_eq!(late.overflowed, overflows, "{kept}: {late:?}");
    }
}

#[test]
fn a_gpu_that_begins_to_be_used_has_dropped_nothing() {
    let script = "[[gpu]]\nidle_watts = 1.0\nsample_ms = 50\n\
                  [[gpu.process]]\npid = 11\nsm = 60\nstart = 1.0";
    let lab = Lab::new(script).unwrap();
    let driver = open(&lab);
    let first = until(&driver.devices[0], |answer| {
        let activity = answer.activity.unwrap();
        let is_used = matches!(&activity.samples, PerProcess::Told(all) if !all.is_empty());
        is_used.then_some(activity)
    });
    assert!(!first.overflowed, "{first:?}");
}

#[test]
fn an_old_driver_lists_processes_and_tells_no_use() {
    let script = "[[gpu]]\nidle_watts = 1.0\n[[gpu.process]]\npid = 9\nsm = 50";
    let functions = [
        "nvmlDeviceGetProcessUtilization",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMigMode",
    ];
    let lab = Lab::lacking(script, &functions).unwrap();
    let activity = activity(&open(&lab).devices[0]);
    assert_eq!(activity.samples, PerProcess::Untold);
    assert_eq!(activity.running[0].pid, 9);
    assert!(activity.busy_percent.is_some());
}

#[test]
fn mig_instances_come_with_their_slices_and_how_busy_they_are() {
    let script = "
        [[gpu]]
        idle_watts = 1.0
        gpm = true
        [[gpu.instance]]
        gpu_instance = 3
        slices = 4
        [[gpu.instance]]
        gpu_instance = 7
        slices = 2
        [[gpu.instance]]
        gpu_instance = 7
        compute_instance = 1
        slices = 2
        [[gpu.process]]
        pid = 21
        sm = 80
        gpu_instance = 3";
    let lab = Lab::new(script).unwrap();
    let driver = open(&lab);
    let activity = until(&driver.devices[0], |answer| {
        let activity = answer.activity.unwrap();
        activity.instances[0].busy.is_some().then_some(activity)
    });
    assert_eq!(activity.samples, PerProcess::Untold);
    assert_eq!(activity.slices, 7);
    let [large, small] = &activity.instances[..] else {
        panic!("{activity:?}")
    };
    assert_eq!((large.gpu_instance, large.slices), (3, 4));
    assert!((large.busy.unwrap() - 0.8).abs() < 1e-6, "{large:?}");
    assert_eq!((small.slices, small.busy), (2, Some(0.0)));
    // By what schedulers know them: a MIG device is one compute instance.
    let uuids = [large, small].map(|instance| instance.uuids.join(" "));
    let known = ["0", "1", "2"].map(|mig| format!("MIG-00000000-0000-0000-0000-00000000000{mig}"));
    assert_eq!(uuids, [known[0].clone(), known[1..].join(" ")]);
    assert_eq!(activity.running[0].gpu_instance, Some(3));
}
