// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A laptop's battery: while it is being discharged, all that the machine draws comes out of it.
//!
//! (Documentation/ABI/testing/sysfs-class-power: power in µW, current in µA, voltage in µV,
//! energy in µWh.) On mains it tells nothing, and nothing is counted.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Reading, Source,
    boottime_ns, integral::MOST_MICROWATTS, slow::Slow, sysfs,
};

/// µJ in a µWh.
const MICROJOULES_IN_MICROWATT_HOUR: u64 = 3_600;

/// Before so much is out of the battery, its gauge is too coarse to compare with: 2 Wh.
const LEAST_COMPARED: u64 = 2_000_000 * MICROJOULES_IN_MICROWATT_HOUR;

/// The gauge and the power come from one chip; more than this is a fault.
const MOST_DISAGREEMENT: f64 = 0.10;

/// Finds the batteries that the machine under `sysfs` runs on.
#[must_use]
pub fn discover(sysfs: &Path) -> Found {
    let mut found = Found::default();
    let class = sysfs.join("class/power_supply");
    let mut folders: Vec<PathBuf> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| is_the_machines(folder))
        .collect();
    folders.sort();
    for folder in folders {
        let meter = BatteryMeter::new(folder);
        match meter.microwatts() {
            Ok(_) => {
                let what = "counts only while the battery is being discharged";
                let place = meter.folder.display();
                found.findings.push(Finding::new(place, what, ""));
                found.meters.push(Box::new(meter));
            }
            Err(why) => found.findings.push(Finding::new(
                meter.folder.display(),
                format!("the battery tells neither power nor current: {why}"),
                "",
            )),
        }
    }
    found
}

/// A mouse's battery is one too.
fn is_the_machines(folder: &Path) -> bool {
    let is = |file: &str, text: &str| sysfs::text(&folder.join(file)).as_deref() == Some(text);
    is("type", "Battery") && !is("scope", "Device")
}

struct BatteryMeter {
    descriptor: Descriptor,
    folder: PathBuf,
    slow: Slow,
    /// The gauge in µJ, and our total, when the discharge began.
    began: Option<(u64, u64)>,
    disagreement: Option<f64>,
}

impl BatteryMeter {
    fn new(folder: PathBuf) -> Self {
        let device = folder.file_name().unwrap_or_default().to_string_lossy();
        Self {
            descriptor: Descriptor {
                name: device.clone().into_owned(),
                domain: Domain::Board,
                device: device.into_owned(),
                source: Source::Battery,
            },
            folder,
            slow: Slow::new(),
            began: None,
            disagreement: None,
        }
    }

    /// The power that flows, either way.
    fn microwatts(&self) -> Result<u64, MeterError> {
        let path = self.folder.join("power_now");
        let microwatts = if path.exists() {
            magnitude(&path)?
        } else {
            let current = magnitude(&self.folder.join("current_now"))?;
            let voltage = sysfs::read(&self.folder.join("voltage_now"))?;
            // µA × µV = pW.
            let picowatts = u128::from(current) * u128::from(voltage);
            u64::try_from(picowatts / 1_000_000).unwrap_or(u64::MAX)
        };
        if microwatts > MOST_MICROWATTS {
            return Err(sysfs::garbage(&path, microwatts.to_string().as_bytes()));
        }
        Ok(microwatts)
    }

    fn read_by(&mut self, clock: impl Fn() -> u64) -> Result<Reading, MeterError> {
        let status = self.folder.join("status");
        let status = sysfs::text(&status).ok_or(MeterError::Gone { path: status })?;
        let at_ns = clock();
        let microwatts = if status == "Discharging" {
            self.microwatts()?
        } else {
            0
        };
        let quality = if microwatts > 0 {
            let quality = self.slow.observe(at_ns, microwatts);
            self.compare();
            quality
        } else {
            self.slow.pause();
            self.began = None;
            self.slow.standing()
        };
        Ok(Reading {
            total: Microjoules(self.slow.total()),
            window: self.slow.window(),
            quality,
        })
    }

    /// Against the battery's own gauge.
    fn compare(&mut self) {
        let Some(hours) = sysfs::number(&self.folder.join("energy_now")) else {
            return;
        };
        let gauge = hours.saturating_mul(MICROJOULES_IN_MICROWATT_HOUR);
        let (full, base) = *self.began.get_or_insert((gauge, self.slow.total()));
        let out = full.saturating_sub(gauge);
        if out >= LEAST_COMPARED {
            let counted = self.slow.total() - base;
            let difference = counted as f64 / out as f64 - 1.0;
            self.disagreement = Some(difference).filter(|d| d.abs() > MOST_DISAGREEMENT);
        }
    }
}

