// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The calls for one GPU, on its own thread.

use std::time::{SystemTime, UNIX_EPOCH};

use eco_driver::{Source, boottime_ns};
use nvml_wrapper::{
    Device as Handle, Nvml,
    enum_wrappers::device::Sampling,
    enums::device::{SampleValue, UsedGpuMemory},
    error::NvmlError,
    struct_wrappers::device::ProcessInfo,
};

use crate::{
    answer::{
        Activity, Answer, Counted, Energy, Identity, Kind, PerProcess, Running, Sample, Trouble,
    },
    mig::Mig,
    overflow,
    power::{Integrator, PowerSample},
};

/// NVML's "unknown" in 64 bits.
const UNKNOWN: u64 = u64::MAX;

/// Where nothing depends on the list of processes but how much memory each has, and whether
/// the GPU was put into MIG mode, these are asked for every so many looks.
const RARELY: u32 = 10;

/// A buffer may grow between asking for its length and asking for it.
const TRIES: u32 = 3;

/// One GPU.
pub(crate) struct Gpu {
    nvml: &'static Nvml,
    index: u32,
    uuid: Option<String>,
    /// `None` while the GPU is lost.
    handle: Option<Handle<'static>>,
    /// Whether the GPU has an energy counter, once that is known.
    counts_energy: Option<bool>,
    power: Integrator,
    /// The latest utilisation sample seen, in µs of Unix time.
    seen_us: u64,
    /// Whether that was a sample: before the first it is only where the search began.
    has_seen: bool,
    /// Of the last answer.
    overflowed: bool,
    tells_processes: bool,
    running: Vec<Running>,
    mig: Option<Mig>,
    looks: u32,
}

impl Gpu {
    pub(crate) fn new(nvml: &'static Nvml, index: u32) -> Self {
        Self {
            nvml,
            index,
            uuid: None,
            handle: None,
            counts_energy: None,
            power: Integrator::default(),
            // What was before is not ours to charge.
            seen_us: unix_us(),
            has_seen: false,
            overflowed: false,
            tells_processes: true,
            running: Vec::new(),
            mig: None,
            looks: 0,
        }
    }

    /// The GPU's handle, found again if it was lost: by UUID where that is known, as indices
    /// move when a GPU is away.
    fn find(&mut self) -> Result<(), Trouble> {
        if self.handle.is_some() {
            return Ok(());
        }
        let found = match &self.uuid {
            Some(uuid) => self.nvml.device_by_uuid(uuid.as_str()),
            None => self.nvml.device_by_index(self.index),
        };
        let handle = found.map_err(|why| trouble("nvmlDeviceGetHandle", &why))?;
        self.handle = Some(handle);
        self.looks = 0;
        Ok(())
    }

