// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A job by `scontrol`, which asks Slurm's controller.

use std::{
    env,
    ffi::OsStr,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value;

use super::{SlurmJob, plain};
use crate::Advised;

/// Where distributions and sites put it.
const PLACES: [&str; 4] = [
    "/usr/bin/scontrol",
    "/usr/local/bin/scontrol",
    "/opt/slurm/bin/scontrol",
    "/usr/local/slurm/bin/scontrol",
];

/// For one answer. A controller that is busy takes seconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer that is read: one job is some 10 kB of JSON.
const MOST_BYTES: u64 = 4 << 20;

/// Why `scontrol` tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ScontrolError {
    /// It is nowhere.
    #[error("is in none of {}", PLACES.join(", "))]
    Absent,
    /// It cannot be run.
    #[error("cannot be run: {0}")]
    Run(#[from] io::Error),
    /// It does not end.
    #[error("has not ended within {} s, and was killed", DEADLINE.as_secs())]
    Late,
    /// It has no answer.
    #[error("ended with {0}")]
    Failed(std::process::ExitStatus),
    /// It knows no such job, or tells it in a way that is not understood.
    #[error("tells nothing of job {0}")]
    Unknown(u32),
}

impl ScontrolError {
    pub(super) fn advised(&self) -> Advised {
        let advice = match self {
            Self::Absent | Self::Run(_) => {
                "Set slurm.scontrol to it, or slurm.source to environment."
            }
            Self::Late | Self::Failed(_) | Self::Unknown(_) => {
                "Check that `scontrol ping` reaches the controller from this node; jobs go by \
                 number meanwhile."
            }
        };
        Advised {
            place: "scontrol".into(),
            what: self.to_string(),
            advice: advice.into(),
        }
    }
}

/// The job `id`, as the controller has it.
pub(super) fn job(program: Option<&Path>, id: u32) -> Result<SlurmJob, ScontrolError> {
    let program = match program {
        Some(program) => program.to_owned(),
        None => PLACES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or(ScontrolError::Absent)?,
    };
    let id_text = id.to_string();
    // JSON says where a name ends; but not every Slurm is built with it.
    let by_json = match run(&program, &["show", "job", &id_text, "--json"]) {
        Ok(bytes) => from_json(&bytes, id),
        Err(ScontrolError::Failed(_)) => None,
        Err(why) => return Err(why),
    };
    let found = match by_json {
        Some(job) => Some(job),
        None => {
            let bytes = run(&program, &["show", "job", &id_text])?;
            from_text(&String::from_utf8_lossy(&bytes), id)
        }
    };
    found.ok_or(ScontrolError::Unknown(id))
}

fn run(program: &Path, arguments: &[&str]) -> Result<Vec<u8>, ScontrolError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(configuration) = env::var_os("SLURM_CONF") {
        command.env(OsStr::new("SLURM_CONF"), configuration);
    }
    let mut child = Ended(command.spawn()?);
    let output = child.0.stdout.take().ok_or(ScontrolError::Late)?;
    let (tell, told) = mpsc::channel();
    thread::Builder::new()
        .name("eco-scontrol".into())
        .spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(MOST_BYTES).read_to_end(&mut bytes);
            // Nobody listens any more when it took too long.
            let _ = tell.send(read.map(|_| bytes));
        })?;
    let bytes = told
        .recv_timeout(DEADLINE)
        .map_err(|_| ScontrolError::Late)??;
    let status = child.0.wait()?;
    if status.success() {
        Ok(bytes)
    } else {
        Err(ScontrolError::Failed(status))
    }
}

/// A child that does not outlive its question.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail for one that has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `{"jobs": [{"job_id": 7, …}]}`; numbers are plain, or since 23.02 `{"set": true, "number": 7}`.
fn from_json(bytes: &[u8], id: u32) -> Option<SlurmJob> {
    let answer: Value = serde_json::from_slice(bytes).ok()?;
    let jobs = answer["jobs"].as_array()?;
    let number = |value: &Value| {
        let is_set = value["set"].as_bool().unwrap_or(true);
        let number = value.as_u64().or_else(|| value["number"].as_u64());
        number
            .filter(|_| is_set)
            .and_then(|number| u32::try_from(number).ok())
    };
    let job = jobs.iter().find(|job| number(&job["job_id"]) == Some(id))?;
    let word = |name: &str| job[name].as_str().map_or_else(String::new, plain);
    let array = number(&job["array_job_id"])
        .filter(|array| *array != 0)
        .zip(number(&job["array_task_id"]));
    Some(SlurmJob {
        id,
        array,
        name: word("name"),
        user: word("user_name"),
        account: word("account"),
        partition: word("partition"),
    })
}

