// SPDX-License-Identifier: Apache-2.0 OR MIT
//! amd-smi's functions, by their real names. What a program may pass is as `amdsmi.h` says.
//!
//! A handle is a number, never an address: a socket is its GPU's number from 1 on, and the GPU in
//! it the same, higher by [`PROCESSORS`].

use std::ffi::{c_char, c_void};

use crate::world::{Code, INVALID, World};

/// `AMDSMI_INIT_AMD_GPUS`.
const AMD_GPUS: u64 = 1 << 1;

/// Where handles of GPUs begin.
const PROCESSORS: usize = 1 << 16;

type Handle = *mut c_void;

/// `amdsmi_version_t` since 25, and before.
#[repr(C)]
struct Version {
    numbers: [u32; 4],
    build: *const c_char,
}

fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(0)
}

/// Writes an answer where the caller wants it.
///
/// # Safety
/// `to` is null or valid for a write.
unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID);
    }
    // SAFETY: not null, so valid as the caller promises.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes how many handles there are or, given room, as many of them as fit.
///
/// # Safety
/// `count` is null or valid; `to` is null or valid for `count` writes.
unsafe fn put_handles(handles: &[usize], count: *mut u32, to: *mut Handle) -> Result<(), Code> {
    if count.is_null() {
        return Err(INVALID);
    }
    let mut written = handles.len();
    if !to.is_null() {
        // SAFETY: not null, so valid as the caller promises.
        written = written.min(unsafe { count.read() } as usize);
        for (at, handle) in handles[..written].iter().enumerate() {
            // SAFETY: within the room that the caller has.
            unsafe { to.add(at).write(std::ptr::without_provenance_mut(*handle)) };
        }
    }
    // SAFETY: as above.
    unsafe { count.write(written as u32) };
    Ok(())
}

/// The number of a GPU by its handle.
fn number(processor: Handle) -> Result<usize, Code> {
    processor.addr().checked_sub(PROCESSORS + 1).ok_or(INVALID)
}

#[unsafe(no_mangle)]
extern "C" fn amdsmi_init(flags: u64) -> Code {
    let begun = World::start().and_then(|world| {
        world.meet_faults(None, "amdsmi_init")?;
        if flags & AMD_GPUS == 0 || world.scenario.init != 0 {
            return Err(world.scenario.init.max(INVALID));
        }
        Ok(())
    });
    code(begun)
}

#[unsafe(no_mangle)]
extern "C" fn amdsmi_shut_down() -> Code {
    code(World::get().map(drop))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn amdsmi_get_lib_version(to: *mut Version) -> Code {
    let told = World::get().and_then(|world| {
        let mut numbers = [0; 4];
        let parts = world.scenario.version.split('.').map(str::parse);
        for (number, part) in numbers.iter_mut().zip(parts) {
            *number = part.unwrap_or(0);
        }
        let build = world.version.as_ptr();
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, Version { numbers, build }) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn amdsmi_get_socket_handles(count: *mut u32, to: *mut Handle) -> Code {
    let told = World::get().and_then(|world| {
        let sockets: Vec<usize> = (1..=world.scenario.gpu.len()).collect();
        // SAFETY: the caller gives room for as many as it says.
        unsafe { put_handles(&sockets, count, to) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn amdsmi_get_processor_handles(
    socket: Handle,
    count: *mut u32,
    to: *mut Handle,
) -> Code {
    let told = World::get().and_then(|world| {
        let number = socket.addr();
        if !(1..=world.scenario.gpu.len()).contains(&number) {
            return Err(INVALID);
        }
        // SAFETY: the caller gives room for as many as it says.
        unsafe { put_handles(&[PROCESSORS + number], count, to) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn amdsmi_get_gpu_device_bdf(processor: Handle, to: *mut u64) -> Code {
    let told = World::get().and_then(|world| {
        let gpu = world.enter(number(processor)?, "amdsmi_get_gpu_device_bdf")?;
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, gpu.address_bits().ok_or(INVALID)?) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn amdsmi_get_energy_count(
    processor: Handle,
    counts: *mut u64,
    resolution: *mut f32,
    at: *mut u64,
) -> Code {
    let told = World::get().and_then(|world| {
        let number = number(processor)?;
        let gpu = world.enter(number, "amdsmi_get_energy_count")?;
        let seconds = world.seconds();
        // SAFETY: the caller gives room for the answer.
        unsafe { put(counts, world.scenario.counts(number, gpu, seconds)) }?;
        // SAFETY: as above.
        unsafe { put(resolution, gpu.resolution) }?;
        // SAFETY: as above.
        unsafe { put(at, (seconds * 1e9) as u64) }
    });
    code(told)
}
