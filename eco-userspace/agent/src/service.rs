// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that owns the books: it ticks, and between two ticks answers what it is asked.
//!
//! Outlets hold no lock and no copy: they send a question and await the answer, so that a
//! machine which nobody asks pays for the tick alone.

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch};

use crate::{core::Core, own::memory};

/// A question: what to do with the books, between two ticks.
type Question = Box<dyn FnOnce(&mut Core) + Send>;

/// Asks the thread that owns the books.
#[derive(Clone)]
pub struct Handle {
    questions: mpsc::Sender<Question>,
    bell: std::sync::Arc<Bell>,
    ticks: watch::Receiver<u64>,
}

/// The thread is gone: the agent is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Stopping;

impl Handle {
    /// Does `question` between two ticks, and gives its answer.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        let asked = self.questions.send(Box::new(move |core| {
            // Whoever asked may have gone away: then nobody wants the answer.
            let _ = answer.send(question(core));
        }));
        asked.map_err(|_| Stopping)?;
        self.bell.ring();
        answered.await.map_err(|_| Stopping)
    }

    /// The same for a thread of its own, which waits.
    ///
    /// # Errors
    /// When the agent is stopping.
    pub fn ask_and_wait<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Result<T, Stopping> {
        let (answer, answered) = mpsc::channel();
        let asked = self.questions.send(Box::new(move |core| {
            let _ = answer.send(question(core));
        }));
        asked.map_err(|_| Stopping)?;
        self.bell.ring();
        answered.recv().map_err(|_| Stopping)
    }

    /// The number of the last tick, and of each that follows.
    #[must_use]
    pub fn ticks(&self) -> watch::Receiver<u64> {
        self.ticks.clone()
    }
}

/// The thread. Dropping it stops it after the counters are kept.
pub struct Service {
    handle: Handle,
    stop: mpsc::Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Ticks once, then starts the thread.
    ///
    /// # Errors
    /// When the kernel gives no thread or descriptor.
    pub fn start(mut core: Core) -> std::io::Result<Self> {
        let config = core.config.clone();
        core.history.start(&config.history, &config.procfs);
        core.tick();
        let (questions, asked) = mpsc::channel();
        let (stop, stopped) = mpsc::channel();
        let bell = std::sync::Arc::new(Bell::new()?);
        let (ticked, ticks) = watch::channel(core.ticks);
        let handle = Handle {
            questions,
            bell: bell.clone(),
            ticks,
        };
        let thread = std::thread::Builder::new()
            .name("eco-tick".into())
            .spawn(move || run(core, &asked, &stopped, &bell, &ticked))?;
        Ok(Self {
            handle,
            stop,
            thread: Some(thread),
        })
    }

    /// For those who ask.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        self.handle.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// By this tick the outlets and the history have started, on threads of their own.
const SETTLED_TICKS: u64 = 3;

fn run(
    mut core: Core,
    asked: &mpsc::Receiver<Question>,
    stopped: &mpsc::Receiver<()>,
    bell: &Bell,
    ticked: &watch::Sender<u64>,
) {
    let interval = core.config.interval;
    let mut next = Instant::now() + interval;
    loop {
        let now = Instant::now();
        if now >= next {
            core.tick();
            if core.ticks == SETTLED_TICKS {
                memory::release_code();
            }
            let _ = ticked.send(core.ticks);
            next += interval;
            // After a suspend, or a tick that took too long: no burst to catch up.
            if next < Instant::now() {
                next = Instant::now() + interval;
            }
        }
        wait(
            bell,
            core.usage.wakeup(),
            next.saturating_duration_since(Instant::now()),
        );
        bell.silence();
        // Before its ring is full; nearly always there is nothing to do.
        core.usage.fetch_deaths();
        while let Ok(question) = asked.try_recv() {
            question(&mut core);
        }
        if stopped.try_recv().is_ok() {
            core.tick();
            return;
        }
    }
}

/// Sleeps until the bell rings, the ring of deaths wants to be read, or the time is up.
fn wait(bell: &Bell, deaths: Option<RawFd>, at_most: Duration) {
    let mut wanted = [
        libc::pollfd {
            fd: bell.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        },
        libc::pollfd {
            fd: deaths.unwrap_or(-1),
            events: libc::POLLIN,
            revents: 0,
        },
    ];
    let timeout = libc::timespec {
        tv_sec: at_most.as_secs() as libc::time_t,
        tv_nsec: at_most.subsec_nanos().into(),
    };
    // SAFETY: two valid entries, a valid timeout, no signal mask; a negative fd is skipped.
    unsafe { libc::ppoll(wanted.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
}

/// Wakes the thread.
struct Bell(OwnedFd);

impl Bell {
    fn new() -> std::io::Result<Self> {
        // SAFETY: takes numbers; a descriptor that it returns is ours alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight valid bytes. It fails only when it has been rung 2^64 times unheard.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn silence(&self) {
        let mut count = [0u8; 8];
        // SAFETY: room for eight bytes. It fails when nobody rang.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}
