// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Recordings of `eco top`: a file of JSON lines.
//!
//! The first line says what it is; each of the others is a picture of the whole machine. A
//! picture is `whole`, or only what differs from the one before: most units rest most of the
//! time, and a line of a quiet machine is short. A whole one comes at least each minute, so that
//! a reader can start in the middle, and that a damaged line costs no more than a minute.

mod reader;
mod recorder;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use eco_agent::api::{Node, Unit, Units};
use serde::{Deserialize, Serialize};

use super::{kind::key, place::Scope};

pub(crate) use self::{reader::Recording, recorder::Recorder};

/// What a file of this version says of itself.
const SCHEMA: &str = "eco.top/1";
/// And of any version.
const SCHEMA_FAMILY: &str = "eco.top/";

/// The first line.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Header {
    /// `eco.top/1`.
    schema: String,
    /// The version of eco that wrote it.
    eco: String,
    /// How the agent knew CPU time.
    pub(super) tier: String,
    /// Seconds between two pictures, as wanted.
    pub(super) interval_seconds: f64,
}

/// A picture of the whole machine, or how it differs from the one before.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Line {
    /// Whether it stands for itself.
    whole: bool,
    /// The end of the tick, RFC 3339.
    at: String,
    /// The span that `watts` and `cpu_percent` are means over.
    window_seconds: f64,
    /// The machine.
    node: Node,
    /// Units that are new or differ; of a whole picture, all.
    units: Vec<Unit>,
    /// Ids of units that are not there any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gone: Vec<String>,
}

/// All units of a machine, by id.
type ById = BTreeMap<String, Unit>;

/// What tells a unit from all others: `KIND:KEY`, as the API's `within` has it.
fn id(unit: &Unit) -> String {
    format!("{}:{}", unit.kind, key(unit))
}

/// What of a picture of the whole machine lies in a scope, as the agent would have told it.
pub(super) fn part(mut whole: Units, scope: &Scope, top: Option<u32>) -> Units {
    let inside = |unit: &Unit| match &scope.within {
        None => true,
        Some(id) => unit.parents.iter().flatten().any(|parent| parent == id),
    };
    let kind = scope.kind.label();
    whole.units.retain(|unit| unit.kind == kind && inside(unit));
    whole.units.sort_by(|a, b| b.watts.total_cmp(&a.watts));
    let most = top.and_then(|top| usize::try_from(top).ok());
    whole.units.truncate(most.unwrap_or(usize::MAX));
    whole
}
