// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Waiting for a state of things. How long it takes is never what a test is about: the limit
//! only keeps a test that can no longer pass from hanging.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Longer than anything here takes on a machine that is a hundred times too slow.
const GIVE_UP: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `holds`.
///
/// # Errors
/// Names `what` when it never does.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    until_some(what, || holds().then_some(()))
}

/// Waits until there is something.
///
/// # Errors
/// Names `what` when there never is.
pub fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if since.elapsed() > GIVE_UP {
            bail!("waited {} s in vain: {what}", GIVE_UP.as_secs());
        }
        thread::sleep(LOOK_EVERY);
    }
}
