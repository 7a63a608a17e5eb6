// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask servers`: the real servers that tests start, each brought once into eco's own
//! tool folder. None is installed into the system, and none is started here.

mod debian;
mod go;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::debian::Packages;
use self::go::Module;
use crate::tools::{Folder, remove_dir};
use crate::workspace::Workspace;

/// Which version of each; `tests/src/servers.rs` reads the same file.
const VERSIONS: &str = "xtask/servers/versions.toml";

/// Those that are quick to have come first.
const SERVERS: [Server; 12] = [
    Server {
        name: "prometheus",
        source: Source::Debian(Packages(&["prometheus"])),
        takes: "some seconds",
    },
    Server {
        name: "victoria-metrics",
        source: Source::Debian(Packages(&["victoria-metrics"])),
        takes: "some seconds",
    },
    Server {
        name: "slurm",
        source: Source::Debian(Packages(&[
            "munge",
            "slurm-client",
            "slurm-wlm-basic-plugins",
            "slurmctld",
            "slurmd",
        ])),
        takes: "some seconds",
    },
    Server {
        name: "slurm-accounting",
        source: Source::Debian(Packages(&[
            "mariadb-server-core",
            "slurm-wlm-mysql-plugin",
            "slurmdbd",
        ])),
        takes: "some seconds",
    },
    Server {
        name: "openmpi",
        source: Source::Debian(Packages(&["openmpi-bin", "openmpi-common"])),
        takes: "some seconds",
    },
    Server {
        name: "containerd",
        source: Source::Debian(Packages(&["busybox-static", "containerd", "runc"])),
        takes: "some seconds",
    },
    Server {
        name: "etcd",
        source: Source::Go(Module {
            main: "go.etcd.io/etcd/server/v3",
            // Go names a program after the last folder of its path.
            rename: Some(("server", "etcd")),
            ..Module::DEFAULT
        }),
        takes: "half a minute on 2 cores",
    },
    Server {
        name: "kubernetes",
        source: Source::Go(Module {
            main: "k8s.io/kubernetes",
            // Without it `kubectl version` cannot read its own.
            version_variable: Some("k8s.io/component-base/version.gitVersion"),
            ..Module::DEFAULT
        }),
        takes: "6 minutes on 2 cores",
    },
    Server {
        name: "helm",
        source: Source::Go(Module {
            main: "helm.sh/helm/v3",
            ..Module::DEFAULT
        }),
        takes: "a minute or two on 2 cores",
    },
    Server {
        name: "otel-collector",
        source: Source::Go(Module {
            main: "go.opentelemetry.io/collector/otelcol",
            ..Module::DEFAULT
        }),
        takes: "some minutes on 2 cores",
    },
    Server {
        name: "keda",
        source: Source::Go(Module {
            main: "github.com/kedacore/keda/v2",
            ..Module::DEFAULT
        }),
        takes: "half a minute on 2 cores",
    },
    Server {
        name: "kwok",
        source: Source::Go(Module {
            main: "sigs.k8s.io/kwok",
            // What simulated nodes and pods go through; kwok does nothing without.
            data: Some("kustomize/stage"),
            ..Module::DEFAULT
        }),
        takes: "a minute on 2 cores",
    },
];

struct Server {
    name: &'static str,
    source: Source,
    /// For who waits.
    takes: &'static str,
}

enum Source {
    /// Unpacked, not installed: the system stays as it is.
    Debian(Packages),
    /// Built; its go.mod is in `xtask/servers/NAME`.
    Go(Module),
}

