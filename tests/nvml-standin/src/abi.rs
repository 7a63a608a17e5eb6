// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVML's functions, by their real names. What a program may pass is as `nvml.h` says.

use std::ffi::{c_char, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings as nv;

use crate::{
    scenario::{Kind, Process, What},
    truth,
    world::{Call, Handle, World, enter, meet_faults},
};

pub(crate) type Code = nv::nvmlReturn_t;

const INVALID: Code = nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const TOO_SMALL: Code = nv::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE;
const NOT_FOUND: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const NOT_SUPPORTED: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;

/// `NVML_VALUE_NOT_AVAILABLE` in 32 bits: no instance.
const NO_INSTANCE: u32 = u32::MAX;

pub(crate) fn code(result: Result<(), Code>) -> Code {
    result.err().unwrap_or(nv::nvmlReturn_enum_NVML_SUCCESS)
}

/// Writes an answer where the caller wants it.
///
/// # Safety
/// `to` is null or valid for a write.
pub(crate) unsafe fn put<T>(to: *mut T, value: T) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID);
    }
    // SAFETY: not null, so valid as the caller promises.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes a C string into `room` bytes.
///
/// # Safety
/// `to` is null or valid for `room` writes.
unsafe fn put_text(bytes: &[u8], to: *mut c_char, room: c_uint) -> Result<(), Code> {
    if to.is_null() {
        return Err(INVALID);
    }
    if bytes.len() >= room as usize {
        return Err(TOO_SMALL);
    }
    // SAFETY: the bytes and their end fit, as was just checked.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), to, bytes.len());
        to.add(bytes.len()).write(0);
    }
    Ok(())
}

/// Writes a list, or how long it is where there is no room for it.
///
/// # Safety
/// `count` is null or valid; `to` is null or valid for `count` writes.
unsafe fn put_list<T: Copy>(items: &[T], count: *mut c_uint, to: *mut T) -> Result<(), Code> {
    if count.is_null() {
        return Err(INVALID);
    }
    // SAFETY: not null, so valid as the caller promises.
    let room = unsafe { count.read() } as usize;
    // SAFETY: as above.
    unsafe { count.write(items.len() as c_uint) };
    if items.is_empty() {
        return Ok(());
    }
    if to.is_null() || room < items.len() {
        return Err(TOO_SMALL);
    }
    // SAFETY: the caller has room for them, as was just checked.
    unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), to, items.len()) };
    Ok(())
}

fn begun() -> Result<&'static World, Code> {
    World::get().ok_or(nv::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED)
}

