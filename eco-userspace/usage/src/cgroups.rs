// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The third ledger: what the kernel itself counted for a cgroup, the dead included; and the
//! paths behind cgroup ids.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use eco_common::SpillKey;

/// How deep a search for a cgroup's path goes.
const DEEPEST: usize = 16;

/// Where the cgroup hierarchies that eco reads are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The v2 hierarchy.
    pub unified: Option<PathBuf>,
    /// v1's cpuacct controller.
    pub cpuacct: Option<PathBuf>,
    /// How the root of the v2 hierarchy is called in `/proc/PID/cgroup`: empty, or in a cgroup
    /// namespace of one's own as many `/..` as one lives deep.
    root: String,
}

impl Mounts {
    /// Reads `mountinfo`.
    #[must_use]
    pub fn detect(procfs: &Path) -> Self {
        let text = fs::read_to_string(procfs.join("self/mountinfo")).unwrap_or_default();
        Self::parse(&text)
    }

    /// Whether the v2 hierarchy is there and only a part of it can be seen: in a cgroup
    /// namespace, without the host's mount.
    #[must_use]
    pub fn are_partial(&self, procfs: &Path) -> bool {
        let of_init = CgroupPaths::read(&procfs.join("1/cgroup"));
        let is_outside = of_init.is_some_and(|paths| paths.unified.starts_with("/.."));
        is_outside && self.root.is_empty()
    }

    /// A path as `/proc/PID/cgroup` tells it, from the root of the hierarchy; `None` where only
    /// its id can tell which it is.
    fn absolute(&self, path: &str) -> Option<String> {
        let below = path.strip_prefix(self.root.as_str())?;
        let is_whole = below.is_empty() || below.starts_with('/');
        let leads_out = below.split('/').any(|part| part == "..");
        // Below the own cgroup paths start there, not at the root.
        let is_own = !self.root.is_empty() && !path.starts_with("/..");
        let path = if below.is_empty() { "/" } else { below };
        (is_whole && !leads_out && !is_own).then(|| path.to_owned())
    }

    fn parse(mountinfo: &str) -> Self {
        let mut mounts = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else {
                continue;
            };
            let mut kind = right.split(' ');
            let (Some(fs), options) = (kind.next(), kind.nth(1).unwrap_or_default()) else {
                continue;
            };
            let mut left = left.split(' ').skip(3);
            let (Some(root), Some(place)) = (left.next(), left.next()) else {
                continue;
            };
            let place = || PathBuf::from(unescape(place));
            match fs {
                "cgroup2" if mounts.is_higher(root) => {
                    mounts.unified = Some(place());
                    mounts.root = root.trim_end_matches('/').to_owned();
                }
                "cgroup" if root == "/" && options.split(',').any(|o| o == "cpuacct") => {
                    mounts.cpuacct.get_or_insert_with(place);
                }
                _ => {}
            }
        }
        mounts
    }
}

impl Mounts {
    /// Whether a mount of this root shows more than what is known. A bind mount of a part of
    /// the hierarchy would make every path wrong: its root has a name in it.
    fn is_higher(&self, root: &str) -> bool {
        let is_root = root == "/" || root.split('/').skip(1).all(|part| part == "..");
        let depth = root.trim_end_matches('/').len();
        is_root && (self.unified.is_none() || depth > self.root.len())
    }
}

/// A task's cgroups: ids in the v2 hierarchy and in v1's cpuacct (the same id on machines
/// without the latter).
pub type CgroupIds = SpillKey;

/// Which kernel ledger holds a cgroup's CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// `cpu.stat` of v2.
    Unified,
    /// `cpuacct.usage` of v1.
    Cpuacct,
}

/// The paths of a task's cgroups, below their mounts: `/` is the root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CgroupPaths {
    /// In the v2 hierarchy.
    pub unified: String,
    /// In v1's cpuacct.
    pub cpuacct: String,
}

impl CgroupPaths {
    /// The path that tells most: v2's, or v1's where the task sits in v2's root (Slurm 22 moves
    /// tasks in v1 only).
    #[must_use]
    pub fn telling(&self) -> &str {
        if self.unified.len() > 1 || self.cpuacct.len() <= 1 {
            &self.unified
        } else {
            &self.cpuacct
        }
    }

    /// The hierarchy of that path, unless it is a root: a root's total counts clock ticks, not
    /// the scheduler's time.
    #[must_use]
    pub fn ledger(&self) -> Option<Hierarchy> {
        match (self.unified.len() > 1, self.cpuacct.len() > 1) {
            (true, _) => Some(Hierarchy::Unified),
            (false, true) => Some(Hierarchy::Cpuacct),
            (false, false) => None,
        }
    }

