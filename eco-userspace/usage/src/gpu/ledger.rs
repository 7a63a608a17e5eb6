// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an NVIDIA driver tells of processes, integrated over time. Pure: time comes in as a
//! number.

use eco_nvml::{Activity, Kind, PerProcess, Running, Sample};

use super::{GpuFrame, Policy, Unnamed};

/// The longest sampling period of a driver: nvml.h says of `nvmlDeviceGetProcessUtilization`
/// "between 1 second and 1/6 second, depending on the product being queried".
const LONGEST_PERIOD_US: u64 = 1_000_000;

/// Samples of one pass over the processes are stamped one after the other; the shortest period
/// is many times this.
const PASS_US: u64 = 10_000;

/// No utilisation is more; such values have been seen, with stamps of zero.
const MOST_PERCENT: u32 = 100;

/// The agent's longest tick.
const LONGEST_TICK_US: u64 = 60_000_000;

/// What was seen of one GPU.
#[derive(Debug)]
pub(super) struct Ledger {
    /// When it was looked at last, in µs of Unix time; `None` before the first time.
    looked_us: Option<u64>,
    /// The driver's last pass over the processes.
    pass_us: u64,
    /// How long a pass stands for: the time between two, where nobody idles in between.
    period_us: u64,
    /// Who was there at the last look.
    before: Vec<Running>,
    /// How busy it was then, in percent.
    busy_before: Option<u32>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            looked_us: None,
            pass_us: 0,
            period_us: LONGEST_PERIOD_US,
            before: Vec::new(),
            busy_before: None,
        }
    }
}

impl Ledger {
    /// Takes what was done since the last time on the GPU of that UUID. The first only notes
    /// where everyone stands.
    pub(super) fn take(&mut self, activity: &Activity, uuid: Option<&str>, frame: &mut GpuFrame) {
        frame.clear();
        frame.at_unix_us = activity.at_unix_us;
        for process in &activity.running {
            frame.entry(process.pid).memory = process.memory;
        }
        // Where the clock was set back, what comes is new all the same.
        self.pass_us = self.pass_us.min(activity.at_unix_us);
        if let Some(looked_us) = self.looked_us.replace(activity.at_unix_us) {
            let span_us = activity.at_unix_us.saturating_sub(looked_us);
            let span_ns = span_us.min(LONGEST_TICK_US) * 1000;
            self.charge(activity, span_ns, frame);
            if activity.instances.is_empty() {
                let ids = uuid.map(str::to_owned).into_iter().collect();
                let percent = self.busy_before.zip(activity.busy_percent);
                frame.note_unnamed(ids, percent.map(<[u32; 2]>::from), span_ns);
            }
        } else {
            self.pass_us = activity.at_unix_us;
        }
        self.before.clone_from(&activity.running);
        self.busy_before = activity.busy_percent;
    }

    fn charge(&mut self, activity: &Activity, span_ns: u64, frame: &mut GpuFrame) {
        match &activity.samples {
            _ if !activity.instances.is_empty() => {
                frame.policy = Policy::MigSlice;
                self.divide_by_slices(activity, span_ns, frame);
            }
            PerProcess::Told(samples) => {
                let before_us = self.pass_us;
                let covered_us = self.integrate(samples, activity.at_unix_us, frame);
                if activity.overflowed {
                    frame.policy = Policy::MeasuredInPart;
                    let whole_us = self.pass_us.saturating_sub(before_us).min(LONGEST_TICK_US);
                    stretch(covered_us, whole_us, frame);
                }
                hand_to_clients(&activity.running, frame);
            }
            PerProcess::Untold => self.divide_alike(activity, span_ns, frame),
        }
    }

