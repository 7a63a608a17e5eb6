// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The script: `scenario.toml`.
//!
//! ```toml
//! [[gpu]]
//! address = "0000:03:00.0"
//! idle_watts = 60.0
//! [[gpu.load]]
//! start = 3.0
//! end = 9.0
//! watts = 120.0
//! ```

use eco_driver_standin::{ScriptError, for_ever};
use serde::Deserialize;

/// What goes wrong.
pub type Fault = eco_driver_standin::Fault<What>;

/// What the kernel says that one count of the accumulator is, in J.
const COUNT_JOULES: f64 = 1.0 / 65536.0;

/// How far behind an accumulator is that tells an old value.
const STALE_SECONDS: f64 = 2.0;

/// A machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The library's version. Up to 24 it begins with the year, as its record then does.
    #[serde(default = "recent")]
    pub version: String,
    /// When it began, in seconds of `CLOCK_BOOTTIME`; without it, when a program loads it.
    #[serde(default)]
    pub began: Option<f64>,
    /// What `amdsmi_init` returns; 0 for success.
    #[serde(default)]
    pub init: u32,
    /// The GPUs, each in a socket of its own.
    #[serde(default)]
    pub gpu: Vec<Gpu>,
    /// What goes wrong.
    #[serde(default)]
    pub fault: Vec<Fault>,
}

/// A GPU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Its PCI address, `0000:03:00.0`.
    pub address: String,
    /// Drawn whatever runs.
    pub idle_watts: f64,
    /// Where the accumulator stands at the start.
    #[serde(default)]
    pub counts: u64,
    /// How wide the firmware's accumulator is.
    #[serde(default = "widest")]
    pub bits: u32,
    /// What the library says that a count is worth, in µJ: rounded, as it does.
    #[serde(default = "rounded")]
    pub resolution: f32,
    /// What runs on it.
    #[serde(default)]
    pub load: Vec<Load>,
}

/// A time in which a GPU draws more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// From when, in seconds since the start.
    #[serde(default)]
    pub start: f64,
    /// Until when.
    #[serde(default = "for_ever")]
    pub end: f64,
    /// On top of idle.
    pub watts: f64,
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The call returns when the fault is over.
    Hang,
    /// The call fails with a code.
    Error,
    /// The accumulator reads 2^64-1.
    Unknown,
    /// The accumulator starts anew at that moment.
    Reset,
    /// The accumulator stands still.
    Frozen,
    /// The accumulator is two seconds behind (ROCm/amdsmi, issue 115).
    Stale,
}

impl Scenario {
    /// Understands a script.
    ///
    /// # Errors
    /// When it is no TOML, or has an unknown key.
    pub fn parse(text: &str) -> Result<Self, ScriptError> {
        eco_driver_standin::parse(text)
    }

    /// The hang or error that meets a call at `seconds`, if any.
    pub(crate) fn stop(&self, gpu: Option<usize>, call: &str, seconds: f64) -> Option<&Fault> {
        let mut faults = self.fault.iter();
        faults.find(|fault| {
            matches!(fault.what, What::Hang | What::Error) && fault.meets(gpu, call, seconds)
        })
    }

    /// What a GPU's accumulator reads at `seconds`.
    pub(crate) fn counts(&self, number: usize, gpu: &Gpu, seconds: f64) -> u64 {
        let faults = self.fault.iter();
        let ill = |what| {
            faults
                .clone()
                .find(|fault| fault.ails(number, &what, seconds))
        };
        if ill(What::Unknown).is_some() {
            return u64::MAX;
        }
        let seconds = match (ill(What::Frozen), ill(What::Stale)) {
            (Some(frozen), _) => frozen.at,
            (None, Some(_)) => (seconds - STALE_SECONDS).max(0.0),
            (None, None) => seconds,
        };
        let since = Fault::last_begun(&self.fault, number, &What::Reset, seconds);
        let joules = gpu.joules(since.unwrap_or(0.0), seconds);
        let before = if since.is_some() { 0 } else { gpu.counts };
        let counts = before.wrapping_add((joules / COUNT_JOULES) as u64);
        if gpu.bits < 64 {
            counts & ((1 << gpu.bits) - 1)
        } else {
            counts
        }
    }
}

impl Gpu {
    /// What it draws in `[from, to]`, in joules.
    #[must_use]
    pub fn joules(&self, from: f64, to: f64) -> f64 {
        let overlap = |load: &Load| (load.end.min(to) - load.start.max(from)).max(0.0);
        let loads: f64 = self
            .load
            .iter()
            .map(|load| load.watts * overlap(load))
            .sum();
        self.idle_watts * (to - from) + loads
    }

    /// The address as `amdsmi_bdf_t` packs it; `None` where it is no address.
    pub(crate) fn address_bits(&self) -> Option<u64> {
        let (domain, rest) = self.address.split_once(':')?;
        let (bus, rest) = rest.split_once(':')?;
        let (device, function) = rest.split_once('.')?;
        let hex = |text| u64::from_str_radix(text, 16).ok();
        Some(hex(domain)? << 16 | hex(bus)? << 8 | hex(device)? << 3 | hex(function)?)
    }
}

fn recent() -> String {
    "26.1.0".into()
}

fn widest() -> u32 {
    64
}

fn rounded() -> f32 {
    15.3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(script: &str, seconds: f64) -> u64 {
        let scenario = Scenario::parse(script).unwrap();
        scenario.counts(0, &scenario.gpu[0], seconds)
    }

    #[test]
    fn an_accumulator_integrates_what_is_drawn() {
        let script = "[[gpu]]\naddress = \"0:3:0.0\"\nidle_watts = 10.0\n\
                      [[gpu.load]]\nstart = 1.0\nend = 3.0\nwatts = 5.0";
        assert_eq!(counts(script, 2.0), 25 << 16);
        assert_eq!(counts(script, 10.0), 110 << 16);
    }

    #[test]
    fn a_narrow_one_wraps_and_a_reset_starts_anew() {
        let narrow = "[[gpu]]\naddress = \"0:3:0.0\"\nidle_watts = 1.0\nbits = 32\n\
                      counts = 4294901760";
        assert_eq!(counts(narrow, 0.0), 0xffff_0000);
        assert_eq!(counts(narrow, 2.0), 0x1_0000);
        let reset = "[[gpu]]\naddress = \"0:3:0.0\"\nidle_watts = 1.0\ncounts = 99\n\
                     [[fault]]\nat = 5.0\nwhat = \"reset\"";
        assert_eq!(counts(reset, 7.0), 2 << 16);
    }
}
