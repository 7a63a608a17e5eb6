// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread of one receiver: shows, sends, and waits longer while nobody takes it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{destination::PushError, otlp::Otlp, remote_write::RemoteWrite};

/// The longest wait for a receiver that does not take anything.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What the agent shows.
pub trait Source: Send {
    /// The text of `/metrics`, in the buffer that is given back to be used again; `None` when
    /// the agent stops.
    fn show(&mut self, buffer: String) -> Option<Shown>;

    /// What was shown at that time was taken, all of it.
    fn taken(&mut self, at: Duration);
}

/// What was shown.
#[derive(Debug)]
pub struct Shown {
    /// In the text format 0.0.4.
    pub text: String,
    /// When, as the agent counts time.
    pub at: Duration,
}

/// How often an outlet was not heard. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Time in which nothing was taken, of gaps that are over, in ms.
    pub gap_ms: AtomicU64,
    /// Points that the receiver took the batch of, but not them.
    pub rejected: AtomicU64,
}

/// How what is shown is sent.
pub(crate) trait Protocol: Send {
    /// Sends all of it; how many points were rejected.
    fn push(&mut self, text: &str, now_ns: u64) -> Result<u64, PushError>;

    /// Sends what waits in queues, if there are any; what is not taken waits on.
    fn push_queued(&mut self) {}
}

/// An outlet. Dropped, it pushes once more and ends.
pub struct Outlet {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Outlet {
    /// Pushes by OTLP, each `interval`.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn otlp(
        otlp: Otlp,
        interval: Duration,
        source: impl Source + 'static,
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        Self::start("otlp", Box::new(otlp), interval, source, tally)
    }

    /// Pushes by remote-write, each `interval`.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn remote_write(
        remote_write: RemoteWrite,
        interval: Duration,
        source: impl Source + 'static,
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        Self::start(
            "remote-write",
            Box::new(remote_write),
            interval,
            source,
            tally,
        )
    }

    fn start(
        name: &'static str,
        protocol: Box<dyn Protocol>,
        interval: Duration,
        source: impl Source + 'static,
        tally: Arc<Tally>,
    ) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut worker = Worker {
            name,
            protocol,
            source: Box::new(source),
            tally,
            buffer: String::new(),
            failures: 0,
            since: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("eco-{name}"))
            .spawn(move || worker.run(interval, &stopped))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Worker {
    name: &'static str,
    protocol: Box<dyn Protocol>,
    source: Box<dyn Source>,
    tally: Arc<Tally>,
    buffer: String,
    failures: u32,
    /// Since when nothing was taken.
    since: Option<Instant>,
}

impl Worker {
    fn run(&mut self, interval: Duration, stopped: &mpsc::Receiver<()>) {
        let mut next = Instant::now();
        loop {
            let wait = next.saturating_duration_since(Instant::now());
            let ends = stopped.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout);
            let Some(pushed) = self.push() else { return };
            if ends {
                return;
            }
            let now = Instant::now();
            next = match pushed {
                // No burst to catch up.
                Ok(()) if next + interval > now => next + interval,
                Ok(()) => now + interval,
                Err(after) => now + after,
            };
        }
    }

    /// Pushes once; `Err` with the time to wait; `None` when the agent stops.
    fn push(&mut self) -> Option<Result<(), Duration>> {
        let shown = self.source.show(std::mem::take(&mut self.buffer))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ns = now.unwrap_or_default().as_nanos() as u64;
        let pushed = self.protocol.push(&shown.text, now_ns);
        self.buffer = shown.text;
        // Whoever cannot be reached is not asked twice in a row.
        if !matches!(pushed, Err(PushError::Unreachable { .. })) {
            self.protocol.push_queued();
        }
        match pushed {
            Ok(rejected) => {
                self.heard(rejected);
                self.source.taken(shown.at);
                Some(Ok(()))
            }
            Err(why) => Some(Err(self.unheard(&why))),
        }
    }

    fn heard(&mut self, rejected: u64) {
        if rejected > 0 {
            self.tally.rejected.fetch_add(rejected, Relaxed);
            tracing::warn!(outlet = self.name, rejected, "points were rejected");
        }
        let missed = std::mem::take(&mut self.failures);
        if let Some(since) = self.since.take() {
            let gap = since.elapsed();
            self.tally.gap_ms.fetch_add(gap.as_millis() as u64, Relaxed);
            tracing::info!(
                outlet = self.name,
                missed,
                seconds = gap.as_secs_f64(),
                "taken again; counters are right, what is between is missing"
            );
        }
    }

    fn unheard(&mut self, why: &PushError) -> Duration {
        self.tally.failures.fetch_add(1, Relaxed);
        self.since.get_or_insert_with(Instant::now);
        if self.failures == 0 {
            tracing::warn!(outlet = self.name, error = %why, "not taken; trying again");
        }
        self.failures += 1;
        wait(self.failures, why)
    }
}

/// 1 s, 2 s, 4 s, … or as the receiver wishes.
fn wait(failures: u32, why: &PushError) -> Duration {
    let wished = match why {
        PushError::Refused { after, .. } => *after,
        _ => None,
    };
    let doubled = Duration::from_secs(1 << failures.saturating_sub(1).min(16));
    wished.unwrap_or(doubled.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_get_longer_up_to_a_minute_unless_the_receiver_wishes_otherwise() {
        let down = PushError::Unreachable {
            url: String::new(),
            why: String::new(),
        };
        let waits: Vec<u64> = (1..9).map(|n| wait(n, &down).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(u32::MAX, &down), LONGEST_WAIT);
        let busy = PushError::Refused {
            url: String::new(),
            status: 429,
            said: String::new(),
            after: Some(Duration::from_secs(7)),
        };
        assert_eq!(wait(1, &busy).as_secs(), 7);
    }
}
