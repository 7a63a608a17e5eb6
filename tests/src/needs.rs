// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a test needs of the machine. Where it is absent, the test says `skipped: why`.

use std::{fs, io, mem, sync::OnceLock};

use crate::{
    agent::{Agent, Setup},
    cgroup, programs, user,
};

/// Returns from a test, and says why, where one of these [`Need`]s is not met.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {
        $(if let Some(why) = $crate::needs::Need::$need.missing() {
            println!("skipped: {why}");
            return;
        })+
    };
}

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The binaries under test.
    Programs,
    /// All of root's power over processes, cgroups and the scheduler.
    Root,
    /// v2 cgroups that can be made.
    Cgroup,
    /// The machine's CPU time to the nanosecond, for a meter whose truth is known.
    ExactCpu,
    /// A kernel that lets this process load BPF programs and describes its types, and an agent
    /// that was built with its programs. An agent that then does not use them fails the test.
    Bpf,
    /// A second CPU, for one workload beside another.
    TwoCpus,
    /// The right to become another user.
    OtherUser,
}

impl Need {
    /// Why it is not met; `None` where it is.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Programs => [programs::eco(), programs::eco_agent()]
                .iter()
                .find(|program| !program.is_file())
                .map(|absent| format!("{} is not built: cargo xtask build", absent.display())),
            // SAFETY: takes nothing and returns a number.
            Self::Root => (unsafe { libc::geteuid() } != 0).then(|| "needs root".to_owned()),
            Self::Cgroup => cgroup::Cgroup::new("probe")
                .err()
                .map(|error| format!("{error:#}")),
            Self::ExactCpu => cgroup::machine_cpu_file().is_none().then(|| {
                "v1's cpuacct is not mounted, and nothing else knows the machine's CPU time \
                 exactly"
                    .to_owned()
            }),
            Self::Bpf => no_bpf().or_else(no_programs),
            Self::TwoCpus => {
                let cpus = std::thread::available_parallelism().map_or(1, usize::from);
                (cpus < 2).then(|| "needs two CPUs".to_owned())
            }
            Self::OtherUser => user::acting_as(user::NOBODY, || ())
                .err()
                .map(|error| format!("cannot become another user: {error}")),
        }
    }
}

/// Asks the kernel for the smallest map there is.
fn no_bpf() -> Option<String> {
    /// The first fields of `union bpf_attr` for `BPF_MAP_CREATE`, include/uapi/linux/bpf.h.
    #[repr(C)]
    struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let wanted = MapCreate {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        map_flags: 0,
    };
    if let Err(error) = fs::metadata("/sys/kernel/btf/vmlinux") {
        return Some(format!("the kernel does not describe its types: {error}"));
    }
    let size = mem::size_of::<MapCreate>();
    // SAFETY: the attributes are a live local of the size that is passed.
    let map = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, &raw const wanted, size) };
    if map < 0 {
        return Some(format!(
            "the kernel refuses BPF: {}",
            io::Error::last_os_error()
        ));
    }
    // SAFETY: closes the descriptor that was just made.
    unsafe { libc::close(map as i32) };
    None
}

/// Asks an agent whether it has programs to load; once, as it takes a second.
fn no_programs() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let reason = Agent::start(Setup::default()).and_then(|agent| agent.lesser_tier());
        reason
            .ok()
            .flatten()
            .filter(|reason| reason.contains("built without"))
    };
    ANSWER.get_or_init(ask).clone()
}
