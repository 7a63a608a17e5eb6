// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The machine that this copy of the library stands for: its script and its clock.

use std::sync::OnceLock;

use eco_driver_standin::{SCRIPT, ScriptError, clock_ns};
use nvml_wrapper_sys::bindings as nv;

use crate::scenario::{Gpu, Scenario, What};

static WORLD: OnceLock<Option<World>> = OnceLock::new();

/// A script under way.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    begun_boot_ns: u64,
    begun_unix_us: u64,
}

/// A device handle is a number, never an address: GPU and, one higher, MIG device.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) gpu: usize,
    pub(crate) mig: Option<usize>,
}

impl Handle {
    pub(crate) fn encode(self) -> nv::nvmlDevice_t {
        let mig = self.mig.map_or(0, |at| at + 1);
        std::ptr::without_provenance_mut((mig << 16) | (self.gpu + 1))
    }

    fn decode(raw: nv::nvmlDevice_t) -> Option<Self> {
        let number = raw.addr();
        let gpu = (number & 0xffff).checked_sub(1)?;
        let mig = (number >> 16).checked_sub(1);
        Some(Self { gpu, mig })
    }
}

/// A call that may go on: where it is, and when.
pub(crate) struct Call {
    pub(crate) world: &'static World,
    pub(crate) handle: Handle,
    pub(crate) gpu: &'static Gpu,
    pub(crate) seconds: f64,
}

impl World {
    /// The machine; read when first asked for.
    pub(crate) fn start() -> Option<&'static Self> {
        let open = || match Self::open() {
            Ok(world) => Some(world),
            Err(why) => {
                eprintln!("nvml stand-in: {SCRIPT}: {why}");
                None
            }
        };
        WORLD.get_or_init(open).as_ref()
    }

    /// The machine, once it was started.
    pub(crate) fn get() -> Option<&'static Self> {
        WORLD.get()?.as_ref()
    }

    fn open() -> Result<Self, ScriptError> {
        // This very copy of the library, and so its folder.
        let here = std::ptr::from_ref(&WORLD).cast();
        let scenario: Scenario = eco_driver_standin::read_beside(here)?;
        let now_ns = clock_ns(libc::CLOCK_BOOTTIME);
        let begun_boot_ns = scenario.began.map_or(now_ns, |s| (s * 1e9) as u64);
        let since_ns = now_ns.saturating_sub(begun_boot_ns);
        Ok(Self {
            scenario,
            begun_boot_ns,
            begun_unix_us: clock_ns(libc::CLOCK_REALTIME).saturating_sub(since_ns) / 1000,
        })
    }

    /// Seconds since the start.
    pub(crate) fn seconds(&self) -> f64 {
        let now = clock_ns(libc::CLOCK_BOOTTIME);
        now.saturating_sub(self.begun_boot_ns) as f64 / 1e9
    }

    /// A moment as NVML stamps it: µs of Unix time.
    pub(crate) fn stamp(&self, seconds: f64) -> u64 {
        self.begun_unix_us + (seconds * 1e6).round() as u64
    }

    /// The moment of such a stamp.
    pub(crate) fn moment(&self, stamp: u64) -> f64 {
        (stamp as f64 - self.begun_unix_us as f64) / 1e6
    }
}

/// Begins a call on a device: meets the faults that are due.
///
/// # Errors
/// NVML's code, where the call fails.
pub(crate) fn enter(name: &str, device: nv::nvmlDevice_t) -> Result<Call, nv::nvmlReturn_t> {
    let world = World::get().ok_or(nv::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED)?;
    let handle = Handle::decode(device).ok_or(nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT)?;
    let gpus = &world.scenario.gpu;
    let gpu = gpus
        .get(handle.gpu)
        .ok_or(nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT)?;
    meet_faults(world, Some(handle.gpu), name)?;
    Ok(Call {
        world,
        handle,
        gpu,
        seconds: world.seconds(),
    })
}

/// Hangs or fails where the script says so.
///
/// # Errors
/// NVML's code, where the call fails.
pub(crate) fn meet_faults(
    world: &World,
    gpu: Option<usize>,
    name: &str,
) -> Result<(), nv::nvmlReturn_t> {
    let now = world.seconds();
    let Some(fault) = world.scenario.fault(gpu, name, now) else {
        return Ok(());
    };
    match fault.what {
        What::Lost => Err(nv::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST),
        What::Error => Err(fault.code),
        _ => {
            fault.sit_out(now);
            Ok(())
        }
    }
}
