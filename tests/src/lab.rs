// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The power lab: a tree of meters as the kernel shows them, in which the right answer is known.
//!
//! A [`Scenario`] tells what the machine's parts draw when nothing runs, what a CPU second of
//! each workload costs, and what befalls the meters. The kernel's own accounts of CPU time drive
//! them: a workload's cgroup, and the machine's cpuacct for everyone else. [`Truth`] is what
//! went through each meter, and whose it was, whatever the meters showed.

mod bmc;
mod effects;
mod gauge;
mod gpus;
mod machine;
pub mod mounts;
mod processor;
pub mod scenario;
pub mod truth;

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use self::{
    bmc::Bmc,
    gauge::Gauge,
    gpus::Gpus,
    machine::{Change, Machine, Progress},
    processor::Processor,
    scenario::{BMC, Scenario},
    truth::{Truth, WorkloadTruth},
};
use crate::{
    cgroup::{Cgroup, cpu_busy_file, machine_cpu_file},
    launch::pin,
    power::{read_number, run_first},
    programs,
};

/// Where the meters are, and who works: nothing moves yet.
pub struct Prepared {
    folder: tempfile::TempDir,
    scenario: Scenario,
    cgroups: Vec<Cgroup>,
    driver: Driver,
}

/// A lab that runs. Dropped, it goes, with all that it started.
pub struct Lab {
    folder: tempfile::TempDir,
    scenario: Scenario,
    shared: Arc<Mutex<Driver>>,
    thread: Option<JoinHandle<()>>,
    commands: Vec<Child>,
    gpus: Option<Gpus>,
    // After the commands: a cgroup goes when nobody is in it.
    cgroups: Vec<Cgroup>,
}

impl Prepared {
    /// Makes the tree and the cgroups.
    ///
    /// # Errors
    /// When the machine's CPU time is not known exactly, or something cannot be made.
    pub fn new(scenario: Scenario) -> Result<Self> {
        let folder = programs::public_folder()?;
        let sysfs = folder.path();
        // The control type that all zones belong to.
        fs::create_dir_all(sysfs.join("class/powercap/intel-rapl"))?;
        fs::create_dir_all(sysfs.join("class/hwmon"))?;
        let mut gauges = Gauge::zones(sysfs, &scenario.zone);
        let chips = scenario.chip.iter().enumerate();
        gauges.extend(chips.map(|(number, chip)| Gauge::chip(sysfs, number, chip)));
        let period_ns = |bmc: &scenario::Bmc| (bmc.period_s * 1e9) as u64;
        let bmc = scenario.bmc.as_ref();
        gauges.extend(bmc.map(|bmc| Gauge::remote(BMC, period_ns(bmc))));
        let cpus = thread::available_parallelism()?.get();
        let (smt, frequency) = (scenario.smt.as_ref(), scenario.frequency.as_ref());
        let processor = Processor::new(sysfs, cpus, smt, frequency)?;
        let named: Vec<_> = gauges.iter().map(|g| (g.name.clone(), g.shows)).collect();
        let machine = Machine::new(&scenario, &named);
        for (gauge, meter) in gauges.iter_mut().zip(&machine.meters) {
            gauge.appear(meter.shown())?;
        }
        let mut cgroups = Vec::new();
        for workload in &scenario.workload {
            cgroups.push(Cgroup::new(&format!("lab-{}", workload.name))?);
        }
        let ledgers = Ledgers::open(&cgroups)?;
        let bmc = scenario.bmc.as_ref();
        let bmc = bmc.map(|bmc| Bmc::start(folder.path(), bmc));
        Ok(Self {
            folder,
            scenario,
            cgroups,
            driver: Driver {
                bmc: bmc.transpose()?,
                processor,
                gauges,
                machine,
                ledgers,
                stopped: false,
            },
        })
    }

    /// What to give to `--sysfs`.
    #[must_use]
    pub fn sysfs(&self) -> &Path {
        self.folder.path()
    }

