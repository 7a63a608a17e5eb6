// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel's driver shows of one card: an energy attribute, or a power to integrate.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Card;
use crate::{
    Descriptor, Domain, Finding, Load, Meter, MeterError, Microjoules, Position, Reading, Source,
    Window, boottime_ns, counter::Counter, integral::Integral, sysfs,
};

/// How a card tells what it draws.
enum Gauge {
    /// µJ since some moment.
    Energy(Counter),
    /// µW now, or lately.
    Power(Integral),
}

/// The meter of one card.
pub(super) struct SensorMeter {
    descriptor: Descriptor,
    folder: PathBuf,
    file: PathBuf,
    gauge: Gauge,
}

impl SensorMeter {
    /// Whether it integrates a power: the card has no counter that the kernel shows.
    pub(super) fn integrates(&self) -> bool {
        matches!(self.gauge, Gauge::Power(_))
    }

    /// # Errors
    /// Says why the card has no meter.
    pub(super) fn of(card: &Card) -> Result<Self, Without> {
        let (file, gauge) = gauge(&card.folder).ok_or(Without::Sensors)?;
        // No card that is awake draws nothing: the second die of a package whose first counts
        // for both says so (MI250).
        if matches!(gauge, Gauge::Power(_))
            && !is_asleep(&card.folder)
            && sysfs::number(&file) == Some(0)
        {
            return Err(Without::Power);
        }
        Ok(Self {
            descriptor: Descriptor {
                name: card.title(),
                domain: Domain::Gpu,
                device: card.name.clone(),
                source: Source::Amdgpu,
            },
            folder: card.folder.clone(),
            file,
            gauge,
        })
    }
}

/// Why a card has no meter by its sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// It has none.
    Sensors,
    /// They say that it draws nothing.
    Power,
}

impl Without {
    /// For people.
    pub(super) fn finding(self, card: &Card) -> Finding {
        let (what, advice) = match self {
            Self::Sensors => (
                "this AMD GPU shows neither energy nor power",
                "see whether its hwmon folder has power1_average or power1_input: newer kernels \
                 show it for more cards",
            ),
            Self::Power => (
                "this AMD GPU says that it draws 0 W; it is left out",
                "on MI250 the other die of the package counts for both",
            ),
        };
        Finding::new(&card.name, what, advice)
    }
}

fn gauge(folder: &Path) -> Option<(PathBuf, Gauge)> {
    let chips = sysfs::numbered(&folder.join("hwmon"), "hwmon");
    let find =
        |wanted: &dyn Fn(&Path) -> Option<PathBuf>| chips.iter().find_map(|(_, chip)| wanted(chip));
    let energy = |chip: &Path| {
        let mut files = fs::read_dir(chip).ok()?.flatten().map(|entry| entry.path());
        files.find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("energy") && name.ends_with("_input")
        })
    };
    if let Some(file) = find(&energy) {
        return Some((file, Gauge::Energy(Counter::new(0, None))));
    }
    // The mean first: a value of this very moment says little of the time around it.
    for name in ["power1_average", "power1_input"] {
        let named = |chip: &Path| Some(chip.join(name)).filter(|path| path.exists());
        if let Some(file) = find(&named) {
            return Some((file, Gauge::Power(Integral::default())));
        }
    }
    None
}

/// Whether the kernel has switched the card off. Reading its sensors would wake it on some
/// kernels, and fail on others.
pub(super) fn is_asleep(folder: &Path) -> bool {
    sysfs::text(&folder.join("power/runtime_status")).as_deref() == Some("suspended")
}

impl Meter for SensorMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _: &Load) -> Result<Reading, MeterError> {
        let before_ns = boottime_ns();
        let value = match &self.gauge {
            Gauge::Power(_) if is_asleep(&self.folder) => 0,
            _ => sysfs::read(&self.file)?,
        };
        let window = Window {
            before_ns,
            after_ns: boottime_ns(),
        };
        let (total, quality) = match &mut self.gauge {
            Gauge::Energy(counter) => {
                let quality = counter.advance(value, window.middle_ns());
                (counter.total(), quality)
            }
            Gauge::Power(integral) => {
                if value > crate::integral::MOST_MICROWATTS {
                    return Err(sysfs::garbage(&self.file, value.to_string().as_bytes()));
                }
                let quality = integral.add(window.middle_ns(), value);
                (integral.total(), quality)
            }
        };
        Ok(Reading {
            total: Microjoules(total),
            window,
            quality,
        })
    }

    fn position(&self) -> Option<Position> {
        match &self.gauge {
            Gauge::Energy(counter) => counter.position(),
            Gauge::Power(_) => None,
        }
    }

    fn counted_since(&self, earlier: &Position) -> Option<Microjoules> {
        match &self.gauge {
            Gauge::Energy(counter) => counter.counted_since(earlier).map(Microjoules),
            Gauge::Power(_) => None,
        }
    }
}
