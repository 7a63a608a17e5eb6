// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The library as a whole: finding and loading it, and its GPUs.

use std::{ffi::OsStr, time::Instant};

use eco_driver::{Device, NotOpened, Options};

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
    /// It did not start in time, or there is no thread to start it on.
    #[error("amd-smi: {0}")]
    NotOpened(#[from] NotOpened),
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
            Self::NotOpened(_) => "Start eco-agent again when `amd-smi list` answers",
            Self::Other(_) => "See whether `amd-smi list` answers",
        }
    }
}

impl Driver {
    /// Loads the library and starts a thread for each GPU.
    ///
    /// # Errors
    /// When there is none, its name is empty, or it does not start within `options.patience`.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        if options.library.is_empty() {
            return Err(OpenError::Unwanted);
        }
        let until = Instant::now() + options.patience;
        let started = options.open("eco-amdsmi-open", start)??;
        let library = started.library;
        let start = |(index, processor)| {
            let name = format!("eco-amdsmi-{index}");
            let make = move || Gpu::new(library, processor);
            Device::start(name, options, make).map_err(NotOpened::from)
        };
        let processors = started.processors.into_iter().enumerate();
        let devices: Vec<crate::Device> = processors.map(start).collect::<Result<_, _>>()?;
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
        let opened = Driver::open(&Options::of(""));
        assert!(matches!(opened, Err(OpenError::Unwanted)));
    }
}
