// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Open MPI's mpirun(1), from eco's own tool folder.

use std::{path::Path, process::Command};

use super::{Installed, find_or_skip};

/// What Debian's packages have for this machine's kind.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// An Open MPI of one node.
pub struct OpenMpi(Installed);

impl OpenMpi {
    /// Finds it. Prints `skipped: why` and answers `None` where it is not.
    #[must_use]
    pub fn find() -> Option<Self> {
        find_or_skip(["openmpi"]).map(|[installed]| Self(installed))
    }

    /// `mpirun -n RANKS`, to be given a command; `folder` is where the ranks run.
    #[must_use]
    pub fn mpirun(&self, ranks: u32, folder: &Path) -> Command {
        let libraries = self.0.path(LIBRARIES);
        let mut path = libraries.clone().into_os_string();
        for below in ["openmpi/lib", "pmix2/lib"] {
            path.push(":");
            path.push(libraries.join(below));
        }
        let mut mpirun = Command::new(self.0.path("usr/bin/mpirun.openmpi"));
        mpirun
            .env("LD_LIBRARY_PATH", path)
            // Where it has been built to be, moved (opal_install_dirs).
            .env("OPAL_PREFIX", self.0.path("usr"))
            .env("OPAL_LIBDIR", libraries.join("openmpi/lib"))
            .env("PMIX_INSTALL_PREFIX", libraries.join("pmix2"))
            // It would miss a library that nobody needs.
            .env("PMIX_MCA_pcompress_base_silence_warning", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            // Its session's files.
            .env("TMPDIR", folder)
            .current_dir(folder)
            .args(["--oversubscribe", "--bind-to", "none", "-n"])
            .arg(ranks.to_string());
        mpirun
    }
}