    /// Lets it run, and starts the workloads that have a command.
    ///
    /// # Errors
    /// When a workload cannot be started.
    pub fn start(mut self) -> Result<Lab> {
        self.driver.ledgers.begin()?;
        let grain = Duration::from_micros(self.scenario.grain_us);
        let shared = Arc::new(Mutex::new(self.driver));
        let thread = thread::Builder::new().name("power-lab".into()).spawn({
            let shared = Arc::clone(&shared);
            move || drive(&shared, grain)
        })?;
        let gpus = (!self.scenario.gpu.is_empty())
            .then(|| Gpus::start(&self.scenario.gpu, &self.scenario.gpu_fault))
            .transpose()?;
        let mut lab = Lab {
            gpus,
            folder: self.folder,
            scenario: self.scenario,
            shared,
            thread: Some(thread),
            commands: Vec::new(),
            cgroups: self.cgroups,
        };
        for (workload, cgroup) in lab.scenario.workload.iter().zip(&lab.cgroups) {
            let Some((program, arguments)) = workload.command.split_first() else {
                continue;
            };
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null());
            if let Some(cpu) = workload.cpu {
                pin(&mut command, cpu as usize);
            }
            cgroup.hold(&mut command)?;
            let child = command
                .spawn()
                .with_context(|| format!("workload {}: {program}", workload.name))?;
            lab.commands.push(child);
        }
        Ok(lab)
    }
}

impl Lab {
    /// Makes one and lets it run.
    ///
    /// # Errors
    /// As [`Prepared::new`] and [`Prepared::start`].
    pub fn start(scenario: Scenario) -> Result<Self> {
        Prepared::new(scenario)?.start()
    }

    /// What to give to `--sysfs`.
    #[must_use]
    pub fn sysfs(&self) -> &Path {
        self.folder.path()
    }

    /// What an agent needs in its environment to find what is not in the tree.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let driver = self.driver();
        let bmc = driver.bmc.iter().flat_map(Bmc::variables);
        bmc.chain(self.gpus.iter().flat_map(Gpus::variables))
            .collect()
    }

    /// The cgroup of a workload.
    ///
    /// # Errors
    /// When the scenario has no such workload.
    pub fn cgroup(&self, workload: &str) -> Result<&Cgroup> {
        let at = self
            .scenario
            .workload
            .iter()
            .position(|w| w.name == workload);
        at.and_then(|at| self.cgroups.get(at))
            .with_context(|| format!("the scenario has no workload {workload}"))
    }

    /// The truth up to now.
    ///
    /// # Errors
    /// When the kernel's accounts cannot be read.
    pub fn truth(&self) -> Result<Truth> {
        let mut driver = self.driver();
        driver.step()?;
        let machine = &driver.machine;
        let names = self.scenario.workload.iter().map(|w| w.name.as_str());
        let mut truth = Truth {
            seconds: machine.seconds(),
            gpus: self.gpus.as_ref().map(Gpus::truth).unwrap_or_default(),
            ..Truth::default()
        };
        for meter in &machine.meters {
            truth.meters.insert(meter.name().to_owned(), meter.truth());
        }
        for (at, name) in names.map(Some).chain([None]).enumerate() {
            let joules = machine.meters.iter().map(|meter| {
                let uj = meter.work_uj.get(at).copied().unwrap_or_default();
                (meter.name().to_owned(), uj / 1e6)
            });
            let ns = machine.cpu_ns().get(at).copied().unwrap_or_default();
            let of_one = WorkloadTruth {
                cgroup: self
                    .cgroups
                    .get(at)
                    .map(|c| c.path().to_owned())
                    .unwrap_or_default(),
                cpu_seconds: ns as f64 / 1e9,
                joules: joules.collect(),
            };
            match name {
                Some(name) => drop(truth.workloads.insert(name.to_owned(), of_one)),
                None => truth.rest = of_one,
            }
        }
        Ok(truth)
    }

    fn driver(&self) -> MutexGuard<'_, Driver> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.driver().stopped = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for command in &mut self.commands {
            let _ = command.kill();
            let _ = command.wait();
        }
    }
}

/// Moves the meters.
struct Driver {
    bmc: Option<Bmc>,
    processor: Processor,
    gauges: Vec<Gauge>,
    machine: Machine,
    ledgers: Ledgers,
    stopped: bool,
}

