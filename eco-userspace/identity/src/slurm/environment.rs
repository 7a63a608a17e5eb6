// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A job by what `slurmstepd` put into the environment of its processes.
//!
//! Variables are those of sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES".

use std::{collections::HashMap, fs::File, io::Read as _, os::unix::fs::MetadataExt as _};

use super::{Path, SlurmJob, plain};

/// No more is read of an environment; the kernel allows programs some MB of it.
const MOST_BYTES: u64 = 1 << 20;

/// The job `id`, if the environment of `pid` is that of one of its processes.
pub(super) fn job(procfs: &Path, pid: u32, id: u32) -> Option<SlurmJob> {
    let file = File::open(procfs.join(pid.to_string()).join("environ")).ok()?;
    let owner = file.metadata().ok()?.uid();
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    parse(&bytes, id, owner)
}

fn parse(environ: &[u8], id: u32, owner: u32) -> Option<SlurmJob> {
    let text = String::from_utf8_lossy(environ);
    let variables: HashMap<&str, &str> = text
        .split('\0')
        .filter_map(|variable| variable.split_once('='))
        .filter(|(name, _)| name.starts_with("SLURM_"))
        .collect();
    let number = |name: &str| variables.get(name)?.parse::<u32>().ok();
    // The pid may be another's by now, and a job may start another job.
    if number("SLURM_JOB_ID").or_else(|| number("SLURM_JOBID")) != Some(id) {
        return None;
    }
    let word = |name: &str| {
        variables
            .get(name)
            .map_or_else(String::new, |text| plain(text))
    };
    let job = SlurmJob {
        id,
        array: number("SLURM_ARRAY_JOB_ID").zip(number("SLURM_ARRAY_TASK_ID")),
        name: word("SLURM_JOB_NAME"),
        // A user's name is believed of the user alone.
        user: if number("SLURM_JOB_UID") == Some(owner) {
            word("SLURM_JOB_USER")
        } else {
            String::new()
        },
        account: word("SLURM_JOB_ACCOUNT"),
        partition: word("SLURM_JOB_PARTITION"),
    };
    // slurmstepd's own environment has the number and no more.
    (!job.partition.is_empty()).then_some(job)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY_TASK: &[u8] = b"PATH=/bin\0SLURM_JOB_ID=124\0SLURM_ARRAY_JOB_ID=123\0\
        SLURM_ARRAY_TASK_ID=7\0SLURM_JOB_NAME=a\nb=c\0SLURM_JOB_USER=ann\0SLURM_JOB_UID=1001\0\
        SLURM_JOB_ACCOUNT=physics\0SLURM_JOB_PARTITION=long\0";

    #[test]
    fn an_array_task_is_known_by_its_environment() {
        let job = parse(ARRAY_TASK, 124, 1001).unwrap();
        assert_eq!(job.array, Some((123, 7)));
        assert_eq!((job.name.as_str(), job.user.as_str()), ("ab=c", "ann"));
        assert_eq!(
            (job.account.as_str(), job.partition.as_str()),
            ("physics", "long")
        );
    }

    #[test]
    fn another_jobs_or_users_environment_is_not_believed() {
        assert_eq!(parse(ARRAY_TASK, 125, 1001), None);
        assert_eq!(parse(ARRAY_TASK, 124, 0).unwrap().user, "");
        for odd in [
            b"".as_slice(),
            b"SLURM_JOB_ID=124",
            b"SLURM_JOB_ID=-1\0\xff=\xff\0=\0\0",
        ] {
            assert_eq!(parse(odd, 124, 0), None);
        }
    }
}