/// Brings the servers of these names, or all. One that cannot be had does not keep the others
/// away: it is told, and the answer is negative in the end.
///
/// # Errors
/// When there is no server of a name, or no place for them.
pub(crate) fn main(workspace: &Workspace, names: &[String]) -> Result<ExitCode> {
    let wanted = wanted(names)?;
    let versions = Versions::read(workspace)?;
    let folder = Folder::locate()?.within("servers");
    let mut failed = 0;
    for server in wanted {
        let version = versions.of(server.name)?;
        if let Err(error) = server.ensure(workspace, &folder, version) {
            failed += 1;
            eprintln!("servers: {} {version}: {error:#}", server.name);
            eprintln!(
                "servers: its tests are skipped; to try again: cargo xtask servers {}",
                server.name
            );
        }
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn wanted(names: &[String]) -> Result<Vec<&'static Server>> {
    let known = |name: &String| SERVERS.iter().any(|server| server.name == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = SERVERS.iter().map(|server| server.name).collect();
        bail!(
            "there is no server `{unknown}`; there are {}",
            all.join(", ")
        );
    }
    let wanted = SERVERS
        .iter()
        .filter(|server| names.is_empty() || names.iter().any(|name| name == server.name));
    Ok(wanted.collect())
}

impl Server {
    /// Says what it does and how long it took.
    fn ensure(&self, workspace: &Workspace, folder: &Folder, version: &str) -> Result<()> {
        let label = format!("servers: {} {version}", self.name);
        let home = home(folder, self.name, version);
        if home.is_dir() {
            eprintln!("{label}: is there");
            return Ok(());
        }
        let workplace = folder.within(&format!(".{}", self.name));
        let _lock = workplace.lock()?;
        if home.is_dir() {
            eprintln!("{label}: is there");
            return Ok(());
        }
        eprintln!(
            "{label}: {}, which takes {}",
            self.source.verb(),
            self.takes
        );
        let since = Instant::now();
        let staging = workplace.path().join("staging");
        remove_dir(&staging)?;
        fs::create_dir_all(&staging)
            .with_context(|| format!("cannot create {}", staging.display()))?;
        match &self.source {
            Source::Debian(packages) => packages.unpack(&staging)?,
            Source::Go(module) => {
                let folder = workspace.root.join("xtask/servers").join(self.name);
                module.build(&folder, version, &staging)?;
            }
        }
        // Under its name only when it is whole.
        fs::rename(&staging, &home)
            .with_context(|| format!("cannot move it to {}", home.display()))?;
        eprintln!("{label}: took {:.0} s", since.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Source {
    fn verb(&self) -> &'static str {
        match self {
            Self::Debian(_) => "unpacking Debian's packages",
            Self::Go(_) => "building",
        }
    }
}

fn home(folder: &Folder, name: &str, version: &str) -> PathBuf {
    folder.path().join(format!("{name}-{version}"))
}

/// Lines of `name = "version"`.
struct Versions(String);

impl Versions {
    fn read(workspace: &Workspace) -> Result<Self> {
        workspace.read(Path::new(VERSIONS)).map(Self)
    }

    fn of(&self, name: &str) -> Result<&str> {
        let mut pairs = self.0.lines().filter_map(|line| line.split_once(" = "));
        let found = pairs.find(|(key, _)| *key == name);
        let (_, version) = found.with_context(|| format!("{VERSIONS} has no `{name}`"))?;
        Ok(version.trim().trim_matches('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions() -> Versions {
        Versions::read(&Workspace::locate().unwrap()).unwrap()
    }

    #[test]
    fn every_server_has_a_version() {
        for server in &SERVERS {
            assert!(!versions().of(server.name).unwrap().is_empty());
        }
    }

    #[test]
    fn a_version_is_the_one_that_go_builds() {
        let workspace = Workspace::locate().unwrap();
        for server in &SERVERS {
            let Source::Go(module) = &server.source else {
                continue;
            };
            let file = format!("xtask/servers/{}/go.mod", server.name);
            let wanted = format!("{} v{}", module.main, versions().of(server.name).unwrap());
            let text = workspace.read(file).unwrap();
            let mut lines = text
                .lines()
                .map(|line| line.trim().trim_start_matches("require "));
            let is_wanted = |line: &str| line.split(" //").next() == Some(&wanted);
            assert!(lines.any(is_wanted), "{wanted}");
        }
    }

    #[test]
    fn a_server_that_nobody_knows_is_wrong_usage() {
        assert!(wanted(&["kubernets".to_owned()]).is_err());
        assert_eq!(wanted(&["helm".to_owned()]).unwrap().len(), 1);
        assert_eq!(wanted(&[]).unwrap().len(), SERVERS.len());
    }
}
