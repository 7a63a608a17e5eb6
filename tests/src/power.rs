// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A powercap tree whose truth is known: a machine that draws [`IDLE_WATTS`] and
//! [`WATTS_PER_CPU`] for each busy CPU, to the nanosecond of CPU time.
//!
//! The raw counter starts shortly before its end, so that every test lives through a wrap.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{cgroup::machine_cpu_file, programs};

/// What the machine draws when nothing runs.
pub const IDLE_WATTS: f64 = 20.0;

/// What each busy CPU draws on top.
pub const WATTS_PER_CPU: f64 = 10.0;

/// `max_energy_range_uj` as Intel client parts have it.
const RANGE_UJ: u64 = 262_143_328_850;

/// Where the raw counter starts.
const FIRST_UJ: u64 = RANGE_UJ - 150_000_000;

/// About as often as the real one (RAPL: each millisecond).
const UPDATE_EVERY: Duration = Duration::from_millis(2);

/// `dram` as a share of the package, where there is one: `1 / DRAM_PART`.
const DRAM_PART: u64 = 4;

/// The tree and the thread that drives its counters.
pub struct PowerTree {
    folder: tempfile::TempDir,
    shared: Arc<Mutex<Driver>>,
    thread: Option<JoinHandle<()>>,
}

impl PowerTree {
    /// One socket with a package counter.
    ///
    /// # Errors
    /// When the machine's CPU time is not known exactly, or files cannot be written.
    pub fn new() -> Result<Self> {
        Self::with_zones(&[Zone {
            folder: "intel-rapl:0",
            name: "package-0",
            part: 1,
        }])
    }

    /// The same with a `dram` subzone, which counts a quarter of what the package does.
    ///
    /// # Errors
    /// As [`PowerTree::new`].
    pub fn with_dram() -> Result<Self> {
        Self::with_zones(&[
            Zone {
                folder: "intel-rapl:0",
                name: "package-0",
                part: 1,
            },
            Zone {
                folder: "intel-rapl:0/intel-rapl:0:0",
                name: "dram",
                part: DRAM_PART,
            },
        ])
    }

    /// What to give to `--sysfs`.
    #[must_use]
    pub fn sysfs(&self) -> &Path {
        self.folder.path()
    }

    /// What the package has drawn since the tree was made, in µJ, up to now.
    ///
    /// # Errors
    /// When the machine's CPU time cannot be read.
    pub fn truth_uj(&self) -> Result<u64> {
        Ok(self.driver().truth_uj()?)
    }

    /// What was idle of it.
    #[must_use]
    pub fn idle_truth_uj(&self) -> u64 {
        self.driver().idle_uj()
    }

    /// The counters stand still; the truth goes on.
    pub fn freeze(&self) {
        self.driver().frozen = true;
    }

    /// The counters stand at the truth again.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn thaw(&self) -> Result<()> {
        let mut driver = self.driver();
        driver.frozen = false;
        Ok(driver.write()?)
    }

    /// The counters hold this text until they thaw.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn spoil(&self, text: &str) -> Result<()> {
        let mut driver = self.driver();
        driver.frozen = true;
        for (_, file) in &driver.counters {
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)?;
        }
        Ok(())
    }

    /// The counters fall by so much, and go on from there.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn fall_back(&self, microjoules: u64) -> Result<()> {
        let mut driver = self.driver();
        driver.fallen_uj += microjoules;
        Ok(driver.write()?)
    }

    fn with_zones(zones: &[Zone]) -> Result<Self> {
        let folder = programs::public_folder()?;
        let class = folder.path().join("class/powercap");
        fs::create_dir_all(class.join("intel-rapl"))?;
        let mut counters = Vec::new();
        for zone in zones {
            counters.push((zone.part, zone.create(&class)?));
        }
        let machine = machine_cpu_file().context("v1's cpuacct is not mounted")?;
        let machine = File::open(machine)?;
        let cpu_before_ns = read_number(&machine)?;
        let driver = Driver {
            counters,
            machine,
            cpu_before_ns,
            begun: Instant::now(),
            frozen: false,
            fallen_uj: 0,
            stopped: false,
        };
        driver.write()?;
        let shared = Arc::new(Mutex::new(driver));
        let thread = thread::Builder::new().name("power-tree".into()).spawn({
            let shared = Arc::clone(&shared);
            move || drive(&shared)
        })?;
        Ok(Self {
            folder,
            shared,
            thread: Some(thread),
        })
    }

    fn driver(&self) -> MutexGuard<'_, Driver> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PowerTree {
    fn drop(&mut self) {
        self.driver().stopped = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Zone {
    folder: &'static str,
    name: &'static str,
    part: u64,
}

impl Zone {
    fn create(&self, class: &Path) -> io::Result<File> {
        let folder = class.join(self.folder);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("name"), format!("{}\n", self.name))?;
        fs::write(folder.join("max_energy_range_uj"), format!("{RANGE_UJ}\n"))?;
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(folder.join("energy_uj"))
    }
}

struct Driver {
    counters: Vec<(u64, File)>,
    machine: File,
    cpu_before_ns: u64,
    begun: Instant,
    frozen: bool,
    fallen_uj: u64,
    stopped: bool,
}

impl Driver {
    fn truth_uj(&self) -> io::Result<u64> {
        let busy_ns = read_number(&self.machine)?.saturating_sub(self.cpu_before_ns);
        Ok(self.idle_uj() + (busy_ns as f64 * WATTS_PER_CPU / 1e3) as u64)
    }

    fn idle_uj(&self) -> u64 {
        (self.begun.elapsed().as_secs_f64() * IDLE_WATTS * 1e6) as u64
    }

    fn write(&self) -> io::Result<()> {
        let truth = self.truth_uj()?;
        for (part, file) in &self.counters {
            let counted = FIRST_UJ + truth / part;
            let raw = counted.saturating_sub(self.fallen_uj) % (RANGE_UJ + 1);
            // Always as wide: a reader never sees half of an old and half of a new length.
            let text = format!("{raw:020}\n");
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)?;
        }
        Ok(())
    }
}

fn drive(shared: &Mutex<Driver>) {
    run_first();
    loop {
        {
            let driver = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if driver.stopped {
                return;
            }
            if !driver.frozen
                && let Err(error) = driver.write()
            {
                let _ = writeln!(io::stderr(), "power tree: {error}");
            }
        }
        thread::sleep(UPDATE_EVERY);
    }
}

/// A real counter does not wait for a CPU to be free. Where this is refused, the counter lags
/// under load by as much as the scheduler makes it wait.
pub(crate) fn run_first() {
    let parameters = libc::sched_param { sched_priority: 10 };
    // SAFETY: the parameters are a live local; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
}

pub(crate) fn read_number(file: &File) -> io::Result<u64> {
    let mut buffer = [0; 32];
    let length = file.read_at(&mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)?;
    text.trim().parse().map_err(io::Error::other)
}
