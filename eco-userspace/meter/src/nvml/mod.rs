// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVIDIA GPUs, as their driver counts.
//!
//! By the GPU's own energy counter where it has one (from Volta on), else by the driver's buffer
//! of power samples, integrated. The calls are made by the GPU's own thread ([`eco_nvml`]); a
//! meter takes the answer that its device was last turned to, and never waits.

mod hardware;

use std::{path::Path, time::Instant};

use eco_nvml::{Counted, Device, Driver, Energy, LIBRARY, OpenError, Options};

use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Position, Quality,
    Reading, Source, Window, counter::Counter,
};

/// What a search for NVIDIA GPUs found.
#[derive(Default)]
pub struct Search {
    /// A meter for each GPU.
    pub found: Found,
    /// The devices that these meters read, in their order: whoever ticks turns them, and learns
    /// from them who used the GPU.
    pub devices: Vec<Device>,
}

/// Opens the driver and makes a meter for each of its GPUs, also for one that cannot be reached
/// now.
///
/// Where there is no driver, that is worth a finding only if something looks like an NVIDIA GPU:
/// a PCI display device of theirs under `sysfs`, or their device files.
#[must_use]
pub fn discover(options: &Options, sysfs: &Path) -> Search {
    let driver = match Driver::open(options) {
        Ok(driver) => driver,
        Err(why) => return without_driver(&why, options, sysfs),
    };
    let mut search = Search::default();
    for device in driver.devices {
        // The driver has had its time to say who they are.
        let identity = device.identity(Instant::now()).unwrap_or_default();
        let index = search.devices.len() as u32;
        let findings = identity.oddities.iter().map(|what| Finding {
            place: format!("gpu-{index}"),
            what: what.clone(),
            advice: String::new(),
        });
        search.found.findings.extend(findings);
        let meter = NvmlMeter::new(index, identity.uuid.as_deref(), device.clone());
        search.found.meters.push(Box::new(meter));
        search.devices.push(device);
    }
    if search.devices.is_empty() && hardware::is_there(sysfs) {
        search.found.findings.push(Finding {
            place: "nvml".into(),
            what: "there is an NVIDIA device, but the driver shows no GPU".into(),
            advice: "look into dmesg for Xid errors, and whether nvidia-smi shows it".into(),
        });
    }
    search
}

fn without_driver(why: &OpenError, options: &Options, sysfs: &Path) -> Search {
    let mut search = Search::default();
    let was_named = options.library != LIBRARY;
    if was_named || hardware::is_there(sysfs) {
        search.found.findings.push(Finding {
            place: "nvml".into(),
            what: why.to_string(),
            advice: why.advice().into(),
        });
    }
    search
}

/// The meter of one GPU.
pub struct NvmlMeter {
    descriptor: Descriptor,
    device: Device,
    counter: Counter,
    /// Whether the counter was ever read.
    counts: bool,
    /// From the driver's samples, in µJ.
    sampled: u64,
    /// Answers in a row without a new sample.
    still: u32,
}

impl NvmlMeter {
    fn new(index: u32, uuid: Option<&str>, device: Device) -> Self {
        let name = uuid.map_or_else(
            || format!("gpu-{index}"),
            |uuid| format!("gpu-{index} {uuid}"),
        );
        Self {
            descriptor: Descriptor {
                name,
                domain: Domain::Gpu,
                device: index.to_string(),
                source: Source::Nvml,
            },
            device,
            // In 64 bits of mJ no GPU wraps.
            counter: Counter::new(0, None),
            counts: false,
            sampled: 0,
            still: 0,
        }
    }

    fn take(&mut self, energy: Energy) -> Result<Reading, MeterError> {
        let window = Window {
            before_ns: energy.before_ns,
            after_ns: energy.after_ns,
        };
        let quality = match energy.counted {
            Counted::SinceLoad(millijoules) => {
                let raw = millijoules
                    .checked_mul(1000)
                    .ok_or_else(|| self.no_answer(format!("{millijoules} mJ is no energy")))?;
                self.counts = true;
                self.counter.advance(raw, window.middle_ns())
            }
            Counted::Sampled(integral) => {
                self.sampled = self.sampled.saturating_add(integral.microjoules);
                self.still = if integral.microjoules > 0 {
                    0
                } else {
                    self.still.saturating_add(1)
                };
                match (integral.gap, self.still) {
                    (true, _) => Quality::Reset,
                    (false, 0) => Quality::Measured,
                    (false, still) => Quality::Still(still),
                }
            }
        };
        Ok(Reading {
            total: Microjoules(self.counter.total().saturating_add(self.sampled)),
            window,
            quality,
        })
    }

    /// The name without the UUID, which only makes a sentence long.
    fn place(&self) -> String {
        format!("gpu-{}", self.descriptor.device)
    }

    fn no_answer(&self, why: String) -> MeterError {
        MeterError::NoAnswer {
            place: self.place(),
            why,
        }
    }

    fn late(&self) -> MeterError {
        self.no_answer(match self.device.waiting() {
            Some(waited) => format!(
                "the driver hangs: no answer for {} ms; what the GPU draws is counted when it \
                 comes. Look into dmesg for Xid errors if this lasts",
                waited.as_millis()
            ),
            None => "the driver has not been asked yet".into(),
        })
    }
}

impl Meter for NvmlMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _: &Load) -> Result<Reading, MeterError> {
        match self.device.energy() {
            Some(Ok(energy)) => self.take(energy),
            Some(Err(why)) => Err(self.no_answer(why.to_string())),
            None => Err(self.late()),
        }
    }

    /// The driver's counter lives as long as the driver: often longer than this process.
    fn position(&self) -> Option<Position> {
        self.counter.position().filter(|_| self.counts)
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        self.counter.counted_since(earlier).map(Microjoules)
    }

    fn notes(&self) -> Vec<Finding> {
        let note = (self.sampled > 0).then(|| Finding {
            place: self.place(),
            what: "this GPU has no energy counter: the driver's samples of its power are \
                   integrated"
                .into(),
            advice: String::new(),
        });
        note.into_iter().collect()
    }
}
