// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The job that a run is a part of, and its rank in it, by what a launcher put into the
//! environment: the same id on every node.
//!
//! The node's agent knows the jobs of Slurm and Kubernetes by the kernel's word, and that goes
//! before what stands here, but for an id that somebody insists on.

/// Batch managers whose id is the cluster's: the variable, and what stands before the number
/// in an id under `eco`. Slurm's is sbatch(1); PBS's qsub(1); LSF's bsub(1); Flux's flux-run(1).
const BATCH: [(&str, &str); 4] = [
    ("SLURM_JOB_ID", "slurm"),
    ("PBS_JOBID", "pbs"),
    ("LSB_JOBID", "lsf"),
    ("FLUX_JOB_ID", "flux"),
];

/// Variables of those who start ranks: whose they are, the rank, and how many there are. The
/// innermost comes first: mpirun is called in a step of Slurm, and not the other way round.
///
/// torchrun's are those of torch.distributed.run; Open MPI's of mpirun(1); PMIx's and PMI's of
/// their servers (MPICH, Intel MPI, PRRTE); Slurm's of srun(1); the last those that
/// torch.distributed wants of anyone, such as Kubeflow's training operator.
const RANKS: [Ranks; 6] = [
    Ranks {
        launcher: "torchrun",
        mark: "TORCHELASTIC_RUN_ID",
        rank: "RANK",
        ranks: "WORLD_SIZE",
    },
    Ranks {
        launcher: "mpirun",
        mark: "OMPI_COMM_WORLD_RANK",
        rank: "OMPI_COMM_WORLD_RANK",
        ranks: "OMPI_COMM_WORLD_SIZE",
    },
    Ranks {
        launcher: "mpirun",
        mark: "PMI_RANK",
        rank: "PMI_RANK",
        ranks: "PMI_SIZE",
    },
    // A batch script has a SLURM_PROCID too, and is no rank.
    Ranks {
        launcher: "srun",
        mark: "SLURM_STEP_ID",
        rank: "SLURM_PROCID",
        ranks: "SLURM_STEP_NUM_TASKS",
    },
    Ranks {
        launcher: "mpirun",
        mark: "PMIX_RANK",
        rank: "PMIX_RANK",
        ranks: "",
    },
    Ranks {
        launcher: "torch",
        mark: "MASTER_ADDR",
        rank: "RANK",
        ranks: "WORLD_SIZE",
    },
];

struct Ranks {
    launcher: &'static str,
    mark: &'static str,
    rank: &'static str,
    ranks: &'static str,
}

/// In bytes; the agent takes no longer ones.
const LONGEST_ID: usize = 256;

/// What is known of the job around a run, before anybody measures it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Launch {
    /// The job's id under eco, the same for all its ranks.
    pub(crate) job: Option<String>,
    /// Whether that is the user's own choice.
    pub(crate) is_chosen: bool,
    /// Who started the ranks.
    pub(crate) launcher: Option<&'static str>,
    /// Which this is, from 0.
    pub(crate) rank: Option<u32>,
    /// How many there are.
    pub(crate) ranks: Option<u32>,
    /// What keeps the ranks from being one job, for people.
    pub(crate) note: Option<&'static str>,
}

impl Launch {
    /// Reads the environment; `chosen` is an id that the user gave.
    pub(crate) fn find(chosen: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        let number = |name: &str| set(name)?.trim().parse::<u32>().ok();
        let found = RANKS.iter().find_map(|ranks| {
            set(ranks.mark)?;
            Some((ranks.launcher, number(ranks.rank)?, number(ranks.ranks)))
        });
        let (job, note) = match chosen {
            Some(id) => (Some(id.to_owned()), None),
            None => launched(&set),
        };
        Self {
            is_chosen: chosen.is_some(),
            job,
            launcher: found.map(|(launcher, ..)| launcher),
            rank: found.map(|(_, rank, _)| rank),
            ranks: found.and_then(|(.., ranks)| ranks),
            note,
        }
    }

    /// For people: `rank 1 of 4`.
    pub(crate) fn rank_words(&self) -> Option<String> {
        let rank = self.rank?;
        Some(match self.ranks {
            Some(ranks) => format!("rank {rank} of {ranks}"),
            None => format!("rank {rank}"),
        })
    }
}

