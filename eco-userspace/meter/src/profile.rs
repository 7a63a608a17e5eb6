// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The model's coefficients for one machine, as `eco calibrate` keeps them.
//!
//! A TOML file that a person can read, written whole or not at all. What is corrupt, of another
//! machine or of a later eco is refused with a reason, never half believed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
};

use serde::{Deserialize, Serialize};

use crate::{
    cpuinfo::{self, CpuInfo},
    model::MOST_WATTS,
};

/// Where the profile is kept unless `model.profile` names another file.
pub const DEFAULT_FILE: &str = "/var/lib/eco/model.toml";

/// The schema that this eco writes and reads.
pub const VERSION: u32 = 1;

/// A profile is under a kilobyte; what is longer than this is none.
const MOST_BYTES: u64 = 65_536;

/// A calibration of the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The schema: [`VERSION`].
    pub version: u32,
    /// When the machine was measured, RFC 3339.
    pub date: String,
    /// The true meter, for people: `rapl-perf: package-0, package-0/dram`.
    pub source: String,
    /// The machine that was measured.
    pub machine: Machine,
    /// What was fitted.
    pub coefficients: Coefficients,
    /// How far the fit was off at steps that it had not seen.
    pub error: FitError,
}

/// What tells one machine from another, as far as its power goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's vendor, numbers and name.
    pub cpu: String,
    /// CPUs online.
    pub cpus: u32,
}

/// `P = idle + busy_cpu · busy CPUs · frequency share + active_core · active cores`, in W.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Coefficients {
    /// W when nothing runs.
    pub idle_watts: f64,
    /// W that a busy CPU adds at its highest frequency.
    pub busy_cpu_watts: f64,
    /// W that a core adds while any of its threads runs.
    pub active_core_watts: f64,
}

/// Leave-one-out error: each step of the load predicted from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FitError {
    /// Mean of the absolute differences, W.
    pub mean_watts: f64,
    /// The same, each as a share of the step's power, in per cent.
    pub mean_percent: f64,
    /// The largest difference, W.
    pub worst_watts: f64,
    /// The largest share, in per cent.
    pub worst_percent: f64,
}

/// Why a profile is not used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none.
    #[error("{path}: there is no such profile")]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is no profile.
    #[error("{path}: not a profile of the model: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A later eco wrote it.
    #[error("{path}: schema {version} is of a later eco; this one reads up to {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        version: i64,
    },
    /// Another machine was measured.
    #[error("{path}: measured on another machine ({theirs}); this one is {ours}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The machine in the file.
        theirs: Machine,
        /// This one.
        ours: Machine,
    },
}

impl Profile {
    /// Reads the profile of `machine`.
    ///
    /// # Errors
    /// When there is none, or it may not be believed here: see [`ProfileError`].
    pub fn read(path: &Path, machine: &Machine) -> Result<Self, ProfileError> {
        let corrupt = |why: String| ProfileError::Corrupt {
            path: path.to_owned(),
            why,
        };
        let text = read_text(path)?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| corrupt(error.message().to_owned()))?;
        // Before anything else is looked at: a later schema may mean other things by its keys.
        let version = table.get("version").and_then(toml::Value::as_integer);
        match version {
            None => return Err(corrupt("it has no `version`".to_owned())),
            Some(version) if version > i64::from(VERSION) => {
                let path = path.to_owned();
                return Err(ProfileError::Newer { path, version });
            }
            Some(version) if version < 1 => return Err(corrupt(format!("version {version}"))),
            Some(_) => {}
        }
        let profile: Self = table
            .try_into()
            .map_err(|error: toml::de::Error| corrupt(error.message().to_owned()))?;
        profile.check().map_err(corrupt)?;
        if profile.machine != *machine {
            return Err(ProfileError::Foreign {
                path: path.to_owned(),
                theirs: profile.machine,
                ours: machine.clone(),
            });
        }
        Ok(profile)
    }

    /// Writes the profile, readable to everyone, in place of any earlier one: whole or not at all.
    ///
    /// # Errors
    /// When its folder cannot be made or written to.
    pub fn write(&self, path: &Path) -> Result<(), ProfileError> {
        let text = toml::to_string(self).map_err(|error| ProfileError::Corrupt {
            path: path.to_owned(),
            why: error.to_string(),
        })?;
        let (mut file, temporary) = open_beside(path)?;
        let written = file
            .write_all(HEAD.as_bytes())
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, path));
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            failed(path, source)
        })
    }

    /// The day of the measurement: `2026-11-25`.
    #[must_use]
    pub fn day(&self) -> String {
        self.date.chars().take(10).collect()
    }

    fn check(&self) -> Result<(), String> {
        let Coefficients {
            idle_watts,
            busy_cpu_watts,
            active_core_watts,
        } = self.coefficients;
        let error = self.error;
        for (key, value) in [
            ("coefficients.idle_watts", idle_watts),
            ("coefficients.busy_cpu_watts", busy_cpu_watts),
            ("coefficients.active_core_watts", active_core_watts),
            ("error.mean_watts", error.mean_watts),
            ("error.worst_watts", error.worst_watts),
        ] {
            if !(0.0..=MOST_WATTS).contains(&value) {
                return Err(format!("{key} = {value} is no power"));
            }
        }
        for (key, value) in [
            ("error.mean_percent", error.mean_percent),
            ("error.worst_percent", error.worst_percent),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{key} = {value} is no share"));
            }
        }
        for (key, text) in [("date", &self.date), ("source", &self.source)] {
            if text.is_empty() || text.len() > 1_024 || text.chars().any(char::is_control) {
                return Err(format!("{key} is empty, too long or no plain text"));
            }
        }
        Ok(())
    }
}

