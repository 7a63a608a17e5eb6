// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Meters that are asked rather than read: each on a thread of its own, so that an answer that
//! takes long, or never comes, delays no tick.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Descriptor, Finding, Load, Meter, MeterError, Microjoules, Quality, Reading, Window,
    boottime_ns, slow::Slow,
};

/// Answers that no tick has fetched are kept up to so many, an hour's worth of the fastest probe.
const MOST_KEPT: usize = 4_096;

/// A source that is silent for so long is said to hang.
const SILENT_NS: u64 = 30_000_000_000;

/// How long a stopped thread is waited for: time to log out, if the other side still answers.
const STOPPING: Duration = Duration::from_secs(1);

/// Something that tells a power when it is asked, and may take its time.
pub(crate) trait Probe: Send + 'static {
    /// The power now, in µW.
    ///
    /// # Errors
    /// For people: what is wrong, and what to do.
    fn ask(&mut self) -> Result<u64, String>;

    /// What a person should know of it, beside the error.
    fn notes(&self) -> Vec<Finding> {
        Vec::new()
    }
}

/// A thread that asks a [`Probe`] again and again.
pub(crate) struct Background {
    shared: Arc<Shared>,
}

/// One answer, and between which moments it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) window: Window,
    pub(crate) power: Result<u64, String>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    answered: u64,
    notes: Vec<Finding>,
    stop: bool,
    stopped: bool,
}

impl Background {
    /// Starts asking, every `period`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(name: &str, period: Duration, mut probe: impl Probe) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                give_up_privileges();
                while inside.ask(&mut probe, period) {}
                drop(probe);
                inside.lock().stopped = true;
                inside.changed.notify_all();
            })?;
        Ok(Self { shared })
    }

    /// Waits for the first answer, and tells how it turned out; `None` if it does not come.
    pub(crate) fn first(&self, patience: Duration) -> Option<Result<(), String>> {
        let state = self.shared.wait_until(patience, |state| state.answered > 0);
        let first = state.answers.front()?;
        Some(first.power.clone().map(|_| ()))
    }

    fn fetch(&self) -> (Vec<Answer>, Vec<Finding>) {
        let mut state = self.shared.lock();
        (state.answers.drain(..).collect(), state.notes.clone())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        drop(self.shared.wait_until(STOPPING, |state| state.stopped));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until(
        &self,
        patience: Duration,
        is_there: impl Fn(&State) -> bool,
    ) -> MutexGuard<'_, State> {
        let waiting = self
            .changed
            .wait_timeout_while(self.lock(), patience, |state| !is_there(state));
        waiting.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Asks once and waits for the next time. False: stop.
    fn ask(&self, probe: &mut impl Probe, period: Duration) -> bool {
        let asked = Instant::now();
        let before_ns = boottime_ns();
        let power = probe.ask();
        let window = Window {
            before_ns,
            after_ns: boottime_ns(),
        };
        let mut state = self.lock();
        if state.answers.len() == MOST_KEPT {
            state.answers.pop_front();
        }
        state.answers.push_back(Answer { window, power });
        state.answered += 1;
        state.notes = probe.notes();
        drop(state);
        self.changed.notify_all();
        let rest = period.saturating_sub(asked.elapsed());
        !self.wait_until(rest, |state| state.stop).stop
    }
}

/// The meter of a source that is asked in the background and changes in steps.
pub(crate) struct SteppedMeter {
    descriptor: Descriptor,
    place: String,
    background: Background,
    slow: Slow,
    /// Whether a power was ever told.
    has_begun: bool,
    /// When something was last heard, good or bad.
    heard_ns: Option<u64>,
    trouble: Option<String>,
    notes: Vec<Finding>,
    /// Why it is no meter yet.
    awaited: Option<Finding>,
}

impl SteppedMeter {
    /// `place` is what errors name.
    pub(crate) fn new(descriptor: Descriptor, place: String, background: Background) -> Self {
        Self {
            descriptor,
            place,
            background,
            slow: Slow::new(),
            has_begun: false,
            heard_ns: None,
            trouble: None,
            notes: Vec::new(),
            awaited: None,
        }
    }

    /// With what is to be said until the source answers for the first time.
    pub(crate) fn awaited(mut self, why: Option<Finding>) -> Self {
        self.awaited = why;
        self
    }

    /// Takes in what was answered meanwhile.
    fn take(&mut self, answers: Vec<Answer>, now_ns: u64) -> Result<Reading, MeterError> {
        let mut quality = None;
        for answer in answers {
            self.heard_ns = Some(now_ns);
            match answer.power {
                Ok(microwatts) => {
                    self.trouble = None;
                    self.has_begun = true;
                    self.awaited = None;
                    let step = self.slow.observe(answer.window.middle_ns(), microwatts);
                    quality = Some(match (quality, step) {
                        (Some(Quality::Reset), _) => Quality::Reset,
                        (Some(Quality::Measured), Quality::Still(_)) => Quality::Measured,
                        _ => step,
                    });
                }
                Err(why) => self.trouble = Some(why),
            }
        }
        let silent = now_ns.saturating_sub(*self.heard_ns.get_or_insert(now_ns));
        if silent > SILENT_NS {
            let why = format!("has not answered for {} s", silent / 1_000_000_000);
            self.trouble = Some(why);
        }
        if let Some(why) = self.trouble.clone().filter(|_| quality.is_none()) {
            return Err(MeterError::NoAnswer {
                place: self.place.clone(),
                why,
            });
        }
        if !self.has_begun {
            return Err(MeterError::NoAnswer {
                place: self.place.clone(),
                why: "has not answered yet".to_owned(),
            });
        }
        Ok(Reading {
            total: Microjoules(self.slow.total()),
            window: self.slow.window(),
            quality: quality.unwrap_or_else(|| self.slow.standing()),
        })
    }
}

