// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Sensor chips through `/sys/class/hwmon`: power in µW, integrated; energy in µJ, counted.

mod chips;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use self::chips::{Kind, Role};
use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Position, Reading,
    Source, Window, boottime_ns,
    counter::Counter,
    integral::{Integral, MOST_MICROWATTS},
    pace::Pace,
    sysfs,
};

/// A chip has at most so many channels of a kind; none has nearly as many.
const MOST_CHANNELS: u32 = 1_024;

/// Finds the power meters among the sensor chips under `sysfs`.
///
/// Never fails: chips that eco does not know become findings.
#[must_use]
pub fn discover(sysfs: &Path) -> Found {
    let mut found = Vec::new();
    let mut findings = Vec::new();
    let mut orders: HashMap<String, usize> = HashMap::new();
    for chip in chips_under(sysfs) {
        let order = orders.entry(chip.name.clone()).or_default();
        let mut unknown = Vec::new();
        for channel in chip.channels() {
            match chips::role(&chip.name, channel.kind, &channel.label, *order) {
                Role::Use(domain, device) => found.push((domain, device, channel)),
                Role::Leave => {}
                Role::Unknown => unknown.push(channel.shown()),
            }
        }
        *order += 1;
        if !unknown.is_empty() {
            findings.push(unknown_chip(&chip, &unknown));
        }
    }
    let meters = choose(found, &mut findings)
        .into_iter()
        .map(|meter| Box::new(meter) as Box<dyn Meter>)
        .collect();
    Found { meters, findings }
}

/// A chip that registered itself.
pub(crate) struct Chip {
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
}

/// All chips under `sysfs`, in the order of their numbers.
pub(crate) fn chips_under(sysfs: &Path) -> Vec<Chip> {
    sysfs::numbered(&sysfs.join("class/hwmon"), "hwmon")
        .into_iter()
        .filter_map(|(_, folder)| {
            // Old drivers keep name and attributes in the device's folder.
            let folder = [folder.clone(), folder.join("device")]
                .into_iter()
                .find(|folder| folder.join("name").is_file())?;
            let name = sysfs::text(&folder.join("name"))?;
            Some(Chip { folder, name })
        })
        .collect()
}

/// One thing that a chip measures.
struct Channel {
    kind: Kind,
    label: String,
    path: PathBuf,
    /// The second factor: the current of a voltage.
    times: Option<PathBuf>,
    /// Where the span of an average is told, in ms.
    interval: Option<PathBuf>,
}

impl Channel {
    fn shown(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        if self.label.is_empty() {
            name.into_owned()
        } else {
            format!("{name} ({})", self.label)
        }
    }
}

impl Chip {
    fn channels(&self) -> Vec<Channel> {
        let mut names: Vec<String> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort_by_key(|name| (name.len(), name.clone()));
        let has = |name: &str| names.iter().any(|known| known == name);
        let mut channels = Vec::new();
        for name in &names {
            let Some((stem, attribute)) = name.split_once('_') else {
                continue;
            };
            let digits = stem.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let number = digits.parse::<u32>().unwrap_or(u32::MAX);
            if number >= MOST_CHANNELS {
                continue;
            }
            let kind = &stem[..stem.len() - digits.len()];
            let channel = |kind, times, interval| Channel {
                kind,
                label: self.label_of(stem),
                path: self.folder.join(name),
                times,
                interval,
            };
            match (kind, attribute) {
                ("energy", "input") => channels.push(channel(Kind::Energy, None, None)),
                // An average covers the time; an instant is only a sample of it.
                ("power", "average") => {
                    let interval = self.folder.join(format!("{stem}_average_interval"));
                    channels.push(channel(Kind::Power, None, Some(interval)));
                }
                ("power", "input") if !has(&format!("{stem}_average")) => {
                    channels.push(channel(Kind::Power, None, None));
                }
                ("in", "input") if has(&format!("curr{number}_input")) => {
                    let times = self.folder.join(format!("curr{number}_input"));
                    channels.push(channel(Kind::Channel, Some(times), None));
                }
                _ => {}
            }
        }
        channels
    }

    /// The channel's label, or the chip's: the board's maker may give either.
    fn label_of(&self, stem: &str) -> String {
        let own = sysfs::text(&self.folder.join(format!("{stem}_label")));
        own.or_else(|| sysfs::text(&self.folder.join("label")))
            .unwrap_or_default()
    }
}