impl Machine {
    /// The machine under `procfs` and `sysfs` (the real ones, or trees like them).
    #[must_use]
    pub fn detect(procfs: &Path, sysfs: &Path) -> Self {
        let bytes = fs::read(procfs.join("cpuinfo")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let cpu = CpuInfo::parse(&text);
        let online = cpuinfo::online(sysfs).unwrap_or(cpu.listed);
        Self {
            cpu: describe(&cpu, model_name(&text)),
            cpus: online.max(1),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} CPUs", self.cpu.escape_debug(), self.cpus)
    }
}

/// Whether a profile could be written there, found out before minutes of load are spent on it.
///
/// # Errors
/// When its folder cannot be made or written to.
pub fn check_writable(path: &Path) -> Result<(), ProfileError> {
    let (_, temporary) = open_beside(path)?;
    fs::remove_file(&temporary).map_err(|source| failed(path, source))
}

const HEAD: &str = "# Written by `eco calibrate`: the power model of this machine.\n\
    # P = idle + busy_cpu * busy CPUs * frequency share + active_core * active cores\n";

/// A new file in the same folder, so that it can be renamed over the profile.
fn open_beside(path: &Path) -> Result<(File, PathBuf), ProfileError> {
    let name = path.file_name().ok_or_else(|| {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "does not name a file");
        failed(path, source)
    })?;
    if path.is_dir() {
        return Err(failed(path, io::ErrorKind::IsADirectory.into()));
    }
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        fs::create_dir_all(folder).map_err(|source| failed(path, source))?;
    }
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}.new", process::id()));
    let temporary = path.with_file_name(temporary);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .map_err(|source| failed(path, source))?;
    Ok((file, temporary))
}

fn read_text(path: &Path) -> Result<String, ProfileError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ProfileError::Absent {
            path: path.to_owned(),
        },
        _ => failed(path, source),
    })?;
    let mut text = String::new();
    let read = file.take(MOST_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= MOST_BYTES => Ok(text),
        Ok(_) => Err(ProfileError::Corrupt {
            path: path.to_owned(),
            why: format!("it is longer than {MOST_BYTES} bytes"),
        }),
        Err(source) if source.kind() == io::ErrorKind::InvalidData => Err(ProfileError::Corrupt {
            path: path.to_owned(),
            why: "it is no UTF-8".to_owned(),
        }),
        Err(source) => Err(failed(path, source)),
    }
}

fn failed(path: &Path, source: io::Error) -> ProfileError {
    ProfileError::Io {
        path: path.to_owned(),
        source,
    }
}

fn describe(cpu: &CpuInfo, name: &str) -> String {
    let numbers = [
        cpu.family.map(|n| format!("family {n}")),
        cpu.model.map(|n| format!("model {n}")),
        cpu.stepping.map(|n| format!("stepping {n}")),
        cpu.implementer.map(|n| format!("implementer {n:#x}")),
        cpu.part.map(|n| format!("part {n:#x}")),
    ];
    let words: Vec<String> = [cpu.vendor.as_str(), name]
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .chain(numbers.into_iter().flatten())
        .collect();
    if words.is_empty() {
        "unknown CPU".to_owned()
    } else {
        words.join(", ")
    }
}