    /// Each sample stands for the time since the pass before it. Returns how much time all stand
    /// for, in µs.
    fn integrate(&mut self, samples: &[Sample], now_us: u64, frame: &mut GpuFrame) -> u64 {
        let mut sound: Vec<&Sample> = samples.iter().filter(|s| self.is_new(s, now_us)).collect();
        sound.sort_unstable_by_key(|sample| sample.at_unix_us);
        let mut rest = &sound[..];
        let mut all_us = 0;
        while let Some(first) = rest.first() {
            let in_pass = |sample: &&&Sample| sample.at_unix_us - first.at_unix_us <= PASS_US;
            let (pass, later) = rest.split_at(rest.iter().take_while(in_pass).count());
            rest = later;
            let covered_us = self.begin_pass(pass);
            let covered_ns = covered_us * 1000;
            all_us += covered_us;
            for sample in pass {
                let used = frame.entry(sample.pid);
                used.last_unix_us = sample.at_unix_us;
                let part = |percent: u32| covered_ns * u64::from(percent.min(MOST_PERCENT)) / 100;
                used.busy_ns += part(sample.sm);
                used.media_ns += part(sample.encoder.max(sample.decoder));
            }
        }
        // Who only encodes or decodes keeps the GPU awake too, if nobody else does.
        if frame.uses.iter().all(|used| used.busy_ns == 0) {
            for used in &mut frame.uses {
                used.busy_ns = used.media_ns;
            }
        }
        all_us
    }

    fn is_new(&self, sample: &Sample, now_us: u64) -> bool {
        let is_process = sample.pid != 0 && sample.pid != u32::MAX;
        let is_due = sample.at_unix_us > self.pass_us
            && sample.at_unix_us <= now_us.saturating_add(LONGEST_PERIOD_US);
        let most = [sample.sm, sample.encoder, sample.decoder];
        is_process && is_due && most.iter().all(|percent| *percent <= MOST_PERCENT)
    }

    /// How much time a pass stands for, in µs. Nobody may have been busy for a long time before
    /// it, and then the driver made no samples.
    fn begin_pass(&mut self, pass: &[&Sample]) -> u64 {
        let stamp = pass.last().map_or(self.pass_us, |sample| sample.at_unix_us);
        let since = stamp.saturating_sub(self.pass_us);
        let since = since.clamp(1, LONGEST_PERIOD_US);
        self.pass_us = stamp;
        if since < self.period_us {
            self.period_us = since.max(PASS_US);
        } else {
            // A quarter more than usual is jitter, and all its own.
            let most = self.period_us + self.period_us / 4;
            self.period_us += (since - self.period_us) / 8;
            return since.min(most);
        }
        since
    }

    /// By a rule: everyone who computes used the GPU alike; where nobody does, who draws.
    fn divide_alike(&self, activity: &Activity, span_ns: u64, frame: &mut GpuFrame) {
        let any = |kind| self.there(activity).any(|process| process.kind == kind);
        frame.policy = if any(Kind::Mps) {
            Policy::Mps
        } else {
            Policy::TimeSliced
        };
        let graphics_only = !any(Kind::Mps) && !any(Kind::Compute);
        let takes_part = |process: &&Running| graphics_only || process.kind != Kind::Graphics;
        let pids = ids(self.there(activity).filter(takes_part));
        let busy = u64::from(activity.busy_percent.unwrap_or(100));
        // The utilisation is of a moment; a GPU at rest in that moment still was theirs.
        let whole_ns = (span_ns * busy / 100).max(pids.len() as u64);
        share_among(whole_ns, &pids, frame);
    }

    /// By a rule: an instance used its slices of the GPU while it was busy, its processes alike.
    /// Whether somebody worked in one where nobody is listed is for others to say.
    fn divide_by_slices(&self, activity: &Activity, span_ns: u64, frame: &mut GpuFrame) {
        for instance in &activity.instances {
            let inside = |process: &&Running| process.gpu_instance == Some(instance.gpu_instance);
            let pids = ids(self.there(activity).filter(inside));
            let ns = |busy| slice_ns(instance.slices, activity.slices, span_ns, busy);
            if pids.is_empty() {
                frame.unnamed.push(Unnamed {
                    ids: instance.uuids.clone(),
                    busy_ns: instance.busy.map(ns),
                    most_ns: ns(1.0),
                });
            } else {
                share_among(ns(instance.busy.unwrap_or(1.0)), &pids, frame);
            }
        }
    }

