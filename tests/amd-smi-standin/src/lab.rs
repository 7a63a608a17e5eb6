// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting a scripted amd-smi up for a test: a folder with the library and its script.

use std::{env, fs, io, path::PathBuf};

use crate::world::SCRIPT;

/// The name that programs ask the loader for.
const LIBRARY: &str = "libamd_smi.so";

/// What cargo calls it.
const BUILT: &str = "libeco_amd_smi_standin.so";

/// A library. Dropped, its folder goes; whoever has loaded it keeps it.
pub struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    /// Puts up a library that goes by `script` (see [`crate::scenario`]). Its clock starts when
    /// a program loads it.
    ///
    /// # Errors
    /// When files cannot be written, or this crate's shared library is not built beside the
    /// running program.
    pub fn new(script: &str) -> io::Result<Self> {
        Self::lacking(script, &[])
    }

    /// The same for a library from before some functions: their symbols are not there.
    ///
    /// # Errors
    /// As [`Lab::new`], and when there is no such function to leave out.
    pub fn lacking(script: &str, functions: &[&str]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("eco-amd-smi-").tempdir()?;
        let mut library = fs::read(built()?)?;
        for function in functions {
            hide(&mut library, function)?;
        }
        fs::write(folder.path().join(LIBRARY), library)?;
        fs::write(folder.path().join(SCRIPT), script)?;
        Ok(Self { folder })
    }

    /// The library.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.folder.path().join(LIBRARY)
    }
}

/// Cargo builds a dependency's shared library into `deps`, beside test programs.
fn built() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    let mut places =
        folders.flat_map(|folder| [folder.join(BUILT), folder.join("deps").join(BUILT)]);
    places.find(|path| path.is_file()).ok_or_else(|| {
        let what = format!("{BUILT} is not beside {}", program.display());
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}

/// Spoils a name in the table of dynamic symbols: the loader finds it by its hash, compares it,
/// and finds that it is another.
fn hide(library: &mut [u8], function: &str) -> io::Result<()> {
    let name = [b"\0", function.as_bytes(), b"\0"].concat();
    let mut hidden = 0;
    let mut at = 0;
    while let Some(found) = library[at..]
        .windows(name.len())
        .position(|bytes| bytes == name)
    {
        at += found + 1;
        library[at] = b'x';
        hidden += 1;
    }
    if hidden == 0 {
        let what = format!("{function} is not a symbol of {BUILT}");
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(())
}
