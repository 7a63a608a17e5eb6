// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One job of many runs: ranks on one node and on several, under launchers and under Slurm.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
};

use eco_tests::{
    agent::{Agent, Setup},
    needs, programs,
    run::{self, By, Outcome},
    serve::Serve,
    servers::{
        free_port,
        openmpi::OpenMpi,
        prometheus::{Kind, Store, scrape},
        server,
        slurm::Slurm,
    },
    wait,
    workload::Report,
};
use serde_json::Value;

/// Of what the programs themselves say that they used, so much must be under the job's name.
const BAR: f64 = 0.99;

/// eco's own start of a command, and the shell's, are the job's too.
const MORE: f64 = 1.10;

/// One test's load is not another's.
static MACHINE: Mutex<()> = Mutex::new(());

/// A node's agent, of another name than its neighbour, and where it is scraped.
fn node(name: &str) -> (Agent, String) {
    let address = format!("127.0.0.1:{}", free_port().unwrap());
    let agent = Agent::start(Setup {
        arguments: vec!["--listen".into(), address.clone().into()],
        variables: vec![("ECO_NODE", name.into())],
        ..Setup::default()
    });
    (agent.unwrap(), address)
}

/// A rank of the job that burns so many CPU seconds.
fn rank(agent: &Agent, job: &str, number: u32, seconds: f64) -> Outcome {
    let script = format!("exec $WORKLOAD --report {number}.report burn {seconds}");
    let by = By::Agent(agent.socket());
    run::run(&by, &["--job", job], &["sh", "-c", &script]).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[track_caller]
fn assert_whole(found: f64, truth: f64) {
    assert!(
        (BAR * truth..=MORE * truth + 0.02).contains(&found),
        "{found} of {truth}"
    );
}

/// Waits until the series of all jobs together show what was used: each second of it once.
fn until_all_jobs_have(agent: &Agent, truth: f64) {
    wait::until("the series of the jobs", || {
        let shown = agent.scrape().unwrap();
        let all = shown.sum("eco_job_cpu_seconds_total", &[]);
        assert!(all <= MORE * truth + 0.02, "{all} of {truth}");
        all >= BAR * truth
    })
    .unwrap();
}

#[test]
fn two_ranks_on_one_node_are_one_job_and_each_knows_its_part() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let (agent, _) = node("n1");
    let outcomes = thread::scope(|scope| {
        let ranks = [(0, 0.5), (1, 1.5)].map(|(number, seconds)| {
            let agent = &agent;
            scope.spawn(move || rank(agent, "train 7", number, seconds))
        });
        ranks.map(|rank| rank.join().unwrap())
    });
    let mut truth = 0.0;
    for outcome in &outcomes {
        let used = outcome.reported_seconds().unwrap();
        // The end of one rank does not end the other, whose own part is whole.
        assert_whole(outcome.cpu_seconds().unwrap(), used);
        let part = &outcome.json["part_of"];
        assert_eq!(
            (&part["manager"], &part["job"]),
            (&"eco".into(), &"train 7".into())
        );
        truth += used;
    }
    let last = &outcomes[1];
    let total = number(&last.json["part_of"]["on_this_node"]["cpu_seconds"]);
    assert_whole(total, truth);
    assert!(last.stderr.contains("part of job"), "{}", last.stderr);

    let answer = agent.json("/v1/jobs/eco/train%207").unwrap();
    assert_whole(number(&answer["cpu_seconds"]), truth);
    // Nothing else of eco's is a job: the sum over all jobs counts each joule once.
    until_all_jobs_have(&agent, truth);
}

#[test]
fn a_run_within_a_run_and_a_rank_that_starts_anew_are_the_same_job() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let (agent, _) = node("n1");
    let eco = programs::eco().display().to_string();
    let socket = agent.socket().display().to_string();
    let inner = format!("{eco} run --quiet --measure agent --socket {socket} --json inner.json --");
    let script = format!("{inner} $WORKLOAD --report b.report burn 0.5; cat inner.json");
    let by = By::Agent(agent.socket());
    let outer = run::shell(&by, &script).unwrap();
    let inner: Value = serde_json::from_str(&outer.stdout).unwrap();
    assert_eq!(inner["part_of"]["manager"], "eco", "{inner}");
    let mut truth = outer.cpu_seconds().unwrap();
    for _ in 0..2 {
        truth += rank(&agent, "again", 0, 0.3).reported_seconds().unwrap();
    }
    until_all_jobs_have(&agent, truth);
}

