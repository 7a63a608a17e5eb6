// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Carbon intensity of electricity: what a kWh emits, who says so, and until when.
//!
//! - [`quantity`] has the units, [`intensity`] a value with its provenance.
//! - [`emissions`] multiplies: energy at an intensity, exactly, so that shares add up.
//! - [`zones`] is a bundled table of yearly averages, each with source, year and licence.
//!
//! Nothing here asks the network, keeps a clock or does I/O.

pub mod emissions;
pub mod intensity;
pub mod quantity;
pub mod zones;

pub use emissions::{Emissions, Rate};
pub use intensity::{Intensity, IntensityError, Kind};
pub use quantity::{GramsCo2e, GramsPerKwh, OutOfRange, Pue};