/// `scontrol`'s own lines. A name may hold blanks, or what looks like another field: what is
/// there twice is not believed.
fn from_text(text: &str, id: u32) -> Option<SlurmJob> {
    let first = text.lines().find(|line| line.starts_with("JobId="))?;
    let (head, name) = first.split_once(" JobName=")?;
    let field = |line: &str, key: &str| {
        let value = line.split(' ').find_map(|word| word.strip_prefix(key));
        value.map(str::to_owned)
    };
    let number = |key: &str| field(head, key)?.parse::<u32>().ok();
    if number("JobId=") != Some(id) {
        return None;
    }
    let below = |key: &str| {
        let mut found = text
            .lines()
            .filter(|line| line.starts_with("   "))
            .filter_map(|line| field(line, key));
        let value = found.next().filter(|_| found.next().is_none());
        value
            .filter(|value| value != "(null)")
            .map_or_else(String::new, |value| plain(&value))
    };
    let user = below("UserId=");
    Some(SlurmJob {
        id,
        array: number("ArrayJobId=").zip(number("ArrayTaskId=")),
        name: plain(name),
        user: user.split('(').next().unwrap_or_default().to_owned(),
        account: below("Account="),
        partition: below("Partition="),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "JobId=2398617 ArrayJobId=2398463 ArrayTaskId=150 JobName=my job.sh\n   \
        UserId=user2(200) GroupId=group1(200) MCS_label=N/A\n   \
        Priority=100021 Nice=0 Account=account1 QOS=normal\n   \
        JobState=RUNNING Reason=None Dependency=(null)\n   \
        Partition=long AllocNode:Sid=head:1\n   \
        WorkDir=/home/user2\n";

    #[test]
    fn scontrols_lines_are_read() {
        let job = from_text(TEXT, 2_398_617).unwrap();
        assert_eq!(job.array, Some((2_398_463, 150)));
        assert_eq!(
            (job.name.as_str(), job.user.as_str()),
            ("my job.sh", "user2")
        );
        assert_eq!(
            (job.account.as_str(), job.partition.as_str()),
            ("account1", "long")
        );
    }

    #[test]
    fn a_name_that_looks_like_another_account_is_not_believed() {
        let on_the_line = TEXT.replace("my job.sh", "x Account=boss");
        let job = from_text(&on_the_line, 2_398_617).unwrap();
        assert_eq!(
            (job.name.as_str(), job.account.as_str()),
            ("x Account=boss", "account1")
        );
        let below = TEXT.replace("my job.sh", "x\n   Account=boss");
        assert_eq!(from_text(&below, 2_398_617).unwrap().account, "");
    }

    #[test]
    fn json_of_old_and_new_slurm_is_read() {
        for json in [
            r#"{"jobs": [{"job_id": 7, "array_job_id": 0, "array_task_id": null, "name": "n",
                "user_name": "u", "account": "a", "partition": "p"}]}"#,
            r#"{"jobs": [{"job_id": 7, "array_job_id": {"set": true, "number": 0}, "name": "n",
                "array_task_id": {"set": false, "number": 0}, "user_name": "u", "account": "a",
                "partition": "p"}]}"#,
        ] {
            let job = from_json(json.as_bytes(), 7).unwrap();
            assert_eq!(job.array, None);
            let words = [job.name, job.user, job.account, job.partition];
            assert_eq!(words, ["n", "u", "a", "p"]);
        }
        let array = r#"{"jobs": [{"job_id": {"number": 7}, "array_job_id": {"number": 5},
            "array_task_id": {"number": 0}}]}"#;
        assert_eq!(from_json(array.as_bytes(), 7).unwrap().array, Some((5, 0)));
    }

    #[test]
    fn nonsense_and_other_jobs_are_nothing() {
        for odd in [
            "",
            "{}",
            "[]",
            "{\"jobs\": [7]}",
            "{\"jobs\": [{\"job_id\": 8}]}",
            "JobId=8 JobName=",
        ] {
            assert_eq!(from_json(odd.as_bytes(), 7), None, "{odd}");
            assert_eq!(from_text(odd, 7), None, "{odd}");
        }
    }
}