#[test]
fn one_job_on_two_nodes_is_the_sum_of_both_in_the_store() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let nodes = [node("n1"), node("n2")];
    let addresses = [nodes[0].1.as_str(), nodes[1].1.as_str()];
    let Some(store) = Store::start(Kind::Prometheus, &scrape("eco", &addresses), []).unwrap()
    else {
        return;
    };
    let serve = Serve::start(&["--store", &store.url()]).unwrap();
    let outcomes = thread::scope(|scope| {
        let ranks = [(0, 1.0), (1, 2.0)].map(|(number, seconds)| {
            let agent = &nodes[number as usize].0;
            scope.spawn(move || rank(agent, "exp-42", number, seconds))
        });
        ranks.map(|rank| rank.join().unwrap())
    });
    let truth: f64 = outcomes.iter().map(|o| o.reported_seconds().unwrap()).sum();
    let joules: f64 = outcomes
        .iter()
        .map(|outcome| number(&outcome.json["energy_joules"]["total"]))
        .sum();
    // Counters as they stood at last: what an increase extrapolates is the store's, and a series
    // that went is stale.
    let sum = |metric: &str| {
        let query =
            format!("sum by (job) (max_over_time({metric}{{manager=\"eco\",job=\"exp-42\"}}[5m]))");
        store.number(&query).ok().flatten()
    };
    wait::until("the store has both parts", || {
        sum("eco_job_cpu_seconds_total").is_some_and(|found| {
            assert!(found <= MORE * truth + 0.02, "{found} of {truth}");
            found >= BAR * truth
        })
    })
    .unwrap();
    let stored = sum("eco_job_energy_joules_total").unwrap();
    println!("{stored:.3} J in the store, {joules:.3} J told by the ranks; {truth:.3} s of CPU");
    // increase() goes on for half a gap where a series begins and ends, which is much of one that
    // has been seen three times, and little once it has stood there for a while.
    let ask = || serve.json("/v1/jobs/eco/exp-42?window=5m&by=node").unwrap();
    wait::until("eco serve tells what the ranks told", || {
        let served = number(&ask()["energy_joules"]["total"]);
        (BAR * joules..=MORE * joules).contains(&served)
    })
    .unwrap();
    let answer = ask();
    assert_eq!(answer["by"].as_array().unwrap().len(), 2, "{answer}");
}

#[test]
fn the_ranks_of_torchrun_are_one_job_by_its_environment() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let (agent, _) = node("n1");
    // torchrun itself is not here: these are the variables that it sets.
    for (run_id, rank) in [("exp", 0), ("exp", 1)] {
        let variables = [
            ("TORCHELASTIC_RUN_ID", run_id.to_owned()),
            ("RANK", rank.to_string()),
            ("WORLD_SIZE", "2".to_owned()),
        ];
        let by = By::Agent(agent.socket());
        let outcome = run::launched(&by, &variables, "exec $WORKLOAD burn 0.2").unwrap();
        let part = &outcome.json["part_of"];
        assert_eq!(part["job"], "torchrun-exp", "{outcome:?}");
        assert_eq!((&part["rank"], &part["ranks"]), (&rank.into(), &2.into()));
        assert_eq!(part["launcher"], "torchrun");
    }
}

#[test]
fn two_ranks_of_mpirun_are_one_job() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(mpi) = OpenMpi::find() else {
        return;
    };
    let (agent, _) = node("n1");
    let folder = tempfile::tempdir().unwrap();
    // As a user would: `mpirun -n 2 eco run -- program`.
    let script = format!(
        "exec {} run --quiet --measure agent --socket {} --json $OMPI_COMM_WORLD_RANK.json -- \
         {} --report $OMPI_COMM_WORLD_RANK.report burn 0.5",
        programs::eco().display(),
        agent.socket().display(),
        programs::workload().display()
    );
    server::run(mpi.mpirun(2, folder.path()).args(["sh", "-c", &script])).unwrap();
    let mut truth = 0.0;
    let mut jobs = Vec::new();
    for rank in 0..2_u32 {
        let told = read(&folder.path().join(format!("{rank}.json")));
        let report = Report::read(&folder.path().join(format!("{rank}.report"))).unwrap();
        assert_whole(number(&told["cpu_seconds"]), report.cpu_seconds());
        let part = &told["part_of"];
        assert_eq!((&part["rank"], &part["ranks"]), (&rank.into(), &2.into()));
        assert_eq!(part["launcher"], "mpirun", "{told}");
        jobs.push(part["job"].as_str().unwrap().to_owned());
        truth += report.cpu_seconds();
    }
    assert!(jobs[0].starts_with("mpirun-"), "{jobs:?}");
    assert_eq!(jobs[0], jobs[1]);
    let answer = agent.json(&format!("/v1/jobs/eco/{}", jobs[0])).unwrap();
    assert_whole(number(&answer["cpu_seconds"]), truth);
    until_all_jobs_have(&agent, truth);
}