impl Meter for SteppedMeter {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn read(&mut self, _load: &Load) -> Result<Reading, MeterError> {
        let (answers, notes) = self.background.fetch();
        self.notes = notes;
        self.take(answers, boottime_ns())
    }

    fn update_period(&self) -> Option<Duration> {
        self.slow.period()
    }

    fn notes(&self) -> Vec<Finding> {
        let awaited = self.awaited.iter();
        awaited.chain(&self.notes).cloned().collect()
    }
}

/// A thread that parses what another machine sends needs no privilege, and keeps none: what it
/// reads was opened before. Where the kernel refuses, it goes on with what it has.
fn give_up_privileges() {
    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: a plain flag of this thread; no pointer is passed.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the header names this thread (pid 0) and version 3, whose data are two records of
    // three u32 each; both arrays outlive the call and are only read.
    unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{Domain, Source};

    const SECOND: u64 = 1_000_000_000;
    const PATIENCE: Duration = Duration::from_secs(60);

    struct Scripted(mpsc::Receiver<Result<u64, String>>);

    impl Probe for Scripted {
        fn ask(&mut self) -> Result<u64, String> {
            // A closed script hangs up, as a controller that reboots.
            self.0.recv().unwrap_or(Err("hung up".into()))
        }
    }

    fn meter() -> (mpsc::Sender<Result<u64, String>>, SteppedMeter) {
        let (say, script) = mpsc::channel();
        let background = Background::start("test", Duration::ZERO, Scripted(script)).unwrap();
        let descriptor = Descriptor {
            name: "bmc".into(),
            domain: Domain::Board,
            device: "bmc".into(),
            source: Source::Ipmi,
        };
        (say, SteppedMeter::new(descriptor, "bmc".into(), background))
    }

    fn answer(second: u64, watts: u64) -> Answer {
        Answer {
            window: Window {
                before_ns: second * SECOND,
                after_ns: second * SECOND,
            },
            power: Ok(watts * 1_000_000),
        }
    }

    #[test]
    fn a_source_that_does_not_answer_delays_no_read() {
        let (say, mut meter) = meter();
        // The probe is stuck in its first question now; this returns all the same.
        let error = meter.read(&Load::default()).unwrap_err().to_string();
        assert!(error.contains("has not answered yet"), "{error}");
        say.send(Ok(100_000_000)).unwrap();
        assert_eq!(meter.background.first(PATIENCE), Some(Ok(())));
        meter.read(&Load::default()).unwrap();
        drop(say);
    }

    #[test]
    fn an_error_is_told_until_an_answer_comes() {
        let (say, mut meter) = meter();
        say.send(Err("password refused".into())).unwrap();
        let first = meter.background.first(PATIENCE);
        assert_eq!(first, Some(Err("password refused".into())));
        for _ in 0..2 {
            let error = meter.read(&Load::default()).unwrap_err().to_string();
            assert_eq!(error, "bmc: password refused");
        }
        meter.take(vec![answer(1, 100)], SECOND).unwrap();
        meter.take(vec![], 2 * SECOND).unwrap();
        drop(say);
    }

    #[test]
    fn a_silence_is_named() {
        let (say, mut meter) = meter();
        meter.take(vec![answer(1, 100)], SECOND).unwrap();
        meter.take(vec![], 30 * SECOND).unwrap();
        let error = meter.take(vec![], 40 * SECOND).unwrap_err().to_string();
        assert_eq!(error, "bmc: has not answered for 39 s");
        drop(say);
    }

    #[test]
    fn answers_add_up_however_many_come_at_once() {
        let (say, mut meter) = meter();
        let script: Vec<Answer> = (0..600).map(|s| answer(s, 100 + s / 10 % 2)).collect();
        for chunk in script.chunks(7) {
            let now = chunk[chunk.len() - 1].window.after_ns;
            meter.take(chunk.to_vec(), now).unwrap();
        }
        let reading = meter.take(vec![], 600 * SECOND).unwrap();
        let joules = reading.total.joules().0;
        let seconds = reading.window.middle_ns() as f64 / 1e9;
        assert!((joules / (100.5 * seconds) - 1.0).abs() < 0.01, "{joules}");
        assert_eq!(meter.update_period(), Some(Duration::from_secs(10)));
        drop(say);
    }

    #[test]
    fn the_thread_has_no_capability_left() {
        struct Looks(mpsc::Sender<String>);
        impl Probe for Looks {
            fn ask(&mut self) -> Result<u64, String> {
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let _ = self.0.send(status);
                Ok(1)
            }
        }
        let (tell, told) = mpsc::channel();
        let _background = Background::start("test", PATIENCE, Looks(tell)).unwrap();
        let status = told.recv_timeout(PATIENCE).unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line("CapEff").ends_with("0000000000000000"));
        assert!(line("CapPrm").ends_with("0000000000000000"));
        assert!(line("NoNewPrivs").ends_with('1'));
    }
}
