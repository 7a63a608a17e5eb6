// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One meter of the tree: its files, and how what goes through it becomes what it shows.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, symlink},
    path::{Path, PathBuf},
};

use super::scenario::{Attribute, Chip, Zone};

/// Where powercap is below a `/sys`.
const POWERCAP: &str = "class/powercap";

/// A meter's files. Their folder can go and come back.
pub(super) struct Gauge {
    /// `package-0/dram`.
    pub(super) name: String,
    /// The zone that this one is below of.
    pub(super) parent: Option<usize>,
    pub(super) shows: Shows,
    /// `None` while it is gone.
    file: Option<File>,
    /// `None`: nothing of it is in the tree.
    folder: Option<PathBuf>,
    /// A class lists zones side by side, whatever they are below of.
    listed: Option<Listed>,
    fixed: Vec<(&'static str, String)>,
    moving: &'static str,
}

/// A link in the class.
struct Listed {
    at: PathBuf,
    to: PathBuf,
}

/// How a meter shows what goes through it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shows {
    /// A counter that wraps.
    Counter { range_uj: u64, first_uj: u64 },
    /// A counter without an end.
    Energy { period_ns: u64 },
    /// The mean since it looked last.
    Power { period_ns: u64 },
}

impl Gauge {
    /// All zones below `sysfs`, parents before their children.
    pub(super) fn zones(sysfs: &Path, zones: &[Zone]) -> Vec<Self> {
        let mut gauges = Vec::new();
        for (number, zone) in zones.iter().enumerate() {
            let id = format!("intel-rapl:{number}");
            Self::add_zone(sysfs, zone, None, &id, &mut gauges);
        }
        gauges
    }

    fn add_zone(sysfs: &Path, zone: &Zone, parent: Option<usize>, id: &str, all: &mut Vec<Self>) {
        let class = sysfs.join(POWERCAP);
        let above = parent.and_then(|at| all.get(at));
        let name = above.map_or_else(
            || zone.name.clone(),
            |above| format!("{}/{}", above.name, zone.name),
        );
        let above = above.and_then(|above| above.folder.as_deref());
        let folder = above.unwrap_or(&class).join(id);
        let listed = parent.is_some().then(|| Listed {
            at: class.join(id),
            to: folder.strip_prefix(&class).unwrap_or(&folder).to_owned(),
        });
        let gauge = Self {
            name,
            parent,
            shows: Shows::Counter {
                range_uj: zone.range_uj,
                first_uj: zone.first_uj,
            },
            file: None,
            folder: Some(folder),
            listed,
            fixed: vec![
                ("name", zone.name.clone()),
                ("enabled", "1".to_owned()),
                ("max_energy_range_uj", zone.range_uj.to_string()),
            ],
            moving: "energy_uj",
        };
        let at = all.len();
        all.push(gauge);
        for (number, below) in zone.zone.iter().enumerate() {
            Self::add_zone(sysfs, below, Some(at), &format!("{id}:{number}"), all);
        }
    }

    /// The chip of this number.
    pub(super) fn chip(sysfs: &Path, number: usize, chip: &Chip) -> Self {
        let period_ns = chip.period_ms.saturating_mul(1_000_000);
        let (moving, label, shows) = match chip.attribute {
            Attribute::Energy => (
                "energy1_input",
                "energy1_label",
                Shows::Energy { period_ns },
            ),
            Attribute::Power => ("power1_input", "power1_label", Shows::Power { period_ns }),
        };
        let mut fixed = vec![("name", chip.name.clone())];
        fixed.extend(chip.label.clone().map(|text| (label, text)));
        Self {
            name: chip.name.clone(),
            parent: None,
            shows,
            file: None,
            folder: Some(sysfs.join(format!("class/hwmon/hwmon{number}"))),
            listed: None,
            fixed,
            moving,
        }
    }

    /// A meter that is asked over the network.
    pub(super) fn remote(name: &str, period_ns: u64) -> Self {
        Self {
            name: name.to_owned(),
            parent: None,
            shows: Shows::Power { period_ns },
            file: None,
            folder: None,
            listed: None,
            fixed: Vec::new(),
            moving: "",
        }
    }

    /// Puts the files there, showing `value`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn appear(&mut self, value: u64) -> io::Result<()> {
        let Some(folder) = self.folder.as_deref().filter(|_| self.file.is_none()) else {
            return Ok(());
        };
        // Complete before it can be seen.
        let coming = hidden(folder);
        fs::create_dir_all(&coming)?;
        for (name, text) in &self.fixed {
            fs::write(coming.join(name), format!("{text}\n"))?;
        }
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(coming.join(self.moving))?;
        write(&file, value)?;
        fs::rename(&coming, folder)?;
        self.file = Some(file);
        match &self.listed {
            Some(listed) => symlink(&listed.to, &listed.at),
            None => Ok(()),
        }
    }

    /// Takes the files away, with all that is below them.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn vanish(&mut self) -> io::Result<()> {
        let Some(folder) = self.folder.as_deref().filter(|_| self.file.is_some()) else {
            return Ok(());
        };
        self.file = None;
        if let Some(listed) = &self.listed {
            fs::remove_file(&listed.at)?;
        }
        // Gone at once, not file by file.
        let going = hidden(folder);
        fs::rename(folder, &going)?;
        fs::remove_dir_all(going)
    }

    /// Shows `value`, if it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn show(&self, value: u64) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| write(file, value))
    }
}

/// Always as wide: a reader never sees half of an old and half of a new length.
fn write(file: &File, value: u64) -> io::Result<()> {
    file.write_all_at(format!("{value:<20}\n").as_bytes(), 0)
}

/// Where it is made, and where it goes: nobody looks there.
fn hidden(folder: &Path) -> PathBuf {
    let name = folder.file_name().unwrap_or_default();
    folder.with_file_name(format!(".{}", name.to_string_lossy()))
}