#[test]
fn a_run_that_is_open_can_be_asked_for_by_its_id() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let (agent, _) = node("n1");
    let by = By::Agent(agent.socket());
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let query = |name: &str, format: &str| {
        let mut eco = Command::new(programs::eco());
        eco.args(["query", "job", name, "--format", format]);
        server::run(eco.arg("--socket").arg(agent.socket()))
    };
    thread::scope(|scope| {
        let until_asked = format!("while [ ! -e '{}' ]; do sleep 0.1; done", asked.display());
        let run = scope.spawn(move || run::shell(&by, &until_asked));
        let open = wait::until_some("the run is open", || {
            let jobs = agent.json("/v1/jobs").ok()?;
            let run = jobs.as_array()?.first()?;
            Some(run["id"].as_str()?.to_owned())
        })
        .unwrap();
        let name = format!("eco/{open}");
        let table = query(&name, "table").unwrap();
        assert!(table.starts_with(&format!("eco run {open}\n")), "{table}");
        for row in ["name", "user", "energy", "CPU time", "wall time"] {
            assert!(table.contains(row), "{row}: {table}");
        }
        assert!(query(&name, "line").unwrap().ends_with(" on n1\n"));
        assert!(query(&name, "comment").unwrap().contains(";node=n1"));
        let json: Value = serde_json::from_str(&query(&name, "json").unwrap()).unwrap();
        assert_eq!(json["id"], open.as_str(), "{json}");
        fs::write(&asked, "").unwrap();
        run.join().unwrap().unwrap();
    });
    let gone = query("eco/none", "table").unwrap_err().to_string();
    assert!(gone.contains("no job none of eco"), "{gone}");
}

#[test]
fn a_jobs_energy_leads_to_the_trace_that_it_was_started_in() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let (agent, _) = node("n1");
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let traced = [("TRACEPARENT", format!("00-{trace}-{span}-01"))];
    let by = By::Agent(agent.socket());
    thread::scope(|scope| {
        let run = scope.spawn(|| run::launched(&by, &traced, "exec $WORKLOAD burn 4").unwrap());
        let exemplar = format!(" # {{trace_id=\"{trace}\",span_id=\"{span}\"}} ");
        wait::until("the job's energy has an exemplar", || {
            let shown = openmetrics(&agent);
            let mut energy = shown
                .lines()
                .filter(|line| line.starts_with("eco_job_energy_joules_total{"));
            energy.any(|line| line.contains(&exemplar))
        })
        .unwrap();
        run.join().unwrap();
    });
    // A trace that is none costs nobody their job.
    let broken = [("TRACEPARENT", "00-\"}\n".to_owned())];
    let outcome = run::launched(&by, &broken, "exec $WORKLOAD burn 0.2").unwrap();
    assert!(number(&outcome.json["cpu_seconds"]) > 0.1, "{outcome:?}");
}

fn openmetrics(agent: &Agent) -> String {
    let mut stream = UnixStream::connect(agent.socket()).unwrap();
    let ask = "GET /metrics HTTP/1.1\r\nhost: n1\r\naccept: application/openmetrics-text\r\n\
               connection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_tasks_of_srun_are_parts_of_slurms_job_and_counted_once() {
    needs!(Programs, Root, Bpf);
    let _alone = MACHINE.lock();
    let Some(slurm) = Slurm::start().unwrap() else {
        return;
    };
    let (agent, _) = node("n1");
    let (eco, workload) = (programs::eco(), programs::workload());
    let options = format!(
        "--quiet --measure agent --socket {}",
        agent.socket().display()
    );
    let task = |name: &str, seconds: f64| {
        format!(
            "{} run {options} --json {name}.json -- {} --report {name}.report burn {seconds}",
            eco.display(),
            workload.display()
        )
    };
    let srun = slurm.program("srun");
    let script = format!(
        "{}\n{} -n2 --overcommit sh -c '{}'\ntouch done\nsleep 600",
        task("script", 0.3),
        srun.display(),
        task("rank$SLURM_PROCID", 0.5),
    );
    let job = slurm.sbatch(&["-n2", "--overcommit"], &script).unwrap();
    let folder = slurm.folder();
    wait::until("the job's work is done", || folder.join("done").exists()).unwrap();
    let mut truth = 0.0;
    for (name, rank) in [("script", None), ("rank0", Some(0)), ("rank1", Some(1))] {
        let told = read(&folder.join(format!("{name}.json")));
        let part = &told["part_of"];
        assert_eq!(part["manager"], "slurm", "{told}");
        assert_eq!(part["job"], job.to_string(), "{told}");
        assert_eq!(part["rank"].as_u64(), rank, "{told}");
        truth += number(&told["cpu_seconds"]);
    }
    // The job is more than its runs: there are shells, and srun.
    let labels = [("manager", "slurm"), ("job", &job.to_string())];
    wait::until("the job's series", || {
        let shown = agent.scrape().unwrap();
        shown.sum("eco_job_cpu_seconds_total", &labels) >= BAR * truth
    })
    .unwrap();
    let shown = agent.scrape().unwrap();
    let own = shown.sum("eco_job_cpu_seconds_total", &[("manager", "eco")]);
    assert!(own == 0.0 || own.is_nan(), "counted beside Slurm's: {own}");
    let id = job.to_string();
    slurm.command("scancel").arg(id).status().unwrap();
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}
