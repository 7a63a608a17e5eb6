// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A vendor's driver, asked without waiting for it.
//!
//! A driver in trouble answers late or never. So each device has a thread of its own that makes
//! the calls; whoever wants to know [asks](Device::ask), and takes the answer when it is there.

mod clock;
mod opening;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

pub use self::{
    clock::boottime_ns,
    opening::{NotOpened, Options},
};

/// Answers that nobody took; beyond these nothing is asked.
const MOST_WAITING: usize = 2;

/// What a device's thread does; made and used on that thread alone.
pub trait Source {
    /// Which device it is.
    type Identity: Clone + Send + 'static;
    /// What one look at it tells.
    type Answer: Send + 'static;

    /// Asked once, before the first look.
    fn identity(&mut self) -> Self::Identity;

    /// One look.
    fn look(&mut self) -> Self::Answer;
}

/// A device, asked through its own thread. Clones are the same device.
///
/// Each tick: [`ask`](Self::ask) early, and [`take`](Self::take) the answer when it is needed.
pub struct Device<I, A> {
    owner: Arc<Owner<I, A>>,
}

/// The driver has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver has not answered for {} ms", .waited.as_millis())]
pub struct Late {
    /// Since the question.
    pub waited: Duration,
}

impl<I, A> Clone for Device<I, A> {
    fn clone(&self) -> Self {
        Self {
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<I: Clone + Send + 'static, A: Send + 'static> Device<I, A> {
    /// Starts the thread, which makes its source itself.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start<S: Source<Identity = I, Answer = A>>(
        name: String,
        options: &Options,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new()),
            changed: Condvar::new(),
            deadline: options.deadline,
        });
        let for_thread = Arc::clone(&shared);
        let on_thread = options.on_thread;
        thread::Builder::new().name(name).spawn(move || {
            if let Some(first) = on_thread {
                first();
            }
            serve(&for_thread, make());
        })?;
        let owner = Arc::new(Owner { shared });
        Ok(Self { owner })
    }

    /// Which device it is, as soon as the driver has said; `None` if not by `until`.
    #[must_use]
    pub fn identity(&self, until: Instant) -> Option<I> {
        let mut state = self.owner.shared.lock();
        loop {
            if let Some(identity) = &state.identity {
                return Some(identity.clone());
            }
            state = self.owner.shared.wait(state, until)?;
        }
    }

    /// Asks, unless a question is open. Does not wait.
    pub fn ask(&self) {
        self.owner.shared.lock().ask(&self.owner.shared.changed);
    }

    /// The next answer. Asks if need be, and waits until the question's deadline at the longest:
    /// not at all where that has passed.
    ///
    /// # Errors
    /// When there is no answer yet.
    pub fn take(&self) -> Result<A, Late> {
        let shared = &self.owner.shared;
        let mut state = shared.lock();
        loop {
            if let Some(answer) = state.answers.pop_front() {
                return Ok(answer);
            }
            let asked = state.ask(&shared.changed);
            match shared.wait(state, asked + shared.deadline) {
                Some(changed) => state = changed,
                None => break self.give_up(asked),
            }
        }
    }

    /// For how long a question has been open, if one is.
    #[must_use]
    pub fn waiting(&self) -> Option<Duration> {
        self.owner.shared.lock().asked.map(|asked| asked.elapsed())
    }

    /// How often an answer was not there in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.owner.shared.lock().late
    }

    /// An answer that comes in this very moment waits for the next call.
    fn give_up(&self, asked: Instant) -> Result<A, Late> {
        self.owner.shared.lock().late += 1;
        Err(Late {
            waited: asked.elapsed(),
        })
    }
}

/// Tells the thread when the last [`Device`] goes.
struct Owner<I, A> {
    shared: Arc<Shared<I, A>>,
}

impl<I, A> Drop for Owner<I, A> {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

struct Shared<I, A> {
    state: Mutex<State<I, A>>,
    changed: Condvar,
    deadline: Duration,
}

struct State<I, A> {
    identity: Option<I>,
    /// A question that the thread has not answered.
    asked: Option<Instant>,
    answers: VecDeque<A>,
    late: u64,
    /// Nobody will ask again.
    closed: bool,
}

impl<I, A> State<I, A> {
    fn new() -> Self {
        Self {
            identity: None,
            asked: None,
            answers: VecDeque::new(),
            late: 0,
            closed: false,
        }
    }

    /// When the open question was asked, which may be now.
    fn ask(&mut self, changed: &Condvar) -> Instant {
        let now = Instant::now();
        if self.asked.is_none() && self.answers.len() < MOST_WAITING {
            self.asked = Some(now);
            changed.notify_all();
        }
        self.asked.unwrap_or(now)
    }
}

impl<I, A> Shared<I, A> {
    fn lock(&self) -> MutexGuard<'_, State<I, A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change; `None` once `until` has passed.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State<I, A>>,
        until: Instant,
    ) -> Option<MutexGuard<'a, State<I, A>>> {
        let left = until.checked_duration_since(Instant::now())?;
        let waited = self.changed.wait_timeout(state, left);
        Some(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// `false` when nobody will ask again.
    fn wait_for_question(&self) -> bool {
        let mut state = self.lock();
        while state.asked.is_none() && !state.closed {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    fn put(&self, answer: A) {
        let mut state = self.lock();
        state.asked = None;
        state.answers.push_back(answer);
        self.changed.notify_all();
    }
}

fn serve<S: Source>(shared: &Shared<S::Identity, S::Answer>, mut source: S) {
    let identity = source.identity();
    shared.lock().identity = Some(identity);
    shared.changed.notify_all();
    while shared.wait_for_question() {
        shared.put(source.look());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Answers when it is let.
    struct Slow(mpsc::Receiver<u64>);

    impl Source for Slow {
        type Identity = ();
        type Answer = u64;

        fn identity(&mut self) {}

        fn look(&mut self) -> u64 {
            self.0.recv().unwrap_or_default()
        }
    }

    fn start(deadline: Duration) -> (Device<(), u64>, mpsc::Sender<u64>) {
        let (let_go, waits) = mpsc::channel();
        let options = Options {
            deadline,
            ..Options::of("")
        };
        let device = Device::start("test".into(), &options, || Slow(waits)).unwrap();
        (device, let_go)
    }

    #[test]
    fn a_call_that_hangs_is_not_waited_for_again_and_its_answer_is_not_lost() {
        let (device, let_go) = start(Duration::ZERO);
        assert!(device.take().is_err());
        // However often: one question is open, and nothing more is asked.
        assert!(device.take().is_err());
        assert_eq!(device.late(), 2);
        assert!(device.waiting().is_some());
        let_go.send(1).unwrap();
        while device.waiting().is_some() {
            thread::yield_now();
        }
        assert_eq!(device.take(), Ok(1));
    }

    #[test]
    fn a_slow_driver_is_asked_again_before_its_last_answer_is_taken() {
        let (device, let_go) = start(Duration::from_secs(60));
        for round in 1..=3 {
            device.ask();
            let_go.send(round).unwrap();
            while device.waiting().is_some() {
                thread::yield_now();
            }
            device.ask();
            assert_eq!(device.take(), Ok(round));
            let_go.send(0).unwrap();
            assert_eq!(device.take(), Ok(0));
        }
    }

    #[test]
    fn one_device_that_hangs_does_not_hold_up_another() {
        let (hangs, _kept) = start(Duration::ZERO);
        let (works, let_go) = start(Duration::from_secs(60));
        hangs.ask();
        works.ask();
        let_go.send(3).unwrap();
        assert!(hangs.take().is_err());
        assert_eq!(works.take(), Ok(3));
    }
}
