// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's meters at the place of the machine's, for this process and its children only: any
//! program then sees them.

use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    ptr,
};

use anyhow::{Context, Result};

/// Where the kernel shows itself.
const SYS: &str = "/sys";

/// Where it lists meters.
const CLASS: &str = "class";

/// Where it tells of CPUs.
const CPUS: &str = "devices/system/cpu";

/// Puts the tree at `sysfs` over the machine's own: its classes of meters, whole, beside all other
/// classes; and what it says of CPUs, beside all else that the kernel says of each.
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
    cover(sysfs, CLASS, 1)?;
    if sysfs.join(CPUS).is_dir() {
        cover(sysfs, CPUS, 2)?;
    }
    Ok(())
}

/// Nothing can be made in /sys: a copy of a folder goes on top of it, in which each entry is the
/// machine's own but for those that the lab has. Folders of both are copied likewise, down to
/// `depth`.
fn cover(sysfs: &Path, folder: &str, depth: u32) -> Result<()> {
    let place = Path::new(SYS).join(folder);
    let copy = sysfs.join(format!("{}.all", folder.replace('/', "-")));
    fs::create_dir(&copy)?;
    mount(Some("tmpfs"), &copy, Some("tmpfs"), libc::MS_NOSUID)?;
    merge(&sysfs.join(folder), &place, &copy, depth)?;
    bind(&copy, &place)
}

fn merge(ours: &Path, theirs: &Path, copy: &Path, depth: u32) -> Result<()> {
    for (folder, is_ours) in [(ours, true), (theirs, false)] {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let name = entry?.file_name();
            let place = copy.join(&name);
            let (own, other) = (ours.join(&name), theirs.join(&name));
            if fs::symlink_metadata(&place).is_ok() {
                continue;
            }
            if depth > 1 && own.is_dir() && other.is_dir() {
                fs::create_dir(&place)?;
                merge(&own, &other, &place, depth - 1)?;
                continue;
            }
            let shown = show(&folder.join(&name), &place);
            // Something of the machine's that cannot be shown costs only itself.
            if is_ours {
                shown?;
            }
        }
    }
    Ok(())
}

fn show(what: &Path, place: &Path) -> Result<()> {
    let kind = fs::symlink_metadata(what)?.file_type();
    if kind.is_symlink() {
        return Ok(symlink(fs::read_link(what)?, place)?);
    }
    if kind.is_dir() {
        fs::create_dir(place)?;
    } else {
        fs::write(place, "")?;
    }
    bind(what, place)
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
