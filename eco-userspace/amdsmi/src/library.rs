// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The functions of `libamd_smi.so` that eco calls, by ROCm's `amd_smi/amdsmi.h`.
//!
//! Only what every release since 23.1 (ROCm 5.7) has in the same shape is used: functions whose
//! arguments are numbers and pointers to numbers. The one record that is read,
//! `amdsmi_version_t`, lost its first field in 25 (ROCm 6.4), but its text stands where it stood.

use std::{
    ffi::{CStr, OsStr, c_char, c_void},
    fmt,
    path::Path,
    ptr,
};

/// `AMDSMI_INIT_AMD_GPUS`.
const AMD_GPUS: u64 = 1 << 1;

/// A machine has some dozen; a library that tells more lies.
const MOST_HANDLES: u32 = 4096;

/// `amdsmi_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub u32);

impl Status {
    pub(crate) const NOT_SUPPORTED: Self = Self(2);
    pub(crate) const NOT_YET_IMPLEMENTED: Self = Self(3);
    pub(crate) const NO_PERMISSION: Self = Self(10);
    pub(crate) const NOT_INITIALISED: Self = Self(32);
    pub(crate) const DRIVER_NOT_LOADED: Self = Self(34);
    const UNEXPECTED_SIZE: Self = Self(42);

    /// For people.
    pub(crate) fn meaning(self) -> impl fmt::Display {
        let known = match self.0 {
            2 | 3 => "not supported",
            6 => "libdrm failed",
            8 => "timed out",
            10 => "permission denied",
            12 => "input/output error",
            14 => "a file of the kernel's cannot be read",
            18 => "its initialisation failed",
            30 => "the device is busy",
            31 => "the device is not there",
            32 => "it is not initialised",
            34 => "the amdgpu module is not loaded",
            40 => "no data",
            42 => "an answer of another size than expected",
            43 => "unexpected data",
            _ => "it failed",
        };
        format!("{known} (amdsmi_status_t {})", self.0)
    }
}

/// A GPU, as the library names it.
#[derive(Clone, Copy)]
pub(crate) struct Processor(*mut c_void);

// SAFETY: the library looks a handle up in a table of its own at each call
// (`AMDSmiSystem::handle_to_processor`), from whatever thread; eco never follows it.
unsafe impl Send for Processor {}

/// Why a library is not usable.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It cannot be loaded: what the loader said.
    Missing(String),
    /// It lacks this function.
    Lacks(&'static str),
}

type Init = unsafe extern "C" fn(u64) -> u32;
type ShutDown = unsafe extern "C" fn() -> u32;
type List = unsafe extern "C" fn(*mut u32, *mut *mut c_void) -> u32;
type ListOf = unsafe extern "C" fn(*mut c_void, *mut u32, *mut *mut c_void) -> u32;
type Number = unsafe extern "C" fn(*mut c_void, *mut u64) -> u32;
type EnergyCount = unsafe extern "C" fn(*mut c_void, *mut u64, *mut f32, *mut u64) -> u32;
type LibVersion = unsafe extern "C" fn(*mut Version) -> u32;

/// `amdsmi_version_t`: three numbers and padding, or, before 25, four numbers.
#[repr(C)]
struct Version {
    numbers: [u32; 4],
    build: *const c_char,
    /// For a library that has added to it.
    room: [u64; 13],
}

/// A library, loaded for the life of the process.
pub(crate) struct Library {
    init: Init,
    shut_down: ShutDown,
    sockets: List,
    processors: ListOf,
    address: Number,
    energy: EnergyCount,
    version: Option<LibVersion>,
}

