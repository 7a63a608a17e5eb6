// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What goes wrong, from when on for how long.

use std::{thread, time::Duration};

use serde::Deserialize;

/// The longest that a call hangs, in seconds.
const LONGEST: f64 = 3600.0;

/// A fault of some kind `W`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault<W> {
    /// On this GPU only.
    #[serde(default)]
    pub gpu: Option<usize>,
    /// In this function of the library only, by its name.
    #[serde(default)]
    pub call: Option<String>,
    /// From when, in seconds since the start.
    #[serde(default)]
    pub at: f64,
    /// For how long, in seconds.
    #[serde(default = "for_ever")]
    pub seconds: f64,
    /// What.
    pub what: W,
    /// The code, where calls fail with one.
    #[serde(default)]
    pub code: u32,
}

impl<W: PartialEq> Fault<W> {
    /// Whether it meets a call at `seconds`: on a GPU, or (`None`) on the library as a whole.
    #[must_use]
    pub fn meets(&self, gpu: Option<usize>, call: &str, seconds: f64) -> bool {
        // Without a GPU it is in all of them; in the library as a whole only where named.
        let here = match self.gpu {
            Some(_) => self.gpu == gpu,
            None => gpu.is_some() || self.call.is_some(),
        };
        let this = self.call.as_deref().is_none_or(|name| name == call);
        here && this && self.lasts_at(seconds)
    }

    /// Whether a GPU suffers from it, as `what`, at `seconds`.
    #[must_use]
    pub fn ails(&self, gpu: usize, what: &W, seconds: f64) -> bool {
        self.what == *what && self.is_on(gpu) && self.lasts_at(seconds)
    }

    /// Of those that are `what`, when the last began on a GPU before `seconds`.
    pub fn last_begun(faults: &[Self], gpu: usize, what: &W, seconds: f64) -> Option<f64> {
        let begun = faults
            .iter()
            .filter(|fault| fault.what == *what && fault.is_on(gpu) && fault.at <= seconds);
        begun.map(|fault| fault.at).reduce(f64::max)
    }

    /// Lets a call that is made at `seconds` return when this is over.
    pub fn sit_out(&self, seconds: f64) {
        let left = (self.at + self.seconds - seconds).clamp(0.0, LONGEST);
        thread::sleep(Duration::from_secs_f64(left));
    }

    fn is_on(&self, gpu: usize) -> bool {
        self.gpu.is_none_or(|at| at == gpu)
    }

    fn lasts_at(&self, seconds: f64) -> bool {
        seconds >= self.at && seconds < self.at + self.seconds
    }
}

/// What lasts where nothing else is said.
#[must_use]
pub fn for_ever() -> f64 {
    f64::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault<String> {
        crate::parse(&format!("what = \"ill\"\n{text}")).unwrap()
    }

    #[test]
    fn without_a_gpu_it_is_on_all_and_on_the_library_where_its_call_is_named() {
        let everywhere = fault("at = 1.0\nseconds = 1.0");
        assert!(everywhere.meets(Some(3), "power", 1.5));
        assert!(!everywhere.meets(None, "init", 1.5));
        assert!(!everywhere.meets(Some(3), "power", 2.0));
        let named = fault("call = \"init\"");
        assert!(named.meets(None, "init", 0.0));
        assert!(!named.meets(Some(0), "power", 0.0));
        assert!(!fault("gpu = 1").meets(Some(0), "power", 0.0));
    }

    #[test]
    fn the_last_one_that_began_is_found() {
        let faults = [1.0, 3.0, 9.0].map(|at| fault(&format!("at = {at:.1}")));
        let last = |seconds| Fault::last_begun(&faults, 0, &"ill".to_owned(), seconds);
        assert_eq!((last(0.5), last(5.0)), (None, Some(3.0)));
    }
}
