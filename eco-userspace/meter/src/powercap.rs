// SPDX-License-Identifier: Apache-2.0 OR MIT
//! RAPL through `/sys/class/powercap`: Intel, and AMD, which uses the same driver.

mod zones;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    Descriptor, Finding, Found, Load, Meter, MeterError, Microjoules, Position, Quality, Reading,
    Window, boottime_ns, counter::Counter, sysfs,
};

/// Longer than any `u64` and its newline: a file that fills this is no counter.
const BUFFER_BYTES: usize = 64;

/// Finds the RAPL meters of all sockets under `sysfs` (the real `/sys`, or a tree like it).
///
/// Never fails: what is missing, unreadable or odd becomes a [`Finding`]. No meters is normal in
/// a virtual machine.
#[must_use]
pub fn discover(sysfs: &Path) -> Found {
    let (meters, findings) = open_all(sysfs);
    let meters = meters
        .into_iter()
        .map(|meter| Box::new(meter) as Box<dyn Meter>)
        .collect();
    Found { meters, findings }
}

fn open_all(sysfs: &Path) -> (Vec<PowercapMeter>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut meters: Vec<PowercapMeter> = Vec::new();
    for zone in zones::scan(&sysfs.join("class/powercap"), &mut findings) {
        let counter = Counter::new(zone.range, zone.rated_watts);
        meters.push(PowercapMeter {
            descriptor: zone.descriptor,
            path: zone.counter_path,
            file: Some(zone.counter_file),
            counter,
        });
    }
    (meters, findings)
}

/// One zone's `energy_uj`.
#[derive(Debug)]
struct PowercapMeter {
    descriptor: Descriptor,
    path: PathBuf,
    file: Option<File>,
    counter: Counter,
}

impl Meter for PowercapMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        self.read_by(boottime_ns)
    }

    fn position(&self) -> Option<Position> {
        self.counter.position()
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        self.counter.counted_since(earlier).map(Microjoules)
    }
}

impl PowercapMeter {
    fn read_by(&mut self, clock: impl Fn() -> u64) -> Result<Reading, MeterError> {
        let (mut raw, mut window) = self.sample(&clock)?;
        if self.counter.stands_at(raw) {
            // The zone may have been replaced (a driver reloaded, a file renamed over): the old
            // file would tell its last value for ever.
            self.file = None;
            (raw, window) = self.sample(&clock)?;
        }
        let quality: Quality = self.counter.advance(raw, window.middle_ns());
        Ok(Reading {
            total: Microjoules(self.counter.total()),
            window,
            quality,
        })
    }

    /// The raw value, and when it was read. Opens the file anew if the old one is gone.
    fn sample(&mut self, clock: impl Fn() -> u64) -> Result<(u64, Window), MeterError> {
        let mut buffer = [0; BUFFER_BYTES];
        let kept = self.file.take();
        let was_kept = kept.is_some();
        let mut file = kept.map_or_else(|| self.open(), Ok)?;
        let mut before_ns = clock();
        let mut outcome = file.read_at(&mut buffer, 0);
        if was_kept && !matches!(outcome, Ok(1..)) {
            file = self.open()?;
            before_ns = clock();
            outcome = file.read_at(&mut buffer, 0);
        }
        let after_ns = clock();
        let length = outcome.map_err(|error| sysfs::failed(&self.path, error))?;
        let text = &buffer[..length];
        let raw = parse(text)
            .filter(|raw| self.counter.holds(*raw))
            .ok_or_else(|| {
                let text = String::from_utf8_lossy(text).trim_end().to_owned();
                MeterError::Garbage {
                    path: self.path.clone(),
                    text,
                }
            })?;
        self.file = Some(file);
        Ok((
            raw,
            Window {
                before_ns,
                after_ns,
            },
        ))
    }

    fn open(&self) -> Result<File, MeterError> {
        File::open(&self.path).map_err(|error| sysfs::failed(&self.path, error))
    }
}

/// A decimal `u64` with white space around it, and nothing else: no sign, no unit.
fn parse(text: &[u8]) -> Option<u64> {
    if text.len() == BUFFER_BYTES {
        return None;
    }
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
