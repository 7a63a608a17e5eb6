// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The thread that writes, and the hand-over to it: whoever measures never waits for a disk.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    file::{self, FileError},
    retention::Retention,
    sample::Sample,
    writer::Writer,
};

/// How many samples may wait for the disk; more are merged into one.
const MOST_WAITING: usize = 30;

/// After how many samples a file that could not be opened is tried again.
const RETRY: u64 = 30;

/// How the history fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What is wrong, and what to do; `None` while samples are written.
    pub problem: Option<String>,
    /// Samples written since this recorder started.
    pub written: u64,
    /// Samples that were merged with the next, as the disk was slow or full.
    pub merged: u64,
    /// How much of the file is in use, in bytes.
    pub bytes: u64,
}

/// Hands samples to its thread. Dropping it writes what waits, and ends the thread.
pub struct Recorder {
    path: PathBuf,
    samples: Option<SyncSender<Sample>>,
    waiting: Option<Sample>,
    merged: u64,
    status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread, which opens the file: no more than that is waited for here.
    ///
    /// # Errors
    /// When the kernel gives no thread.
    pub fn start(path: &Path, retention: Retention) -> std::io::Result<Self> {
        let (samples, taken) = mpsc::sync_channel(MOST_WAITING);
        let status = Arc::new(Mutex::new(Status::default()));
        let keeper = Keeper {
            path: path.to_owned(),
            retention,
            writer: None,
            unwritten: None,
            tries: 0,
            is_final: false,
            status: status.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("eco-history".into())
            .spawn(move || keeper.run(&taken))?;
        Ok(Self {
            path: path.to_owned(),
            samples: Some(samples),
            waiting: None,
            merged: 0,
            status,
            thread: Some(thread),
        })
    }

    /// Hands a sample over, and never waits: where the disk is behind, it is merged with the
    /// next, so that what was used is kept and only its second is lost.
    pub fn put(&mut self, sample: Sample) {
        let sample = match self.waiting.take() {
            Some(mut waiting) => {
                waiting.merge(sample);
                self.merged += 1;
                waiting
            }
            None => sample,
        };
        let Some(samples) = &self.samples else {
            return;
        };
        if let Err(TrySendError::Full(sample) | TrySendError::Disconnected(sample)) =
            samples.try_send(sample)
        {
            self.waiting = Some(sample);
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it fares.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        status.merged += self.merged;
        status
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let (Some(samples), Some(waiting)) = (self.samples.take(), self.waiting.take()) {
            // The agent is ending: here a disk may be waited for.
            let _ = samples.send(waiting);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Keeper {
    path: PathBuf,
    retention: Retention,
    writer: Option<Writer>,
    /// What could not be written yet.
    unwritten: Option<Sample>,
    /// Samples since the file was tried last.
    tries: u64,
    /// Whether trying again makes no sense: a newer file, somebody else's.
    is_final: bool,
    status: Arc<Mutex<Status>>,
}

impl Keeper {
    fn run(mut self, samples: &Receiver<Sample>) {
        self.open();
        while let Ok(sample) = samples.recv() {
            if self.is_final {
                continue;
            }
            if self.writer.is_none() {
                self.tries += 1;
                if self.tries >= RETRY {
                    self.open();
                }
            }
            self.take(sample);
        }
    }

    fn take(&mut self, sample: Sample) {
        let sample = match self.unwritten.take() {
            Some(mut unwritten) => {
                unwritten.merge(sample);
                lock(&self.status).merged += 1;
                unwritten
            }
            None => sample,
        };
        let Some(writer) = &mut self.writer else {
            self.unwritten = Some(sample);
            return;
        };
        match writer.put(&sample) {
            Ok(()) => {
                let bytes = writer.used_bytes().unwrap_or_default();
                let mut status = lock(&self.status);
                status.written += 1;
                status.bytes = bytes;
                if status.problem.take().is_some() {
                    tracing::info!("the history is written again");
                }
            }
            Err(FileError::Damaged { why, .. }) => {
                self.writer = None;
                self.unwritten = Some(sample);
                self.begin_anew(&why);
            }
            Err(why) => {
                self.unwritten = Some(sample);
                self.fail(format!(
                    "{why}; samples are kept in memory, added up, until it can be written again"
                ));
            }
        }
    }

    fn open(&mut self) {
        self.tries = 0;
        match Writer::open(&self.path, self.retention.clone()) {
            Ok(writer) => self.writer = Some(writer),
            Err(FileError::Damaged { why, .. }) => self.begin_anew(&why),
            Err(why @ (FileError::Newer { .. } | FileError::Foreign(_))) => {
                self.is_final = true;
                self.fail(format!("{why}; no history is written"));
            }
            Err(why) => self.fail(format!(
                "{why}; no history is written until it can be; make the folder writable or name \
                 another file with history.path"
            )),
        }
    }

    /// Sets a damaged file aside and begins another, which says so.
    fn begin_anew(&mut self, damage: &str) {
        let begun = file::set_aside(&self.path).and_then(|aside| {
            let writer = Writer::open(&self.path, self.retention.clone())?;
            let what = format!(
                "a damaged history ({damage}) was set aside as {}; a new one begins here",
                aside.display()
            );
            tracing::error!(what, "history");
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            writer.note(crate::signed(now.as_secs()), &what)?;
            Ok(writer)
        });
        match begun {
            Ok(writer) => self.writer = Some(writer),
            Err(why) => {
                self.is_final = true;
                self.fail(format!("{why}; no history is written"));
            }
        }
    }

    fn fail(&self, problem: String) {
        let mut status = lock(&self.status);
        if status.problem.as_ref() != Some(&problem) {
            tracing::error!(problem, "history");
            status.problem = Some(problem);
        }
    }
}

/// A thread that panicked left a status that is still one.
fn lock(status: &Mutex<Status>) -> std::sync::MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, samples: i64) -> Status {
        let mut recorder = Recorder::start(path, Retention::default()).unwrap();
        for at in 0..samples {
            recorder.put(Sample {
                at: 1_800_000_000 + at,
                span_ms: 1,
                ..Sample::default()
            });
        }
        let status = recorder.status.clone();
        drop(recorder);
        lock(&status).clone()
    }

    fn span_ms(path: &Path) -> i64 {
        let db = file::open_to_read(path).unwrap();
        db.query_row("SELECT sum(span_ms) FROM node_seconds", [], |row| {
            row.get(0)
        })
        .unwrap()
    }

    #[test]
    fn a_disk_that_is_slower_than_the_samples_costs_none_of_what_they_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::FILE_NAME);
        // Far more than may wait, and faster than any thread starts.
        let status = put(&path, 1_000);
        assert_eq!(status.problem, None);
        assert_eq!(span_ms(&path), 1_000);
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_new_one_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::FILE_NAME);
        std::fs::write(&path, [7; 5_000]).unwrap();
        assert_eq!(put(&path, 3).problem, None);
        assert_eq!(span_ms(&path), 3);
        let db = file::open_to_read(&path).unwrap();
        let what: String = db
            .query_row("SELECT what FROM events", [], |row| row.get(0))
            .unwrap();
        assert!(what.contains("set aside as"), "{what}");
    }

    #[test]
    fn a_newer_file_is_left_alone_and_the_status_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::FILE_NAME);
        let db = file::open(&path).unwrap();
        db.execute_batch("PRAGMA user_version = 9").unwrap();
        drop(db);
        let problem = put(&path, 3).problem.unwrap();
        assert!(problem.contains("newer eco"), "{problem}");
    }
}
