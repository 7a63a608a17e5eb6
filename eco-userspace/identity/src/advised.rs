// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What people are told when a source of names is in trouble.

/// Something that is wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advised {
    /// Where.
    pub place: String,
    /// What.
    pub what: String,
    /// What to do.
    pub advice: String,
}
