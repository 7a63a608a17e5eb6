// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The driver as a whole: loading its library, and its GPUs.

use std::{
    ffi::OsString,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nvml_wrapper::{Nvml, error::NvmlError};

use crate::{device::Device, gpu::Gpu};

/// The name under which the driver's packages install the library.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// How to open the driver.
#[derive(Clone, Debug)]
pub struct Options {
    /// The library: a path, or a name that the loader looks up.
    pub library: OsString,
    /// How long an answer is waited for. An NVML call takes well under 10 ms (zeus,
    /// `docs/measure`), a MIG one 50 to 100 ms (Kepler's measurements).
    pub deadline: Duration,
    /// How long the driver may take to start: without nvidia-persistenced it wakes every GPU
    /// first, which takes seconds.
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
    /// The driver did not start in time.
    #[error("the driver has not answered for {} s", .0.as_secs())]
    Hangs(Duration),
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
            Self::Hangs(_) => {
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
        let (opened, answer) = mpsc::channel();
        let library = options.library.clone();
        // On a thread of its own, because the driver may hang here already.
        thread::Builder::new()
            .name("eco-nvml-open".into())
            .spawn(move || {
                // Nobody listens any more if it took too long.
                let _ = opened.send(start(library));
            })
            .map_err(|why| OpenError::Other(why.to_string()))?;
        let (nvml, count) = answer
            .recv_timeout(options.patience)
            .map_err(|_| OpenError::Hangs(options.patience))??;
        let mut devices = Vec::new();
        for index in 0..count {
            let on_thread = options.on_thread;
            let device = Device::start(format!("eco-nvml-{index}"), options.deadline, move || {
                if let Some(first) = on_thread {
                    first();
                }
                Gpu::new(nvml, index)
            });
            devices.push(device.map_err(|why| OpenError::Other(why.to_string()))?);
        }
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
fn start(library: OsString) -> Result<(&'static Nvml, u32), OpenError> {
    let shown = library.to_string_lossy().into_owned();
    let nvml = Nvml::builder()
        .lib_path(&library)
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