    /// Calls the driver; a GPU that turns out to be lost is looked for again next time.
    fn call<T>(
        &mut self,
        name: &'static str,
        call: impl Fn(&Handle<'static>) -> Result<T, NvmlError>,
    ) -> Result<Result<T, NvmlError>, Trouble> {
        let handle = self.handle.as_ref().ok_or(Trouble::Lost)?;
        let mut answer = call(handle);
        for _ in 1..TRIES {
            if !matches!(answer, Err(NvmlError::InsufficientSize(_))) {
                break;
            }
            answer = call(handle);
        }
        if let Err(why) = &answer
            && is_lost(why)
        {
            self.handle = None;
            return Err(trouble(name, why));
        }
        Ok(answer)
    }

    fn energy(&mut self) -> Result<Energy, Trouble> {
        let before_ns = boottime_ns();
        let counted = if self.counts_energy == Some(false) {
            self.sampled()?
        } else {
            match self.counter()? {
                Some(millijoules) => Counted::SinceLoad(millijoules),
                None => self.sampled()?,
            }
        };
        Ok(Energy {
            counted,
            before_ns,
            after_ns: boottime_ns(),
        })
    }

    /// The energy counter; `None` where there is none.
    fn counter(&mut self) -> Result<Option<u64>, Trouble> {
        const CALL: &str = "nvmlDeviceGetTotalEnergyConsumption";
        let answer = self.call(CALL, Handle::total_energy_consumption)?;
        match answer {
            Ok(UNKNOWN) if self.counts_energy.is_none() => {}
            Ok(UNKNOWN) => {
                return Err(Trouble::Untold(
                    "the driver says that it does not know the GPU's energy",
                ));
            }
            Ok(millijoules) => {
                self.counts_energy = Some(true);
                return Ok(Some(millijoules));
            }
            // It has counted before, so this will pass.
            Err(why) if self.counts_energy == Some(true) => return Err(trouble(CALL, &why)),
            Err(why) if cannot(&why) => {}
            Err(why) => return Err(trouble(CALL, &why)),
        }
        self.counts_energy = Some(false);
        Ok(None)
    }

    /// The driver's samples of power since the last look.
    fn sampled(&mut self) -> Result<Counted, Trouble> {
        const CALL: &str = "nvmlDeviceGetSamples";
        let since = self.power.since(unix_us());
        let answer = self.call(CALL, |handle| handle.samples(Sampling::Power, since))?;
        let samples = match answer {
            Ok(samples) => samples,
            Err(NvmlError::NotFound | NvmlError::NoData) => Vec::new(),
            Err(why) if cannot(&why) => {
                return Err(Trouble::Untold(
                    "this GPU has neither an energy counter nor a buffer of power samples",
                ));
            }
            Err(why) => return Err(trouble(CALL, &why)),
        };
        let mut samples: Vec<PowerSample> = samples
            .into_iter()
            .filter_map(|sample| {
                let milliwatts = match sample.value {
                    SampleValue::U32(value) => value,
                    SampleValue::U64(value) => u32::try_from(value).ok()?,
                    SampleValue::I64(value) => u32::try_from(value).ok()?,
                    SampleValue::F64(value) => value as u32,
                };
                Some(PowerSample {
                    at_unix_us: sample.timestamp,
                    milliwatts,
                })
            })
            .collect();
        Ok(Counted::Sampled(self.power.take(&mut samples)))
    }

    fn activity(&mut self) -> Result<Activity, Trouble> {
        let rarely = self.looks.is_multiple_of(RARELY);
        self.looks = self.looks.wrapping_add(1);
        if rarely {
            self.find_instances()?;
        }
        let samples = self.samples()?;
        let shared = samples == PerProcess::Untold
            || self.running.iter().any(|process| process.kind == Kind::Mps);
        if rarely || shared {
            self.list()?;
        }
        let busy = self.call("nvmlDeviceGetUtilizationRates", Handle::utilization_rates)?;
        let handle = self.handle.as_ref().ok_or(Trouble::Lost)?;
        let mig = self.mig.as_mut();
        Ok(Activity {
            at_unix_us: unix_us(),
            samples,
            overflowed: self.overflowed,
            running: self.running.clone(),
            slices: mig.as_ref().map_or(0, |mig| mig.slices()),
            instances: mig.map(|mig| mig.look(handle)).unwrap_or_default(),
            busy_percent: busy.ok().map(|rates| rates.gpu).filter(|gpu| *gpu <= 100),
        })
    }

    fn find_instances(&mut self) -> Result<(), Trouble> {
        let mode = self.call("nvmlDeviceGetMigMode", Handle::mig_mode)?;
        let is_on = mode.is_ok_and(|mode| mode.current == 1);
        let Some(handle) = self.handle.as_ref().filter(|_| is_on) else {
            self.mig = None;
            return Ok(());
        };
        self.mig.get_or_insert_with(Mig::default).find(handle);
        Ok(())
    }

    fn samples(&mut self) -> Result<PerProcess, Trouble> {
        const CALL: &str = "nvmlDeviceGetProcessUtilization";
        self.overflowed = false;
        if !self.tells_processes && !self.looks.is_multiple_of(RARELY) {
            return Ok(PerProcess::Untold);
        }
        // A clock that was set back would hide all that comes until it is there again.
        let since = self.seen_us.min(unix_us());
        self.seen_us = since;
        let answer = self.call(CALL, |handle| handle.process_utilization_stats(since))?;
        let told = match answer {
            Ok(told) => told,
            Err(NvmlError::NotFound | NvmlError::NoData) => Vec::new(),
            Err(why) if cannot(&why) || matches!(why, NvmlError::NoPermission) => {
                self.tells_processes = false;
                return Ok(PerProcess::Untold);
            }
            Err(why) => return Err(trouble(CALL, &why)),
        };
        self.tells_processes = true;
        // A stamp from the future would hide all that comes until then.
        let now = unix_us();
        let mut stamps: Vec<u64> = told.iter().map(|sample| sample.timestamp).collect();
        stamps.retain(|at| *at <= now);
        if let Some(latest) = stamps.iter().copied().max().filter(|at| *at > since) {
            let is_suspect = self.has_seen && overflow::has_hole(since, &mut stamps);
            if is_suspect {
                let all = self.call(CALL, |handle| handle.process_utilization_stats(0))?;
                let all = all.unwrap_or_default();
                let stamps = all.iter().map(|sample| sample.timestamp);
                self.overflowed = overflow::has_dropped(since, stamps);
            }
            self.seen_us = latest;
            self.has_seen = true;
        }
        Ok(PerProcess::Told(
            told.into_iter()
                .map(|sample| Sample {
                    pid: sample.pid,
                    at_unix_us: sample.timestamp,
                    sm: sample.sm_util,
                    memory: sample.mem_util,
                    encoder: sample.enc_util,
                    decoder: sample.dec_util,
                })
                .collect(),
        ))
    }

    /// Who has a context. A list that an old driver does not have is empty.
    fn list(&mut self) -> Result<(), Trouble> {
        let compute = self.call("nvmlDeviceGetComputeRunningProcesses", |handle| {
            handle
                .running_compute_processes()
                .or_else(|_| handle.running_compute_processes_v2())
        })?;
        let graphics = self.call("nvmlDeviceGetGraphicsRunningProcesses", |handle| {
            handle
                .running_graphics_processes()
                .or_else(|_| handle.running_graphics_processes_v2())
        })?;
        let mps = self.call(
            "nvmlDeviceGetMPSComputeRunningProcesses",
            Handle::mps_running_compute_processes,
        )?;
        self.running.clear();
        // Whoever is in two lists counts once, as what says most of how it shares the GPU.
        for (kind, list) in [
            (Kind::Mps, mps),
            (Kind::Compute, compute),
            (Kind::Graphics, graphics),
        ] {
            for process in list.unwrap_or_default() {
                let known = self.running.iter().any(|known| known.pid == process.pid);
                if !known && process.pid != 0 {
                    self.running.push(running(kind, &process));
                }
            }
        }
        Ok(())
    }
}

impl Source for Gpu {
    type Identity = Identity;
    type Answer = Answer;