impl Library {
    /// Loads `path`: a path, or a name that the loader looks up.
    ///
    /// # Errors
    /// When it is not there, or lacks a function.
    pub(crate) fn load(path: &OsStr) -> Result<Self, LoadError> {
        // SAFETY: initialisers of a library run here; it is the one that the owner of the machine
        // has installed or named.
        let library = unsafe { libloading::Library::new(Path::new(path)) };
        let library = library.map_err(|why| LoadError::Missing(why.to_string()))?;
        // What was loaded stays: its threads and a call that hangs are inside it.
        let library: &'static libloading::Library = Box::leak(Box::new(library));
        /// A function by its name.
        macro_rules! function {
            ($name:literal) => {{
                // SAFETY: the type is that of amdsmi.h, the same in every release that has it.
                let found = unsafe { library.get(concat!($name, "\0").as_bytes()) };
                found.map(|symbol| *symbol)
            }};
        }
        let lacks = |name| move |_| LoadError::Lacks(name);
        Ok(Self {
            init: function!("amdsmi_init").map_err(lacks("amdsmi_init"))?,
            shut_down: function!("amdsmi_shut_down").map_err(lacks("amdsmi_shut_down"))?,
            sockets: function!("amdsmi_get_socket_handles")
                .map_err(lacks("amdsmi_get_socket_handles"))?,
            processors: function!("amdsmi_get_processor_handles")
                .map_err(lacks("amdsmi_get_processor_handles"))?,
            address: function!("amdsmi_get_gpu_device_bdf")
                .map_err(lacks("amdsmi_get_gpu_device_bdf"))?,
            energy: function!("amdsmi_get_energy_count")
                .map_err(lacks("amdsmi_get_energy_count"))?,
            version: function!("amdsmi_get_lib_version").ok(),
        })
    }

    /// Makes the library look for GPUs.
    pub(crate) fn init(&self) -> Result<(), Status> {
        // SAFETY: a number is all it takes.
        checked(unsafe { (self.init)(AMD_GPUS) })
    }

    /// Makes it forget them. No call may be under way, and no handle is good afterwards.
    pub(crate) fn shut_down(&self) {
        // SAFETY: it takes nothing, and the caller has no call under way.
        let _ = unsafe { (self.shut_down)() };
    }

    /// The full version, `25.3.0`; `None` where it tells none that is text.
    pub(crate) fn version(&self) -> Option<String> {
        let mut version = Version {
            numbers: [0; 4],
            build: ptr::null(),
            room: [0; 13],
        };
        // SAFETY: room for more than any release writes.
        checked(unsafe { (self.version?)(&raw mut version) }).ok()?;
        if version.build.is_null() {
            return None;
        }
        // SAFETY: not null, so the library's own constant text, as amdsmi.h says.
        let text = unsafe { CStr::from_ptr(version.build) };
        Some(text.to_str().ok()?.to_owned())
    }

    /// All GPUs.
    pub(crate) fn processors(&self) -> Result<Vec<Processor>, Status> {
        // SAFETY: as `listed` promises.
        let sockets = listed(|count, to| unsafe { (self.sockets)(count, to) })?;
        let mut all = Vec::new();
        for socket in sockets {
            // SAFETY: as `listed` promises; the handle is the library's own.
            let found = listed(|count, to| unsafe { (self.processors)(socket, count, to) })?;
            all.extend(found.into_iter().map(Processor));
        }
        Ok(all)
    }

    /// The PCI address, as `amdsmi_bdf_t` packs it into 64 bits.
    pub(crate) fn address(&self, processor: Processor) -> Result<u64, Status> {
        let mut bits = 0;
        // SAFETY: the handle is the library's own; the address is a union of 64 bits.
        checked(unsafe { (self.address)(processor.0, &raw mut bits) })?;
        Ok(bits)
    }

    /// The energy accumulator, and what one count is worth in µJ.
    pub(crate) fn energy(&self, processor: Processor) -> Result<(u64, f32), Status> {
        let (mut counts, mut unit, mut at) = (u64::MAX, 0.0, 0);
        // SAFETY: the handle is the library's own, and each answer has its room.
        checked(unsafe {
            (self.energy)(processor.0, &raw mut counts, &raw mut unit, &raw mut at)
        })?;
        Ok((counts, unit))
    }
}

fn checked(status: u32) -> Result<(), Status> {
    if status == 0 {
        Ok(())
    } else {
        Err(Status(status))
    }
}

/// A list of handles: asked how long it is, and then for so many. `ask` gets either no room, or
/// room for as many as the count says.
fn listed(
    mut ask: impl FnMut(*mut u32, *mut *mut c_void) -> u32,
) -> Result<Vec<*mut c_void>, Status> {
    let mut count = 0;
    checked(ask(&raw mut count, ptr::null_mut()))?;
    if count > MOST_HANDLES {
        return Err(Status::UNEXPECTED_SIZE);
    }
    let mut handles = vec![ptr::null_mut(); count as usize];
    if count > 0 {
        checked(ask(&raw mut count, handles.as_mut_ptr()))?;
    }
    handles.truncate(count as usize);
    handles.retain(|handle| !handle.is_null());
    Ok(handles)
}
