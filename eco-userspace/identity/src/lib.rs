// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose it was: from a cgroup's path to the container, pod, job or service that lives there,
//! from a pod's uid to its names, and from a user's number to theirs.
//!
//! A path is read once per cgroup and kept with it. Whoever must be asked for a name is asked on
//! a thread of its own; the tick reads what is known.

mod advised;
pub mod kubernetes;
pub mod path;
pub mod slurm;
pub mod users;

pub use advised::Advised;
pub use path::{Home, classify};
pub use users::Users;
