// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting a scripted amd-smi up for a test; see [`crate::scenario`].

/// A folder with the library and its script.
pub type Lab = eco_driver_standin::Lab<AmdSmi>;

/// This library.
pub enum AmdSmi {}

impl eco_driver_standin::Library for AmdSmi {
    const NAME: &str = "libamd_smi.so";
    const BUILT: &str = "libeco_amd_smi_standin.so";
}
