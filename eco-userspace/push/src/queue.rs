// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happened once and waits to be sent: bounded, so that a receiver that is down costs no
//! memory.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// In bytes, as they are sent. Some 1,000 spans of jobs.
pub const MOST_BYTES: usize = 1 << 20;

/// What the queue itself needs of memory for each.
const OVERHEAD: usize = 64;

/// Records (spans, lines of the log) in the form in which they are sent, oldest first. Who comes
/// when it is full is dropped and counted, as OpenTelemetry's own queues do.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl Queue {
    /// Adds one; whether there was room for it.
    pub(crate) fn offer(&self, record: Box<[u8]>) -> bool {
        let mut waiting = self.waiting();
        let bytes = waiting.bytes + record.len() + OVERHEAD;
        let has_room = bytes <= MOST_BYTES;
        if has_room {
            waiting.bytes = bytes;
            waiting.records.push_back(record);
        } else {
            self.dropped.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Shows the oldest to `write`, for as long as it says that there is room for more; how many
    /// those were. They stay until they are [`Self::remove`]d.
    pub(crate) fn show(&self, mut write: impl FnMut(&[u8]) -> bool) -> usize {
        let waiting = self.waiting();
        let mut shown = 0;
        for record in &waiting.records {
            shown += 1;
            if !write(record) {
                break;
            }
        }
        shown
    }

    /// Lets the oldest go, which were sent.
    pub(crate) fn remove(&self, count: usize) {
        let mut waiting = self.waiting();
        for _ in 0..count {
            let Some(record) = waiting.records.pop_front() else {
                break;
            };
            waiting.bytes -= record.len() + OVERHEAD;
        }
        if waiting.records.is_empty() {
            waiting.records.shrink_to(64);
        }
    }

    /// Counts some that the receiver did not want.
    pub(crate) fn count_refused(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Relaxed);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting().records.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were dropped so far: for want of room, or because the receiver refused them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it can leave it half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: usize) -> Box<[u8]> {
        vec![7; bytes].into()
    }

    #[test]
    fn a_queue_that_is_full_drops_what_comes_and_counts_it() {
        let queue = Queue::default();
        let fits = (0..10_000).filter(|_| queue.offer(record(1000))).count();
        assert_eq!(fits, MOST_BYTES / 1064);
        assert_eq!(queue.dropped(), 10_000 - fits as u64);
        queue.remove(1);
        assert!(queue.offer(record(1000)), "there is room again");
        assert!(!queue.offer(record(1000)));
        queue.remove(usize::MAX);
        assert!(queue.is_empty() && queue.offer(record(MOST_BYTES / 2)));
    }

    #[test]
    fn what_is_shown_stays_until_it_was_sent() {
        let queue = Queue::default();
        for bytes in [1, 2, 3] {
            queue.offer(record(bytes));
        }
        let mut seen = Vec::new();
        let shown = queue.show(|record| {
            seen.push(record.len());
            seen.len() < 2
        });
        assert_eq!((shown, seen), (2, vec![1, 2]));
        assert_eq!(queue.len(), 3);
        queue.remove(shown);
        queue.count_refused(1);
        assert_eq!((queue.len(), queue.dropped()), (1, 1));
    }
}
