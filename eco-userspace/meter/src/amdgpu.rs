// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AMD GPUs, by what the kernel's `amdgpu` driver shows in sysfs
//! (`Documentation/gpu/amdgpu/thermal.rst`).
//!
//! By an energy attribute where a card has one, else by its power, which the card's firmware
//! averages and which is integrated over the ticks: a burst between two ticks is then seen only
//! as far as the firmware's mean holds it.

use std::{fs, path::Path, path::PathBuf};

use crate::{
    Descriptor, Domain, Finding, Found, Load, Meter, MeterError, Microjoules, Position, Reading,
    Source, Window, boottime_ns, counter::Counter, integral::Integral, sysfs,
};

/// AMD's PCI vendor id.
const VENDOR: &str = "0x1002";

/// A card and what to read of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// `card0`: the label of its series.
    pub name: String,
    /// Its PCI address, `0000:03:00.0`, as processes' `fdinfo` names it.
    pub address: String,
    /// `<sysfs>/class/drm/card0/device`.
    pub folder: PathBuf,
}

/// What a search for AMD GPUs found.
#[derive(Default)]
pub struct Search {
    /// A meter for each card that tells its energy or power.
    pub found: Found,
    /// The cards of these meters, in their order.
    pub cards: Vec<Card>,
}

/// Makes a meter for each AMD card under `sysfs`.
#[must_use]
pub fn discover(sysfs: &Path) -> Search {
    let mut search = Search::default();
    for (number, folder) in sysfs::numbered(&sysfs.join("class/drm"), "card") {
        let folder = folder.join("device");
        if sysfs::text(&folder.join("vendor")).as_deref() != Some(VENDOR) {
            continue;
        }
        let card = Card {
            name: format!("card{number}"),
            address: address(&folder),
            folder,
        };
        match AmdMeter::of(&card) {
            Ok(meter) => {
                search.found.meters.push(Box::new(meter));
                search.cards.push(card);
            }
            Err(finding) => search.found.findings.push(finding),
        }
    }
    search
}

/// The PCI address that the kernel tells in `uevent`.
fn address(folder: &Path) -> String {
    let text = sysfs::text(&folder.join("uevent")).unwrap_or_default();
    let slot = text
        .lines()
        .find_map(|line| line.strip_prefix("PCI_SLOT_NAME="));
    slot.unwrap_or_default().to_owned()
}

/// How a card tells what it draws.
enum Gauge {
    /// µJ since some moment.
    Energy(Counter),
    /// µW now, or lately.
    Power(Integral),
}

/// The meter of one card.
pub struct AmdMeter {
    descriptor: Descriptor,
    folder: PathBuf,
    file: PathBuf,
    gauge: Gauge,
}

