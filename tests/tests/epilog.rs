// SPDX-License-Identifier: Apache-2.0 OR MIT
//! deploy/slurm/epilog.sh as a real Slurm's Epilog: what a job has cost, where its user looks.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use eco_tests::{
    agent::{Agent, Setup},
    needs, programs,
    servers::{
        server::run,
        slurm::{self, Slurm},
    },
    user::NOBODY,
    wait,
};

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// Long enough to have a run time of a second, and to use a tenth of one.
const WORK: &str = "timeout 0.3 sh -c 'while :; do :; done'; sleep 1; echo result";

/// A cluster whose Epilog is the project's.
struct Cluster {
    slurm: Slurm,
    _agent: Agent,
}

impl Cluster {
    fn start(accounting: bool) -> Option<Self> {
        let agent = Agent::start(Setup {
            variables: vec![("ECO_CARBON__G_PER_KWH", "400".into())],
            ..Setup::default()
        })
        .unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/slurm/epilog.sh");
        let epilog = format!(
            "export ECO_SOCKET='{}' PATH='{}':\"$PATH\"\nsh '{}'\n\
             echo $? > \"${{0%/*}}/ended-$SLURM_JOB_ID\"\n",
            agent.socket().display(),
            programs::eco().parent().unwrap().display(),
            script.display()
        );
        let setup = slurm::Setup {
            accounting,
            epilog: Some(&epilog),
        };
        let slurm = Slurm::start_with(setup).unwrap()?;
        let output = slurm.folder().join("out");
        fs::create_dir(&output).unwrap();
        fs::set_permissions(&output, fs::Permissions::from_mode(0o777)).unwrap();
        Some(Self {
            slurm,
            _agent: agent,
        })
    }

    /// Submits a job of nobody's, whose output is in `out/`.
    fn submit(&self, output: &str, more: &[&str], script: &str) -> u32 {
        let user = format!("--uid={NOBODY}");
        let output = format!("--output=out/{output}");
        let options = [&[user.as_str(), output.as_str()], more].concat();
        self.slurm.sbatch(&options, script).unwrap()
    }

    /// Waits until a job's Epilog has ended, and sees that no node would be drained for it.
    fn until_told(&self, job: u32) {
        self.slurm.until_completed(job).unwrap();
        let ended = self.slurm.folder().join(format!("ended-{job}"));
        let status = wait::until_some("the Epilog ends", || {
            fs::read_to_string(&ended)
                .ok()
                .filter(|text| !text.is_empty())
        });
        assert_eq!(status.unwrap().trim(), "0", "job {job}");
    }

    fn output(&self, name: &str) -> PathBuf {
        self.slurm.folder().join("out").join(name)
    }

    /// `sacct -o jobid,admincomment` of a job, by what the job is called.
    fn comments(&self, job: u32) -> Vec<(String, String)> {
        let mut sacct = self.slurm.command("sacct");
        sacct.args(["-X", "-n", "-P", "-o", "jobid,admincomment", "-j"]);
        let rows = run(sacct.arg(job.to_string())).unwrap();
        let pairs = rows.lines().filter_map(|row| row.split_once('|'));
        pairs
            .map(|(job, comment)| (job.to_owned(), comment.to_owned()))
            .collect()
    }
}

/// A member of `eco:1;energy_j=…;…`.
fn member(comment: &str, name: &str) -> f64 {
    let mut members = comment.split(';').filter_map(|part| part.split_once('='));
    let found = members.find(|(key, _)| *key == name);
    found
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(f64::NAN)
}

#[track_caller]
fn assert_told(output: &Path, job: u32) {
    let text = fs::read_to_string(output).unwrap();
    let (before, line) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(before.lines().last(), Some("result"), "{text}");
    assert!(line.starts_with(&format!("eco: slurm job {job}")), "{text}");
    for word in [
        "J (",
        "; without idle)",
        "W on average",
        "g CO2e",
        "s of CPU on ",
    ] {
        assert!(line.contains(word), "{word}: {text}");
    }
    assert_eq!(text.matches("eco:").count(), 1, "{text}");
}

