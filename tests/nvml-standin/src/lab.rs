// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting a scripted driver up for a test; see [`crate::scenario`].

/// A folder with the library and its script.
pub type Lab = eco_driver_standin::Lab<Nvml>;

/// This library.
pub enum Nvml {}

impl eco_driver_standin::Library for Nvml {
    const NAME: &str = "libnvidia-ml.so.1";
    const BUILT: &str = "libeco_nvml_standin.so";
}
