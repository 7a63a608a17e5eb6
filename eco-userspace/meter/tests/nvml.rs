// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Meters of NVIDIA GPUs, against a driver that goes by a script.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use eco_meter::{
    Domain, Load, Meter, MeterError, Quality, Reading, Source,
    nvml::{Search, discover},
};
use eco_nvml::{Device, LIBRARY, Options};
use eco_nvml_standin::lab::Lab;

/// No test waits that long; it is there so that none hangs for ever.
const LONG: Duration = Duration::from_secs(60);

fn find(lab: &Lab, deadline: Duration) -> Search {
    let options = Options {
        library: lab.library().into(),
        deadline,
        patience: LONG,
        on_thread: None,
    };
    discover(&options, Path::new("/nowhere"))
}

fn read(device: &Device, meter: &mut dyn Meter) -> Result<Reading, MeterError> {
    // Late is the meter's to say.
    let _ = device.turn();
    meter.read(&Load::default())
}

/// Reads until `found` says that this is it.
fn until<T>(
    device: &Device,
    meter: &mut dyn Meter,
    mut found: impl FnMut(Result<Reading, MeterError>) -> Option<T>,
) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = found(read(device, meter)) {
            return found;
        }
        assert!(Instant::now() < end, "it never came");
        thread::sleep(Duration::from_millis(10));
    }
}

/// What 100 W make between two readings, at the least and at the most, in µJ.
fn bounds(first: &Reading, last: &Reading) -> (u64, u64) {
    let ns_at_100_watts = |from: u64, to: u64| (to - from) / 10;
    (
        ns_at_100_watts(first.window.after_ns, last.window.before_ns).saturating_sub(2_000),
        ns_at_100_watts(first.window.before_ns, last.window.after_ns) + 2_000,
    )
}

#[test]
fn each_gpu_has_a_meter_that_starts_at_zero_and_counts_what_was_drawn() {
    let gpu = "[[gpu]]\nidle_watts = 100.0\ncounter_millijoules = 7000000\n";
    let lab = Lab::new(&gpu.repeat(2)).unwrap();
    let mut search = find(&lab, LONG);
    assert!(search.found.findings.is_empty());
    for (at, (meter, device)) in search
        .found
        .meters
        .iter_mut()
        .zip(&search.devices)
        .enumerate()
    {
        let d = meter.descriptor().clone();
        assert_eq!((d.domain, d.source), (Domain::Gpu, Source::Nvml));
        assert_eq!(d.device, at.to_string());
        assert!(d.name.starts_with(&format!("gpu-{at} GPU-")), "{}", d.name);
        let first = read(device, meter.as_mut()).unwrap();
        assert_eq!(first.total.0, 0);
        let last = until(device, meter.as_mut(), |reading| {
            reading.ok().filter(|reading| reading.total.0 > 3_000_000)
        });
        let (least, most) = bounds(&first, &last);
        assert!((least..=most).contains(&last.total.0), "{first:?} {last:?}");
        assert!(meter.position().unwrap().raw >= 7_000_000_000);
    }
}

#[test]
fn a_gpu_that_was_lost_counts_on_from_where_its_counter_stands() {
    let script = "
        [[gpu]]
        idle_watts = 100.0
        [[fault]]
        at = 0.2
        seconds = 0.3
        what = \"lost\"";
    let lab = Lab::new(script).unwrap();
    let mut search = find(&lab, LONG);
    let (meter, device) = (search.found.meters[0].as_mut(), &search.devices[0]);
    let first = read(device, meter).unwrap();
    let why = until(device, meter, |reading| reading.err());
    assert!(why.to_string().contains("lost"), "{why}");
    let last = until(device, meter, Result::ok);
    let (least, most) = bounds(&first, &last);
    assert!((least..=most).contains(&last.total.0), "{first:?} {last:?}");
    assert_eq!(last.quality, Quality::Measured);
}

#[test]
fn a_counter_that_starts_anew_is_a_reset_and_never_counts_back() {
    let script = "
        [[gpu]]
        idle_watts = 100.0
        counter_millijoules = 1000000000
        [[fault]]
        at = 0.3
        what = \"reset\"";
    let lab = Lab::new(script).unwrap();
    let mut search = find(&lab, LONG);
    let (meter, device) = (search.found.meters[0].as_mut(), &search.devices[0]);
    let first = read(device, meter).unwrap();
    let mut before = first.total;
    let at_reset = until(device, meter, |reading| {
        let reading = reading.unwrap();
        assert!(reading.total >= before);
        before = reading.total;
        (reading.quality == Quality::Reset).then_some(reading)
    });
    let later = until(device, meter, |reading| {
        reading
            .ok()
            .filter(|r| r.total.0 > at_reset.total.0 + 1_000_000)
    });
    assert!(later.total.0 <= bounds(&first, &later).1);
}

