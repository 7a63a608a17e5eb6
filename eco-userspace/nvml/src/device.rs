// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A GPU and the thread that asks the driver about it.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::answer::{Activity, Answer, Energy, Identity, Trouble};

/// Answers that nobody turned to; beyond these nothing is asked.
const MOST_WAITING: usize = 2;

/// A GPU, asked through its own thread.
///
/// Each tick: [`ask`](Self::ask) early, [`turn`](Self::turn) to the answer when it is needed,
/// and take its two parts, which two rooms want.
#[derive(Clone)]
pub struct Device {
    owner: Arc<Owner>,
}

/// Tells the thread when the last [`Device`] goes.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// The driver has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver has not answered for {} ms", .waited.as_millis())]
pub struct Late {
    /// Since the question.
    pub waited: Duration,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    deadline: Duration,
}

#[derive(Default)]
struct State {
    identity: Option<Identity>,
    /// A question that the thread has not answered.
    asked: Option<Instant>,
    answers: VecDeque<Answer>,
    energy: Option<Result<Energy, Trouble>>,
    activity: Option<Result<Activity, Trouble>>,
    late: u64,
    /// Nobody will ask again.
    closed: bool,
}

/// What a GPU's thread does; made and used on that thread alone.
pub(crate) trait Source {
    /// Which GPU it is.
    fn identity(&mut self) -> Identity;
    /// One look at it.
    fn look(&mut self) -> Answer;
}

impl Device {
    /// Starts the thread, which makes its source itself. `deadline` is how long an answer is
    /// waited for, counted from the question.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(crate) fn start<S: Source>(
        name: String,
        deadline: Duration,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            deadline,
        });
        let for_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name(name)
            .spawn(move || serve(&for_thread, make()))?;
        let owner = Arc::new(Owner { shared });
        Ok(Self { owner })
    }

    /// Which GPU it is, as soon as the driver has said; `None` if not by `until`.
    #[must_use]
    pub fn identity(&self, until: Instant) -> Option<Identity> {
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

    /// Turns to the next answer, so that its parts can be taken; what nobody took of the one
    /// before is dropped. Asks if need be, and waits until the question's deadline at the
    /// longest: not at all where that has passed.
    ///
    /// # Errors
    /// When there is no answer yet.
    pub fn turn(&self) -> Result<(), Late> {
        let mut state = self.owner.shared.lock();
        (state.energy, state.activity) = (None, None);
        loop {
            if let Some(answer) = state.answers.pop_front() {
                state.energy = Some(answer.energy);
                state.activity = Some(answer.activity);
                return Ok(());
            }
            let asked = state.ask(&self.owner.shared.changed);
            match self
                .owner
                .shared
                .wait(state, asked + self.owner.shared.deadline)
            {
                Some(changed) => state = changed,
                None => break self.give_up(asked),
            }
        }
    }

    /// What the GPU had drawn, by the answer that was turned to; once.
    #[must_use]
    pub fn energy(&self) -> Option<Result<Energy, Trouble>> {
        self.owner.shared.lock().energy.take()
    }

    /// What was done on it, by the answer that was turned to; once.
    #[must_use]
    pub fn activity(&self) -> Option<Result<Activity, Trouble>> {
        self.owner.shared.lock().activity.take()
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

    /// An answer that comes in this very moment waits for the next turn.
    fn give_up(&self, asked: Instant) -> Result<(), Late> {
        self.owner.shared.lock().late += 1;
        Err(Late {
            waited: asked.elapsed(),
        })
    }
}

impl State {
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change; `None` once `until` has passed.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Instant,
    ) -> Option<MutexGuard<'a, State>> {
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

    fn put(&self, answer: Answer) {
        let mut state = self.lock();
        state.asked = None;
        state.answers.push_back(answer);
        self.changed.notify_all();
    }
}

fn serve(shared: &Shared, mut source: impl Source) {
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
        fn identity(&mut self) -> Identity {
            Identity::default()
        }

        fn look(&mut self) -> Answer {
            let microjoules = self.0.recv().unwrap_or_default();
            Answer {
                energy: Err(Trouble::Refused {
                    call: "test",
                    why: microjoules.to_string(),
                }),
                activity: Ok(Activity::default()),
            }
        }
    }

    fn start(deadline: Duration) -> (Device, mpsc::Sender<u64>) {
        let (let_go, waits) = mpsc::channel();
        let device = Device::start("test".into(), deadline, || Slow(waits)).unwrap();
        (device, let_go)
    }

    fn number(device: &Device) -> String {
        match device.energy() {
            Some(Err(Trouble::Refused { why, .. })) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_has_two_parts_each_taken_once() {
        let (device, let_go) = start(Duration::from_secs(60));
        let_go.send(7).unwrap();
        device.turn().unwrap();
        assert_eq!(number(&device), "7");
        assert!(device.energy().is_none());
        assert!(device.activity().is_some());
        assert!(device.activity().is_none());
    }

    #[test]
    fn a_call_that_hangs_is_not_waited_for_again_and_its_answer_is_not_lost() {
        let (device, let_go) = start(Duration::ZERO);
        assert!(device.turn().is_err());
        // However often: one question is open, and nothing more is asked.
        assert!(device.turn().is_err());
        assert_eq!(device.late(), 2);
        assert!(device.waiting().is_some());
        assert!(device.energy().is_none());
        let_go.send(1).unwrap();
        while device.waiting().is_some() {
            thread::yield_now();
        }
        device.turn().unwrap();
        assert_eq!(number(&device), "1");
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
            device.turn().unwrap();
            assert_eq!(number(&device), round.to_string());
            let_go.send(0).unwrap();
            device.turn().unwrap();
            assert_eq!(number(&device), "0");
        }
    }

    #[test]
    fn one_device_that_hangs_does_not_hold_up_another() {
        let (hangs, _kept) = start(Duration::ZERO);
        let (works, let_go) = start(Duration::from_secs(60));
        hangs.ask();
        works.ask();
        let_go.send(3).unwrap();
        assert!(hangs.turn().is_err());
        works.turn().unwrap();
        assert_eq!(number(&works), "3");
    }
}
