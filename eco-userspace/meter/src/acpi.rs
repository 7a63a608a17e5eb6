// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The firmware's power meter (ACPI 4.0, device ACPI000D): the whole board, averaged.
//!
//! The kernel's driver registers it as hwmon chip `power_meter`
//! (Documentation/hwmon/acpi_power_meter.rst). Behind it is mostly a management controller, so its
//! value comes in steps.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Reading, Source,
    boottime_ns, hwmon, integral::MOST_MICROWATTS, slow::Slow, sysfs,
};

/// The name that the driver gives its chip.
const CHIP: &str = "power_meter";

/// The meter as the firmware lists it, under sysfs.
const DEVICE: &str = "bus/acpi/devices/ACPI000D:00";

/// An accuracy that a person should know of, in percent; the driver tells it as `95.0%`.
const POOR_ACCURACY: f64 = 90.0;

/// Finds the firmware's power meters under `sysfs`; more than one adds up (one a supply).
#[must_use]
pub fn discover(sysfs: &Path) -> Found {
    let mut found = Found::default();
    let chips = hwmon::chips_under(sysfs);
    let folders = chips.into_iter().filter(|chip| chip.name == CHIP);
    for (order, chip) in folders.enumerate() {
        let mut meter = AcpiMeter::new(&chip.folder, order);
        match meter.sample() {
            Ok(_) => {
                found.findings.extend(accuracy(&chip.folder));
                found.meters.push(Box::new(meter));
            }
            Err(why) => found.findings.push(Finding::new(
                meter.path.display(),
                format!("the firmware's power meter does not tell: {why}"),
                "Enable power metering in the firmware's setup, if it has that.",
            )),
        }
    }
    let device = sysfs.join(DEVICE);
    if found.meters.is_empty() && found.findings.is_empty() && device.exists() {
        found.findings.push(Finding::new(
            device.display(),
            "the firmware has a power meter, but no driver for it is loaded",
            "Load it: `modprobe acpi_power_meter`.",
        ));
    }
    found
}

struct AcpiMeter {
    descriptor: Descriptor,
    path: PathBuf,
    slow: Slow,
}

impl AcpiMeter {
    fn new(folder: &Path, order: usize) -> Self {
        let device = match order {
            0 => "board".to_owned(),
            more => format!("board#{}", more + 1),
        };
        // In ms; the driver does not ask the firmware more often than this.
        let interval = sysfs::number(&folder.join("power1_average_interval"));
        let slow = match interval {
            Some(ms @ 1..=60_000) => Slow::with_period(Duration::from_millis(ms)),
            _ => Slow::new(),
        };
        Self {
            descriptor: Descriptor {
                name: device.clone(),
                domain: Domain::Board,
                device,
                source: Source::Acpi,
            },
            path: folder.join("power1_average"),
            slow,
        }
    }

    fn sample(&mut self) -> Result<u64, MeterError> {
        let microwatts = sysfs::read(&self.path)?;
        // A board that runs this draws something; firmware without a sensor says 0 or all ones.
        if (1..=MOST_MICROWATTS).contains(&microwatts) {
            Ok(microwatts)
        } else {
            Err(sysfs::garbage(
                &self.path,
                microwatts.to_string().as_bytes(),
            ))
        }
    }

    fn read_by(&mut self, clock: impl Fn() -> u64) -> Result<Reading, MeterError> {
        let before_ns = clock();
        let microwatts = self.sample()?;
        let at_ns = before_ns / 2 + clock() / 2;
        let quality = self.slow.observe(at_ns, microwatts);
        Ok(Reading {
            total: Microjoules(self.slow.total()),
            window: self.slow.window(),
            quality,
        })
    }
}

impl Meter for AcpiMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        self.read_by(boottime_ns)
    }

    fn update_period(&self) -> Option<Duration> {
        self.slow.period()
    }
}

fn accuracy(folder: &Path) -> Option<Finding> {
    let path = folder.join("power1_accuracy");
    let percent: f64 = sysfs::text(&path)?
        .trim_end_matches('%')
        .trim()
        .parse()
        .ok()?;
    (percent < POOR_ACCURACY).then(|| {
        let what = format!("the firmware says that its meter is only {percent} % accurate");
        Finding::new(path.display(), what, "")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Quality;

    const SECOND: u64 = 1_000_000_000;

    fn sys(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("class/hwmon/hwmon0");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("name"), "power_meter\n").unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        (sys, folder)
    }

    #[test]
    fn a_board_that_tells_every_second_is_integrated() {
        let (sys, folder) = sys(&[
            ("power1_average", "250000000\n"),
            ("power1_average_interval", "1000\n"),
            ("power1_accuracy", "98.0%\n"),
        ]);
        let found = discover(sys.path());
        assert_eq!(found.findings, []);
        assert_eq!(found.meters[0].descriptor().source, Source::Acpi);
        let mut meter = AcpiMeter::new(&folder, 0);
        for second in 0..=60u64 {
            let watts = 250 + second % 2;
            fs::write(folder.join("power1_average"), format!("{watts}000000")).unwrap();
            meter.read_by(|| second * SECOND).unwrap();
        }
        let joules = meter.slow.total() as f64 / 1e6;
        assert!((joules / (60.0 * 250.5) - 1.0).abs() < 0.01, "{joules}");
        assert_eq!(meter.update_period(), Some(Duration::from_secs(1)));
    }

    #[test]
    fn firmware_without_a_sensor_is_a_finding_and_never_zero_watts() {
        for hostile in ["0", "4294967295000000", "", "-1", "n/a"] {
            let (sys, _) = sys(&[("power1_average", hostile)]);
            let found = discover(sys.path());
            assert!(found.meters.is_empty(), "{hostile:?}");
            assert_eq!(found.findings.len(), 1);
        }
        let (sys, _) = sys(&[]);
        assert!(discover(sys.path()).meters.is_empty());
    }

    #[test]
    fn a_meter_without_a_driver_is_a_finding() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join(DEVICE)).unwrap();
        let found = discover(sys.path());
        assert!(
            found.findings[0]
                .advice
                .contains("modprobe acpi_power_meter")
        );
    }

    #[test]
    fn a_poor_meter_says_so() {
        let (sys, _) = sys(&[("power1_average", "9000000"), ("power1_accuracy", "70.0%")]);
        let found = discover(sys.path());
        assert_eq!(found.meters.len(), 1);
        assert!(found.findings[0].what.contains("70 %"));
    }

    #[test]
    fn a_value_that_fails_for_a_while_is_counted_through() {
        let (_sys, folder) = sys(&[
            ("power1_average", "100000000"),
            ("power1_average_interval", "1000"),
        ]);
        let mut meter = AcpiMeter::new(&folder, 0);
        meter.read_by(|| 0).unwrap();
        fs::write(folder.join("power1_average"), "0").unwrap();
        assert!(meter.read_by(|| SECOND).is_err());
        fs::write(folder.join("power1_average"), "100000000").unwrap();
        let reading = meter.read_by(|| 4 * SECOND).unwrap();
        assert_eq!(reading.quality, Quality::Measured);
        assert!(reading.total <= Microjoules(400_000_000));
    }
}
