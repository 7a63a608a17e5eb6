// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Servers that are built from Go modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::succeed;

/// Whose programs are the `tool`s of a go.mod of ours. That and its go.sum fix every byte of
/// the source, whichever proxy it comes from.
pub(super) struct Module {
    /// The module that the version is of.
    pub(super) main: &'static str,
    /// A variable of the program that is to hold `v` and the version.
    pub(super) version_variable: Option<&'static str>,
    /// What Go calls the program, and what it is called here.
    pub(super) rename: Option<(&'static str, &'static str)>,
    /// A folder of the module that is needed beside the programs.
    pub(super) data: Option<&'static str>,
}

impl Module {
    pub(super) const DEFAULT: Self = Self {
        main: "",
        version_variable: None,
        rename: None,
        data: None,
    };

    /// Builds the tools of the go.mod in `source` into `home`/bin; data goes to `home`/data.
    ///
    /// # Errors
    /// When there is no Go, or it fails; it has then said why.
    pub(super) fn build(&self, source: &Path, version: &str, home: &Path) -> Result<()> {
        if Command::new("go")
            .arg("version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            bail!("there is no `go`: install Go 1.26 or later (https://go.dev/dl)");
        }
        let bin = home.join("bin");
        fs::create_dir(&bin)?;
        let mut linker = "-s -w".to_owned();
        if let Some(variable) = self.version_variable {
            linker.push_str(&format!(" -X {variable}=v{version}"));
        }
        // The machine stays usable meanwhile.
        let mut build = Command::new("nice");
        build
            .args([
                "go",
                "build",
                "-mod=readonly",
                "-buildvcs=false",
                "-trimpath",
            ])
            .args(["-ldflags", &linker, "-o"])
            // With a slash it is a folder, however many programs there are.
            .arg(bin.join(""))
            .arg("tool")
            // No C compiler, and programs that run in any image.
            .env("CGO_ENABLED", "0")
            .current_dir(source);
        succeed(&mut build)?;
        if let Some((from, to)) = self.rename {
            fs::rename(bin.join(from), bin.join(to)).with_context(|| format!("no {from}"))?;
        }
        if let Some(data) = self.data {
            let from = self.folder(source)?.join(data);
            copy_folder(&from, &home.join("data"))
                .with_context(|| format!("copying {}", from.display()))?;
        }
        Ok(())
    }

    /// Where Go has the module's source.
    fn folder(&self, source: &Path) -> Result<PathBuf> {
        let output = Command::new("go")
            .args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", self.main])
            .current_dir(source)
            .stderr(Stdio::inherit())
            .output()?;
        let path = String::from_utf8(output.stdout)?;
        match path.trim_end() {
            "" => bail!("go does not tell where {} is", self.main),
            path => Ok(path.into()),
        }
    }
}

/// The files of a folder and of those in it. Go's module cache is read-only; the copy is not.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::write(target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