    fn identity(&mut self) -> Identity {
        let mut identity = Identity {
            index: self.index,
            ..Identity::default()
        };
        if let Err(why) = self.find() {
            identity.oddities.push(why.to_string());
            return identity;
        }
        let mut text = |what, answer: Result<Result<String, NvmlError>, Trouble>| {
            let why = match answer {
                Ok(Ok(text)) if !text.is_empty() => return Some(text),
                Ok(Ok(_)) => "is empty".to_owned(),
                Ok(Err(why)) => why.to_string(),
                Err(why) => why.to_string(),
            };
            identity.oddities.push(format!("its {what}: {why}"));
            None
        };
        let uuid = text("UUID", self.call("nvmlDeviceGetUUID", Handle::uuid));
        let name = text("name", self.call("nvmlDeviceGetName", Handle::name));
        self.uuid.clone_from(&uuid);
        Identity {
            uuid,
            name,
            ..identity
        }
    }

    fn look(&mut self) -> Answer {
        if let Err(why) = self.find() {
            return Answer {
                energy: Err(why.clone()),
                activity: Err(why),
            };
        }
        Answer {
            energy: self.energy(),
            activity: self.activity(),
        }
    }
}

fn running(kind: Kind, process: &ProcessInfo) -> Running {
    let memory = match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) if bytes != UNKNOWN => Some(bytes),
        _ => None,
    };
    Running {
        pid: process.pid,
        kind,
        memory,
        gpu_instance: process.gpu_instance_id,
    }
}

/// Whether neither this GPU nor this driver can do it.
fn cannot(why: &NvmlError) -> bool {
    matches!(
        why,
        NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound
    )
}

fn is_lost(why: &NvmlError) -> bool {
    matches!(
        why,
        NvmlError::GpuLost | NvmlError::ResetRequired | NvmlError::Uninitialized
    )
}

fn trouble(call: &'static str, why: &NvmlError) -> Trouble {
    if matches!(why, NvmlError::GpuLost) {
        return Trouble::Lost;
    }
    Trouble::Refused {
        call,
        why: why.to_string(),
    }
}

fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_micros() as u64
}
