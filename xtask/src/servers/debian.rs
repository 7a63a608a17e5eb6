// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Servers that Debian has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

use anyhow::{Context, Result, bail};

use crate::workspace::{shown, succeed};

/// Packages that are taken apart together.
pub(super) struct Packages(pub(super) &'static [&'static str]);

impl Packages {
    /// Unpacks them into `home`, and those libraries that they need and the machine lacks.
    ///
    /// # Errors
    /// When a package cannot be had; the message names it.
    pub(super) fn unpack(&self, home: &Path) -> Result<()> {
        refresh_lists();
        let packages = self.with_libraries()?;
        let downloads = home.join("packages");
        fs::create_dir(&downloads)?;
        succeed(
            Command::new("apt-get")
                // Root's own folder is not readable to apt's user.
                .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
                .args(&packages)
                .current_dir(&downloads),
        )?;
        for package in fs::read_dir(&downloads)? {
            succeed(
                Command::new("dpkg-deb")
                    .arg("-x")
                    .arg(package?.path())
                    .arg(home),
            )?;
        }
        fs::remove_dir_all(&downloads)?;
        name_alternatives(&home.join("usr/sbin"))
    }

    /// What an installation would bring, without what only a person would look at.
    fn with_libraries(&self) -> Result<Vec<String>> {
        let mut simulate = Command::new("apt-get");
        simulate
            .args(["install", "--simulate", "--no-install-recommends"])
            .args(self.0);
        let output = simulate
            .stderr(Stdio::inherit())
            .output()
            .context("servers of Debian are brought on Debian and its kin only: no apt-get")?;
        if !output.status.success() {
            bail!("{} ended with {}", shown(&simulate), output.status);
        }
        let plan = String::from_utf8_lossy(&output.stdout);
        let mut packages = needed_libraries(&plan);
        // Also those that are installed already: a later removal must not matter.
        packages.extend(self.0.iter().map(|name| (*name).to_owned()));
        Ok(packages)
    }
}

/// The libraries that apt would install; its plan has a line `Inst NAME (VERSION …)` for each
/// package.
fn needed_libraries(plan: &str) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| name.starts_with("lib") && !name.starts_with("libjs-"))
        .map(str::to_owned)
        .collect()
}

/// Once a call. Old lists often serve as well, so that what is wrong shows at the download.
fn refresh_lists() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = succeed(Command::new("apt-get").args(["update", "-qq"]));
    });
}

/// Debian calls Slurm's programs NAME-wlm and links NAME to it when it installs them. They
/// decide by their name who they are.
fn name_alternatives(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let name = entry?.file_name();
        if let Some(plain) = name.to_str().and_then(|name| name.strip_suffix("-wlm")) {
            symlink(&name, folder.join(plain))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_the_machine_lacks_are_brought_and_fonts_are_not() {
        let plan = "Reading package lists...\n\
            Inst libjs-d3 (3.5.17-4 Debian:12/stable [all])\n\
            Inst fonts-x (1 Debian:12/stable [all])\n\
            Inst libmunge2 (0.5.15-2 Debian:12/stable [amd64])\n\
            Inst slurmd (22.05 Debian:12/stable [amd64])\n\
            Conf libmunge2 (0.5.15-2 Debian:12/stable [amd64])\n";
        assert_eq!(needed_libraries(plan), ["libmunge2"]);
        assert!(needed_libraries("").is_empty());
    }
}
