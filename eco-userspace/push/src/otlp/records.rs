// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What waits in a queue, sent in the envelope of its signal. Those of spans and of logs have the
//! same field numbers: a resource, a scope, and the records.

use std::sync::Arc;

use super::{BATCH, Resource, batch, rejected};
use crate::{
    destination::{Address, Destination, PushError},
    queue::Queue,
    wire::Writer,
};

/// A signal that is queued.
pub(super) struct Records {
    /// What its records are called in the log.
    name: &'static str,
    /// Where they are taken.
    address: &'static Address,
    queue: Arc<Queue>,
    out: Writer,
    /// Whether it is told already that they are not taken.
    is_told: bool,
}

impl Records {
    pub(super) fn new(name: &'static str, address: &'static Address, queue: Arc<Queue>) -> Self {
        Self {
            name,
            address,
            queue,
            out: Writer::default(),
            is_told: false,
        }
    }

    /// Sends all that wait; what is not taken waits on, unless it was refused for good.
    pub(super) fn send(&mut self, to: &Destination, resource: &Resource) {
        loop {
            let count = self.write(resource);
            if count == 0 {
                return;
            }
            match to.send(self.address, self.out.bytes()) {
                Ok(answer) => {
                    self.queue.remove(count);
                    let refused = usize::try_from(rejected(&answer)).unwrap_or(count);
                    self.taken(refused.min(count));
                }
                Err(why) if is_final(&why) => {
                    self.queue.remove(count);
                    self.queue.count_refused(count);
                    self.tell(&why, "refused; dropped");
                }
                Err(why) => {
                    self.tell(&why, "not taken; they wait");
                    return;
                }
            }
        }
    }

    /// One batch of the oldest; how many.
    fn write(&mut self, resource: &Resource) -> usize {
        let out = &mut self.out;
        out.clear();
        let (all, scope) = batch::envelope(out, resource);
        let count = self.queue.show(|record| {
            out.raw(2, record);
            out.len() < BATCH
        });
        out.close(scope);
        out.close(all);
        count
    }

    fn taken(&mut self, refused: usize) {
        if refused > 0 {
            self.queue.count_refused(refused);
            tracing::warn!(signal = self.name, refused, "the collector refused some");
        } else if std::mem::take(&mut self.is_told) {
            tracing::info!(signal = self.name, "taken again");
        }
    }

    fn tell(&mut self, why: &PushError, what: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(signal = self.name, error = %why, what);
        }
    }
}

/// Whether it makes no sense to try again, by the specification of OTLP: of all answers that are
/// no yes only 429, 502, 503 and 504 do, and of gRPC's statuses cancelled, too late, exhausted,
/// aborted, out of range, unavailable and data loss.
fn is_final(why: &PushError) -> bool {
    match why {
        PushError::Refused { status, .. } => !matches!(status, 429 | 502 | 503 | 504),
        PushError::Failed { code, .. } => !matches!(code, 1 | 4 | 8 | 10 | 11 | 14 | 15),
        PushError::Unreachable { .. } | PushError::File { .. } => false,
    }
}
