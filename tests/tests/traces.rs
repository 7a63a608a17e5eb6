// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Spans of jobs, as OpenTelemetry's Collector has them: across nodes, with what frameworks report
//! in them, and after a time in which nobody took them.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use eco_tests::{
    agent::{Agent, Setup},
    http, needs,
    node::Node,
    programs,
    run::{self, By, Outcome},
    servers::collector::{Collector, Span},
    wait,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Eight KiB of attributes, which no span has more of.
const ATTRIBUTES: usize = 31;
const LONG: usize = 256;

/// What an agent may take more while nobody takes 1 MiB of its spans: that, what holds it, and
/// the same once more while a batch is written.
const MEMORY: u64 = 8 << 20;

/// One test's load is not another's: they are one process.
static PROCESS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tracing(collector: &Collector, node: Option<&Arc<Node>>, name: &str) -> Agent {
    let mut variables = vec![
        ("ECO_OTLP__ENDPOINT", collector.url()),
        ("ECO_OTLP__INTERVAL", "1s".into()),
    ];
    if node.is_none() {
        variables.push(("ECO_NODE", name.into()));
    }
    let setup = Setup {
        variables,
        node: node.cloned(),
        ..Setup::default()
    };
    Agent::start(setup).unwrap()
}

/// Two nodes, of names of their own, and the collector that both of them reach.
struct Cluster {
    agents: [Agent; 2],
    collector: Collector,
    _nodes: Vec<Arc<Node>>,
}

impl Cluster {
    fn start() -> Option<Self> {
        let nodes: Result<Vec<_>, _> = ["n1", "n2"]
            .iter()
            .map(|name| Node::new(name).map(Arc::new))
            .collect();
        let nodes = nodes.unwrap_or_else(|why| {
            eprintln!("no network namespaces, so two agents side by side: {why:#}");
            Vec::new()
        });
        let host = nodes.first().map_or("127.0.0.1", |node| node.gateway());
        let mut collector = Collector::prepare_at(host).unwrap()?;
        collector.start().unwrap();
        let agents = [0, 1].map(|at| tracing(&collector, nodes.get(at), &format!("n{}", at + 1)));
        Some(Self {
            agents,
            collector,
            _nodes: nodes,
        })
    }

    fn spans(&self, count: usize) -> Vec<Span> {
        let what = format!("the collector has {count} spans");
        wait::until(&what, || self.collector.spans().len() >= count).unwrap();
        self.collector.spans()
    }
}

fn named<'a>(spans: &'a [Span], host: &str, name: &str) -> &'a Span {
    let mut spans_of = spans.iter();
    let found = spans_of.find(|span| span.host == host && span.name == name);
    found.unwrap_or_else(|| panic!("no {name} of {host}: {spans:#?}"))
}

#[track_caller]
fn assert_near(found: Option<f64>, truth: &Value) {
    let (found, truth) = (found.unwrap(), truth.as_f64().unwrap());
    assert!(
        (found - truth).abs() <= 0.05 * truth + 0.001,
        "{found} of {truth}"
    );
}

/// What TRACEPARENT is in a command, and what it uses.
fn rank(agent: &Agent, number: u32) -> Outcome {
    let variables = [
        ("OMPI_COMM_WORLD_RANK", number.to_string()),
        ("OMPI_COMM_WORLD_SIZE", "2".into()),
        ("PMIX_NAMESPACE", "77".into()),
    ];
    let script = "echo $TRACEPARENT; exec $WORKLOAD --report main.report burn 0.3";
    run::launched(&By::Agent(agent.socket()), &variables, script).unwrap()
}

