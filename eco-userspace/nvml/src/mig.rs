// SPDX-License-Identifier: Apache-2.0 OR MIT
//! MIG: which instances a GPU is cut into, and how busy each is.

use nvml_wrapper::{
    Device as Handle,
    enums::gpm::GpmMetricId,
    error::{NvmlError, nvml_try},
    gpm::{GpmSample, gpm_metrics_get},
};

use crate::answer::Instance;

/// The instances of one GPU.
#[derive(Default)]
pub(crate) struct Mig {
    most: u32,
    found: Vec<Found>,
}

struct Found {
    gpu_instance: u32,
    uuids: Vec<String>,
    slices: u32,
    /// The counters at the last look; the GPU may have none.
    counters: Option<GpmSample<'static>>,
}

impl Mig {
    /// Into how many slices the GPU can be cut.
    pub(crate) fn slices(&self) -> u32 {
        let used: u32 = self.found.iter().map(|instance| instance.slices).sum();
        self.most.max(used)
    }

    /// Looks which instances there are. Several compute instances of one GPU instance share its
    /// memory and count as one.
    pub(crate) fn find(&mut self, gpu: &Handle<'static>) {
        self.most = gpu.mig_device_count().unwrap_or_default();
        let mut before = std::mem::take(&mut self.found);
        for index in 0..self.most {
            // Indices need not be dense.
            let Ok(device) = gpu.mig_device_by_index(index) else {
                continue;
            };
            let (Ok(gpu_instance), Ok(attributes)) =
                (gpu_instance_of(&device), device.attributes())
            else {
                continue;
            };
            let uuid = device.uuid().ok();
            let mut found = self.found.iter_mut();
            if let Some(found) = found.find(|f| f.gpu_instance == gpu_instance) {
                found.uuids.extend(uuid);
                continue;
            }
            let known = before.iter().position(|f| f.gpu_instance == gpu_instance);
            self.found.push(Found {
                gpu_instance,
                uuids: uuid.into_iter().collect(),
                slices: attributes.gpu_instance_slice_count.max(1),
                counters: known.and_then(|at| before.swap_remove(at).counters),
            });
        }
    }

    /// How busy each instance was since the last look.
    pub(crate) fn look(&mut self, gpu: &Handle<'static>) -> Vec<Instance> {
        let look = |found: &mut Found| {
            let now = gpu.gpm_mig_sample(found.gpu_instance).ok();
            let busy = match (&found.counters, &now) {
                (Some(before), Some(now)) => busy_between(gpu, before, now),
                _ => None,
            };
            found.counters = now;
            Instance {
                gpu_instance: found.gpu_instance,
                uuids: found.uuids.clone(),
                slices: found.slices,
                busy,
            }
        };
        self.found.iter_mut().map(look).collect()
    }
}

fn busy_between(
    gpu: &Handle<'static>,
    before: &GpmSample<'static>,
    now: &GpmSample<'static>,
) -> Option<f64> {
    let metrics = gpm_metrics_get(gpu.nvml(), before, now, &[GpmMetricId::SmUtil]).ok()?;
    let percent = metrics.into_iter().next()?.ok()?.value;
    (percent.is_finite() && percent >= 0.0).then(|| (percent / 100.0).min(1.0))
}

/// The wrapper has no call for this one.
fn gpu_instance_of(device: &Handle<'static>) -> Result<u32, NvmlError> {
    let function = device.nvml().lib().nvmlDeviceGetGpuInstanceId.as_ref();
    let function = function.map_err(|why| NvmlError::FailedToLoadSymbol(why.to_string()))?;
    let mut id = 0;
    // SAFETY: the function has this signature in nvml.h, the handle is the library's own and
    // alive as long as the library, and there is room for the answer.
    unsafe { nvml_try(function(device.handle(), &raw mut id))? };
    Ok(id)
}
