// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The guided load: which CPUs are kept busy in which step, and the threads that do it.

use std::{
    collections::BTreeSet,
    hint, io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use eco_meter::model::activity::Activity;

/// A thread that is busy half the time changes this often: well above the clock tick by which
/// the kernel counts, well below a step.
const HALF: Duration = Duration::from_millis(50);

/// CPUs that the kernel supports (`CONFIG_NR_CPUS` is at most 8192).
const MOST_CPUS: usize = 8_192;

/// A step of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// For people.
    pub(super) name: String,
    /// CPUs to keep busy.
    pub(super) cpus: Vec<u32>,
    /// Half the time only.
    pub(super) is_half_time: bool,
}

/// The steps for these CPUs: idle, one, half, all; where there is more to tell apart, or too few
/// CPUs for that, one more.
pub(super) fn plan(cpus: &[u32], activity: &Activity) -> Vec<Step> {
    let step = |name: &str, cpus: &[u32], is_half_time| Step {
        name: name.to_owned(),
        cpus: cpus.to_vec(),
        is_half_time,
    };
    let spread = one_a_core_first(cpus, activity);
    let mut packed = cpus.to_vec();
    packed.sort_by_key(|&cpu| (activity.core_of(cpu), cpu));
    let half = cpus.len() / 2;
    let mut steps = vec![step("idle", &[], false)];
    if cpus.len() > 1 {
        steps.push(step("1 CPU", &spread[..1], false));
    }
    if half > 1 {
        let name = format!("{half} CPUs");
        steps.push(step(&name, &spread[..half], false));
        if activity.is_smt() && packed[..half] != spread[..half] {
            steps.push(step(
                &format!("{name} on few cores"),
                &packed[..half],
                false,
            ));
        }
    } else {
        steps.push(step("all, half the time", cpus, true));
    }
    steps.push(step(&format!("all {} CPUs", cpus.len()), cpus, false));
    steps
}

/// CPUs that this process may run on.
pub(super) fn allowed_cpus() -> io::Result<Vec<u32>> {
    let mut set = Set::default();
    // SAFETY: `set` is as long as it is said to be, and outlives the call.
    let rc = unsafe { libc::sched_getaffinity(0, mem::size_of::<Set>(), set.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((0..MOST_CPUS as u32).filter(|cpu| set.has(*cpu)).collect())
}

/// Threads that keep CPUs busy until this is dropped.
#[derive(Debug)]
pub(super) struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    /// Starts one pinned thread for each CPU of the step.
    pub(super) fn start(step: &Step) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut busy = Self {
            stop: Arc::clone(&stop),
            threads: Vec::with_capacity(step.cpus.len()),
        };
        for &cpu in &step.cpus {
            let (stop, is_half_time) = (Arc::clone(&stop), step.is_half_time);
            let (tell, pinned) = std::sync::mpsc::channel();
            let thread = thread::Builder::new().name(format!("load-{cpu}"));
            busy.threads.push(thread.spawn(move || {
                let outcome = pin(cpu);
                let failed = outcome.is_err();
                if tell.send(outcome).is_ok() && !failed {
                    spin(&stop, is_half_time);
                }
            })?);
            pinned.recv().map_err(io::Error::other)??;
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A thread of ours that panicked is no longer a load: nothing to add.
            let _ = thread.join();
        }
    }
}

/// The first thread of every core, then the others.
fn one_a_core_first(cpus: &[u32], activity: &Activity) -> Vec<u32> {
    let mut seen = BTreeSet::new();
    let (mut order, others): (Vec<u32>, Vec<u32>) = cpus
        .iter()
        .partition(|&&cpu| seen.insert(activity.core_of(cpu)));
    order.extend(others);
    order
}

/// A set of CPUs as the kernel takes it.
struct Set([u64; MOST_CPUS / 64]);

impl Default for Set {
    fn default() -> Self {
        Self([0; MOST_CPUS / 64])
    }
}

impl Set {
    fn has(&self, cpu: u32) -> bool {
        self.0[cpu as usize / 64] >> (cpu % 64) & 1 == 1
    }

    fn as_mut_ptr(&mut self) -> *mut libc::cpu_set_t {
        self.0.as_mut_ptr().cast()
    }
}

/// Keeps the calling thread on one CPU.
fn pin(cpu: u32) -> io::Result<()> {
    let mut set = Set::default();
    let word = set.0.get_mut(cpu as usize / 64);
    *word.ok_or(io::ErrorKind::InvalidInput)? |= 1 << (cpu % 64);
    // SAFETY: `set` is as long as it is said to be, and outlives the call.
    let rc = unsafe { libc::sched_setaffinity(0, mem::size_of::<Set>(), set.as_mut_ptr()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn spin(stop: &AtomicBool, is_half_time: bool) {
    let mut number = 1u64;
    while !stop.load(Ordering::Relaxed) {
        let until = Instant::now() + HALF;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            // Integer work that depends on itself: what an ordinary program keeps busy.
            for _ in 0..4_096 {
                number = hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005) + 1);
            }
        }
        if is_half_time {
            thread::sleep(HALF);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    fn names(steps: &[Step]) -> Vec<&str> {
        steps.iter().map(|step| step.name.as_str()).collect()
    }

    #[test]
    fn every_machine_gets_three_steps_or_more() {
        let plain = Activity::find(Path::new("/nowhere"), Path::new("/nowhere"));
        let of = |count: u32| plan(&(0..count).collect::<Vec<_>>(), &plain);
        assert_eq!(names(&of(1)), ["idle", "all, half the time", "all 1 CPUs"]);
        assert_eq!(
            names(&of(2)),
            ["idle", "1 CPU", "all, half the time", "all 2 CPUs"]
        );
        assert_eq!(names(&of(8)), ["idle", "1 CPU", "4 CPUs", "all 8 CPUs"]);
        assert_eq!(of(8)[3].cpus.len(), 8);
    }

    #[test]
    fn where_threads_share_cores_half_is_loaded_both_ways() {
        let root = tempfile::tempdir().unwrap();
        for cpu in 0..4 {
            let folder = root
                .path()
                .join(format!("devices/system/cpu/cpu{cpu}/topology"));
            fs::create_dir_all(&folder).unwrap();
            let siblings = if cpu < 2 { "0-1" } else { "2-3" };
            fs::write(folder.join("thread_siblings_list"), siblings).unwrap();
        }
        let steps = plan(&[0, 1, 2, 3], &Activity::find(root.path(), root.path()));
        assert_eq!(
            names(&steps),
            [
                "idle",
                "1 CPU",
                "2 CPUs",
                "2 CPUs on few cores",
                "all 4 CPUs"
            ]
        );
        assert_eq!(
            (steps[2].cpus.as_slice(), steps[3].cpus.as_slice()),
            (&[0, 2][..], &[0, 1][..])
        );
    }

    #[test]
    fn a_load_runs_on_its_cpu_and_ends_with_its_owner() {
        let cpu = allowed_cpus().unwrap()[0];
        let step = Step {
            name: String::new(),
            cpus: vec![cpu],
            is_half_time: false,
        };
        let busy = Busy::start(&step).unwrap();
        let stop = Arc::clone(&busy.stop);
        drop(busy);
        assert_eq!(Arc::strong_count(&stop), 1, "its thread has ended");
        let nowhere = Step {
            cpus: vec![8_191],
            ..step
        };
        assert!(Busy::start(&nowhere).is_err(), "there is no such CPU here");
    }
}
