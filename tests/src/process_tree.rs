// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A `/proc` made of plain files, whose processes vanish, hide and lie as told.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::programs;

/// The tree.
pub struct ProcessTree {
    folder: tempfile::TempDir,
}

/// One process of it.
#[derive(Clone, Debug)]
pub struct FakeProcess {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// What it calls itself.
    pub comm: String,
    /// CPU time, in clock ticks.
    pub cpu_ticks: u64,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Its files are gone, its folder is not: it died while it was being read.
    Empty,
    /// The folder may not be entered.
    Locked,
    /// A file where a folder belongs.
    NoFolder,
    /// A link that leads to itself.
    Loop,
    /// Its line is cut off.
    Cut,
    /// Its line is no text at all.
    Garbage,
    /// Its numbers are too large for anything.
    Huge,
    /// `stat` is a folder.
    StatFolder,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 8] = [
        Self::Empty,
        Self::Locked,
        Self::NoFolder,
        Self::Loop,
        Self::Cut,
        Self::Garbage,
        Self::Huge,
        Self::StatFolder,
    ];
}

impl ProcessTree {
    /// A tree with no process yet, and those of the machine's own files that describe it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new() -> Result<Self> {
        let folder = programs::public_folder()?;
        for name in ["cpuinfo", "stat", "meminfo", "uptime", "loadavg", "version"] {
            if let Ok(text) = fs::read(Path::new("/proc").join(name)) {
                fs::write(folder.path().join(name), text)?;
            }
        }
        Ok(Self { folder })
    }

    /// What to give to `--procfs`.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a process there, or brings it up to date, as one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, process: &FakeProcess) -> io::Result<()> {
        let folder = self.entry(process.pid);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("cgroup"), "0::/\n")?;
        fs::write(folder.join("comm"), format!("{}\n", process.comm))?;
        // A reader sees the old line or the new one, as with the real thing.
        fs::write(folder.join(".stat"), process.stat())?;
        fs::rename(folder.join(".stat"), folder.join("stat"))
    }

    /// Takes an entry away, whatever it is.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn remove(&self, pid: u32) -> io::Result<()> {
        let entry = self.entry(pid);
        match fs::symlink_metadata(&entry) {
            Ok(data) if data.is_dir() => {
                fs::set_permissions(&entry, fs::Permissions::from_mode(0o755))?;
                fs::remove_dir_all(entry)
            }
            Ok(_) => fs::remove_file(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Puts a broken entry there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn spoil(&self, pid: u32, flaw: Flaw) -> io::Result<()> {
        self.remove(pid)?;
        let entry = self.entry(pid);
        match flaw {
            Flaw::NoFolder => return fs::write(entry, "1 (x) R 1"),
            Flaw::Loop => return std::os::unix::fs::symlink(&entry, &entry),
            _ => fs::create_dir(&entry)?,
        }
        let stat = entry.join("stat");
        match flaw {
            Flaw::Locked => fs::set_permissions(&entry, fs::Permissions::from_mode(0o000)),
            Flaw::Cut => fs::write(stat, format!("{pid} (cut) R 1 2 3 4")),
            Flaw::Garbage => fs::write(stat, b"\xff\xfe\0)))((( -1 -1".as_slice()),
            Flaw::Huge => fs::write(stat, format!("{pid} (huge) {}", "9".repeat(4_000))),
            Flaw::StatFolder => fs::create_dir(stat),
            Flaw::Empty | Flaw::NoFolder | Flaw::Loop => Ok(()),
        }
    }

    fn entry(&self, pid: u32) -> PathBuf {
        self.folder.path().join(pid.to_string())
    }
}

impl FakeProcess {
    /// proc(5): 52 fields.
    fn stat(&self) -> String {
        let Self {
            pid,
            parent,
            comm,
            cpu_ticks,
            start_ticks,
        } = self;
        format!(
            "{pid} ({comm}) R {parent} {pid} {pid} 0 -1 4194304 0 0 0 0 {cpu_ticks} 0 0 0 20 0 1 \
             0 {start_ticks} 4096 1 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 \
             0 0 0 0 0 0 0\n"
        )
    }
}
