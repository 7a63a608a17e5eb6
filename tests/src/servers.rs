// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Real servers on this machine's loopback, each in a folder that goes away with it.
//!
//! `cargo xtask servers` brings the programs. What starts here ends with the test, however the
//! test ends ([`server`]). Where a server cannot run, its `start` prints `skipped: why` and
//! answers `None`:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! let Some(cluster) = eco_tests::servers::kubernetes::Cluster::start()? else {
//!     return Ok(());
//! };
//! cluster.kubectl(&["get", "nodes"])?;
//! # Ok(())
//! # }
//! ```

pub mod authority;
pub mod collector;
pub mod device_plugin;
pub mod helm;
pub mod image;
pub mod keda;
pub mod kubernetes;
pub mod kwok;
pub mod openmpi;
pub mod prometheus;
pub mod server;
pub mod slurm;

use std::{
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use crate::needs::Need;

/// Which version of each server the tests run.
const VERSIONS: &str = include_str!("../../xtask/servers/versions.toml");

/// A server that `cargo xtask servers` brought.
#[derive(Clone, Debug)]
pub struct Installed(PathBuf);

impl Installed {
    /// Finds it in eco's tool folder.
    ///
    /// # Errors
    /// With the command that would bring it.
    pub fn find(name: &str) -> Result<Self, String> {
        let home = tools()
            .zip(version(name))
            .map(|(tools, version)| tools.join("servers").join(format!("{name}-{version}")));
        home.filter(|home| home.is_dir())
            .map(Self)
            .ok_or_else(|| format!("{name} is not there: cargo xtask servers {name}"))
    }

    /// A program or a folder of it.
    #[must_use]
    pub fn path(&self, below: &str) -> PathBuf {
        self.0.join(below)
    }
}

/// Why servers that need root and these programs cannot run, printed as `skipped: why`; else
/// where they are.
pub(crate) fn find_or_skip<const N: usize>(names: [&str; N]) -> Option<[Installed; N]> {
    let found = || -> Result<Vec<Installed>, String> {
        if let Some(why) = Need::Root.missing() {
            return Err(why);
        }
        names.into_iter().map(Installed::find).collect()
    };
    match found() {
        Ok(found) => found.try_into().ok(),
        Err(why) => {
            skip(&why);
            None
        }
    }
}

#[expect(clippy::print_stdout, reason = "how a test says that it is skipped")]
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
}

/// A port of the loopback that nobody listens on. Below those that the kernel gives to
/// connections, so that it stays free until the server comes.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Tests that run at once begin at different places.
    let start = process::id().wrapping_mul(61);
    let mut candidates = (0..COUNT).map(|_| {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        (FIRST + start.wrapping_add(tried) % COUNT) as u16
    });
    candidates
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .context("no port is free")
}

/// The rule is xtask's: `$ECO_TOOLS`, else `$XDG_CACHE_HOME/eco/tools`, else
/// `~/.cache/eco/tools`.
fn tools() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(tools) = variable("ECO_TOOLS") {
        return Some(tools.into());
    }
    let cache = match variable("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&variable("HOME")?).join(".cache"),
    };
    Some(cache.join("eco/tools"))
}

fn version(name: &str) -> Option<&'static str> {
    let mut pairs = VERSIONS.lines().filter_map(|line| line.split_once(" = "));
    let (_, version) = pairs.find(|(key, _)| *key == name)?;
    Some(version.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_brings_is_told_with_the_command_that_would() {
        let why = Installed::find("teapot").unwrap_err();
        assert!(why.contains("cargo xtask servers teapot"), "{why}");
    }

    #[test]
    fn ports_are_given_once() {
        let ports: std::collections::BTreeSet<u16> =
            (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
