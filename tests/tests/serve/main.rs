// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco serve`, from real stores, and in a real cluster.

mod cluster;
mod stores;
