// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A real Slurm on this machine, and what its jobs use.

use eco_tests::{cgroup, servers::slurm::Slurm, wait};

#[test]
fn a_batch_job_works_in_its_cgroup_and_ends_with_its_cluster() {
    let Some(slurm) = Slurm::start().unwrap() else {
        return;
    };
    let job = slurm.sbatch(&[], "while :; do :; done").unwrap();
    let path = format!("{}/step_batch", slurm.job_cgroup(job));
    wait::until("the job has used CPU time in its cgroup", || {
        cgroup::everywhere(&path)
            .filter_map(|folder| cgroup::cpu_us(&folder).ok())
            .any(|used| used > 200_000)
    })
    .unwrap();
    let shown = slurm.scontrol(&["show", "job", &job.to_string()]).unwrap();
    assert!(shown.contains("JobState=RUNNING"), "{shown}");

    let of_all_jobs = format!("/slurm_{}", slurm.node());
    drop(slurm);
    let left: Vec<_> = cgroup::everywhere(&of_all_jobs)
        .filter(|folder| folder.exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn each_step_and_each_task_of_an_array_has_a_cgroup() {
    let Some(slurm) = Slurm::start().unwrap() else {
        return;
    };
    let srun = slurm.program("srun");
    let script = format!("{} cat /proc/self/cgroup", srun.display());
    let job = slurm.sbatch(&[], &script).unwrap();
    slurm.until_completed(job).unwrap();
    let output = slurm.output(job).unwrap();
    assert!(
        output.contains(&format!("{}/step_0", slurm.job_cgroup(job))),
        "{output}"
    );

    let array = slurm.sbatch(&["--array=1-3"], &script).unwrap();
    slurm.until_completed(array).unwrap();
}
