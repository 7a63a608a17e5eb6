// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The script, in the folder of the library that goes by it.

use std::{
    ffi::{CStr, OsStr, c_void},
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Its name.
pub const SCRIPT: &str = "scenario.toml";

/// Why a script is none.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It cannot be understood.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
}

/// Understands a script.
///
/// # Errors
/// When it is no TOML, or has an unknown key.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ScriptError> {
    Ok(toml::from_str(text)?)
}

/// The script beside the library that `here` points into.
///
/// # Errors
/// When there is none, or as [`parse`].
pub fn read_beside<T: DeserializeOwned>(here: *const c_void) -> Result<T, ScriptError> {
    let folder = file_of(here).and_then(|path| Some(path.parent()?.to_owned()));
    parse(&fs::read_to_string(
        folder.unwrap_or_default().join(SCRIPT),
    )?)
}

/// Where the library that `here` points into was loaded from.
fn file_of(here: *const c_void) -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked about, and there is room for the answer.
    if unsafe { libc::dladdr(here, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: filled in, as dladdr said so; all zeros were valid before.
    let name = unsafe { info.assume_init() }.dli_fname;
    if name.is_null() {
        return None;
    }
    // SAFETY: a C string of the loader's, which lives as long as the library.
    let name = unsafe { CStr::from_ptr(name) };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned())
}