/// Opens what was found, each domain and device once: a counter rather than a sampled power, and
/// the board itself rather than its supplies.
fn choose(
    mut found: Vec<(Domain, String, Channel)>,
    findings: &mut Vec<Finding>,
) -> Vec<HwmonMeter> {
    found.sort_by_key(|(domain, device, channel)| {
        (*domain, device.clone(), channel.kind != Kind::Energy)
    });
    let has_board = found.iter().any(|(_, device, _)| device == "board");
    let mut meters: Vec<HwmonMeter> = Vec::new();
    for (domain, device, channel) in found {
        let repeats = meters
            .iter()
            .any(|meter| meter.descriptor.domain == domain && meter.descriptor.device == device);
        if repeats || (has_board && device.starts_with("psu-")) {
            let what = format!("repeats {domain} of {device}; not used");
            findings.push(Finding::new(channel.path.display(), what, ""));
            continue;
        }
        let descriptor = Descriptor {
            name: device.clone(),
            domain,
            device,
            source: Source::Hwmon,
        };
        let meter = HwmonMeter::new(descriptor, channel);
        // One that opens but cannot be read is no meter: else nothing would stand in for it.
        match meter.sample(&boottime_ns) {
            Ok(_) => meters.push(meter),
            Err(why) => findings.push(Finding::new(
                meter.path.display(),
                format!("cannot be read: {why}"),
                "Start the agent again once it can be read; until then its energy is missing.",
            )),
        }
    }
    meters
}

/// One channel of a chip.
struct HwmonMeter {
    descriptor: Descriptor,
    path: PathBuf,
    times: Option<PathBuf>,
    interval: Option<PathBuf>,
    sum: Sum,
    pace: Pace,
    last: Option<u64>,
}

enum Sum {
    Counted(Counter),
    Integrated(Integral),
}

impl HwmonMeter {
    fn new(descriptor: Descriptor, channel: Channel) -> Self {
        let sum = match channel.kind {
            Kind::Energy => Sum::Counted(Counter::new(0, None)),
            Kind::Power | Kind::Channel => Sum::Integrated(Integral::default()),
        };
        Self {
            descriptor,
            path: channel.path,
            times: channel.times,
            interval: channel.interval,
            sum,
            pace: Pace::default(),
            last: None,
        }
    }

    fn read_by(&mut self, clock: impl Fn() -> u64) -> Result<Reading, MeterError> {
        let (value, window) = self.sample(&clock)?;
        if self.last.replace(value).is_some_and(|last| last != value) {
            self.pace.changed(window.after_ns);
        }
        let (quality, total) = match &mut self.sum {
            Sum::Counted(counter) => {
                let quality = counter.advance(value, window.middle_ns());
                (quality, counter.total())
            }
            Sum::Integrated(integral) => {
                let quality = integral.add(window.middle_ns(), value);
                (quality, integral.total())
            }
        };
        Ok(Reading {
            total: Microjoules(total),
            window,
            quality,
        })
    }

    /// The value in µW or µJ, and the time for which it stands.
    fn sample(&self, clock: &impl Fn() -> u64) -> Result<(u64, Window), MeterError> {
        let before_ns = clock();
        let mut value = sysfs::read(&self.path)?;
        if let Some(times) = &self.times {
            // mV × mA = µW.
            value = value.saturating_mul(sysfs::read(times)?);
        }
        let after_ns = clock();
        if matches!(self.sum, Sum::Integrated(_)) && value > MOST_MICROWATTS {
            return Err(sysfs::garbage(&self.path, value.to_string().as_bytes()));
        }
        let average_ms = self.interval.as_deref().and_then(sysfs::number);
        let average_ns = average_ms.unwrap_or(0).min(60_000) * 1_000_000;
        let window = Window {
            before_ns: before_ns.saturating_sub(average_ns),
            after_ns,
        };
        Ok((value, window))
    }
}

impl Meter for HwmonMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        self.read_by(boottime_ns)
    }

    fn position(&self) -> Option<Position> {
        match &self.sum {
            Sum::Counted(counter) => counter.position(),
            Sum::Integrated(_) => None,
        }
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        match &self.sum {
            Sum::Counted(counter) => counter.counted_since(earlier).map(Microjoules),
            Sum::Integrated(_) => None,
        }
    }

    fn update_period(&self) -> Option<Duration> {
        self.pace.period()
    }
}

fn unknown_chip(chip: &Chip, channels: &[String]) -> Finding {
    let shown = channels
        .iter()
        .take(4)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    Finding::new(
        chip.folder.display(),
        format!(
            "chip {:?} has power meters that eco does not know: {shown}",
            chip.name
        ),
        "If they measure the whole machine or a socket, please report the chip and the board.",
    )
}

#[cfg(test)]
mod tests;