    /// The cgroups of a living process, from `/proc/PID/cgroup`; `None` where it is gone, or its
    /// path does not tell which cgroup that is.
    #[must_use]
    pub fn of_process(procfs: &Path, pid: u32, mounts: &Mounts) -> Option<Self> {
        let mut paths = Self::read(&procfs.join(pid.to_string()).join("cgroup"))?;
        paths.unified = mounts.absolute(&paths.unified)?;
        Some(paths)
    }

    fn read(file: &Path) -> Option<Self> {
        Some(Self::parse(&fs::read_to_string(file).ok()?))
    }

    fn parse(text: &str) -> Self {
        let mut paths = Self::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(id), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            if id == "0" && controllers.is_empty() {
                paths.unified = path.to_owned();
            } else if controllers.split(',').any(|c| c == "cpuacct") {
                paths.cpuacct = path.to_owned();
            }
        }
        paths
    }
}

/// Finds the path of a cgroup by its id (the inode of its folder): a walk, for a cgroup whose
/// tasks are all dead by now.
#[must_use]
pub fn find_by_id(mount: &Path, id: u64) -> Option<String> {
    fn walk(folder: &Path, id: u64, depth: usize) -> Option<PathBuf> {
        if fs::metadata(folder).ok()?.ino() == id {
            return Some(folder.to_path_buf());
        }
        if depth == 0 {
            return None;
        }
        let children = fs::read_dir(folder).ok()?.flatten();
        children
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .find_map(|entry| walk(&entry.path(), id, depth - 1))
    }
    let found = walk(mount, id, DEEPEST)?;
    let below = found.strip_prefix(mount).ok()?;
    Some(format!("/{}", below.display()))
}

/// The id of the cgroup at `path` below `mount`.
#[must_use]
pub fn id_of(mount: &Path, path: &str) -> Option<u64> {
    Some(fs::metadata(folder_of(mount, path)?).ok()?.ino())
}

/// CPU time of a cgroup and all below it, the dead included, in ns; `None` when it is gone.
#[must_use]
pub fn usage_ns(mounts: &Mounts, hierarchy: Hierarchy, path: &str) -> Option<u64> {
    let mut buffer = [0; 512];
    match hierarchy {
        Hierarchy::Unified => {
            let folder = folder_of(mounts.unified.as_ref()?, path)?;
            let text = read(&folder.join("cpu.stat"), &mut buffer)?;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("usage_usec "))?;
            line.trim().parse::<u64>().ok()?.checked_mul(1000)
        }
        Hierarchy::Cpuacct => {
            let folder = folder_of(mounts.cpuacct.as_ref()?, path)?;
            let text = read(&folder.join("cpuacct.usage"), &mut buffer)?;
            text.trim().parse().ok()
        }
    }
}

/// Whether the cgroup holds no living process, nor any cgroup below it does.
#[must_use]
pub fn is_empty(mounts: &Mounts, path: &str) -> bool {
    let Some(mount) = &mounts.unified else {
        return true;
    };
    let mut buffer = [0; 256];
    let events =
        folder_of(mount, path).and_then(|folder| read(&folder.join("cgroup.events"), &mut buffer));
    events.is_none_or(|text| text.lines().any(|line| line == "populated 0"))
}

/// The folder of the cgroup at `path`. An agent in a cgroup namespace of its own is shown
/// those beside it as `/../x`: under its mount that is some other file system.
fn folder_of(mount: &Path, path: &str) -> Option<PathBuf> {
    let leads_out = path.split('/').any(|part| part == "..");
    (!leads_out).then(|| mount.join(path.trim_start_matches('/')))
}

fn read<'a>(path: &Path, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut file = File::open(path).ok()?;
    let length = file.read(buffer).ok()?;
    std::str::from_utf8(buffer.get(..length)?).ok()
}

