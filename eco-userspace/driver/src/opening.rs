// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Opening a driver's library, which may hang before there is a device to ask.

use std::{
    ffi::{OsStr, OsString},
    io,
    sync::mpsc,
    thread,
    time::Duration,
};

/// How to open a driver.
#[derive(Clone, Debug)]
pub struct Options {
    /// The library: a path, or a name that the loader looks up.
    pub library: OsString,
    /// How long an answer is waited for. Asking a firmware for its metrics takes some
    /// milliseconds; an NVML call well under 10 ms (zeus, `docs/measure`), a MIG one 50 to
    /// 100 ms (Kepler's measurements).
    pub deadline: Duration,
    /// How long the driver may take to start and to find its devices: without
    /// nvidia-persistenced NVIDIA's wakes every GPU first, which takes seconds.
    pub patience: Duration,
    /// Done first by every thread that will make calls: to give up privileges.
    pub on_thread: Option<fn()>,
}

/// A driver that could not even be asked to start.
#[derive(Debug, thiserror::Error)]
pub enum NotOpened {
    /// The kernel gives no thread.
    #[error(transparent)]
    NoThread(#[from] io::Error),
    /// It did not start in time.
    #[error("the driver has not answered for {} s", .0.as_secs())]
    Hangs(Duration),
}

impl Options {
    /// The usual ones, for a library of this name.
    #[must_use]
    pub fn of(library: &str) -> Self {
        Self {
            library: library.into(),
            deadline: Duration::from_millis(100),
            patience: Duration::from_secs(10),
            on_thread: None,
        }
    }

    /// Loads and starts the library with `start`, on a thread of that name: it may hang here
    /// already.
    ///
    /// # Errors
    /// When there is no thread, or `start` is not done within the patience.
    pub fn open<T: Send + 'static>(
        &self,
        name: &str,
        start: impl FnOnce(&OsStr) -> T + Send + 'static,
    ) -> Result<T, NotOpened> {
        let (opened, answer) = mpsc::channel();
        let library = self.library.clone();
        thread::Builder::new().name(name.into()).spawn(move || {
            // Nobody listens any more if it took too long.
            let _ = opened.send(start(&library));
        })?;
        answer
            .recv_timeout(self.patience)
            .map_err(|_| NotOpened::Hangs(self.patience))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_does_not_start_is_not_waited_for_beyond_the_patience() {
        let options = Options {
            patience: Duration::from_millis(1),
            ..Options::of("lib.so")
        };
        let (release, held) = mpsc::channel::<()>();
        let opened = options.open("test-open", move |_| held.recv());
        assert!(matches!(opened, Err(NotOpened::Hangs(_))));
        drop(release);
    }

    #[test]
    fn what_starts_is_told_its_librarys_name() {
        let opened = Options::of("lib.so").open("test-open", OsStr::to_owned);
        assert_eq!(opened.unwrap(), "lib.so");
    }
}
