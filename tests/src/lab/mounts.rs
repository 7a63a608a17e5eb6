// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's meters at the place of the machine's, for this process and its children only: any
//! program then sees them.

use std::{ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, path::Path, ptr};

use anyhow::{Context, Result};

/// Where the kernel lists meters.
const CLASS: &str = "/sys/class";

/// Puts the classes of the tree at `sysfs` at the place of the machine's own, beside all its
/// other classes.
///
/// A process with several threads must not call this: it concerns the calling one, and those
/// that it starts.
///
/// # Errors
/// When the kernel refuses, as it does without CAP_SYS_ADMIN. Nothing is changed for others
/// then, nor otherwise.
pub fn cover_sys(sysfs: &Path) -> Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) })
        .context("the kernel refuses a mount namespace")?;
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE)?;
    // A class cannot be made in /sys: a copy of the list of classes goes on top of it, in which
    // each class is the machine's own but for those that the lab has.
    let copy = sysfs.join("class.all");
    fs::create_dir(&copy)?;
    mount(Some("tmpfs"), &copy, Some("tmpfs"), libc::MS_NOSUID)?;
    let ours = sysfs.join("class");
    for (folder, is_ours) in [(ours.as_path(), true), (Path::new(CLASS), false)] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let place = copy.join(entry.file_name());
            if place.exists() || !entry.path().is_dir() {
                continue;
            }
            fs::create_dir(&place)?;
            let bound = bind(&entry.path(), &place);
            // A class of the machine's that cannot be shown costs only itself.
            if is_ours {
                bound?;
            }
        }
    }
    bind(&copy, Path::new(CLASS))
}

fn bind(what: &Path, place: &Path) -> Result<()> {
    let source = what.to_str();
    mount(source, place, None, libc::MS_BIND | libc::MS_REC)
}

fn mount(source: Option<&str>, place: &Path, kind: Option<&str>, flags: u64) -> Result<()> {
    let source = source.map(CString::new).transpose()?;
    let kind = kind.map(CString::new).transpose()?;
    let target = CString::new(place.as_os_str().as_bytes())?;
    let or_null = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |t| t.as_ptr());
    // SAFETY: all strings live until the call returns; no data is passed.
    let result = unsafe {
        libc::mount(
            or_null(&source),
            target.as_ptr(),
            or_null(&kind),
            flags,
            ptr::null(),
        )
    };
    check(result).with_context(|| format!("cannot mount on {}", place.display()))
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
