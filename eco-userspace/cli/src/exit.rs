// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How a command ends: the exit status, and the message that explains it.

use std::{io::Write as _, process::ExitCode};

/// Done.
pub(crate) const DONE: u8 = 0;
/// Wrong usage or input.
pub(crate) const USAGE: u8 = 2;
/// Something needed is not there: no permission, no meter, no server.
pub(crate) const ABSENT: u8 = 3;

/// Why a command could not do its work: what was wrong, where, and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// For stderr, without the `eco: ` in front.
    pub(crate) message: String,
}

impl Failure {
    /// Something needed is not there.
    pub(crate) fn absent(message: impl Into<String>) -> Self {
        Self {
            status: ABSENT,
            message: message.into(),
        }
    }

    /// Wrong usage or input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            status: USAGE,
            message: message.into(),
        }
    }
}

/// An exit status, or a failure that has one.
pub(crate) type Outcome = Result<u8, Failure>;

/// Reports a failure on stderr, and gives the status to exit with.
pub(crate) fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            warn(&failure.message);
            ExitCode::from(failure.status)
        }
    }
}

/// Tells a person something on stderr. A stderr that is closed is no reason to fail.
pub(crate) fn warn(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "eco: {message}");
}