/// The id that all ranks were given, or why there is none.
fn launched(set: &impl Fn(&str) -> Option<String>) -> (Option<String>, Option<&'static str>) {
    let named = |before: &str, id: String| {
        let id = format!("{before}-{}", id.trim());
        let is_label = id.len() <= LONGEST_ID && !id.chars().any(char::is_control);
        is_label.then_some(id)
    };
    let by_batch = BATCH
        .iter()
        .find_map(|(variable, before)| named(before, set(variable)?));
    if by_batch.is_some() {
        return (by_batch, None);
    }
    match set("TORCHELASTIC_RUN_ID") {
        // What torchrun says without --rdzv-id, of every job.
        Some(id) if id == "none" => {
            let note = "torchrun was given no --rdzv-id, so its ranks cannot be told to be one \
                        job: give one, or eco run --job ID";
            return (None, Some(note));
        }
        Some(id) => return (named("torchrun", id), None),
        None => {}
    }
    let namespace = set("PMIX_NAMESPACE").or_else(|| set("PMI_JOBID"));
    (namespace.and_then(|id| named("mpirun", id)), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(chosen: Option<&str>, environment: &[(&str, &str)]) -> Launch {
        Launch::find(chosen, |name| {
            let mut pairs = environment.iter();
            let found = pairs.find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const TORCH: &[(&str, &str)] = &[
        ("TORCHELASTIC_RUN_ID", "exp-7"),
        ("RANK", "3"),
        ("WORLD_SIZE", "8"),
        ("LOCAL_RANK", "1"),
        ("MASTER_ADDR", "n1"),
    ];
    /// As mpirun 4.1 sets it.
    const OPEN_MPI: &[(&str, &str)] = &[
        ("OMPI_COMM_WORLD_RANK", "1"),
        ("OMPI_COMM_WORLD_SIZE", "2"),
        ("PMIX_NAMESPACE", "183369729"),
        ("PMIX_RANK", "1"),
    ];

    #[test]
    fn each_launcher_gives_all_its_ranks_one_id() {
        let torch = find(None, TORCH);
        assert_eq!(torch.job.as_deref(), Some("torchrun-exp-7"));
        assert_eq!(torch.rank_words().as_deref(), Some("rank 3 of 8"));
        let mpi = find(None, OPEN_MPI);
        assert_eq!(mpi.job.as_deref(), Some("mpirun-183369729"));
        assert_eq!(
            (mpi.launcher, mpi.rank, mpi.ranks),
            (Some("mpirun"), Some(1), Some(2))
        );
        let mpich = find(
            None,
            &[("PMI_RANK", "0"), ("PMI_SIZE", "4"), ("PMI_JOBID", "9.0")],
        );
        assert_eq!(mpich.job.as_deref(), Some("mpirun-9.0"));
        assert_eq!(mpich.rank_words().as_deref(), Some("rank 0 of 4"));
    }

    #[test]
    fn the_batch_managers_id_is_the_clusters_and_the_innermost_launcher_tells_the_rank() {
        let slurm = [
            ("SLURM_JOB_ID", "4711"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_PROCID", "0"),
            ("SLURM_STEP_NUM_TASKS", "2"),
        ];
        let both = find(None, &[&slurm, OPEN_MPI].concat());
        assert_eq!(both.job.as_deref(), Some("slurm-4711"));
        assert_eq!((both.launcher, both.rank), (Some("mpirun"), Some(1)));
        let task = find(None, &slurm);
        assert_eq!((task.launcher, task.ranks), (Some("srun"), Some(2)));
        let script = find(None, &[("SLURM_JOB_ID", "4711"), ("SLURM_PROCID", "0")]);
        assert_eq!((script.rank, script.launcher), (None, None));
    }

    #[test]
    fn an_id_of_ones_own_goes_before_all_others() {
        let launch = find(Some("mine"), &[TORCH, &[("SLURM_JOB_ID", "1")]].concat());
        assert_eq!(launch.job.as_deref(), Some("mine"));
        assert!(launch.is_chosen && launch.rank == Some(3));
    }

    #[test]
    fn an_id_that_every_job_has_joins_nobody_and_is_told() {
        let launch = find(None, &[("TORCHELASTIC_RUN_ID", "none"), ("RANK", "0")]);
        assert_eq!((launch.job, launch.rank), (None, Some(0)));
        assert!(launch.note.is_some());
    }

    #[test]
    fn an_environment_that_makes_no_sense_says_nothing() {
        let long = "9".repeat(300);
        for odd in ["", " ", "a\nb", &long] {
            let launch = find(None, &[("SLURM_JOB_ID", odd), ("RANK", odd)]);
            assert_eq!(launch, Launch::default(), "{odd:?}");
        }
        for rank in ["-1", "x", "99999999999", "1.5"] {
            let launch = find(None, &[("OMPI_COMM_WORLD_RANK", rank)]);
            assert_eq!(launch.rank, None, "{rank}");
        }
    }
}
