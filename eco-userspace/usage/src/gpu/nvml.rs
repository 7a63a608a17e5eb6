// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who used an NVIDIA GPU.

use std::time::Instant;

use eco_nvml::Device;

use super::{GpuError, GpuFrame, GpuSource, ledger::Ledger};

/// An NVIDIA GPU.
pub struct NvmlUse {
    device: Device,
    /// As soon as the driver has told it.
    uuid: Option<String>,
    ledger: Ledger,
}

impl NvmlUse {
    /// Watches `device`. Sampling turns it to its next answer, of which a meter may then take
    /// the energy.
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self {
            device,
            uuid: None,
            ledger: Ledger::default(),
        }
    }
}

impl GpuSource for NvmlUse {
    fn ask(&mut self) {
        self.device.ask();
    }

    fn sample(&mut self, frame: &mut GpuFrame) -> Result<(), GpuError> {
        frame.clear();
        self.device.turn()?;
        if let Some(activity) = self.device.activity() {
            if self.uuid.is_none() {
                let identity = self.device.identity(Instant::now());
                self.uuid = identity.and_then(|identity| identity.uuid);
            }
            self.ledger.take(&activity?, self.uuid.as_deref(), frame);
        }
        Ok(())
    }

    fn late(&self) -> u64 {
        self.device.late()
    }
}
