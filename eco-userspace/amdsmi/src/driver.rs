// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The library as a whole: finding and loading it, and its GPUs.

use std::{
    ffi::{OsStr, OsString},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use eco_driver::Device;

use crate::{
    gpu::Gpu,
    library::{Library, LoadError, Processor, Status},
};

/// The name under which ROCm's packages install the library.
pub const LIBRARY: &str = "libamd_smi.so";

/// Where else it is, if the loader does not know that name: ROCm's own folder, and the names that
/// a distribution's packages without headers have.
const ELSEWHERE: [&str; 4] = [
    "/opt/rocm/lib/libamd_smi.so",
    "libamd_smi.so.26",
    "libamd_smi.so.25",
    "libamd_smi.so.24",
];

/// Before this one its values stood still after the first call (ROCm/amdsmi, issue 22). The first
/// number of a version is the year up to 24 (ROCm 6.1 to 6.3), and goes on from there.
const OLDEST: u32 = 24;

/// How to open the library.
#[derive(Clone, Debug)]
pub struct Options {
    /// The library: a path, or a name that the loader looks up. Empty: it is not looked for.
    pub library: OsString,
    /// How long an answer is waited for. Asking the firmware for its metrics takes a millisecond
    /// or a few, and the library keeps other programs out of the same device meanwhile.
    pub deadline: Duration,
    /// How long the library may take to find its GPUs.
    pub patience: Duration,
    /// Done first by every thread that will make calls: to give up privileges.
    pub on_thread: Option<fn()>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            library: LIBRARY.into(),
            deadline: Duration::from_millis(100),
            patience: Duration::from_secs(10),
            on_thread: None,
        }
    }
}

/// A library that runs.
pub struct Driver {
    /// Its version, where it tells one: `25.3.0`.
    pub version: Option<String>,
    /// Its GPUs, in its own order.
    pub devices: Vec<crate::Device>,
}

/// Why there is no library to ask.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not to be looked for.
    #[error("amd-smi is not looked for")]
    Unwanted,
    /// It is not installed.
    #[error("{library}: {why}")]
    NoLibrary {
        /// What was looked for.
        library: String,
        /// What the loader said.
        why: String,
    },
    /// It lacks a function, or is known to tell wrong values.
    #[error("this amd-smi is too old: {0}")]
    TooOld(String),
    /// The kernel's module is not loaded.
    #[error("amd-smi: the amdgpu module is not loaded")]
    NotLoaded,
    /// This process may not use the GPUs.
    #[error("amd-smi: no permission to use the GPUs")]
    Denied,
    /// It did not start in time.
    #[error("amd-smi has not answered for {} s", .0.as_secs())]
    Hangs(Duration),
    /// Anything else.
    #[error("amd-smi: {0}")]
    Other(String),
}

impl OpenError {
    /// What to do about it; empty if nothing.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unwanted => "",
            Self::NoLibrary { .. } => {
                "Install ROCm's amd-smi-lib, or name its libamd_smi.so with amdsmi.library"
            }
            Self::TooOld(_) => "Install amd-smi-lib of ROCm 6.1 or later",
            Self::NotLoaded => "Load it: modprobe amdgpu; then start eco-agent again",
            Self::Denied => "Give the agent access to /dev/kfd and /dev/dri/renderD*",
            Self::Hangs(_) => "Start eco-agent again when `amd-smi list` answers",
            Self::Other(_) => "See whether `amd-smi list` answers",
        }
    }
}

impl Driver {
    /// Loads the library and starts a thread for each GPU.
    ///
    /// # Errors
    /// When there is none, or it does not start within `options.patience`.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        if options.library.is_empty() {
            return Err(OpenError::Unwanted);
        }
        let until = Instant::now() + options.patience;
        let (opened, answer) = mpsc::channel();
        let name = options.library.clone();
        // On a thread of its own, because it may hang here already.
        thread::Builder::new()
            .name("eco-amdsmi-open".into())
            .spawn(move || {
                // Nobody listens any more if it took too long.
                let _ = opened.send(start(&name));
            })
            .map_err(|why| OpenError::Other(why.to_string()))?;
        let started = answer
            .recv_timeout(options.patience)
            .map_err(|_| OpenError::Hangs(options.patience))??;
        let mut devices = Vec::new();
        for (index, processor) in started.processors.into_iter().enumerate() {
            let (library, on_thread) = (started.library, options.on_thread);
            let name = format!("eco-amdsmi-{index}");
            let device = Device::start(name, options.deadline, move || {
                if let Some(first) = on_thread {
                    first();
                }
                Gpu::new(library, processor)
            });
            devices.push(device.map_err(|why| OpenError::Other(why.to_string()))?);
        }
        for device in &devices {
            let _ = device.identity(until);
        }
        Ok(Self {
            version: started.version,
            devices,
        })
    }
}

/// What the opening thread brings back.
struct Started {
    library: &'static Library,
    version: Option<String>,
    processors: Vec<Processor>,
}

fn start(name: &OsStr) -> Result<Started, OpenError> {
    let library: &'static Library = Box::leak(Box::new(load(name)?));
    library.init().map_err(failed)?;
    let version = library.version();
    let found = match version.as_deref().filter(|version| is_too_old(version)) {
        Some(version) => Err(OpenError::TooOld(format!(
            "in {version} the accumulator stands still"
        ))),
        None => library.processors().map_err(failed),
    };
    if found.as_ref().map_or(true, Vec::is_empty) {
        library.shut_down();
    }
    Ok(Started {
        library,
        version,
        processors: found?,
    })
}

/// The library by its name; by ROCm's usual name, also where the loader does not look.
fn load(name: &OsStr) -> Result<Library, OpenError> {
    let elsewhere = ELSEWHERE.iter().filter(|_| name == LIBRARY).map(OsStr::new);
    let mut first = None;
    for place in std::iter::once(name).chain(elsewhere) {
        match Library::load(place) {
            Ok(library) => return Ok(library),
            Err(LoadError::Missing(why)) => {
                first.get_or_insert(why);
            }
            Err(LoadError::Lacks(function)) => {
                return Err(OpenError::TooOld(format!("it has no {function}")));
            }
        }
    }
    Err(OpenError::NoLibrary {
        library: name.to_string_lossy().into_owned(),
        why: first.unwrap_or_default(),
    })
}

fn is_too_old(version: &str) -> bool {
    let first = version.split('.').next().and_then(|text| text.parse().ok());
    first.is_some_and(|first: u32| first < OLDEST)
}

fn failed(status: Status) -> OpenError {
    match status {
        Status::NO_PERMISSION => OpenError::Denied,
        Status::NOT_INITIALISED | Status::DRIVER_NOT_LOADED => OpenError::NotLoaded,
        status => OpenError::Other(status.meaning().to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_that_is_known_to_stand_still_is_too_old() {
        assert!(is_too_old("23.4.0.0"));
        for version in ["24.5.1.0", "25.3.0", "26.1.0", "", "mock", "-1"] {
            assert!(!is_too_old(version), "{version}");
        }
    }

    #[test]
    fn without_a_name_nothing_is_loaded() {
        let options = Options {
            library: OsString::new(),
            ..Options::default()
        };
        assert!(matches!(Driver::open(&options), Err(OpenError::Unwanted)));
    }
}