// No exported function calls another: a driver that lacks the one still has the other.
fn init() -> Code {
    let Some(world) = World::start() else {
        return nv::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED;
    };
    code(meet_faults(world, None, "nvmlInit_v2")).max(world.scenario.init)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> Code {
    init()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> Code {
    init()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> Code {
    code(begun().map(drop))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(_code: Code) -> *const c_char {
    c"scripted".as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, room: c_uint) -> Code {
    // SAFETY: the caller gives room for that many bytes.
    code(begun().and_then(|world| unsafe { put_text(world.scenario.driver.as_bytes(), to, room) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlSystemGetNVMLVersion(to: *mut c_char, room: c_uint) -> Code {
    // SAFETY: the caller gives room for that many bytes.
    code(begun().and_then(|world| unsafe { put_text(world.scenario.driver.as_bytes(), to, room) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetCount_v2(to: *mut c_uint) -> Code {
    // SAFETY: the caller gives room for the answer.
    code(begun().and_then(|world| unsafe { put(to, world.scenario.gpu.len() as c_uint) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    to: *mut nv::nvmlDevice_t,
) -> Code {
    let handle = Handle {
        gpu: index as usize,
        mig: None,
    }
    .encode();
    let entered = enter("nvmlDeviceGetHandleByIndex_v2", handle);
    // SAFETY: the caller gives room for the answer.
    code(entered.and_then(|_| unsafe { put(to, handle) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    to: *mut nv::nvmlDevice_t,
) -> Code {
    if uuid.is_null() {
        return INVALID;
    }
    // SAFETY: the caller gives a C string.
    let wanted = unsafe { std::ffi::CStr::from_ptr(uuid) }.to_bytes();
    let found = begun().and_then(|world| {
        let mut gpus = 0..world.scenario.gpu.len();
        gpus.find(|gpu| uuid_of(*gpu).as_bytes() == wanted)
            .ok_or(NOT_FOUND)
    });
    let found = found.and_then(|gpu| {
        let handle = Handle { gpu, mig: None }.encode();
        enter("nvmlDeviceGetHandleByUUID", handle)?;
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, handle) }
    });
    code(found)
}

fn uuid_of(gpu: usize) -> String {
    format!("GPU-00000000-0000-0000-0000-{gpu:012}")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetIndex(device: nv::nvmlDevice_t, to: *mut c_uint) -> Code {
    let entered = enter("nvmlDeviceGetIndex", device);
    // SAFETY: the caller gives room for the answer.
    code(entered.and_then(|call| unsafe { put(to, call.handle.gpu as c_uint) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetName(
    device: nv::nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> Code {
    let named = enter("nvmlDeviceGetName", device).and_then(|call| {
        let name = call
            .gpu
            .name
            .as_ref()
            .map_or(&b"Scripted GPU"[..], |n| n.bytes());
        // SAFETY: the caller gives room for that many bytes.
        unsafe { put_text(name, to, room) }
    });
    code(named)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUUID(
    device: nv::nvmlDevice_t,
    to: *mut c_char,
    room: c_uint,
) -> Code {
    let named = enter("nvmlDeviceGetUUID", device).and_then(|call| {
        let uuid = match call.handle.mig {
            None => uuid_of(call.handle.gpu),
            Some(mig) => format!("MIG-00000000-0000-0000-{:04}-{mig:012}", call.handle.gpu),
        };
        // SAFETY: the caller gives room for that many bytes.
        unsafe { put_text(uuid.as_bytes(), to, room) }
    });
    code(named)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlPciInfo_t,
) -> Code {
    let told = enter("nvmlDeviceGetPciInfo_v3", device).and_then(|call| {
        let mut info = nv::nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: call.handle.gpu as c_uint + 1,
            device: 0,
            pciDeviceId: 0x2330_10de,
            pciSubSystemId: 0,
            busId: [0; 32],
        };
        let text = format!("00000000:{:02X}:00.0", call.handle.gpu + 1);
        for (to, from) in info.busId.iter_mut().zip(text.bytes()) {
            *to = from as c_char;
        }
        for (to, from) in info.busIdLegacy.iter_mut().zip(text.bytes().skip(4)) {
            *to = from as c_char;
        }
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, info) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: nv::nvmlDevice_t,
    to: *mut c_ulonglong,
) -> Code {
    let told = enter("nvmlDeviceGetTotalEnergyConsumption", device).and_then(|call| {
        let Call { world, gpu, .. } = call;
        if !gpu.energy_counter || call.handle.mig.is_some() {
            return Err(NOT_SUPPORTED);
        }
        let at = call.handle.gpu;
        if world.scenario.suffers(at, What::Unknown, call.seconds) {
            // SAFETY: the caller gives room for the answer.
            return unsafe { put(to, c_ulonglong::MAX) };
        }
        let (from, base) = match world.scenario.last_reset(at, call.seconds) {
            Some(reset) => (reset, 0),
            None => (0.0, gpu.counter_millijoules),
        };
        let counted = truth::joules(gpu, from, call.seconds) * 1e3;
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, base + counted as c_ulonglong) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPowerUsage(device: nv::nvmlDevice_t, to: *mut c_uint) -> Code {
    let told = enter("nvmlDeviceGetPowerUsage", device).and_then(|call| {
        let milliwatts = truth::joules(call.gpu, call.seconds - 1e-3, call.seconds) * 1e6;
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, milliwatts.round() as c_uint) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetSamples(
    device: nv::nvmlDevice_t,
    kind: nv::nvmlSamplingType_t,
    since: c_ulonglong,
    value_type: *mut nv::nvmlValueType_t,
    count: *mut c_uint,
    to: *mut nv::nvmlSample_t,
) -> Code {
    let told = enter("nvmlDeviceGetSamples", device).and_then(|call| {
        if kind != nv::nvmlSamplingType_enum_NVML_TOTAL_POWER_SAMPLES {
            return Err(NOT_SUPPORTED);
        }
        let after = if since == 0 {
            0.0
        } else {
            call.world.moment(since)
        };
        let period = truth::period(call.gpu);
        let samples: Vec<nv::nvmlSample_t> = truth::passes(call.gpu, after, call.seconds)
            .map(|pass| {
                let end = pass as f64 * period;
                let watts = truth::joules(call.gpu, end - period, end) / period;
                nv::nvmlSample_t {
                    timeStamp: call.world.stamp(end),
                    sampleValue: nv::nvmlValue_t {
                        uiVal: (watts * 1e3).round() as c_uint,
                    },
                }
            })
            .collect();
        if samples.is_empty() {
            return Err(NOT_FOUND);
        }
        // SAFETY: the caller gives room for the answers.
        unsafe {
            put(
                value_type,
                nv::nvmlValueType_enum_NVML_VALUE_TYPE_UNSIGNED_INT,
            )?;
            put_list(&samples, count, to)
        }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    since: c_ulonglong,
) -> Code {
    let told = enter("nvmlDeviceGetProcessUtilization", device).and_then(|call| {
        if !call.gpu.process_utilization || !call.gpu.instance.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        let samples = utilization_samples(&call, since);
        if samples.is_empty() {
            return Err(NOT_FOUND);
        }
        // SAFETY: the caller gives room for the answers.
        unsafe { put_list(&samples, count, to) }
    });
    code(told)
}

fn utilization_samples(call: &Call, since: u64) -> Vec<nv::nvmlProcessUtilizationSample_t> {
    let (gpu, world) = (call.gpu, call.world);
    let after = if since == 0 { 0.0 } else { world.moment(since) };
    let period = truth::period(gpu);
    let mut samples = Vec::new();
    for pass in truth::passes(gpu, after, call.seconds) {
        let end = pass as f64 * period;
        for process in gpu.process.iter().filter(|process| process.named) {
            let mean = |value| truth::percent(value, process, end - period, end);
            let (sm, encoder) = (mean(process.sm), mean(process.encoder));
            if sm + encoder > 0 {
                samples.push(sample(process.pid, world.stamp(end), sm, encoder));
            }
        }
    }
    if world
        .scenario
        .suffers(call.handle.gpu, What::Garbage, call.seconds)
    {
        samples.push(sample(0, world.stamp(call.seconds), 50, 0));
        samples.push(sample(u32::MAX, 0, u32::MAX, u32::MAX));
        for process in &gpu.process {
            samples.push(sample(process.pid, 0, 3_000_000, 0));
        }
    }
    samples
}

fn sample(pid: u32, stamp: u64, sm: u32, encoder: u32) -> nv::nvmlProcessUtilizationSample_t {
    nv::nvmlProcessUtilizationSample_t {
        pid,
        timeStamp: stamp,
        smUtil: sm,
        memUtil: sm / 2,
        encUtil: encoder,
        decUtil: 0,
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlUtilization_t,
) -> Code {
    let told = enter("nvmlDeviceGetUtilizationRates", device).and_then(|call| {
        if !call.gpu.instance.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        let from = call.seconds - truth::period(call.gpu);
        let mean = |process: &Process| truth::percent(process.sm, process, from, call.seconds);
        let sum: c_uint = call.gpu.process.iter().map(mean).sum();
        let busy = sum.min(100);
        let rates = nv::nvmlUtilization_t {
            gpu: busy,
            memory: busy / 2,
        };
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, rates) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMemoryInfo(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlMemory_t,
) -> Code {
    let told = enter("nvmlDeviceGetMemoryInfo", device).and_then(|call| {
        let total = 80 << 30;
        let used: u64 = listed(&call, None).iter().map(|p| p.usedGpuMemory).sum();
        let used = used.min(total);
        let info = nv::nvmlMemory_t {
            total,
            free: total - used,
            used,
        };
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, info) }
    });
    code(told)
}

/// The processes of a kind that are there now, or all.
fn listed(call: &Call, kind: Option<Kind>) -> Vec<nv::nvmlProcessInfo_t> {
    let unknown = call
        .world
        .scenario
        .suffers(call.handle.gpu, What::Unknown, call.seconds);
    let there = call.gpu.process.iter().filter(|process| {
        process.named
            && kind.is_none_or(|kind| kind == process.kind)
            && (process.start..process.end).contains(&call.seconds)
    });
    there
        .map(|process| nv::nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: if unknown { u64::MAX } else { process.memory },
            gpuInstanceId: process.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: process.gpu_instance.map_or(NO_INSTANCE, |_| 0),
        })
        .collect()
}

/// # Safety
/// As for [`put_list`].
unsafe fn list(
    name: &str,
    kind: Kind,
    device: nv::nvmlDevice_t,
    count: *mut c_uint,
    to: *mut nv::nvmlProcessInfo_t,
) -> Code {
    let told = enter(name, device).and_then(|call| {
        // SAFETY: the caller gives room for the answers.
        unsafe { put_list(&listed(&call, Some(kind)), count, to) }
    });
    code(told)
}

/// Defines a process list of NVML's.
macro_rules! process_lists {
    ($($name:ident: $kind:expr),+ $(,)?) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            device: nv::nvmlDevice_t,
            count: *mut c_uint,
            to: *mut nv::nvmlProcessInfo_t,
        ) -> Code {
            // SAFETY: the caller gives room for the answers.
            unsafe { list(stringify!($name), $kind, device, count, to) }
        })+
    };
}

process_lists! {
    nvmlDeviceGetComputeRunningProcesses_v2: Kind::Compute,
    nvmlDeviceGetComputeRunningProcesses_v3: Kind::Compute,
    nvmlDeviceGetGraphicsRunningProcesses_v2: Kind::Graphics,
    nvmlDeviceGetGraphicsRunningProcesses_v3: Kind::Graphics,
    nvmlDeviceGetMPSComputeRunningProcesses_v3: Kind::Mps,
}