#[test]
fn ranks_on_two_nodes_that_know_only_their_job_are_one_trace() {
    needs!(Programs, Root);
    let _alone = alone();
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let outcomes = [0, 1].map(|number| rank(&cluster.agents[number as usize], number));
    let spans = cluster.spans(3);
    assert_eq!(
        spans.len(),
        3,
        "one of each rank, one of the job: {spans:#?}"
    );
    let whole = named(&spans, "n1", "eco/mpirun-77");
    assert_eq!(whole.parent_id, "", "the job is the root");
    assert_eq!(whole.number("eco.energy_joules"), None, "no node knows it");
    for (number, outcome) in outcomes.iter().enumerate() {
        let span = named(&spans, &format!("n{}", number + 1), "sh");
        assert_eq!(span.trace_id, whole.trace_id);
        assert_eq!(span.parent_id, whole.span_id);
        let own = format!("00-{}-{}-01", span.trace_id, span.span_id);
        assert_eq!(outcome.stdout.trim(), own, "the command is in its span");
        assert_eq!(outcome.json["traceparent"], own.as_str());
        assert_eq!(span.number("eco.rank"), Some(number as f64));
        assert_eq!(span.text("eco.job.id").as_deref(), Some("mpirun-77"));
        assert_near(span.number("eco.cpu_seconds"), &outcome.json["cpu_seconds"]);
        let joules = &outcome.json["energy_joules"]["total"];
        if joules.is_number() {
            assert_near(span.number("eco.energy_joules"), joules);
        }
        assert!(span.seconds >= 0.3, "{span:?}");
        assert_told(&cluster, number, span);
    }
}

/// The log of the job's node tells of its opening and its end, in its trace: on stderr and in the
/// collector.
fn assert_told(cluster: &Cluster, node: usize, span: &Span) {
    let is_of = |trace: &str, id: &str| trace == span.trace_id && id == span.span_id;
    let sent = |body: &str| {
        let lines = cluster.collector.lines();
        let mut lines = lines.iter();
        lines.any(|line| line.body == body && is_of(&line.trace_id, &line.span_id))
    };
    wait::until("the log is there", || {
        sent("job opened") && sent("job closed")
    })
    .unwrap();
    let log = cluster.agents[node].log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let told = lines.filter(|line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap_or_default();
        is_of(text("trace_id"), text("span_id"))
    });
    assert_eq!(told.count(), 2, "{log}");
}

#[test]
fn a_run_that_one_on_another_node_starts_is_its_child_in_the_trace_around_both() {
    needs!(Programs, Root);
    let _alone = alone();
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let remote = format!(
        "{} run --quiet --measure agent --socket {} --name far -- true",
        programs::eco().display(),
        cluster.agents[1].socket().display()
    );
    let launch = |flags: &str| {
        let variables = [("TRACEPARENT", format!("00-{trace}-{parent}-{flags}"))];
        let near = By::Agent(cluster.agents[0].socket());
        run::launched(&near, &variables, &format!("{remote}; echo $TRACEPARENT")).unwrap()
    };
    // A trace that whoever began it does not want to be kept gets no spans, and goes on as it is.
    let unsampled = launch("00");
    let as_it_was = format!("00-{trace}-{parent}-00");
    assert_eq!(unsampled.stdout.trim(), as_it_was);
    launch("01");
    let spans = cluster.spans(2);
    let (near, far) = (named(&spans, "n1", "sh"), named(&spans, "n2", "far"));
    assert_eq!(spans.len(), 2, "{spans:#?}");
    assert_eq!(
        (near.trace_id.as_str(), far.trace_id.as_str()),
        (trace, trace)
    );
    assert_eq!(near.parent_id, parent);
    assert_eq!(far.parent_id, near.span_id);
}

fn post(agent: &Agent, path: &str, body: &Value) -> http::Response {
    http::ask(&agent.socket(), "POST", path, Some(body)).unwrap()
}

/// Opens a job of this process and what descends from it.
fn open(agent: &Agent) -> String {
    let opened = post(agent, "/v1/jobs", &json!({"name": "train"})).json();
    opened.unwrap()["id"].as_str().unwrap().to_owned()
}

fn close(agent: &Agent, id: &str) -> Value {
    let path = format!("/v1/jobs/{id}");
    let closed = http::ask(&agent.socket(), "DELETE", &path, None).unwrap();
    closed.json().unwrap()
}

