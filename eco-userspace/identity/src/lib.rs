// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whose it was: from a cgroup's path to the container, service or job that lives there, and
//! from a user's number to a name.
//!
//! A path is read once per cgroup and kept with it; nothing here runs on the tick.

pub mod path;
pub mod users;

pub use path::{Home, classify};
pub use users::Users;
