// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who used an AMD GPU: by the counters that the kernel keeps for every open file of a GPU
//! (`Documentation/gpu/drm-usage-stats.rst`), in ns for each engine.
//!
//! ROCm's queues bypass these counters. Processes with such queues are listed by the kernel
//! (`/sys/class/kfd`), and share alike what the GPU was busy for: a rule, and labelled.

mod files;
mod kfd;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustc_hash::FxHashMap;

use self::files::{Client, Engines};
use super::{GpuError, GpuFrame, GpuSource, Policy};

/// Looking who has a GPU open costs a look at every file of every process.
const SEARCH_EVERY: Duration = Duration::from_secs(30);

/// Open files of AMD GPUs, whoever's: looked at once for all GPUs of a machine.
#[derive(Clone)]
pub struct Clients {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    procfs: PathBuf,
    searched: Option<Instant>,
    /// Who had a GPU open at the last search.
    pids: Vec<u32>,
    /// By GPU and client, as last read.
    open: HashMap<(String, u64), Client>,
    is_fresh: bool,
}

impl Clients {
    /// Of the processes under `procfs`.
    #[must_use]
    pub fn new(procfs: PathBuf) -> Self {
        let inner = Inner {
            procfs,
            searched: None,
            pids: Vec::new(),
            open: HashMap::new(),
            is_fresh: false,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// What was read is from an earlier tick.
    fn expire(&self) {
        self.lock().is_fresh = false;
    }

    /// The clients of one GPU.
    fn of(&self, address: &str) -> Vec<(u64, Client)> {
        let mut inner = self.lock();
        inner.refresh();
        let of_gpu = inner.open.iter().filter(|((gpu, _), _)| gpu == address);
        of_gpu.map(|((_, id), client)| (*id, *client)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn refresh(&mut self) {
        if std::mem::replace(&mut self.is_fresh, true) {
            return;
        }
        if self.searched.is_none_or(|at| at.elapsed() >= SEARCH_EVERY) {
            self.searched = Some(Instant::now());
            self.pids = files::search(&self.procfs);
        }
        self.open.clear();
        for &pid in &self.pids {
            files::read(&self.procfs, pid, &mut self.open);
        }
    }
}

/// An AMD GPU.
pub struct AmdUse {
    address: String,
    busy_file: PathBuf,
    sleep_file: PathBuf,
    kfd: kfd::Kfd,
    clients: Clients,
    /// The counters of each client at the last look.
    seen: FxHashMap<u64, Engines>,
    looked: Option<Instant>,
    /// How busy it was then, in percent.
    busy_before: Option<u32>,
}

impl AmdUse {
    /// Watches the GPU at this PCI address, whose attributes are in `folder`.
    #[must_use]
    pub fn new(sysfs: &Path, address: String, folder: &Path, clients: Clients) -> Self {
        Self {
            kfd: kfd::Kfd::of(sysfs, &address),
            address,
            busy_file: folder.join("gpu_busy_percent"),
            sleep_file: folder.join("power/runtime_status"),
            clients,
            seen: FxHashMap::default(),
            looked: None,
            busy_before: None,
        }
    }

    /// What each client used since the last look. One that was not there then has used all of
    /// it since, but at the first look of all.
    fn measure(&mut self, first: bool, frame: &mut GpuFrame) -> u64 {
        let mut measured_ns = 0;
        let mut seen = FxHashMap::default();
        for (id, client) in self.clients.of(&self.address) {
            let before = match self.seen.get(&id) {
                Some(before) => *before,
                None if first => client.engines,
                None => Engines::default(),
            };
            let used = client.engines.since(before);
            let entry = frame.entry(client.pid);
            entry.busy_ns += used.compute_ns;
            entry.media_ns += used.media_ns;
            let memory = entry.memory.unwrap_or(0).saturating_add(client.memory);
            entry.memory = Some(memory);
            measured_ns += used.compute_ns;
            seen.insert(id, client.engines);
        }
        self.seen = seen;
        measured_ns
    }

    /// Divides what the GPU was busy for, and no counter tells of, among ROCm's processes.
    fn divide(&self, span: Duration, measured_ns: u64, frame: &mut GpuFrame) {
        let pids = self.kfd.processes();
        if pids.is_empty() {
            return;
        }
        let percent = self.busy_percent().unwrap_or(100);
        let busy_ns = span.as_nanos() as u64 / 100 * u64::from(percent);
        let rest_ns = busy_ns.saturating_sub(measured_ns).max(pids.len() as u64);
        frame.policy = Policy::TimeSliced;
        for pid in &pids {
            frame.entry(*pid).busy_ns += rest_ns / pids.len() as u64;
        }
    }

    /// How busy the GPU says that it is.
    fn busy_percent(&self) -> Option<u32> {
        let text = std::fs::read_to_string(&self.busy_file).ok()?;
        text.trim()
            .parse()
            .ok()
            .map(|percent: u32| percent.min(100))
    }

    /// Notes, if nobody is named, how busy it was. One that sleeps is not asked: older kernels
    /// would wake it for the answer.
    fn note_unnamed(&mut self, span: Option<Duration>, frame: &mut GpuFrame) {
        let before = self.busy_before.take();
        if !frame.uses.is_empty() {
            return;
        }
        let status = std::fs::read_to_string(&self.sleep_file).unwrap_or_default();
        let now = match status.trim() {
            "suspended" => Some(0),
            _ => self.busy_percent(),
        };
        self.busy_before = now;
        if let Some(span) = span {
            let ids = Some(self.address.clone()).filter(|address| !address.is_empty());
            let percent = before.zip(now).map(<[u32; 2]>::from);
            let span_ns = span.as_nanos() as u64;
            frame.note_unnamed(ids.into_iter().collect(), percent, span_ns);
        }
    }
}

impl GpuSource for AmdUse {
    fn ask(&mut self) {
        self.clients.expire();
    }

    fn sample(&mut self, frame: &mut GpuFrame) -> Result<(), GpuError> {
        frame.clear();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        frame.at_unix_us = now.unwrap_or_default().as_micros() as u64;
        let before = self.looked.replace(Instant::now());
        let measured_ns = self.measure(before.is_none(), frame);
        let span = before.map(|before| before.elapsed());
        if let Some(span) = span {
            self.divide(span, measured_ns, frame);
        }
        // Who only encodes or decodes keeps the GPU awake too, if nobody else does.
        if frame.uses.iter().all(|used| used.busy_ns == 0) {
            for used in &mut frame.uses {
                used.busy_ns = used.media_ns;
            }
        }
        self.note_unnamed(span, frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const GPU: &str = "0000:03:00.0";

    /// A machine with one GPU, whose processes and counters are files.
    struct Machine {
        root: tempfile::TempDir,
        gpu: AmdUse,
    }

    impl Machine {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            for folder in ["proc", "card", "class/kfd/kfd/proc"] {
                fs::create_dir_all(root.path().join(folder)).unwrap();
            }
            let node = root.path().join("class/kfd/kfd/topology/nodes/1");
            fs::create_dir_all(&node).unwrap();
            fs::write(node.join("gpu_id"), "4711\n").unwrap();
            fs::write(node.join("properties"), "domain 0\nlocation_id 768\n").unwrap();
            let clients = Clients::new(root.path().join("proc"));
            let gpu = AmdUse::new(root.path(), GPU.into(), &root.path().join("card"), clients);
            Self { root, gpu }
        }

        fn counters(&self, pid: u32, fd: u32, id: u64, compute_ns: u64) {
            let folder = self.root.path().join(format!("proc/{pid}"));
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::create_dir_all(folder.join("fdinfo")).unwrap();
            let link = folder.join(format!("fd/{fd}"));
            if !link.is_symlink() {
                symlink("/dev/dri/renderD128", link).unwrap();
            }
            let text = format!(
                "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t{id}\ndrm-pdev:\t{GPU}\n\
                 drm-memory-vram:\t2048 KiB\ndrm-engine-compute:\t{compute_ns} ns\n\
                 drm-engine-enc:\t10 ns\n"
            );
            fs::write(folder.join(format!("fdinfo/{fd}")), text).unwrap();
        }

        fn queue(&self, pid: u32) {
            let folder = self.root.path().join(format!("class/kfd/kfd/proc/{pid}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("vram_4711"), "4096\n").unwrap();
        }

        fn sample(&mut self) -> GpuFrame {
            let mut frame = GpuFrame::default();
            self.gpu.ask();
            self.gpu.sample(&mut frame).unwrap();
            frame
        }

        /// As if the next search were due.
        fn search(&mut self) {
            self.gpu.clients.lock().searched = None;
        }
    }

    fn busy_ns(frame: &GpuFrame, pid: u32) -> Option<u64> {
        let mut uses = frame.uses.iter();
        uses.find(|used| used.pid == pid).map(|used| used.busy_ns)
    }

    #[test]
    fn a_client_is_charged_what_its_counters_grew_by() {
        let mut machine = Machine::new();
        machine.counters(5, 3, 1, 9_000);
        assert_eq!(busy_ns(&machine.sample(), 5), Some(0));
        machine.counters(5, 3, 1, 9_700);
        let frame = machine.sample();
        assert_eq!(busy_ns(&frame, 5), Some(700));
        assert_eq!(frame.uses[0].memory, Some(2 << 20));
        assert_eq!(frame.policy, Policy::Measured);
    }

    #[test]
    fn one_client_with_two_files_counts_once_and_two_clients_count_twice() {
        let mut machine = Machine::new();
        machine.sample();
        for (fd, id) in [(3, 1), (4, 1), (5, 2)] {
            machine.counters(5, fd, id, 100);
        }
        machine.search();
        assert_eq!(busy_ns(&machine.sample(), 5), Some(200));
    }

    #[test]
    fn a_newcomer_is_charged_from_its_start_and_nobody_twice() {
        let mut machine = Machine::new();
        machine.sample();
        machine.counters(7, 3, 9, 1_000);
        machine.search();
        assert_eq!(busy_ns(&machine.sample(), 7), Some(1_000));
        machine.counters(7, 3, 9, 1_000);
        assert_eq!(busy_ns(&machine.sample(), 7), Some(0));
        // A counter that falls is another client's.
        machine.counters(7, 3, 9, 400);
        assert_eq!(busy_ns(&machine.sample(), 7), Some(0));
    }

    #[test]
    fn rocm_shares_alike_what_no_counter_tells_of() {
        let mut machine = Machine::new();
        machine.queue(11);
        machine.queue(12);
        fs::write(machine.root.path().join("card/gpu_busy_percent"), "50\n").unwrap();
        machine.sample();
        let frame = machine.sample();
        assert_eq!(frame.policy, Policy::TimeSliced);
        assert!(busy_ns(&frame, 11).unwrap() > 0);
        assert_eq!(busy_ns(&frame, 11), busy_ns(&frame, 12));
    }

    #[test]
    fn a_gpu_that_nobody_has_open_is_told_with_how_busy_it_was() {
        let mut machine = Machine::new();
        let busy = machine.root.path().join("card/gpu_busy_percent");
        fs::write(&busy, "40\n").unwrap();
        assert!(machine.sample().unnamed.is_empty());
        let frame = machine.sample();
        let told = &frame.unnamed[0];
        assert_eq!(
            (told.ids.as_slice(), frame.unnamed.len()),
            (&[GPU.to_owned()][..], 1)
        );
        assert_eq!(told.busy_ns, Some(told.most_ns / 200 * 80));
        // One that sleeps is not even asked, and one that says nonsense has said nothing.
        fs::create_dir_all(machine.root.path().join("card/power")).unwrap();
        let status = machine.root.path().join("card/power/runtime_status");
        fs::write(&status, "suspended\n").unwrap();
        machine.sample();
        assert_eq!(machine.sample().unnamed[0].busy_ns, Some(0));
        fs::write(&status, "active\n").unwrap();
        for nonsense in ["", "-1\n", "busy\n"] {
            fs::write(&busy, nonsense).unwrap();
            machine.sample();
            assert_eq!(machine.sample().unnamed[0].busy_ns, None, "{nonsense:?}");
        }
        machine.queue(11);
        assert!(machine.sample().unnamed.is_empty());
    }

    #[test]
    fn what_is_no_counter_is_passed_over() {
        let mut machine = Machine::new();
        machine.counters(5, 3, 1, 100);
        machine.sample();
        let file = machine.root.path().join("proc/5/fdinfo/3");
        for text in [
            "",
            "drm-pdev:\t0000:03:00.0\n",
            "drm-driver:\tamdgpu\ndrm-client-id:\t-1\ndrm-pdev:\tx\n",
            "drm-driver:\ti915\ndrm-client-id:\t1\ndrm-pdev:\t0000:03:00.0\n",
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(busy_ns(&machine.sample(), 5), None, "{text:?}");
        }
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(busy_ns(&machine.sample(), 5), None);
    }
}
