// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whoever keeps a server for a test leaves nothing of it, however the test ends.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::Result;
use eco_tests::{
    cgroup::Cgroup,
    needs, programs,
    servers::server::{Launch, run},
    wait,
};

/// A server that starts what makes itself independent of it, and then waits.
const SERVER: &str = "setsid sh -c 'echo $$ > orphan.pid; exec sleep 1000' & \
                      echo $$ > main.pid; exec sleep 1000";

fn pid_in(file: &Path) -> Result<u32> {
    let read = || fs::read_to_string(file).ok()?.trim().parse().ok();
    wait::until_some(&file.display().to_string(), read)
}

fn runs(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn what_a_server_started_ends_with_it() {
    let scratch = programs::public_folder().unwrap();
    let launch = Launch::new("server", scratch.path(), Path::new("/bin/sh")).unwrap();
    let script = format!("cd {}; {SERVER}", scratch.path().display());
    let mut server = launch.arg("-c").arg(script).start().unwrap();
    let pids = ["main.pid", "orphan.pid"].map(|name| pid_in(&scratch.path().join(name)).unwrap());
    assert!(server.is_alive() && pids.into_iter().all(runs));

    drop(server);
    assert!(!pids.into_iter().any(runs));
}

#[test]
fn a_server_that_ends_by_itself_is_told_with_its_last_words() {
    let scratch = programs::public_folder().unwrap();
    let launch = Launch::new("server", scratch.path(), Path::new("/bin/sh")).unwrap();
    let script = "echo the disk is full >&2; exit 3";
    let mut server = launch.arg("-c").arg(script).start().unwrap();
    let why = server.until_ready(|| false).unwrap_err().to_string();
    assert!(why.contains("the disk is full"), "{why}");
}

#[test]
fn a_test_that_is_killed_leaves_nothing() {
    needs!(Root, Cgroup);
    let scratch = programs::public_folder().unwrap().keep();
    let mounted = scratch.join("server/mount");
    fs::create_dir_all(&mounted).unwrap();
    let cgroup = Cgroup::new("kept").unwrap();
    let mut test = TestProgram::start(&scratch, &cgroup).unwrap();
    let pids = ["main.pid", "orphan.pid"].map(|name| pid_in(&scratch.join(name)).unwrap());
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_mounted = || mounts().contains(&*mounted.to_string_lossy());
    wait::until("the server has mounted", is_mounted).unwrap();

    test.kill();
    wait::until("nothing is left", || {
        let left: Vec<PathBuf> = [scratch.clone(), cgroup.folder().to_owned()].into();
        !left.iter().any(|path| path.exists()) && !pids.into_iter().any(runs) && !is_mounted()
    })
    .unwrap();
}

/// Stands for a test program, with the keeper as its child: two processes of one group, of
/// which one holds the keeper's stdin.
struct TestProgram(Child);

impl TestProgram {
    fn start(scratch: &Path, cgroup: &Cgroup) -> io::Result<Self> {
        let folder = scratch.display();
        let script = format!(
            "sleep 1000 | {} --state {folder}/server --scratch {folder} --cgroup {} -- \
             /bin/sh -c \"cd {folder}; mount -t tmpfs tmpfs server/mount; $SERVER\"",
            programs::keeper().display(),
            cgroup.path(),
        );
        let shell = Command::new("/bin/sh")
            .args(["-c", &script])
            .env("SERVER", SERVER)
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self(shell))
    }

    fn kill(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = run(Command::new("kill").args(["-KILL", "--", &group]));
        let _ = self.0.wait();
    }
}

impl Drop for TestProgram {
    fn drop(&mut self) {
        self.kill();
    }
}
