// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What ROCm's `libamd_smi.so` knows of AMD GPUs and the kernel's files do not tell: the energy
//! that each has drawn, by the accumulator of its firmware.
//!
//! Each GPU has a thread of its own that makes the calls ([`eco_driver`]). The library is loaded
//! at run time and stays loaded: a call that hangs is still inside it.
//!
//! Who used a GPU is not asked here: amd-smi's process list is read from the same files of the
//! kernel (`fdinfo`, `/sys/class/kfd`) that `eco-usage` reads itself, and its record has had
//! three shapes since ROCm 5.

mod driver;
mod energy;
mod gpu;
mod library;

pub use driver::{Driver, LIBRARY, OpenError};
pub use eco_driver::{Late, NotOpened, Options};
pub use energy::{Energy, Unit};
pub use gpu::{Identity, Trouble};

/// A GPU, asked through its own thread.
pub type Device = eco_driver::Device<Identity, Result<Energy, Trouble>>;
