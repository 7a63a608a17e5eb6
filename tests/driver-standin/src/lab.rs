// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Putting a scripted driver up for a test: a folder with the library and its script.

use std::{
    env, fs, io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use crate::SCRIPT;

/// Which library is put up.
pub trait Library {
    /// The name that programs ask the loader for.
    const NAME: &str;
    /// What cargo calls the stand-in.
    const BUILT: &str;
}

/// A driver. Dropped, its folder goes; whoever has loaded it keeps it.
pub struct Lab<L> {
    folder: tempfile::TempDir,
    library: PhantomData<L>,
}

impl<L: Library> Lab<L> {
    /// Puts up a driver that goes by `script`. Its clock starts when a program loads it.
    ///
    /// # Errors
    /// When files cannot be written, or the stand-in's shared library is not built beside the
    /// running program.
    pub fn new(script: &str) -> io::Result<Self> {
        Self::lacking(script, &[])
    }

    /// The same for a driver from before some functions: their symbols are not there.
    ///
    /// # Errors
    /// As [`Lab::new`], and when there is no such function to leave out.
    pub fn lacking(script: &str, functions: &[&str]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("eco-driver-").tempdir()?;
        let mut library = fs::read(built(L::BUILT)?)?;
        for function in functions {
            hide(&mut library, function, L::BUILT)?;
        }
        fs::write(folder.path().join(L::NAME), library)?;
        fs::write(folder.path().join(SCRIPT), script)?;
        Ok(Self {
            folder,
            library: PhantomData,
        })
    }

    /// The library.
    #[must_use]
    pub fn library(&self) -> PathBuf {
        self.folder.path().join(L::NAME)
    }

    /// Its folder, for `LD_LIBRARY_PATH`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Cargo builds a dependency's shared library into `deps`, beside test programs.
fn built(name: &str) -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    let mut places = folders.flat_map(|folder| [folder.join(name), folder.join("deps").join(name)]);
    places.find(|path| path.is_file()).ok_or_else(|| {
        let what = format!("{name} is not beside {}", program.display());
        io::Error::new(io::ErrorKind::NotFound, what)
    })
}

/// Spoils a name in the table of dynamic symbols: the loader finds it by its hash, compares it,
/// and finds that it is another.
fn hide(library: &mut [u8], function: &str, built: &str) -> io::Result<()> {
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
        let what = format!("{function} is not a symbol of {built}");
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(())
}
