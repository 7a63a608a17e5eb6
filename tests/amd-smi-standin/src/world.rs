// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that this copy of the library stands for: its script and its clock.

use std::{
    ffi::{CStr, CString, OsStr},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
    thread,
    time::Duration,
};

use crate::scenario::{Gpu, Scenario, ScenarioError, What};

/// The script's name, in the folder of the library.
pub(crate) const SCRIPT: &str = "scenario.toml";

/// `amdsmi_status_t`.
pub(crate) type Code = u32;

/// `AMDSMI_STATUS_INVAL`.
pub(crate) const INVALID: Code = 1;

/// `AMDSMI_STATUS_NOT_INIT`.
const NOT_INITIALISED: Code = 32;

/// `AMDSMI_STATUS_DRIVER_NOT_LOADED`.
const NOT_LOADED: Code = 34;

static WORLD: OnceLock<Option<World>> = OnceLock::new();

/// A script under way.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    /// The version, for those who take it away as a pointer.
    pub(crate) version: CString,
    begun_ns: u64,
}

impl World {
    /// The machine; read when first asked for.
    pub(crate) fn start() -> Result<&'static Self, Code> {
        let open = || match Self::open() {
            Ok(world) => Some(world),
            Err(why) => {
                eprintln!("amd-smi stand-in: {SCRIPT}: {why}");
                None
            }
        };
        WORLD.get_or_init(open).as_ref().ok_or(NOT_LOADED)
    }

    /// The machine, once it was started.
    pub(crate) fn get() -> Result<&'static Self, Code> {
        let world = WORLD.get().and_then(Option::as_ref);
        world.ok_or(NOT_INITIALISED)
    }

    fn open() -> Result<Self, ScenarioError> {
        let folder = own_path().and_then(|path| Some(path.parent()?.to_owned()));
        let script = folder.unwrap_or_default().join(SCRIPT);
        let scenario = Scenario::parse(&fs::read_to_string(script)?)?;
        let begun_ns = scenario.began.map_or(boottime_ns(), |s| (s * 1e9) as u64);
        Ok(Self {
            version: CString::new(scenario.version.clone()).unwrap_or_default(),
            scenario,
            begun_ns,
        })
    }

    /// Since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        boottime_ns().saturating_sub(self.begun_ns) as f64 / 1e9
    }

    /// A GPU by its number, after the faults that are due.
    pub(crate) fn enter(&self, number: usize, call: &str) -> Result<&Gpu, Code> {
        let gpu = self.scenario.gpu.get(number).ok_or(INVALID)?;
        self.meet_faults(Some(number), call)?;
        Ok(gpu)
    }

    /// Hangs or fails where the script says so.
    pub(crate) fn meet_faults(&self, gpu: Option<usize>, call: &str) -> Result<(), Code> {
        let now = self.seconds();
        let Some(fault) = self.scenario.stop(gpu, call, now) else {
            return Ok(());
        };
        if fault.what == What::Error {
            return Err(fault.code);
        }
        let left = (fault.at + fault.seconds - now).clamp(0.0, 3600.0);
        thread::sleep(Duration::from_secs_f64(left));
        Ok(())
    }
}

/// Where this library was loaded from.
fn own_path() -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    let here = std::ptr::from_ref(&WORLD).cast();
    // SAFETY: an address within this library, and room for the answer.
    if unsafe { libc::dladdr(here, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: filled in, as dladdr said so; all zeros were valid before.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: a C string of the loader's, which lives as long as the library.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned())
}

fn boottime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the answer; the clock is a constant.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
