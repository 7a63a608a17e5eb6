// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The parts of a node that have meters of their own.

use serde::{Deserialize, Serialize};

/// Power that one meter counted: of a socket, a GPU, a board.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeMeter {
    /// `package-0`.
    pub name: String,
    /// `package`, `dram`, ….
    pub domain: String,
    /// Which socket or GPU.
    pub device: String,
    /// Power over the window, in W.
    pub watts: f64,
    /// The idle part of it; absent until a baseline is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_watts: Option<f64>,
    /// Whether this is an estimate.
    pub estimated: bool,
}