impl AmdMeter {
    /// # Errors
    /// Says why the card has no meter.
    fn of(card: &Card) -> Result<Self, Finding> {
        let without = |what: &str, advice: &str| Finding {
            place: card.name.clone(),
            what: what.into(),
            advice: advice.into(),
        };
        let (file, gauge) = gauge(&card.folder).ok_or_else(|| {
            without(
                "this AMD GPU shows neither energy nor power",
                "see whether its hwmon folder has power1_average or power1_input: newer kernels \
                 show it for more cards",
            )
        })?;
        // No card that is awake draws nothing: the second die of a package whose first counts
        // for both says so (MI250).
        if matches!(gauge, Gauge::Power(_))
            && !is_asleep(&card.folder)
            && sysfs::number(&file) == Some(0)
        {
            return Err(without(
                "this AMD GPU says that it draws 0 W; it is left out",
                "on MI250 the other die of the package counts for both",
            ));
        }
        Ok(Self {
            descriptor: Descriptor {
                name: format!("{} {}", card.name, card.address)
                    .trim_end()
                    .to_owned(),
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
fn is_asleep(folder: &Path) -> bool {
    sysfs::text(&folder.join("power/runtime_status")).as_deref() == Some("suspended")
}

impl Meter for AmdMeter {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A card at `card<number>` with these attributes of its sensors.
    fn card(root: &Path, number: u32, vendor: &str, sensors: &[(&str, &str)]) -> PathBuf {
        let folder = root.join(format!("class/drm/card{number}/device"));
        let chip = folder.join("hwmon/hwmon3");
        fs::create_dir_all(&chip).unwrap();
        fs::create_dir_all(folder.join("power")).unwrap();
        fs::write(folder.join("vendor"), vendor).unwrap();
        let uevent = format!("DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0{number}:00.0\n");
        fs::write(folder.join("uevent"), uevent).unwrap();
        for (name, value) in sensors {
            fs::write(chip.join(name), value).unwrap();
        }
        chip
    }

    fn one(root: &Path) -> (Box<dyn Meter>, Card) {
        let mut search = discover(root);
        assert!(search.found.findings.is_empty());
        (search.found.meters.remove(0), search.cards.remove(0))
    }

    #[test]
    fn only_amds_cards_are_amds() {
        let root = tempfile::tempdir().unwrap();
        card(
            root.path(),
            0,
            "0x8086\n",
            &[("power1_average", "5000000\n")],
        );
        card(
            root.path(),
            1,
            "0x1002\n",
            &[("power1_average", "5000000\n")],
        );
        // The outputs of a card are listed beside it.
        fs::create_dir_all(root.path().join("class/drm/card1-DP-1")).unwrap();
        let search = discover(root.path());
        assert_eq!(search.cards.len(), 1);
        assert_eq!(search.cards[0].address, "0000:01:00.0");
        let descriptor = search.found.meters[0].descriptor();
        assert_eq!(descriptor.name, "card1 0000:01:00.0");
        assert_eq!(descriptor.source, Source::Amdgpu);
    }

    #[test]
    fn an_energy_attribute_is_counted_and_power_is_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        let sensors = [("energy1_input", "7000000\n"), ("power1_average", "1\n")];
        let chip = card(root.path(), 0, "0x1002\n", &sensors);
        let (mut meter, _) = one(root.path());
        assert_eq!(meter.read(&Load::default()).unwrap().total.0, 0);
        fs::write(chip.join("energy1_input"), "7000123\n").unwrap();
        assert_eq!(meter.read(&Load::default()).unwrap().total.0, 123);
        assert_eq!(meter.position().unwrap().raw, 7_000_123);
    }

    #[test]
    fn power_is_integrated_over_the_time_between_two_reads() {
        let root = tempfile::tempdir().unwrap();
        let sensors = [("power1_average", "90000000\n"), ("power1_input", "0\n")];
        card(root.path(), 0, "0x1002\n", &sensors);
        let (mut meter, _) = one(root.path());
        let first = meter.read(&Load::default()).unwrap();
        let last = meter.read(&Load::default()).unwrap();
        let span = last.window.middle_ns() - first.window.middle_ns();
        let truth = (span as f64 * 90.0 / 1e3) as u64;
        assert!(last.total.0.abs_diff(truth) <= 1, "{last:?} {truth}");
        assert_eq!(meter.position(), None);
    }

    #[test]
    fn a_card_that_sleeps_is_not_woken_and_draws_nothing() {
        let root = tempfile::tempdir().unwrap();
        let chip = card(root.path(), 0, "0x1002\n", &[("power1_average", "0\n")]);
        let status = root
            .path()
            .join("class/drm/card0/device/power/runtime_status");
        fs::write(&status, "suspended\n").unwrap();
        let (mut meter, _) = one(root.path());
        fs::remove_file(chip.join("power1_average")).unwrap();
        assert_eq!(meter.read(&Load::default()).unwrap().total.0, 0);
        fs::write(&status, "active\n").unwrap();
        assert!(meter.read(&Load::default()).is_err());
    }

    #[test]
    fn what_is_no_meter_is_said_and_left_out() {
        let root = tempfile::tempdir().unwrap();
        card(root.path(), 0, "0x1002\n", &[]);
        card(root.path(), 1, "0x1002\n", &[("power1_average", "0\n")]);
        let search = discover(root.path());
        assert!(search.found.meters.is_empty());
        let places: Vec<_> = search.found.findings.iter().map(|f| &f.place).collect();
        assert_eq!(places, ["card0", "card1"]);
    }

    #[test]
    fn garbage_is_an_error_and_no_energy() {
        let root = tempfile::tempdir().unwrap();
        let chip = card(
            root.path(),
            0,
            "0x1002\n",
            &[("power1_average", "5000000\n")],
        );
        let (mut meter, _) = one(root.path());
        for garbage in ["", "-1\n", "watts\n", "18446744073709551615\n"] {
            fs::write(chip.join("power1_average"), garbage).unwrap();
            assert!(meter.read(&Load::default()).is_err(), "{garbage:?}");
        }
        assert_eq!(discover(Path::new("/nowhere")).cards, []);
    }
}