    /// Who was there at the last look, and who is now: whoever stayed comes twice, as they were
    /// there for twice as long as those who came or went in between.
    fn there<'a>(&'a self, activity: &'a Activity) -> impl Iterator<Item = &'a Running> {
        self.before.iter().chain(&activity.running)
    }
}

fn ids<'a>(processes: impl Iterator<Item = &'a Running>) -> Vec<u32> {
    let mut ids: Vec<u32> = processes.map(|process| process.pid).collect();
    ids.sort_unstable();
    ids
}

/// What was used in `covered_us` becomes what was used in `whole_us`, at the same rate.
fn stretch(covered_us: u64, whole_us: u64, frame: &mut GpuFrame) {
    let longer = |ns: u64| {
        let ns = u128::from(ns) * u128::from(whole_us) / u128::from(covered_us.max(1));
        u64::try_from(ns).unwrap_or(u64::MAX)
    };
    if whole_us > covered_us {
        for used in &mut frame.uses {
            used.busy_ns = longer(used.busy_ns);
            used.media_ns = longer(used.media_ns);
        }
    }
}

/// Where the service's own process is all that the driver saw, its clients are who worked.
fn hand_to_clients(running: &[Running], frame: &mut GpuFrame) {
    let of = |kind| {
        let such = running.iter().filter(move |process| process.kind == kind);
        such.map(|process| process.pid).collect::<Vec<u32>>()
    };
    let clients = of(Kind::Mps);
    if clients.is_empty() || clients.iter().any(|pid| frame.entry(*pid).busy_ns > 0) {
        return;
    }
    let draws = of(Kind::Graphics);
    let mut handed_ns = 0;
    for used in frame.uses.iter_mut().filter(|u| !draws.contains(&u.pid)) {
        handed_ns += std::mem::take(&mut used.busy_ns);
    }
    if handed_ns > 0 {
        frame.policy = Policy::Mps;
        share_among(handed_ns, &clients, frame);
    }
}

/// What an instance of so many of all slices used while it was `busy`, of 1.
fn slice_ns(slices: u32, of: u32, span_ns: u64, busy: f64) -> u64 {
    let part = f64::from(slices) / f64::from(of.max(1));
    (span_ns as f64 * busy * part) as u64
}

/// Divides without losing a nanosecond: by how often each is in `pids`, which is sorted.
fn share_among(whole_ns: u64, pids: &[u32], frame: &mut GpuFrame) {
    let number = pids.len().max(1) as u64;
    for (at, pid) in (0..).zip(pids) {
        frame.entry(*pid).busy_ns += whole_ns / number + u64::from(at < whole_ns % number);
    }
}

#[cfg(test)]
mod tests {
    use eco_nvml::Instance;
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1000;
    const START: u64 = 1_700_000_000_000_000;

    fn sample(pid: u32, at_ms: u64, sm: u32) -> Sample {
        Sample {
            pid,
            at_unix_us: START + at_ms * MS,
            sm,
            memory: 0,
            encoder: 0,
            decoder: 0,
        }
    }

    fn running(pid: u32, kind: Kind) -> Running {
        Running {
            pid,
            kind,
            memory: Some(1 << 20),
            gpu_instance: None,
        }
    }

    fn told(at_ms: u64, samples: Vec<Sample>) -> Activity {
        Activity {
            at_unix_us: START + at_ms * MS,
            samples: PerProcess::Told(samples),
            ..Activity::default()
        }
    }

    /// A ledger that began at [`START`].
    fn begun() -> Ledger {
        let mut ledger = Ledger::default();
        take(&mut ledger, &told(0, vec![]));
        ledger
    }

    fn take(ledger: &mut Ledger, activity: &Activity) -> GpuFrame {
        let mut frame = GpuFrame::default();
        ledger.take(activity, Some("GPU-1"), &mut frame);
        frame
    }