fn burn(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn what_a_framework_reports_has_the_energy_of_its_time_and_nonsense_is_refused() {
    needs!(Programs, Root);
    let _alone = alone();
    let Some(mut collector) = Collector::prepare().unwrap() else {
        return;
    };
    collector.start().unwrap();
    let agent = tracing(&collector, None, "n1");
    let nobody = post(
        &agent,
        "/v1/spans",
        &span("x", Timestamp::now(), &json!({})),
    );
    assert_eq!(nobody.status, 404, "{}", nobody.body);

    let job = open(&agent);
    let begun = Timestamp::now();
    burn(Duration::from_secs(1));
    let busy = span("epoch 1", begun, &json!({"span_id": "00000000000000e1"}));
    assert_eq!(post(&agent, "/v1/spans", &busy).status, 201);
    let step = span("step", begun, &json!({"parent": "00000000000000e1"}));
    assert_eq!(post(&agent, "/v1/spans", &step).status, 201);
    let begun = Timestamp::now();
    agent.after_ticks(4).unwrap();
    let loss = json!({"attributes": {"loss": 0.25}, "job": job});
    assert_eq!(
        post(&agent, "/v1/spans", &span("epoch 2", begun, &loss)).status,
        201
    );
    for (body, status) in [
        (span("", begun, &json!({})), 400),
        (span("x", Timestamp::UNIX_EPOCH, &json!({})), 400),
        (span("x", begun, &json!({"job": "no-such-job"})), 404),
        (
            span(
                "x",
                begun,
                &json!({"attributes": {"a": "y".repeat(70_000)}}),
            ),
            413,
        ),
    ] {
        assert_eq!(post(&agent, "/v1/spans", &body).status, status, "{body}");
    }
    let closed = close(&agent, &job);
    wait::until("all are there", || collector.spans().len() >= 4).unwrap();

    let spans = collector.spans();
    let of = |name: &str| named(&spans, "n1", name);
    let (whole, first, second) = (of("train"), of("epoch 1"), of("epoch 2"));
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let own = format!("00-{}-{}-01", whole.trace_id, whole.span_id);
    assert_eq!(closed["traceparent"], own.as_str());
    assert_eq!(first.parent_id, whole.span_id);
    assert_eq!(
        (of("step").parent_id.as_str(), first.span_id.as_str()),
        ("00000000000000e1", "00000000000000e1")
    );
    assert_eq!(second.number("loss"), Some(0.25));
    assert!(spans.iter().all(|span| span.trace_id == whole.trace_id));
    for key in ["eco.cpu_seconds", "eco.energy_joules"] {
        let Some(all) = whole.number(key) else {
            continue;
        };
        let (busy, calm) = (first.number(key).unwrap(), second.number(key).unwrap());
        assert!(busy > 3.0 * calm, "{key}: {busy} {calm}");
        assert!(busy + calm <= 1.001 * all, "{key}: {busy} {calm} of {all}");
    }
}

/// A span until now.
fn span(name: &str, start: Timestamp, more: &Value) -> Value {
    let mut body = json!({"name": name, "start": start, "end": Timestamp::now()});
    let fields = more.as_object().into_iter().flatten();
    for (key, value) in fields {
        body[key] = value.clone();
    }
    body
}

#[test]
fn spans_that_nobody_takes_wait_in_bounded_memory_and_each_is_sent_or_counted_as_dropped() {
    needs!(Programs, Root);
    let _alone = alone();
    let Some(mut collector) = Collector::prepare().unwrap() else {
        return;
    };
    let agent = tracing(&collector, None, "n1");
    let job = open(&agent);
    let dropped = || {
        let metrics = agent.scrape().unwrap();
        metrics.sum("eco_push_dropped_records_total", &[])
    };
    let attributes: serde_json::Map<_, _> = (0..ATTRIBUTES)
        .map(|n| (format!("a{n}"), "x".repeat(LONG).into()))
        .collect();
    let large = json!({ "attributes": attributes });
    // Not the peak: that is from when it started.
    let resident = || agent.memory().unwrap().resident;
    let (before, mut most) = (resident(), 0);
    let mut taken = 0.0;
    wait::until("the queue is full", || {
        for _ in 0..40 {
            let body = span("large", Timestamp::now(), &large);
            match post(&agent, "/v1/spans", &body).status {
                201 => taken += 1.0,
                status => assert_eq!(status, 429),
            }
        }
        most = most.max(resident());
        dropped() > 40.0
    })
    .unwrap();
    let grown = most.saturating_sub(before);
    println!("{} KiB more while nobody takes them", grown >> 10);
    assert!(grown < MEMORY, "{grown} bytes more");

    collector.start().unwrap();
    // The job's own is one more, and there is room for it again.
    let queued = || {
        let metrics = agent.scrape().unwrap();
        metrics.sum("eco_push_queued_records", &[])
    };
    wait::until("they are taken", || queued() == 0.0).unwrap();
    close(&agent, &job);
    let sent = || collector.spans().len() as f64;
    wait::until("each is there", || sent() + dropped() >= taken + 1.0).unwrap();
    assert_eq!(sent() + dropped(), taken + 1.0);
}
