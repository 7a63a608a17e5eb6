// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Cards whose energy accumulator amd-smi tells.

use std::{path::PathBuf, time::Instant};

use eco_amdsmi::{Device, Driver, LIBRARY, OpenError, Options, Trouble};

use super::{
    Card,
    accumulator::Accumulator,
    sensor::{SensorMeter, is_asleep},
};
use crate::{
    Descriptor, Domain, Finding, Load, Meter, MeterError, Microjoules, Position, Quality, Reading,
    Source, Window,
    crosscheck::{CrossChecked, Tolerance},
};

/// The place of findings that are about the library.
const PLACE: &str = "amd-smi";

/// A mean of the firmware's, integrated over ticks, misses a part of a load in bursts; an
/// accumulator that is out by more than this stands still, or counts in another unit.
const AGREES: Tolerance = Tolerance {
    share: 0.25,
    advice: "If the card's own power is right, go by that: set amdsmi.library to nothing. On \
             MI100 the accumulator stands still until the machine starts anew (ROCm/amdsmi, \
             issue 38)",
};

/// The GPUs that amd-smi shows, which no card has claimed yet.
#[derive(Default)]
pub(super) struct Accumulators {
    /// Whether the library runs.
    is_open: bool,
    devices: Vec<Device>,
}

impl Accumulators {
    /// Opens the library. Where it is not installed, and nobody named it, that is a note without
    /// advice: few cards but Instinct have an accumulator.
    pub(super) fn open(options: &Options, findings: &mut Vec<Finding>) -> Self {
        match Driver::open(options) {
            Ok(driver) => Self {
                is_open: true,
                devices: driver.devices,
            },
            Err(OpenError::Unwanted) => Self::default(),
            Err(OpenError::NoLibrary { .. }) if options.library == LIBRARY => {
                findings.push(Finding::new(
                    PLACE,
                    "is not installed: the power of AMD GPUs is integrated over the ticks",
                    "",
                ));
                Self::default()
            }
            Err(why) => {
                findings.push(Finding::new(PLACE, why.to_string(), why.advice()));
                Self::default()
            }
        }
    }

    /// The device at a card's address, if it tells its energy. The first one: the parts of a GPU
    /// that is partitioned have its address too, and the accumulator is one.
    pub(super) fn of(&mut self, card: &Card, findings: &mut Vec<Finding>) -> Option<Device> {
        if !self.is_open {
            return None;
        }
        let mut hang = 0;
        let mut found = None;
        for (at, device) in self.devices.iter().enumerate() {
            // They have had their time to say who they are.
            match device.identity(Instant::now()) {
                None => hang += 1,
                Some(told) if told.address.as_ref() == Ok(&card.address) => {
                    found = Some((at, told.energy));
                    break;
                }
                Some(_) => {}
            }
        }
        let mut without = |what: String, advice: &str| {
            let what = format!("{what}: its power is integrated over the ticks");
            findings.push(Finding::new(&card.name, what, advice));
        };
        match found {
            Some((at, Ok(_))) => return Some(self.devices.remove(at)),
            Some((_, Err(why @ Trouble::Untold))) => without(why.to_string(), ""),
            Some((_, Err(why))) => without(why.to_string(), "See whether `amd-smi metric -E` does"),
            None if hang > 0 => without(
                "amd-smi hangs".into(),
                "Start eco-agent again when `amd-smi list` answers",
            ),
            None => without("amd-smi does not show this GPU".into(), ""),
        }
        None
    }
}

/// The meter of a card that tells its energy; held against its sensor where it has one.
pub(super) fn meter(
    card: &Card,
    device: Device,
    sensor: Option<SensorMeter>,
) -> (Box<dyn Meter>, Prompt) {
    let prompt = Prompt {
        folder: card.folder.clone(),
        device: device.clone(),
    };
    let main = Box::new(SmiMeter {
        descriptor: Descriptor {
            name: card.title(),
            domain: Domain::Gpu,
            device: card.name.clone(),
            source: Source::AmdSmi,
        },
        folder: card.folder.clone(),
        device,
        accumulator: None,
        window: None,
    });
    match sensor {
        Some(second) => {
            let both = CrossChecked::within(AGREES, main, Box::new(second));
            (Box::new(both), prompt)
        }
        None => (main, prompt),
    }
}

/// Asks for the energy of a card before its meter is read.
pub struct Prompt {
    folder: PathBuf,
    device: Device,
}

impl Prompt {
    /// Says that the meter will be read soon. Does not wait, and wakes no card that sleeps.
    pub fn ask(&self) {
        if !is_asleep(&self.folder) {
            self.device.ask();
        }
    }

    /// How often the library did not answer in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.device.late()
    }
}

struct SmiMeter {
    descriptor: Descriptor,
    folder: PathBuf,
    device: Device,
    /// Once it was read.
    accumulator: Option<Accumulator>,
    /// Of the last answer.
    window: Option<Window>,
}

impl SmiMeter {
    fn no_answer(&self, why: String) -> MeterError {
        MeterError::NoAnswer {
            place: self.descriptor.device.clone(),
            why,
        }
    }

    fn total(&self) -> Microjoules {
        Microjoules(self.accumulator.as_ref().map_or(0, Accumulator::total))
    }
}

impl Meter for SmiMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _: &Load) -> Result<Reading, MeterError> {
        // A card that sleeps draws next to nothing, and would be woken; what it does draw is in
        // the accumulator when it wakes.
        if let Some(window) = self.window.filter(|_| is_asleep(&self.folder)) {
            return Ok(Reading {
                total: self.total(),
                window,
                quality: Quality::Still(0),
            });
        }
        let answer = self.device.take().map_err(|late| {
            self.no_answer(format!(
                "amd-smi hangs: no answer for {} ms; what the GPU draws is counted when it comes",
                late.waited.as_millis()
            ))
        })?;
        let energy = answer.map_err(|why| self.no_answer(why.to_string()))?;
        let microjoules = energy.unit.microjoules(energy.counts);
        let microjoules = microjoules
            .ok_or_else(|| self.no_answer(format!("{} counts are no energy", energy.counts)))?;
        let window = Window {
            before_ns: energy.before_ns,
            after_ns: energy.after_ns,
        };
        self.window = Some(window);
        let accumulator = self
            .accumulator
            .get_or_insert_with(|| Accumulator::new(energy.unit));
        let quality = accumulator.advance(energy.counts, microjoules, window.middle_ns());
        Ok(Reading {
            total: self.total(),
            window,
            quality,
        })
    }

    /// The accumulator lives as long as the firmware: longer than this process.
    fn position(&self) -> Option<Position> {
        self.accumulator.as_ref()?.position()
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        let counted = self.accumulator.as_ref()?.counted_since(earlier)?;
        Some(Microjoules(counted))
    }
}