    fn busy_ms(frame: &GpuFrame, pid: u32) -> u64 {
        let mut uses = frame.uses.iter().filter(|used| used.pid == pid);
        uses.next().map_or(0, |used| used.busy_ns / 1_000_000)
    }

    #[test]
    fn the_first_look_charges_nothing() {
        let mut ledger = Ledger::default();
        let frame = take(&mut ledger, &told(0, vec![sample(1, 0, 90)]));
        assert!(frame.uses.is_empty() && frame.unnamed.is_empty());
    }

    #[test]
    fn each_sample_stands_for_the_time_since_the_pass_before() {
        let mut ledger = begun();
        // Two passes of 200 ms; the second process is stamped a little after the first.
        let samples = vec![
            sample(2, 401, 10),
            sample(1, 200, 50),
            sample(2, 201, 20),
            sample(1, 400, 100),
        ];
        let frame = take(&mut ledger, &told(500, samples));
        assert_eq!((busy_ms(&frame, 1), busy_ms(&frame, 2)), (300, 60));
        assert_eq!(frame.policy, Policy::Measured);
    }

    #[test]
    fn no_sample_is_counted_twice() {
        let mut ledger = begun();
        let samples = vec![sample(1, 200, 50)];
        take(&mut ledger, &told(250, samples.clone()));
        assert_eq!(busy_ms(&take(&mut ledger, &told(500, samples)), 1), 0);
    }

    #[test]
    fn after_a_long_rest_a_sample_stands_for_one_period_only() {
        let mut ledger = begun();
        let steady = (1..=20).map(|n| sample(1, n * 200, 50)).collect();
        take(&mut ledger, &told(4_000, steady));
        let frame = take(&mut ledger, &told(90_000, vec![sample(1, 90_000, 100)]));
        assert!((200..=250).contains(&busy_ms(&frame, 1)), "{frame:?}");
    }

