// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Samples and runs on disk: `carbon_history.db`, an SQLite file.
//!
//! - [`file`](mod@file) opens it: makes it, brings it up to date, refuses a newer one, sets a
//!   broken one aside.
//! - [`sample`] is what a tick leaves, [`writer`] puts it there and thins out what is old.
//! - [`run`] is a command or job that has ended, [`hardware`] what it ran on.
//! - [`recorder`] is the thread that does so, and the bounded hand-over to it.
//!
//! The schema is a promise: docs/history.md.

pub mod file;
pub mod hardware;
pub mod recorder;
pub mod retention;
pub mod run;
pub mod sample;
pub mod tier;
pub mod writer;

pub use rusqlite;

/// What the file is called, wherever it lies.
pub const FILE_NAME: &str = "carbon_history.db";

/// Unix time as the file keeps it: whole seconds.
pub type UnixSeconds = i64;

/// What a database holds is signed; nothing that eco counts comes near the difference.
#[must_use]
pub fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The way back: a negative number, which eco never writes, is none.
#[must_use]
pub fn unsigned(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}
