// SPDX-License-Identifier: Apache-2.0 OR MIT
//! NVML's functions about MIG, and the GPM counters that tell how busy an instance is.

use std::{
    collections::BTreeMap,
    ffi::{c_char, c_uint},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use nvml_wrapper_sys::bindings as nv;

use crate::{
    abi::{Code, code, put},
    scenario::Instance,
    truth,
    world::{Call, Handle, enter},
};

const INVALID: Code = nv::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT;
const NOT_FOUND: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_FOUND;
const NOT_SUPPORTED: Code = nv::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED;

/// GPU instances that a GPU can hold: seven on A100, H100 and their successors.
const MOST_INSTANCES: c_uint = 7;

/// A GPM sample: when, and the integral of SM utilisation up to then.
#[derive(Clone, Copy, Default)]
struct Gpm {
    seconds: f64,
    percent_seconds: f64,
}

static SAMPLES: Mutex<BTreeMap<usize, Gpm>> = Mutex::new(BTreeMap::new());
static LAST_SAMPLE: AtomicUsize = AtomicUsize::new(0);

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nv::nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> Code {
    let told = enter("nvmlDeviceGetMigMode", device).and_then(|call| {
        let mode = c_uint::from(!call.gpu.instance.is_empty());
        // SAFETY: the caller gives room for the answers.
        unsafe {
            put(current, mode)?;
            put(pending, mode)
        }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMaxMigDeviceCount(
    device: nv::nvmlDevice_t,
    to: *mut c_uint,
) -> Code {
    let entered = enter("nvmlDeviceGetMaxMigDeviceCount", device);
    // SAFETY: the caller gives room for the answer.
    code(entered.and_then(|_| unsafe { put(to, MOST_INSTANCES) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nv::nvmlDevice_t,
    index: c_uint,
    to: *mut nv::nvmlDevice_t,
) -> Code {
    let told = enter("nvmlDeviceGetMigDeviceHandleByIndex", device).and_then(|call| {
        let mig = index as usize;
        call.gpu.instance.get(mig).ok_or(NOT_FOUND)?;
        let gpu = call.handle.gpu;
        let handle = Handle {
            gpu,
            mig: Some(mig),
        };
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, handle.encode()) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceIsMigDeviceHandle(
    device: nv::nvmlDevice_t,
    to: *mut c_uint,
) -> Code {
    let entered = enter("nvmlDeviceIsMigDeviceHandle", device);
    // SAFETY: the caller gives room for the answer.
    code(entered.and_then(|call| unsafe { put(to, call.handle.mig.is_some().into()) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlDevice_t,
) -> Code {
    let told = enter("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device).and_then(|call| {
        let gpu = call.handle.gpu;
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, Handle { gpu, mig: None }.encode()) }
    });
    code(told)
}

fn instance(call: &Call) -> Result<&'static Instance, Code> {
    let mig = call.handle.mig.ok_or(NOT_SUPPORTED)?;
    call.gpu.instance.get(mig).ok_or(INVALID)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetGpuInstanceId(device: nv::nvmlDevice_t, to: *mut c_uint) -> Code {
    let told = enter("nvmlDeviceGetGpuInstanceId", device).and_then(|call| {
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, instance(&call)?.gpu_instance) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetComputeInstanceId(
    device: nv::nvmlDevice_t,
    to: *mut c_uint,
) -> Code {
    let told = enter("nvmlDeviceGetComputeInstanceId", device).and_then(|call| {
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, instance(&call)?.compute_instance) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlDeviceAttributes_t,
) -> Code {
    let told = enter("nvmlDeviceGetAttributes_v2", device).and_then(|call| {
        let slices = instance(&call)?.slices;
        let attributes = nv::nvmlDeviceAttributes_t {
            multiprocessorCount: 16 * slices,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: slices,
            computeInstanceSliceCount: slices,
            memorySizeMB: 10_240 * u64::from(slices),
        };
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, attributes) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nv::nvmlDevice_t,
    to: *mut nv::nvmlGpmSupport_t,
) -> Code {
    let told = enter("nvmlGpmQueryDeviceSupport", device).and_then(|call| {
        let support = nv::nvmlGpmSupport_t {
            version: nv::NVML_GPM_SUPPORT_VERSION,
            isSupportedDevice: call.gpu.gpm.into(),
        };
        // SAFETY: the caller gives room for the answer.
        unsafe { put(to, support) }
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmSampleAlloc(to: *mut nv::nvmlGpmSample_t) -> Code {
    let id = LAST_SAMPLE.fetch_add(1, Ordering::Relaxed) + 1;
    samples().insert(id, Gpm::default());
    // SAFETY: the caller gives room for the answer.
    code(unsafe { put(to, std::ptr::without_provenance_mut(id)) })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: nv::nvmlGpmSample_t) -> Code {
    code(samples().remove(&sample.addr()).map(drop).ok_or(INVALID))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(
    device: nv::nvmlDevice_t,
    gpu_instance: c_uint,
    sample: nv::nvmlGpmSample_t,
) -> Code {
    let told = enter("nvmlGpmMigSampleGet", device).and_then(|call| {
        if !call.gpu.gpm {
            return Err(NOT_SUPPORTED);
        }
        let mut instances = call.gpu.instance.iter();
        instances
            .find(|instance| instance.gpu_instance == gpu_instance)
            .ok_or(INVALID)?;
        let mut samples = samples();
        *samples.get_mut(&sample.addr()).ok_or(INVALID)? = Gpm {
            seconds: call.seconds,
            percent_seconds: truth::instance_percent_seconds(call.gpu, gpu_instance, call.seconds),
        };
        Ok(())
    });
    code(told)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlGpmMetricsGet(request: *mut nv::nvmlGpmMetricsGet_t) -> Code {
    if request.is_null() {
        return INVALID;
    }
    // SAFETY: the caller gives a request, which nobody else touches meanwhile.
    let request = unsafe { &mut *request };
    let samples = samples();
    let of = |sample: nv::nvmlGpmSample_t| samples.get(&sample.addr()).copied().ok_or(INVALID);
    let (Ok(earlier), Ok(later)) = (of(request.sample1), of(request.sample2)) else {
        return INVALID;
    };
    let mean =
        (later.percent_seconds - earlier.percent_seconds) / (later.seconds - earlier.seconds);
    let wanted = request.numMetrics as usize;
    for metric in request.metrics.iter_mut().take(wanted) {
        metric.value = mean;
        metric.nvmlReturn = if metric.metricId == nv::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL {
            nv::nvmlReturn_enum_NVML_SUCCESS
        } else {
            NOT_SUPPORTED
        };
        let text = |text: &'static std::ffi::CStr| text.as_ptr() as *mut c_char;
        metric.metricInfo = nv::nvmlGpmMetric_t__bindgen_ty_1 {
            shortName: text(c"SM_UTIL"),
            longName: text(c"SM utilization"),
            unit: text(c"%"),
        };
    }
    nv::nvmlReturn_enum_NVML_SUCCESS
}

fn samples() -> std::sync::MutexGuard<'static, BTreeMap<usize, Gpm>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}