#[test]
fn sacct_shows_what_each_job_and_each_task_of_an_array_has_cost() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::start(true) else {
        return;
    };
    let wait_for_go = format!("while [ ! -e out/go ]; do sleep 0.1; done; {WORK}");
    let job = cluster.submit("plain", &[], &wait_for_go);
    // One works four times as much as the other.
    let rounds = "i=0; while [ $i -lt $((SLURM_ARRAY_TASK_ID * 150000)) ]; do i=$((i+1)); done";
    let array = cluster.submit("task-%a", &["--array=1,4"], rounds);
    // What an administrator has written stays.
    let told = "AdminComment=by ada";
    let id = format!("JobId={job}");
    cluster.slurm.scontrol(&["update", &id, told]).unwrap();
    fs::write(cluster.output("go"), "").unwrap();
    let comment = wait::until_some("the job's cost", || {
        let comments = cluster.comments(job);
        let (_, comment) = comments.into_iter().next()?;
        comment.contains("eco:1").then_some(comment)
    })
    .unwrap();
    let own = comment.strip_prefix("by ada|").unwrap_or_default();
    assert!(own.starts_with("eco:1;energy_j="), "{comment}");
    for name in ["energy_j", "cpu_s", "carbon_g"] {
        assert!(member(own, name) > 0.0, "{comment}");
    }
    // The Epilog of a task must not write into its siblings: each has its own.
    wait::until("both tasks have their cost", || {
        let tasks = cluster.comments(array);
        tasks.len() == 2 && tasks.iter().all(|(_, comment)| !comment.is_empty())
    })
    .unwrap();
    let mut tasks = cluster.comments(array);
    tasks.sort();
    for (task, comment) in &tasks {
        assert!(comment.starts_with("eco:1;"), "{tasks:?}");
        assert_eq!(comment.matches("eco:1").count(), 1, "{tasks:?}");
        assert!(task.starts_with(&format!("{array}_")), "{tasks:?}");
    }
    let used: Vec<f64> = tasks.iter().map(|(_, own)| member(own, "cpu_s")).collect();
    assert!(used[1] > 1.5 * used[0], "the second worked more: {tasks:?}");
    // Nobody asked for a line.
    let output = fs::read_to_string(cluster.output("plain")).unwrap();
    assert_eq!(output, "result\n");
}

#[test]
fn a_job_that_asks_has_a_line_at_the_end_of_its_output() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::start(false) else {
        return;
    };
    let named = ["--comment=night run, eco", "--job-name=it's"];
    let job = cluster.submit("a %x-%4j-%%", &named, WORK);
    let unfinished = cluster.submit(
        "unfinished",
        &["--comment=eco"],
        &format!("{WORK} | tr -d '\\n'"),
    );
    let array = cluster.submit("%A-%2a", &["--array=1-2", "--comment=eco"], WORK);
    let silent = cluster.submit("silent", &["--comment=economy"], WORK);
    let of_root = ["--output=out/of-root", "--comment=eco"];
    let of_root = cluster.slurm.sbatch(&of_root, WORK).unwrap();
    for job in [job, unfinished, array, silent, of_root] {
        cluster.until_told(job);
    }
    assert_told(&cluster.output(&format!("a it's-{job:04}-%")), job);
    // The line is one of its own.
    assert_told(&cluster.output("unfinished"), unfinished);
    let second = cluster.output(&format!("{array}-02"));
    assert_told(&second, array);
    let first = cluster.output(&format!("{array}-01"));
    wait::until("the other task's line", || {
        let text = fs::read_to_string(&first).unwrap();
        text.contains("\neco: slurm job ")
    })
    .unwrap();
    for name in ["silent", "of-root"] {
        let text = fs::read_to_string(cluster.output(name)).unwrap();
        assert_eq!(text, "result\n", "{name}");
    }
}

/// A file system that is full, until dropped.
struct Full(PathBuf);

impl Full {
    /// `mode` is for the root of it.
    fn mount(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4k,mode=777", "none"]);
        run(mount.arg(&folder)).unwrap();
        Self(folder)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn no_output_leads_the_epilog_astray_and_none_fails_a_job() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(cluster) = Cluster::start(false) else {
        return;
    };
    let secret = cluster.slurm.folder().join("of-root");
    fs::write(&secret, "root's\n").unwrap();
    let other = cluster.output("other");
    fs::write(&other, "other\n").unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o666)).unwrap();
    symlink(&secret, cluster.output("linked-before")).unwrap();
    let full = Full::mount(cluster.output("full"));
    let own = |name: &str, script: &str| {
        let script = format!("cd out; {script}; sleep 0.2");
        cluster.submit(name, &["--comment=eco"], &script)
    };
    let jobs = [
        own("linked", &format!("ln -sf '{}' linked", secret.display())),
        own("to-other", "ln -sf other to-other"),
        own("deleted", "rm deleted"),
        own("pipe", "rm pipe; mkfifo pipe"),
        own("folder", "rm folder; mkdir folder"),
        own("closed", "chmod 0 closed"),
        own("full/output", "yes | head -c 4096"),
        // Root's own device, and a file that nobody may not write: Slurm itself is refused there.
        own("../../../../../../dev/null", "true"),
    ];
    // What scontrol says of it has two outputs.
    let forged = format!("--comment=eco\n   StdOut={}", secret.display());
    let forged = cluster.submit("forged", &[&forged], "true");
    for job in jobs.into_iter().chain([forged]) {
        cluster.until_told(job);
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root's\n");
    assert_eq!(fs::read_to_string(&other).unwrap(), "other\n");
    assert!(!cluster.output("deleted").exists());
    let pipe = fs::symlink_metadata(cluster.output("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo());
    assert_eq!(fs::read(cluster.output("closed")).unwrap(), b"");
    let filled = fs::read(cluster.output("full/output")).unwrap();
    assert_eq!(filled.len(), 4096, "the disk was full");
    assert!(!filled.ends_with(b"CPU on n1\n"));
    drop(full);
    let mut sinfo = cluster.slurm.command("sinfo");
    let state = run(sinfo.args(["-h", "-o", "%T"])).unwrap();
    assert_eq!(state.trim(), "idle", "the node was drained");
}
