// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver as a whole: loading its library, and its GPUs.

use std::{ffi::OsStr, time::Instant};

use eco_driver::{NotOpened, Options};
use nvml_wrapper::{Nvml, error::NvmlError};

use crate::{device::Device, gpu::Gpu};

/// The name under which the driver's packages install the library.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// A driver that runs.
pub struct Driver {
    /// Its version, where it tells one.
    pub version: Option<String>,
    /// Its GPUs, by NVML's index.
    pub devices: Vec<Device>,
}

/// Why there is no driver to ask.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The library is not installed.
    #[error("{library}: {why}")]
    NoLibrary {
        /// What was looked for.
        library: String,
        /// What the loader said.
        why: String,
    },
    /// The library lacks the functions that every driver of the last ten years has.
    #[error("the driver is too old: {0}")]
    TooOld(String),
    /// The library and the kernel's module are of different versions.
    #[error("the driver's library and its kernel module are of different versions")]
    VersionMismatch,
    /// The kernel's module is not loaded.
    #[error("the NVIDIA kernel module is not loaded")]
    NotLoaded,
    /// This process may not use the driver.
    #[error("no permission to use the NVIDIA driver")]
    Denied,
    /// It did not start in time, or there is no thread to start it on.
    #[error(transparent)]
    NotOpened(#[from] NotOpened),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl OpenError {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoLibrary { .. } => {
                "install the NVIDIA driver's library (libnvidia-ml.so.1; in a container: run it \
                 with the NVIDIA runtime), or name it with nvml.library"
            }
            Self::TooOld(_) => "install driver 450 or later",
            Self::VersionMismatch => {
                "the driver was upgraded under a running kernel: reboot, or reload its modules"
            }
            Self::NotLoaded => "load it: modprobe nvidia; then start eco-agent again",
            Self::Denied => "give the agent access to /dev/nvidiactl and /dev/nvidia*",
            Self::NotOpened(_) => {
                "look into dmesg for Xid errors; start eco-agent again when nvidia-smi answers"
            }
            Self::Other(_) => "see whether nvidia-smi answers",
        }
    }
}

impl Driver {
    /// Loads the library and starts a thread for each GPU.
    ///
    /// # Errors
    /// When there is no driver, or it does not start within `options.patience`.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        let until = Instant::now() + options.patience;
        let (nvml, count) = options.open("eco-nvml-open", start)??;
        let start = |index| {
            let name = format!("eco-nvml-{index}");
            Device::start(name, options, move || Gpu::new(nvml, index)).map_err(NotOpened::from)
        };
        let devices: Vec<Device> = (0..count).map(start).collect::<Result<_, _>>()?;
        for device in &devices {
            let _ = device.identity(until);
        }
        Ok(Self {
            version: nvml.sys_driver_version().ok(),
            devices,
        })
    }
}

/// Loads the library for the life of the process: a call that hangs never leaves it.
fn start(library: &OsStr) -> Result<(&'static Nvml, u32), OpenError> {
    let shown = library.to_string_lossy().into_owned();
    let nvml = Nvml::builder()
        .lib_path(library)
        .init()
        .map_err(|why| failed(shown, why))?;
    let count = nvml
        .device_count()
        .map_err(|why| failed(library.to_string_lossy().into_owned(), why))?;
    Ok((Box::leak(Box::new(nvml)), count))
}

fn failed(library: String, why: NvmlError) -> OpenError {
    match why {
        NvmlError::LibloadingError(why) => OpenError::NoLibrary {
            library,
            why: why.to_string(),
        },
        NvmlError::FailedToLoadSymbol(what) => OpenError::TooOld(what),
        NvmlError::FunctionNotFound => OpenError::TooOld(why.to_string()),
        NvmlError::LibRmVersionMismatch => OpenError::VersionMismatch,
        NvmlError::DriverNotLoaded => OpenError::NotLoaded,
        NvmlError::NoPermission => OpenError::Denied,
        why => OpenError::Other(why.to_string()),
    }
}
