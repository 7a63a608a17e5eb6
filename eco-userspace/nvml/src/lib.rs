// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the NVIDIA driver knows of its GPUs, asked without waiting for it.
//!
//! A driver in trouble answers late or never. So each GPU has a thread of its own ([`Device`])
//! that makes the calls; whoever wants to know asks, and takes the answer when it is there. One
//! [`Answer`] holds a GPU's energy and what each process did on it, from the same moment: the
//! meter room takes the one, the usage room the other.
//!
//! The library is loaded at run time and stays loaded: a call that hangs is still inside it.

mod answer;
mod device;
mod driver;
mod gpu;
mod mig;
mod overflow;
mod power;

pub use answer::{
    Activity, Answer, Counted, Energy, Identity, Instance, Kind, PerProcess, Running, Sample,
    Trouble,
};
pub use device::Device;
pub use driver::{Driver, LIBRARY, OpenError};
pub use eco_driver::{Late, NotOpened, Options};
pub use power::{PowerIntegral, PowerSample};
