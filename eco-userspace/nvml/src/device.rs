// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A GPU, whose answers have two parts: one for each of two rooms.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eco_driver::{Late, Options, Source};

use crate::answer::{Activity, Answer, Energy, Identity, Trouble};

/// A GPU, asked through its own thread.
///
/// Each tick: [`ask`](Self::ask) early, [`turn`](Self::turn) to the answer when it is needed,
/// and take its two parts, which two rooms want.
#[derive(Clone)]
pub struct Device {
    asked: eco_driver::Device<Identity, Answer>,
    parts: Arc<Mutex<Parts>>,
}

/// What nobody has taken of the answer that was turned to.
#[derive(Default)]
struct Parts {
    energy: Option<Result<Energy, Trouble>>,
    activity: Option<Result<Activity, Trouble>>,
}

impl Device {
    /// Starts the thread; see [`eco_driver::Device::start`].
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub(crate) fn start<S: Source<Identity = Identity, Answer = Answer>>(
        name: String,
        options: &Options,
        make: impl FnOnce() -> S + Send + 'static,
    ) -> io::Result<Self> {
        Ok(Self {
            asked: eco_driver::Device::start(name, options, make)?,
            parts: Arc::default(),
        })
    }

    /// Which GPU it is, as soon as the driver has said; `None` if not by `until`.
    #[must_use]
    pub fn identity(&self, until: Instant) -> Option<Identity> {
        self.asked.identity(until)
    }

    /// Asks, unless a question is open. Does not wait.
    pub fn ask(&self) {
        self.asked.ask();
    }

    /// Turns to the next answer, so that its parts can be taken; what nobody took of the one
    /// before is dropped. Asks if need be, and waits until the question's deadline at the
    /// longest: not at all where that has passed.
    ///
    /// # Errors
    /// When there is no answer yet.
    pub fn turn(&self) -> Result<(), Late> {
        *self.parts() = Parts::default();
        let answer = self.asked.take()?;
        *self.parts() = Parts {
            energy: Some(answer.energy),
            activity: Some(answer.activity),
        };
        Ok(())
    }

    /// What the GPU had drawn, by the answer that was turned to; once.
    #[must_use]
    pub fn energy(&self) -> Option<Result<Energy, Trouble>> {
        self.parts().energy.take()
    }

    /// What was done on it, by the answer that was turned to; once.
    #[must_use]
    pub fn activity(&self) -> Option<Result<Activity, Trouble>> {
        self.parts().activity.take()
    }

    /// For how long a question has been open, if one is.
    #[must_use]
    pub fn waiting(&self) -> Option<Duration> {
        self.asked.waiting()
    }

    /// How often an answer was not there in time.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.asked.late()
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Once;

    impl Source for Once {
        type Identity = Identity;
        type Answer = Answer;

        fn identity(&mut self) -> Identity {
            Identity::default()
        }

        fn look(&mut self) -> Answer {
            Answer {
                energy: Err(Trouble::Lost),
                activity: Ok(Activity::default()),
            }
        }
    }

    #[test]
    fn an_answer_has_two_parts_each_taken_once() {
        let patient = Options {
            deadline: Duration::from_secs(60),
            ..Options::of("")
        };
        let device = Device::start("test".into(), &patient, || Once).unwrap();
        device.turn().unwrap();
        assert_eq!(device.energy(), Some(Err(Trouble::Lost)));
        assert!(device.energy().is_none());
        assert!(device.activity().is_some());
        assert!(device.activity().is_none());
    }
}