/// mountinfo writes blanks and the like as `\040`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|c| u8::from_str_radix(c, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_on_hybrid_and_pure_v2_machines() {
        let hybrid = "30 24 0:25 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct\n\
                      31 24 0:26 / /sys/fs/cgroup/a\\040b rw shared:4 - cgroup2 cgroup2 rw\n\
                      32 24 0:26 /part /elsewhere rw - cgroup2 cgroup2 rw\n";
        let mounts = Mounts::parse(hybrid);
        assert_eq!(
            mounts.cpuacct.as_deref(),
            Some(Path::new("/sys/fs/cgroup/cpuacct"))
        );
        assert_eq!(
            mounts.unified.as_deref(),
            Some(Path::new("/sys/fs/cgroup/a b"))
        );
        assert_eq!(Mounts::parse("garbage\n - \n1 2 3"), Mounts::default());
    }

    #[test]
    fn in_a_cgroup_namespace_the_hosts_mount_gives_paths_from_the_root() {
        let pod = "31 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n\
                   32 24 0:26 /../.. /host/sys/fs/cgroup ro - cgroup2 cgroup2 rw\n\
                   33 24 0:26 /.. /half ro - cgroup2 cgroup2 rw\n";
        let mounts = Mounts::parse(pod);
        assert_eq!(
            mounts.unified.as_deref(),
            Some(Path::new("/host/sys/fs/cgroup"))
        );
        let absolute = |path| mounts.absolute(path);
        assert_eq!(absolute("/../..").as_deref(), Some("/"));
        assert_eq!(
            absolute("/../../system.slice/a").as_deref(),
            Some("/system.slice/a")
        );
        for only_by_id in ["/", "/own", "/../sibling", "/../../../above", "/../..x", ""] {
            assert_eq!(absolute(only_by_id), None, "{only_by_id}");
        }
        let host = Mounts::parse("31 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n");
        assert_eq!(host.absolute("/a").as_deref(), Some("/a"));
        assert_eq!(host.absolute("/").as_deref(), Some("/"));
        assert_eq!(host.absolute("/../a"), None);
    }

    #[test]
    fn whoever_sees_a_part_of_the_hierarchy_only_is_told_so() {
        let procfs = tempfile::tempdir().unwrap();
        fs::create_dir(procfs.path().join("1")).unwrap();
        let own = "31 24 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let host = "32 24 0:26 /../.. /host/cgroup ro - cgroup2 cgroup2 rw\n";
        fs::write(procfs.path().join("1/cgroup"), "0::/../..\n").unwrap();
        assert!(Mounts::parse(own).are_partial(procfs.path()));
        assert!(!Mounts::parse(&(own.to_owned() + host)).are_partial(procfs.path()));
        fs::write(procfs.path().join("1/cgroup"), "0::/init.scope\n").unwrap();
        assert!(!Mounts::parse(own).are_partial(procfs.path()));
    }

    #[test]
    fn the_telling_path_is_the_one_that_is_no_root() {
        let slurm = CgroupPaths::parse("2:cpuacct:/slurm/job_1\n0::/\n");
        assert_eq!(slurm.telling(), "/slurm/job_1");
        assert_eq!(slurm.ledger(), Some(Hierarchy::Cpuacct));
        let pod = CgroupPaths::parse("2:cpu,cpuacct:/kubepods/pod1\n0::/kubepods/pod1\n");
        assert_eq!(pod.ledger(), Some(Hierarchy::Unified));
        let none = CgroupPaths::parse("0::/\nnonsense\n");
        assert_eq!((none.telling(), none.ledger()), ("/", None));
    }

    #[test]
    fn usage_of_a_cgroup_that_is_gone_or_odd_is_unknown() {
        let tree = tempfile::tempdir().unwrap();
        let mounts = Mounts {
            unified: Some(tree.path().into()),
            ..Mounts::default()
        };
        fs::create_dir(tree.path().join("a")).unwrap();
        let stat = tree.path().join("a/cpu.stat");
        fs::write(&stat, "usage_usec 1500\nuser_usec 1\n").unwrap();
        assert_eq!(usage_ns(&mounts, Hierarchy::Unified, "/a"), Some(1_500_000));
        assert_eq!(usage_ns(&mounts, Hierarchy::Unified, "/gone"), None);
        assert_eq!(usage_ns(&mounts, Hierarchy::Unified, "/b/../a"), None);
        assert_eq!(id_of(&tree.path().join("a"), "/.."), None);
        assert_eq!(usage_ns(&mounts, Hierarchy::Cpuacct, "/a"), None);
        for odd in [
            "",
            "usage_usec -1\n",
            "usage_usec 99999999999999999999\n",
            "\u{0}",
        ] {
            fs::write(&stat, odd).unwrap();
            assert_eq!(usage_ns(&mounts, Hierarchy::Unified, "/a"), None, "{odd:?}");
        }
        let id = id_of(tree.path(), "/a").unwrap();
        assert_eq!(find_by_id(tree.path(), id).as_deref(), Some("/a"));
        assert_eq!(find_by_id(tree.path(), u64::MAX), None);
    }
}