#[test]
fn a_driver_that_hangs_is_said_to_hang_and_nothing_is_lost_by_it() {
    let script = "
        [[gpu]]
        idle_watts = 100.0
        [[gpu]]
        idle_watts = 100.0
        [[fault]]
        gpu = 0
        call = \"nvmlDeviceGetTotalEnergyConsumption\"
        at = 0.2
        seconds = 1.0
        what = \"hang\"";
    let lab = Lab::new(script).unwrap();
    let mut search = find(&lab, Duration::from_millis(40));
    let [ill, well] = &mut search.found.meters[..] else {
        panic!("two GPUs")
    };
    let [ill_device, well_device] = &search.devices[..] else {
        panic!("two GPUs")
    };
    let first = until(ill_device, ill.as_mut(), Result::ok);
    let mut total = until(well_device, well.as_mut(), Result::ok).total;
    let why = until(ill_device, ill.as_mut(), Result::err);
    assert!(why.to_string().contains("hangs"), "{why}");
    // As long as it hangs the other goes on counting.
    let last = until(ill_device, ill.as_mut(), |reading| {
        let other = until(well_device, well.as_mut(), Result::ok);
        assert!(other.total >= total);
        total = other.total;
        reading.ok()
    });
    let (least, most) = bounds(&first, &last);
    assert!((least..=most).contains(&last.total.0), "{first:?} {last:?}");
    assert!(ill_device.late() > 0);
}

#[test]
fn samples_of_power_are_a_meter_too_and_it_is_noted() {
    let script = "[[gpu]]\nidle_watts = 100.0\nsample_ms = 20\nenergy_counter = false";
    let lab = Lab::new(script).unwrap();
    let mut search = find(&lab, LONG);
    let (meter, device) = (search.found.meters[0].as_mut(), &search.devices[0]);
    let first = read(device, meter).unwrap();
    let last = until(device, meter, |reading| {
        reading.ok().filter(|reading| reading.total.0 > 50_000_000)
    });
    // From the first sample to the last one, and a driver that has just started has none yet.
    let (least, most) = bounds(&first, &last);
    let period = 100 * 20_000;
    let total = last.total.0;
    assert!(
        (least - 5 * period..=most).contains(&total),
        "{total}: {least} to {most}"
    );
    assert_eq!(meter.notes().len(), 1);
    assert_eq!(meter.position(), None);
}

#[test]
fn an_answer_is_read_once() {
    let lab = Lab::new("[[gpu]]\nidle_watts = 100.0").unwrap();
    let mut search = find(&lab, LONG);
    read(&search.devices[0], search.found.meters[0].as_mut()).unwrap();
    let again = search.found.meters[0].read(&Load::default());
    assert!(matches!(again, Err(MeterError::NoAnswer { .. })));
}

#[test]
fn a_gpu_that_is_away_at_the_start_has_a_meter_that_waits_for_it() {
    let script = "
        [[gpu]]
        idle_watts = 100.0
        [[fault]]
        seconds = 0.3
        what = \"lost\"";
    let lab = Lab::new(script).unwrap();
    let mut search = find(&lab, LONG);
    assert!(search.found.findings[0].what.contains("lost"));
    let (meter, device) = (search.found.meters[0].as_mut(), &search.devices[0]);
    assert_eq!(meter.descriptor().name, "gpu-0");
    until(device, meter, Result::ok);
}

#[test]
fn no_driver_is_worth_a_word_only_where_something_looks_like_a_gpu() {
    if Path::new("/dev/nvidiactl").exists() || Path::new("/dev/dxg").exists() {
        return;
    }
    let sysfs = tempfile::tempdir().unwrap();
    let named = Options::of("/nowhere/libnvidia-ml.so.1");
    let told = discover(&named, sysfs.path()).found.findings;
    assert!(told[0].advice.contains("nvml.library"), "{told:?}");
    let usual = Options::of(LIBRARY);
    if eco_nvml::Driver::open(&usual).is_ok() {
        return;
    }
    assert!(discover(&usual, sysfs.path()).found.findings.is_empty());
    let gpu = sysfs.path().join("bus/pci/devices/0000:01:00.0");
    fs::create_dir_all(&gpu).unwrap();
    fs::write(gpu.join("vendor"), "0x10de\n").unwrap();
    fs::write(gpu.join("class"), "0x030200\n").unwrap();
    assert_eq!(discover(&usual, sysfs.path()).found.findings.len(), 1);
}
