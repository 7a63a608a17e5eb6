// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Slurm's accounting: slurmdbd(8), and the database that it keeps jobs in.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::{LIBRARIES, Unstarted, command, environment, munge_socket};
use crate::servers::{
    Installed, free_port,
    server::{Server, finished, run},
};

/// What mariadb-install-db(1) makes a database of, in this order, from MariaDB's own folder:
/// slurmdbd has stored procedures, which need the system's tables.
const SYSTEM_TABLES: [&str; 2] = ["mysql_system_tables.sql", "mysql_performance_tables.sql"];

/// Both servers. Only who may read the test's folder reaches the database.
pub(super) struct Accounting {
    _slurmdbd: Server,
    _database: Server,
    port: u16,
    munge: PathBuf,
}

impl Accounting {
    /// Starts them. munged runs already.
    pub(super) fn start(slurm: &Unstarted<'_>, installed: &Installed) -> Result<Self> {
        let socket = slurm.scratch.join("mariadbd/socket");
        let database = start_database(slurm, installed, &socket)?;
        let port = free_port()?;
        configure(slurm, installed, port)?;
        let program = installed.path("usr/sbin/slurmdbd");
        let mut libraries = installed.path(LIBRARIES).into_os_string();
        let [_, (_, of_slurm)] = environment(slurm.installed, slurm.scratch);
        libraries.push(":");
        libraries.push(of_slurm);
        let mut slurmdbd = slurm
            .launch_program("slurmdbd", &program)?
            .env("LD_LIBRARY_PATH", libraries)
            .env("MYSQL_UNIX_PORT", &socket)
            .arg("-D")
            .start()?;
        slurmdbd.until_ready(|| std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self {
            _slurmdbd: slurmdbd,
            _database: database,
            port,
            munge: munge_socket(slurm.scratch),
        })
    }

    /// Lines of slurm.conf(5).
    pub(super) fn settings(&self) -> String {
        format!(
            "AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={}
AccountingStoragePass={}
",
            self.port,
            self.munge.display()
        )
    }

    /// Makes the cluster known, which goes before its controller's start. slurm.conf is there.
    pub(super) fn register(&self, slurm: &Unstarted<'_>) -> Result<()> {
        let mut sacctmgr = command(slurm.installed, slurm.scratch, "sacctmgr");
        run(sacctmgr.args(["-i", "add", "cluster", "test"])).map(drop)
    }
}

/// MariaDB, as small as it gets, on a socket alone.
fn start_database(slurm: &Unstarted<'_>, installed: &Installed, socket: &Path) -> Result<Server> {
    let program = installed.path("usr/sbin/mariadbd");
    let launch = slurm.launch_program("mariadbd", &program)?;
    let data = launch.state().join("data");
    fs::create_dir(&data)?;
    let messages = installed.path("usr/share/mysql");
    let common = [
        // First, or it is not heard: no file of this machine's counts.
        "--no-defaults".to_owned(),
        "--user=root".to_owned(),
        format!("--datadir={}", data.display()),
        format!("--lc-messages-dir={}", messages.display()),
        format!(
            "--character-sets-dir={}",
            messages.join("charsets").display()
        ),
        "--innodb-log-file-size=4M".to_owned(),
        "--innodb-data-file-path=ibdata1:3M:autoextend".to_owned(),
        "--innodb-buffer-pool-size=16M".to_owned(),
        // io_uring is refused in many a container.
        "--innodb-use-native-aio=0".to_owned(),
    ];
    make_system_tables(&program, &common, &messages, slurm.scratch)?;
    let mut database = common
        .iter()
        .fold(launch, |launch, argument| launch.arg(argument))
        .arg("--skip-networking")
        // Nobody else is near, and Debian's accounts are made by a package's script.
        .arg("--skip-grant-tables")
        .flag("socket", socket)
        .flag("pid-file", data.join("pid"))
        .start()?;
    database.until_ready(|| socket.exists())?;
    Ok(database)
}

fn make_system_tables(
    program: &Path,
    common: &[String],
    messages: &Path,
    scratch: &Path,
) -> Result<()> {
    let mut statements = "create database mysql;\nuse mysql;\n".to_owned();
    for name in SYSTEM_TABLES {
        let file = messages.join(name);
        statements += &fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    }
    let script = scratch.join("mariadbd/bootstrap.sql");
    fs::write(&script, statements)?;
    let mut bootstrap = Command::new(program);
    bootstrap
        .args(common)
        .arg("--bootstrap")
        .stdin(fs::File::open(&script)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = bootstrap
        .output()
        .with_context(|| program.display().to_string())?;
    finished(&bootstrap, &output).map(drop)
}

/// slurmdbd.conf(5), which nobody but root may read.
fn configure(slurm: &Unstarted<'_>, installed: &Installed, port: u16) -> Result<()> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let plugins = |installed: &Installed| installed.path(LIBRARIES).join("slurm-wlm");
    let text = format!(
        "AuthType=auth/munge
AuthInfo=socket={}
DbdHost={}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PluginDir={}:{}
PidFile={}
",
        munge_socket(slurm.scratch).display(),
        host.trim(),
        plugins(slurm.installed).display(),
        plugins(installed).display(),
        slurm.scratch.join("slurmdbd/pid").display(),
    );
    let file = slurm.scratch.join("slurmdbd.conf");
    fs::write(&file, text)?;
    Ok(fs::set_permissions(
        &file,
        fs::Permissions::from_mode(0o600),
    )?)
}
