// SPDX-License-Identifier: Apache-2.0 OR MIT
//! AMD GPUs, by what the kernel's `amdgpu` driver shows in sysfs
//! (`Documentation/gpu/amdgpu/thermal.rst`) and, where ROCm's amd-smi is installed, by their
//! firmware's energy accumulator.
//!
//! A card is counted once: by an energy attribute where it has one, else by its accumulator, else
//! by its power, which the firmware averages and which is integrated over the ticks: a burst
//! between two ticks is then seen only as far as the firmware's mean holds it. The two ways are
//! matched by PCI address; where a card has both, they are held against each other.

mod accumulator;
mod sensor;
mod smi;

use std::path::{Path, PathBuf};

use eco_amdsmi::Options;

pub use self::smi::Prompt;
use self::{sensor::SensorMeter, smi::Accumulators};
use crate::{Finding, Meter, sysfs};

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

impl Card {
    /// The meter's name.
    fn title(&self) -> String {
        format!("{} {}", self.name, self.address)
            .trim_end()
            .to_owned()
    }
}

/// A card that has a meter.
pub struct Gpu {
    /// Which card.
    pub card: Card,
    /// Its meter.
    pub meter: Box<dyn Meter>,
    /// For a meter that is asked: to ask it early, so that the answer is there when it is read.
    pub prompt: Option<Prompt>,
}

/// What a search for AMD GPUs found.
#[derive(Default)]
pub struct Search {
    /// Each card that tells its energy or power.
    pub gpus: Vec<Gpu>,
    /// For the status page and the log.
    pub findings: Vec<Finding>,
}

/// Makes a meter for each AMD card under `sysfs`. The library is opened only where there is one,
/// and tells at that moment which cards it answers for: whatever befalls it later, a card is not
/// counted in another way as well.
#[must_use]
pub fn discover(sysfs: &Path, amdsmi: &Options) -> Search {
    let cards = cards(sysfs);
    let mut search = Search::default();
    if cards.is_empty() {
        return search;
    }
    let mut accumulators = Accumulators::open(amdsmi, &mut search.findings);
    for card in cards {
        match gpu(card, &mut accumulators, &mut search.findings) {
            Ok(gpu) => search.gpus.push(gpu),
            Err(finding) => search.findings.push(finding),
        }
    }
    search
}

/// A card by the best that there is.
fn gpu(
    card: Card,
    accumulators: &mut Accumulators,
    findings: &mut Vec<Finding>,
) -> Result<Gpu, Finding> {
    let by_sensor = match SensorMeter::of(&card) {
        Err(why @ sensor::Without::Power) => return Err(why.finding(&card)),
        Ok(meter) if !meter.integrates() => {
            return Ok(Gpu {
                card,
                meter: Box::new(meter),
                prompt: None,
            });
        }
        other => other,
    };
    if let Some(device) = accumulators.of(&card, findings) {
        let (meter, prompt) = smi::meter(&card, device, by_sensor.ok());
        return Ok(Gpu {
            card,
            meter,
            prompt: Some(prompt),
        });
    }
    match by_sensor {
        Ok(meter) => Ok(Gpu {
            card,
            meter: Box::new(meter),
            prompt: None,
        }),
        Err(why) => Err(why.finding(&card)),
    }
}

fn cards(sysfs: &Path) -> Vec<Card> {
    let all = sysfs::numbered(&sysfs.join("class/drm"), "card").into_iter();
    let of_amd = all.filter_map(|(number, folder)| {
        let folder = folder.join("device");
        (sysfs::text(&folder.join("vendor")).as_deref() == Some(VENDOR)).then(|| Card {
            name: format!("card{number}"),
            address: address(&folder),
            folder,
        })
    });
    of_amd.collect()
}

/// The PCI address that the kernel tells in `uevent`.
fn address(folder: &Path) -> String {
    let text = sysfs::text(&folder.join("uevent")).unwrap_or_default();
    let slot = text
        .lines()
        .find_map(|line| line.strip_prefix("PCI_SLOT_NAME="));
    slot.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Load, Source};

    /// Without amd-smi.
    fn by_kernel(root: &Path) -> Search {
        discover(root, &Options::of(""))
    }

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
        let mut search = by_kernel(root);
        assert!(search.findings.is_empty());
        let gpu = search.gpus.remove(0);
        (gpu.meter, gpu.card)
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
        let search = by_kernel(root.path());
        assert_eq!(search.gpus.len(), 1);
        assert_eq!(search.gpus[0].card.address, "0000:01:00.0");
        let descriptor = search.gpus[0].meter.descriptor();
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
        let search = by_kernel(root.path());
        assert!(search.gpus.is_empty());
        let places: Vec<_> = search.findings.iter().map(|f| &f.place).collect();
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
        assert!(by_kernel(Path::new("/nowhere")).gpus.is_empty());
    }
}