impl Driver {
    fn step(&mut self) -> io::Result<()> {
        let now = self.ledgers.read()?;
        self.processor.show(self.machine.mhz())?;
        for change in self.machine.step(&now) {
            match change {
                Change::Show(at, value) => {
                    self.gauges[at].show(value)?;
                    if let Some(bmc) = self.bmc_at(at) {
                        bmc.show(value);
                    }
                }
                Change::Vanish(at) => {
                    if let Some(bmc) = self.bmc_at(at) {
                        bmc.set_away(true);
                    }
                    for below in self.with_all_below(at).into_iter().rev() {
                        self.gauges[below].vanish()?;
                    }
                }
                Change::Appear(at, value) => {
                    if let Some(bmc) = self.bmc_at(at) {
                        bmc.set_away(false);
                    }
                    self.gauges[at].appear(value)?;
                    for below in self.with_all_below(at) {
                        let value = self.machine.meters[below].shown();
                        self.gauges[below].appear(value)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The controller, if this meter is its.
    fn bmc_at(&mut self, at: usize) -> Option<&mut Bmc> {
        let is_its = self.gauges[at].name == BMC;
        self.bmc.as_mut().filter(|_| is_its)
    }

    /// Parents stand before their children.
    fn with_all_below(&self, top: usize) -> Vec<usize> {
        let mut found = vec![top];
        for (at, gauge) in self.gauges.iter().enumerate() {
            if gauge.parent.is_some_and(|parent| found.contains(&parent)) {
                found.push(at);
            }
        }
        found
    }
}

/// The kernel's accounts of CPU time.
struct Ledgers {
    machine: File,
    machine_before_ns: u64,
    busy: File,
    busy_before_ns: Vec<u64>,
    workloads: Vec<PathBuf>,
    rest_ns: u64,
    begun: Instant,
}

impl Ledgers {
    fn open(cgroups: &[Cgroup]) -> Result<Self> {
        let machine = machine_cpu_file().context("v1's cpuacct is not mounted")?;
        Ok(Self {
            machine: File::open(machine)?,
            machine_before_ns: 0,
            busy: File::open(cpu_busy_file().context("v1's cpuacct is not mounted")?)?,
            busy_before_ns: Vec::new(),
            workloads: cgroups
                .iter()
                .map(|c| c.folder().join("cpu.stat"))
                .collect(),
            rest_ns: 0,
            begun: Instant::now(),
        })
    }

    fn begin(&mut self) -> io::Result<()> {
        self.machine_before_ns = read_number(&self.machine)?;
        self.busy_before_ns = read_numbers(&self.busy)?;
        self.begun = Instant::now();
        Ok(())
    }

    fn read(&mut self) -> io::Result<Progress> {
        // The machine last: whoever is in it is in there already.
        let mut cpu_ns = Vec::with_capacity(self.workloads.len() + 1);
        for file in &self.workloads {
            cpu_ns.push(usage_ns(file)?);
        }
        let machine = read_number(&self.machine)?.saturating_sub(self.machine_before_ns);
        let rest = machine.saturating_sub(cpu_ns.iter().sum());
        self.rest_ns = self.rest_ns.max(rest);
        cpu_ns.push(self.rest_ns);
        let busy = read_numbers(&self.busy)?;
        let since = busy.iter().zip(&self.busy_before_ns);
        Ok(Progress {
            at_ns: u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX),
            cpu_ns,
            busy_ns: since
                .map(|(now, before)| now.saturating_sub(*before))
                .collect(),
        })
    }
}

fn read_numbers(mut file: &File) -> io::Result<Vec<u64>> {
    let mut text = String::new();
    file.seek(io::SeekFrom::Start(0))?;
    file.read_to_string(&mut text)?;
    let numbers = text.split_whitespace().map(str::parse);
    numbers.collect::<Result<_, _>>().map_err(io::Error::other)
}

/// `cpu.stat` is in µs.
fn usage_ns(file: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    let usage = usage.and_then(|number| number.trim().parse::<u64>().ok());
    usage
        .map(|us| us.saturating_mul(1_000))
        .ok_or_else(|| io::Error::other(format!("{} has no usage_usec", file.display())))
}

fn drive(shared: &Mutex<Driver>, grain: Duration) {
    run_first();
    let mut next = Instant::now();
    loop {
        {
            let mut driver = shared.lock().unwrap_or_else(PoisonError::into_inner);
            if driver.stopped {
                return;
            }
            if let Err(error) = driver.step() {
                let _ = writeln!(io::stderr(), "power lab: {error}");
            }
        }
        // A step that came late does not make the next ones hurry.
        next = (next + grain).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
