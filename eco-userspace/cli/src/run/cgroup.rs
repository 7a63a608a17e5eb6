// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cgroup of the job's own.
//!
//! It is made below the cgroup that eco itself is in, so that whatever limits that (a Slurm
//! step, a pod, a systemd unit) hold for the job as before.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const PREFIX: &str = "eco-run-";

/// A v2 cgroup that exists for one job.
pub(crate) struct JobCgroup {
    directory: PathBuf,
    path: String,
    procs: CString,
}

impl JobCgroup {
    /// Makes the cgroup.
    ///
    /// # Errors
    /// Where there is no v2 hierarchy, or this user may not make cgroups in its own.
    pub(crate) fn create() -> io::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let (parent, parent_path) = own_cgroup(&mounts, &own)
            .ok_or_else(|| io::Error::other("no cgroup v2 hierarchy is mounted"))?;
        if is_slurms_by_v1(&own) {
            return Err(io::Error::other("Slurm keeps this process in cgroup v1"));
        }
        sweep(&parent);
        let name = format!("{PREFIX}{}", std::process::id());
        let directory = parent.join(&name);
        match fs::create_dir(&directory) {
            // Left by a process of the same number that was killed; empty, or it would be busy.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_dir(&directory)?;
                fs::create_dir(&directory)?;
            }
            result => result?,
        }
        let procs = CString::new(directory.join("cgroup.procs").as_os_str().as_bytes())?;
        let path = format!("{}/{name}", parent_path.trim_end_matches('/'));
        Ok(Self {
            directory,
            path,
            procs,
        })
    }

    /// Its path below the v2 mount, as the agent wants it.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Its `cgroup.procs`, for a child to enter.
    pub(crate) fn procs(&self) -> &CStr {
        &self.procs
    }

    /// CPU time of all that ever ran in it: the kernel's own ledger, exact to the µs. Kernels
    /// keep it even where no cpu controller is on.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        let text = fs::read_to_string(self.directory.join("cpu.stat")).ok()?;
        let usage = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "))?;
        usage.parse().ok().map(Duration::from_micros)
    }

    /// The processes in it and below.
    pub(crate) fn members(&self) -> Vec<i32> {
        let mut members = Vec::new();
        visit(&self.directory, &mut |directory| {
            members.extend(processes_of(directory))
        });
        members
    }

    /// Removes it. Processes that still run in it go back to eco's own cgroup first.
    ///
    /// # Errors
    /// What the kernel says, when it stays busy.
    pub(crate) fn remove(self) -> io::Result<()> {
        let parent_procs = self
            .directory
            .parent()
            .map(|parent| parent.join("cgroup.procs"));
        let mut result = Ok(());
        // A process that has just died may keep its cgroup busy for a moment.
        for attempt in 0..20 {
            if attempt > 0 {
                thread::sleep(Duration::from_millis(5));
            }
            if let Some(parent_procs) = &parent_procs {
                for pid in self.members() {
                    let _ = fs::write(parent_procs, pid.to_string());
                }
            }
            let mut inside_out = Vec::new();
            visit(&self.directory, &mut |directory| {
                inside_out.insert(0, directory.to_owned())
            });
            result = inside_out.iter().try_for_each(fs::remove_dir);
            match &result {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => return Ok(()),
            }
        }
        result
    }
}

/// Whether only v1 tells which job of Slurm a process is of. In a v2 cgroup of its own it would
/// be nobody's but eco's, and Slurm's job would miss what it used.
fn is_slurms_by_v1(own: &str) -> bool {
    let is_slurms = |line: &str| line.contains(":/slurm");
    own.lines().any(|line| line == "0::/") && own.lines().any(is_slurms)
}

/// The directory and the path of the cgroup that `own` (`/proc/self/cgroup`) names, under the
/// v2 mount that `mounts` (`/proc/self/mountinfo`) has.
fn own_cgroup(mounts: &str, own: &str) -> Option<(PathBuf, String)> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // proc(5): id, parent, device, root, mount point, options, optional fields, "-", type.
        let (before, after) = line.split_once(" - ")?;
        if after.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = before.split(' ').skip(3);
        let (root, mount) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = if root == "/" {
            path
        } else {
            path.strip_prefix(root.as_str())?
        };
        Some((
            Path::new(&mount).join(below.trim_start_matches('/')),
            path.to_owned(),
        ))
    })
}

/// Undoes the octal escapes of mountinfo.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (escape, plain)| {
        text.replace(escape, plain)
    })
}

/// Removes what runs that were killed have left here. An empty cgroup only: the kernel does
/// not remove any other.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if let Some(owner) = owner.and_then(|owner| owner.parse::<u32>().ok())
            && !Path::new("/proc").join(owner.to_string()).exists()
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn processes_of(directory: &Path) -> Vec<i32> {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    procs.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Calls `with` for a directory and then for all below it.
fn visit(directory: &Path, with: &mut impl FnMut(&Path)) {
    with(directory);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            visit(&entry.path(), with);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
";

    #[test]
    fn on_a_hybrid_machine_the_unified_mount_is_used() {
        let own = "4:memory:/jobs/1\n0::/a/b\n";
        assert_eq!(
            own_cgroup(HYBRID, own),
            Some((
                PathBuf::from("/sys/fs/cgroup/unified/a/b"),
                "/a/b".to_owned()
            ))
        );
    }

    #[test]
    fn on_a_v1_machine_there_is_none() {
        assert_eq!(own_cgroup(HYBRID, "4:memory:/jobs/1\n"), None);
        assert_eq!(
            own_cgroup(&HYBRID.replace("cgroup2", "cgroup"), "0::/a\n"),
            None
        );
    }

    #[test]
    fn a_mount_of_a_part_of_the_tree_is_respected() {
        let mounts = "41 31 0:38 /pods/7 /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        assert_eq!(
            own_cgroup(mounts, "0::/pods/7/c1\n").map(|(directory, _)| directory),
            Some(PathBuf::from("/sys/fs/cgroup/c1"))
        );
        assert_eq!(own_cgroup(mounts, "0::/elsewhere\n"), None);
    }

    #[test]
    fn blanks_in_a_mount_point_are_unescaped() {
        let mounts = "41 31 0:38 / /mnt/a\\040b rw - cgroup2 none rw\n";
        assert_eq!(
            own_cgroup(mounts, "0::/\n").map(|(directory, _)| directory),
            Some(PathBuf::from("/mnt/a b/"))
        );
    }

    #[test]
    fn a_task_of_slurm_on_v1_gets_no_v2_cgroup_that_hides_it() {
        let v1 = "4:cpuacct:/slurm_n1/uid_0/job_7/step_0\n0::/\n";
        assert!(is_slurms_by_v1(v1));
        for other in [
            "0::/\n",
            "4:cpuacct:/docker/1\n0::/\n",
            "0::/slurm/job_7\n",
            "",
        ] {
            assert!(!is_slurms_by_v1(other), "{other}");
        }
    }
}