impl Meter for BatteryMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        self.read_by(boottime_ns)
    }

    fn update_period(&self) -> Option<Duration> {
        self.slow.period()
    }

    fn notes(&self) -> Vec<Finding> {
        let note = self.disagreement.map(|difference| {
            Finding::new(
                self.folder.display(),
                format!(
                    "its power adds up to {:+.0} % of what its gauge lost",
                    100.0 * difference
                ),
                "Batteries age and gauges drift: a full charge and discharge sets the gauge right.",
            )
        });
        note.into_iter().collect()
    }
}

/// A number that some drivers give a sign while discharging.
fn magnitude(path: &Path) -> Result<u64, MeterError> {
    let text = sysfs::text(path);
    let negative = text.as_deref().and_then(|text| text.strip_prefix('-'));
    match negative.and_then(|digits| digits.parse().ok()) {
        Some(magnitude) => Ok(magnitude),
        None => sysfs::read(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Quality;

    const SECOND: u64 = 1_000_000_000;

    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn supply(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
            let folder = self.0.path().join("class/power_supply").join(name);
            fs::create_dir_all(&folder).unwrap();
            for (file, text) in files {
                fs::write(folder.join(file), format!("{text}\n")).unwrap();
            }
            folder
        }
    }

    fn set(folder: &Path, file: &str, text: &str) {
        fs::write(folder.join(file), text).unwrap();
    }

    /// Reads once a second, the power going up and down by a watt every second.
    fn run(meter: &mut BatteryMeter, seconds: std::ops::Range<u64>) -> Reading {
        let mut last = None;
        for second in seconds {
            let watts = if second % 2 == 0 {
                9_000_000
            } else {
                11_000_000
            };
            set(&meter.folder, "power_now", &watts.to_string());
            last = Some(meter.read_by(|| second * SECOND).unwrap());
        }
        last.unwrap()
    }

    #[test]
    fn only_the_machines_own_battery_is_a_meter() {
        let sys = Sys::new();
        sys.supply("AC", &[("type", "Mains"), ("online", "1")]);
        sys.supply("BAT0", &[("type", "Battery"), ("power_now", "9000000")]);
        sys.supply(
            "mouse",
            &[("type", "Battery"), ("scope", "Device"), ("power_now", "1")],
        );
        sys.supply("BAT1", &[("type", "Battery")]);
        let found = discover(sys.0.path());
        assert_eq!(found.meters.len(), 1);
        assert_eq!(found.meters[0].descriptor().device, "BAT0");
        assert!(
            found
                .findings
                .iter()
                .any(|f| f.what.contains("neither power"))
        );
    }

    #[test]
    fn on_mains_nothing_is_counted() {
        let sys = Sys::new();
        let folder = sys.supply("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        let mut meter = BatteryMeter::new(folder.clone());
        let discharged = run(&mut meter, 0..60).total;
        let joules = discharged.joules().0;
        assert!((joules / 590.0 - 1.0).abs() < 0.04, "{joules}");
        set(&folder, "status", "Charging");
        let charging = run(&mut meter, 60..120);
        assert_eq!(charging.total, discharged);
        assert!(matches!(charging.quality, Quality::Still(_)));
        set(&folder, "status", "Discharging");
        let again = meter.read_by(|| 120 * SECOND).unwrap();
        assert_eq!(again.quality, Quality::Reset, "the time on mains is a gap");
        assert_eq!(again.total, discharged);
        assert!(run(&mut meter, 121..130).total > discharged);
    }

    #[test]
    fn current_times_voltage_is_power_and_a_sign_is_only_a_direction() {
        let sys = Sys::new();
        let files = [("current_now", "-1500000"), ("voltage_now", "12000000")];
        let folder = sys.supply("BAT0", &files);
        let meter = BatteryMeter::new(folder.clone());
        assert_eq!(meter.microwatts().unwrap(), 18_000_000);
        for hostile in ["", "--1", "18446744073709551615", "x"] {
            set(&folder, "current_now", hostile);
            assert!(meter.microwatts().is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn a_gauge_that_disagrees_is_noted() {
        let sys = Sys::new();
        let folder = sys.supply("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        let mut meter = BatteryMeter::new(folder.clone());
        set(&folder, "energy_now", "50000000");
        run(&mut meter, 0..1_000);
        assert_eq!(meter.notes(), []);
        // 10 kJ were counted; the gauge lost 5 Wh, which is 18 kJ.
        set(&folder, "energy_now", "45000000");
        run(&mut meter, 1_000..1_002);
        assert!(meter.notes()[0].what.contains('%'));
    }
}