    #[test]
    fn what_the_driver_dropped_is_taken_to_be_like_the_rest_and_it_says_so() {
        let mut ledger = begun();
        let steady = (1..=20).map(|n| sample(1, n * 200, 50)).collect();
        take(&mut ledger, &told(4_000, steady));
        let kept = vec![
            sample(1, 9_600, 60),
            sample(2, 9_800, 30),
            sample(1, 10_000, 60),
        ];
        let mut activity = told(10_000, kept);
        activity.overflowed = true;
        let frame = take(&mut ledger, &activity);
        assert_eq!(frame.policy, Policy::MeasuredInPart);
        let [one, other] = [1, 2].map(|pid| busy_ms(&frame, pid) as f64);
        // Two of three passes at 60 % of 6 s, one at 30 %; a first pass may stand for a quarter
        // more.
        assert!((one / 2_400.0 - 1.0).abs() < 0.06, "{one}");
        assert!((other / 600.0 - 1.0).abs() < 0.1, "{other}");
        // And the next that lacks nothing is measured.
        let next = take(&mut ledger, &told(10_200, vec![sample(1, 10_200, 50)]));
        assert_eq!((next.policy, busy_ms(&next, 1)), (Policy::Measured, 100));
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing_for_long() {
        let mut ledger = begun();
        take(
            &mut ledger,
            &told(10_000_000, vec![sample(1, 9_999_900, 50)]),
        );
        take(&mut ledger, &told(1_000, vec![]));
        let frame = take(&mut ledger, &told(1_250, vec![sample(1, 1_200, 50)]));
        assert_eq!(busy_ms(&frame, 1), 100);
        assert_eq!(frame.uses[0].last_unix_us, START + 1_200 * MS);
    }

    #[test]
    fn nonsense_is_no_use() {
        let mut ledger = begun();
        let nonsense = vec![
            sample(0, 200, 50),
            sample(u32::MAX, 200, 50),
            sample(7, 200, 3_000_000),
            Sample {
                at_unix_us: 0,
                ..sample(8, 0, 50)
            },
            sample(9, 999_999_999, 50),
            sample(10, 200, 50),
        ];
        let frame = take(&mut ledger, &told(300, nonsense));
        let pids: Vec<u32> = frame.uses.iter().map(|used| used.pid).collect();
        assert_eq!(pids, [10]);
        // And a stamp from the future hides nothing that comes after it.
        let frame = take(&mut ledger, &told(500, vec![sample(10, 400, 50)]));
        assert_eq!(busy_ms(&frame, 10), 100);
    }

    #[test]
    fn who_only_encodes_pays_where_nobody_computes() {
        let encodes = Sample {
            encoder: 40,
            ..sample(1, 200, 0)
        };
        let alone = take(&mut begun(), &told(300, vec![encodes]));
        assert_eq!(busy_ms(&alone, 1), 80);
        let beside = take(&mut begun(), &told(300, vec![encodes, sample(2, 200, 10)]));
        assert_eq!((busy_ms(&beside, 1), busy_ms(&beside, 2)), (0, 20));
    }

    #[test]
    fn processes_that_nobody_measures_share_alike_and_it_says_so() {
        let mut activity = told(1000, vec![]);
        activity.samples = PerProcess::Untold;
        activity.busy_percent = Some(60);
        activity.running = vec![
            running(1, Kind::Compute),
            running(2, Kind::Compute),
            running(3, Kind::Graphics),
        ];
        let frame = take(&mut begun(), &activity);
        assert_eq!(frame.policy, Policy::TimeSliced);
        let parts = [1, 2, 3].map(|pid| busy_ms(&frame, pid));
        assert_eq!(parts, [300, 300, 0]);
        assert_eq!(frame.uses[0].memory, Some(1 << 20));
        activity.running[0].kind = Kind::Mps;
        assert_eq!(take(&mut begun(), &activity).policy, Policy::Mps);
    }

    #[test]
    fn what_the_multi_process_service_did_was_for_its_clients() {
        let mut activity = told(200, vec![sample(9, 200, 80)]);
        activity.running = vec![
            running(9, Kind::Compute),
            running(1, Kind::Mps),
            running(2, Kind::Mps),
        ];
        let frame = take(&mut begun(), &activity);
        assert_eq!(frame.policy, Policy::Mps);
        assert_eq!([9, 1, 2].map(|pid| busy_ms(&frame, pid)), [0, 80, 80]);
        // But where the clients themselves are measured, that is how it was.
        activity.samples = PerProcess::Told(vec![sample(1, 200, 30), sample(2, 200, 10)]);
        let frame = take(&mut begun(), &activity);
        assert_eq!(frame.policy, Policy::Measured);
        assert_eq!([1, 2].map(|pid| busy_ms(&frame, pid)), [60, 20]);
    }

    fn cut(busy: [Option<f64>; 2]) -> Activity {
        let instance = |gpu_instance, slices, busy| Instance {
            gpu_instance,
            uuids: vec![format!("MIG-{gpu_instance}")],
            slices,
            busy,
        };
        let inside = |pid, gpu_instance| Running {
            gpu_instance: Some(gpu_instance),
            ..running(pid, Kind::Compute)
        };
        Activity {
            samples: PerProcess::Untold,
            instances: vec![instance(3, 4, busy[0]), instance(5, 2, busy[1])],
            slices: 7,
            running: vec![inside(1, 3), inside(2, 3)],
            ..told(700, vec![])
        }
    }

    #[test]
    fn a_mig_instance_used_its_slices_while_it_was_busy() {
        let frame = take(&mut begun(), &cut([Some(0.5), Some(0.0)]));
        assert_eq!(frame.policy, Policy::MigSlice);
        assert_eq!([1, 2].map(|pid| busy_ms(&frame, pid)), [100, 100]);
    }

    #[test]
    fn a_mig_instance_that_is_not_measured_was_busy_while_it_was_occupied() {
        let frame = take(&mut begun(), &cut([None, None]));
        let parts = [1, 2].map(|pid| busy_ms(&frame, pid));
        assert_eq!((parts, busy_ms(&frame, 0)), ([200, 200], 0));
    }

    #[test]
    fn who_leaves_between_two_looks_pays_for_half_of_the_time() {
        let mut ledger = begun();
        take(&mut ledger, &cut([None, None]));
        let mut later = cut([Some(0.5), None]);
        later.at_unix_us += 700 * MS;
        later.running.truncate(1);
        let frame = take(&mut ledger, &later);
        assert_eq!([1, 2].map(|pid| busy_ms(&frame, pid)), [133, 66]);
        // And the last one to leave is not nobody.
        later.at_unix_us += 700 * MS;
        later.running.clear();
        assert_eq!(busy_ms(&take(&mut ledger, &later), 1), 200);
    }

    fn unnamed(id: &str, busy_ms: Option<u64>, most_ms: u64) -> Unnamed {
        Unnamed {
            ids: vec![id.into()],
            busy_ns: busy_ms.map(|ms| ms * 1_000_000),
            most_ns: most_ms * 1_000_000,
        }
    }

    #[test]
    fn an_instance_where_nobody_is_listed_is_told_with_how_busy_it_was() {
        let frame = take(&mut begun(), &cut([Some(0.0), Some(1.0)]));
        assert_eq!(frame.unnamed, [unnamed("MIG-5", Some(200), 200)]);
        let frame = take(&mut begun(), &cut([None, None]));
        assert_eq!(frame.unnamed, [unnamed("MIG-5", None, 200)]);
    }

    #[test]
    fn a_gpu_where_nobody_is_named_is_told_with_how_busy_it_was() {
        let mut ledger = begun();
        let mut activity = told(1_000, vec![]);
        activity.busy_percent = Some(80);
        // How busy it was before is not known.
        let frame = take(&mut ledger, &activity);
        assert_eq!(frame.unnamed, [unnamed("GPU-1", None, 1_000)]);
        // In between it went from the one to the other.
        activity.at_unix_us += 1_000 * MS;
        activity.busy_percent = Some(0);
        let frame = take(&mut ledger, &activity);
        assert_eq!(frame.unnamed, [unnamed("GPU-1", Some(400), 1_000)]);
        // Neither one that rests nor one that was there and left is nobody.
        activity.samples = PerProcess::Untold;
        activity.running = vec![running(1, Kind::Compute)];
        activity.at_unix_us += 1_000 * MS;
        assert!(take(&mut ledger, &activity).unnamed.is_empty());
        activity.running.clear();
        activity.at_unix_us += 1_000 * MS;
        assert!(take(&mut ledger, &activity).unnamed.is_empty());
        activity.at_unix_us += 1_000 * MS;
        assert_eq!(
            take(&mut ledger, &activity).unnamed,
            [unnamed("GPU-1", Some(0), 1_000)]
        );
    }

    proptest! {
        #[test]
        fn no_process_uses_more_than_there_was(
            samples in prop::collection::vec((1u32..5, 0u64..5_000, 0u32..200), 0..80),
        ) {
            let samples = samples.into_iter().map(|(pid, at, sm)| sample(pid, at, sm)).collect();
            let mut once: Vec<Sample> = samples;
            once.sort_by_key(|s| (s.pid, s.at_unix_us / MS / 20));
            once.dedup_by_key(|s| (s.pid, s.at_unix_us / MS / 20));
            let frame = take(&mut begun(), &told(5_000, once));
            for used in &frame.uses {
                prop_assert!(used.busy_ns <= 5_000_000_000 * 5 / 4, "{used:?}");
            }
        }

        #[test]
        fn a_division_loses_nothing(whole in any::<u32>(), number in 1usize..40) {
            let pids: Vec<u32> = (1..).take(number).collect();
            let mut frame = GpuFrame::default();
            share_among(whole.into(), &pids, &mut frame);
            let parts = || frame.uses.iter().map(|used| used.busy_ns);
            prop_assert_eq!(parts().sum::<u64>(), u64::from(whole));
            let spread = parts().max().unwrap() - parts().min().unwrap();
            prop_assert!(spread <= 1);
        }
    }
}
