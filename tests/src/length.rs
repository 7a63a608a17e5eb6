// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How long tests measure.
//!
//! Each change is tested in a few minutes; with `TEST_LENGTH=full` the same tests run as long
//! as the bars that they are held to say.

use std::env;

/// The variable that asks for the whole length. Not `ECO_…`: those are configuration, and the
/// agent refuses what it does not know.
pub const VARIABLE: &str = "TEST_LENGTH";

/// `full` where the whole length was asked for, else `short`.
#[must_use]
pub fn of<T>(short: T, full: T) -> T {
    if env::var_os(VARIABLE).is_some_and(|length| length == "full") {
        full
    } else {
        short
    }
}
