// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that this copy of the library stands for: its script and its clock.

use std::{ffi::CString, sync::OnceLock};

use eco_driver_standin::{SCRIPT, ScriptError, clock_ns};

use crate::scenario::{Gpu, Scenario, What};

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

    fn open() -> Result<Self, ScriptError> {
        // This very copy of the library, and so its folder.
        let here = std::ptr::from_ref(&WORLD).cast();
        let scenario: Scenario = eco_driver_standin::read_beside(here)?;
        let begun_ns = scenario
            .began
            .map_or(clock_ns(libc::CLOCK_BOOTTIME), |s| (s * 1e9) as u64);
        Ok(Self {
            version: CString::new(scenario.version.clone()).unwrap_or_default(),
            scenario,
            begun_ns,
        })
    }

    /// Since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        clock_ns(libc::CLOCK_BOOTTIME).saturating_sub(self.begun_ns) as f64 / 1e9
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
        fault.sit_out(now);
        Ok(())
    }
}
