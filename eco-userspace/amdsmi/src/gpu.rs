// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One GPU, on its own thread.

use eco_driver::{Source, boottime_ns};

use crate::{
    energy::{Energy, Unit},
    library::{Library, Processor, Status},
};

/// Which GPU it is, and whether it can tell its energy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its PCI address as the kernel writes it, `0000:03:00.0`.
    pub address: Result<String, Trouble>,
    /// Its first look.
    pub energy: Result<Energy, Trouble>,
}

/// Why a GPU did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// This GPU, or this driver of the kernel's, does not tell.
    #[error("amd-smi does not tell the energy of this GPU")]
    Untold,
    /// The accumulator is no number that one can be.
    #[error("its energy accumulator reads {counts} counts of {microjoules} µJ: that is none")]
    Nonsense {
        /// What was told.
        counts: u64,
        /// Likewise.
        microjoules: String,
    },
    /// The library refused.
    #[error("{call}: {}", .status.meaning())]
    Refused {
        /// What was asked.
        call: &'static str,
        /// What it answered.
        status: Status,
    },
}

/// A GPU as its thread sees it.
pub(crate) struct Gpu {
    library: &'static Library,
    processor: Processor,
}

impl Gpu {
    pub(crate) fn new(library: &'static Library, processor: Processor) -> Self {
        Self { library, processor }
    }
}

impl Source for Gpu {
    type Identity = Identity;
    type Answer = Result<Energy, Trouble>;

    fn identity(&mut self) -> Identity {
        let address = self.library.address(self.processor);
        Identity {
            address: address.map(written).map_err(|status| Trouble::Refused {
                call: "amdsmi_get_gpu_device_bdf",
                status,
            }),
            energy: self.look(),
        }
    }

    fn look(&mut self) -> Result<Energy, Trouble> {
        let before_ns = boottime_ns();
        let answer = self.library.energy(self.processor);
        let after_ns = boottime_ns();
        let (counts, microjoules) = answer.map_err(|status| match status {
            Status::NOT_SUPPORTED | Status::NOT_YET_IMPLEMENTED => Trouble::Untold,
            status => Trouble::Refused {
                call: "amdsmi_get_energy_count",
                status,
            },
        })?;
        // All ones is how the kernel's table of metrics says that the firmware has none.
        if counts == u64::MAX {
            return Err(Trouble::Untold);
        }
        let unit = Unit::of(microjoules).filter(|unit| unit.microjoules(counts).is_some());
        let unit = unit.ok_or_else(|| Trouble::Nonsense {
            counts,
            microjoules: microjoules.to_string(),
        })?;
        Ok(Energy {
            counts,
            unit,
            before_ns,
            after_ns,
        })
    }
}

/// `amdsmi_bdf_t`: function in 3 bits, device in 5, bus in 8, and the domain in the rest.
fn written(bits: u64) -> String {
    let (domain, bus) = (bits >> 16, (bits >> 8) & 0xff);
    let (device, function) = ((bits >> 3) & 0x1f, bits & 7);
    format!("{domain:04x}:{bus:02x}:{device:02x}.{function}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_the_kernel_does() {
        assert_eq!(written(0x0300), "0000:03:00.0");
        assert_eq!(written(0x1_c1fd), "0001:c1:1f.5");
        assert_eq!(written(0x1_0000_0000), "10000:00:00.0");
    }
}