fn model_name(cpuinfo: &str) -> &str {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or("", |(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn profile() -> Profile {
        Profile {
            version: VERSION,
            date: "2026-11-25T05:00:00Z".to_owned(),
            source: "rapl-powercap: package-0".to_owned(),
            machine: machine(4),
            coefficients: Coefficients {
                idle_watts: 20.0,
                busy_cpu_watts: 3.25,
                active_core_watts: 1.5,
            },
            error: FitError {
                mean_watts: 0.25,
                mean_percent: 1.0,
                worst_watts: 0.5,
                worst_percent: 2.0,
            },
        }
    }

    fn machine(cpus: u32) -> Machine {
        Machine {
            cpu: "Some, CPU".to_owned(),
            cpus,
        }
    }

    #[test]
    fn a_profile_that_was_written_is_read_back_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/on/demand/model.toml");
        check_writable(&path).unwrap();
        profile().write(&path).unwrap();
        profile().write(&path).unwrap();
        assert_eq!(Profile::read(&path, &machine(4)).unwrap(), profile());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o444, 0o444, "the agent is not the one who wrote it");
    }

    #[test]
    fn another_machines_profile_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.toml");
        profile().write(&path).unwrap();
        let error = Profile::read(&path, &machine(8)).unwrap_err();
        assert!(matches!(error, ProfileError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("this one is Some, CPU, 8 CPUs"));
    }

    #[test]
    fn a_later_schema_is_refused_whatever_else_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.toml");
        fs::write(&path, "version = 2\ncoefficients = \"elsewhere\"\n").unwrap();
        let error = Profile::read(&path, &machine(4)).unwrap_err();
        assert!(
            matches!(error, ProfileError::Newer { version: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_profile_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.toml");
        assert!(matches!(
            Profile::read(&path, &machine(4)),
            Err(ProfileError::Absent { .. })
        ));
        let good = toml::to_string(&profile()).unwrap();
        let long = format!("{good}#{}\n", "x".repeat(MOST_BYTES as usize));
        let cut = &good[..good.len() / 2];
        for (text, reason) in [
            ("", "version"),
            ("version = \"1\"", "version"),
            ("version = 0", "version 0"),
            ("version = 1", "missing field"),
            ("\0\u{7}", "profile"),
            (cut, "profile"),
            (&good.replace("20.0", "-20.0"), "idle_watts = -20"),
            (&good.replace("20.0", "nan"), "idle_watts = NaN"),
            (&good.replace("3.25", "inf"), "busy_cpu_watts = inf"),
            (&good.replace("3.25", "1e9"), "busy_cpu_watts"),
            (
                &good.replace("mean_percent = 1.0", "mean_percent = -1.0"),
                "no share",
            ),
            (&good.replace("2026-11-25T05:00:00Z", "\\u001b[2J"), "date"),
            (&long, "longer"),
        ] {
            fs::write(&path, text).unwrap();
            let error = Profile::read(&path, &machine(4)).unwrap_err();
            assert!(
                matches!(error, ProfileError::Corrupt { .. }),
                "{text:.80}: {error}"
            );
            assert!(error.to_string().contains(reason), "{text:.80}: {error}");
        }
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        let error = Profile::read(&path, &machine(4)).unwrap_err();
        assert!(error.to_string().contains("UTF-8"), "{error}");
    }

    #[test]
    fn a_place_that_cannot_be_written_is_known_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(check_writable(&file.join("model.toml")).is_err());
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(Path::new("/")).is_err());
    }

    #[test]
    fn machines_are_told_apart_by_what_the_kernel_says_of_them() {
        let root = tempfile::tempdir().unwrap();
        let detect = |cpuinfo: &str| {
            fs::write(root.path().join("cpuinfo"), cpuinfo).unwrap();
            Machine::detect(root.path(), root.path())
        };
        let xeon = detect(
            "processor : 0\nvendor_id : GenuineIntel\nmodel name : Xeon: odd\n\
            model : 85\nprocessor : 1\n",
        );
        assert_eq!(
            xeon.to_string(),
            "GenuineIntel, Xeon: odd, model 85, 2 CPUs"
        );
        let arm = detect("processor : 0\nCPU implementer : 0x41\nCPU part : 0xd0c\n");
        assert_eq!(arm.cpu, "implementer 0x41, part 0xd0c");
        assert_eq!(detect("\u{fffd}").to_string(), "unknown CPU, 1 CPUs");
    }
}
