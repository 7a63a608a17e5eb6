// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the agent pushes, as real receivers have it: Prometheus and VictoriaMetrics by
//! remote-write, OpenTelemetry's Collector by OTLP.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use eco_tests::{
    agent::{Agent, Setup},
    needs,
    run::{self, By},
    servers::{
        authority::Authority,
        collector::Collector,
        prometheus::{Kind, Store},
    },
    wait,
};

const NODE: &str = "eco_node_energy_joules_total";

fn pushing(variables: &[(&'static str, String)]) -> Agent {
    let setup = Setup {
        variables: variables.to_vec(),
        ..Setup::default()
    };
    Agent::start(setup).unwrap()
}

#[test]
fn a_store_that_is_pushed_to_has_the_agents_own_counters() {
    needs!(Programs, Root);
    for kind in Kind::ALL {
        let Some(store) = Store::start(kind, "", []).unwrap() else {
            return;
        };
        let agent = pushing(&[
            ("ECO_REMOTE_WRITE__URL", store.url() + "/api/v1/write"),
            ("ECO_REMOTE_WRITE__INTERVAL", "1s".into()),
        ]);
        let before = agent.scrape().unwrap().sum(NODE, &[]);
        let mut pushed = 0.0;
        wait::until("the store has what came after", || {
            let sum = store.number(&format!("sum({NODE})"));
            pushed = sum.ok().flatten().unwrap_or(-1.0);
            pushed > before
        })
        .unwrap();
        let after = agent.scrape().unwrap().sum(NODE, &[]);
        assert!(
            before < pushed && pushed <= after,
            "{kind:?}: {before} {pushed} {after}"
        );
        let failures = agent.scrape().unwrap().sum("eco_push_failures_total", &[]);
        assert_eq!(failures, 0.0, "{kind:?}: {}", agent.log());
    }
}

#[test]
fn a_collector_that_comes_late_gets_counters_that_are_right_at_once_and_the_gap_is_told() {
    needs!(Programs, Root);
    let Some(mut collector) = Collector::prepare().unwrap() else {
        return;
    };
    let agent = pushing(&[
        ("ECO_OTLP__ENDPOINT", collector.url()),
        ("ECO_OTLP__INTERVAL", "1s".into()),
    ]);
    let failures = || agent.scrape().unwrap().sum("eco_push_failures_total", &[]);
    wait::until("nobody takes it", || failures() > 0.0).unwrap();
    let before = agent.scrape().unwrap().sum(NODE, &[]);
    collector.start().unwrap();
    wait::until("it is taken", || collector.points("hw.power").len() > 1).unwrap();
    let after = agent.scrape().unwrap();
    let points = collector.points("eco.node.energy");
    let first = points.iter().map(|p| p.at_ns).min().unwrap();
    let pushed: f64 = points
        .iter()
        .filter(|p| p.at_ns == first)
        .map(|p| p.value)
        .sum();
    assert!(
        before <= pushed && pushed <= after.sum(NODE, &[]),
        "{before} {pushed}"
    );
    assert!(after.sum("eco_push_gap_seconds_total", &[]) > 0.0);
    assert!(agent.log().contains("taken again"), "{}", agent.log());
}

/// Ticks of which nobody knows: those before the first pass, which is the baseline, and those in
/// the batch that the collector has taken, but not written, when it is killed. While it is away
/// there are more.
const SLACK: f64 = 12.0;

#[test]
fn deltas_add_up_to_the_agents_own_counters_through_a_collector_that_was_away() {
    needs!(Programs, Root);
    let Some(mut collector) = Collector::prepare().unwrap() else {
        return;
    };
    collector.start().unwrap();
    let mut agent = pushing(&[
        ("ECO_OTLP__ENDPOINT", collector.url()),
        ("ECO_OTLP__INTERVAL", "1s".into()),
        ("ECO_OTLP__TEMPORALITY", "delta".into()),
    ]);
    let enough = |n| collector_has(&collector, n);
    wait::until("deltas come", || enough(2)).unwrap();
    let scraped = agent.scrape().unwrap();
    collector.stop();
    let failures = || agent.scrape().unwrap().sum("eco_push_failures_total", &[]);
    wait::until("nobody takes them for some seconds", || failures() > 1.0).unwrap();
    collector.start().unwrap();
    let known = collector.points("eco.ticks").len();
    wait::until("they come again", || collector_has(&collector, known + 2)).unwrap();
    let least = agent.scrape().unwrap().sum("eco_ticks_total", &[]);
    // It pushes once more before it ends.
    agent.stop().unwrap();
    let ticks = || -> f64 {
        let points = collector.points("eco.ticks");
        points.iter().map(|point| point.value).sum()
    };
    // The collector takes its time to write what it has taken.
    wait::until("all deltas are in the file", || ticks() >= least - SLACK).unwrap();
    assert!(scraped.sum("eco_ticks_total", &[]) < ticks() + SLACK);
}

#[test]
fn all_three_signals_go_by_grpc_and_on_through_a_collector_that_was_away() {
    needs!(Programs, Root);
    let Some(collector) = Collector::prepare().unwrap() else {
        return;
    };
    let mut collector = collector.by_grpc();
    collector.start().unwrap();
    let agent = pushing(&[
        ("ECO_OTLP__ENDPOINT", collector.url()),
        ("ECO_OTLP__PROTOCOL", "grpc".into()),
        ("ECO_OTLP__INTERVAL", "1s".into()),
    ]);
    let run = |name: &str| {
        let by = By::Agent(agent.socket());
        run::run(&by, &["--name", name], &["true"]).unwrap();
    };
    let failures = || agent.scrape().unwrap().sum("eco_push_failures_total", &[]);
    // The span, and the line of the log that is about it.
    let has = |collector: &Collector, name: &str| {
        let spans = collector.spans();
        let Some(span) = spans.iter().find(|span| span.name == name) else {
            return false;
        };
        let mut lines = collector.lines().into_iter();
        lines.any(|line| line.span_id == span.span_id && line.trace_id == span.trace_id)
    };
    run("before");
    wait::until("all three are there", || {
        has(&collector, "before") && collector_has(&collector, 2)
    })
    .unwrap();
    assert_eq!(failures(), 0.0, "{}", agent.log());
    collector.stop();
    run("meanwhile");
    wait::until("nobody takes it", || failures() > 0.0).unwrap();
    let known = collector.points("eco.ticks").len();
    collector.start().unwrap();
    wait::until("what waited is taken", || has(&collector, "meanwhile")).unwrap();
    wait::until("points come again", || collector_has(&collector, known + 2)).unwrap();
    let points = collector.points("eco.ticks");
    let last = points.iter().max_by_key(|point| point.at_ns).unwrap();
    assert!(last.value <= agent.scrape().unwrap().sum("eco_ticks_total", &[]));
    let dropped = agent.scrape().unwrap();
    let dropped = dropped.sum("eco_push_dropped_records_total", &[]);
    assert_eq!(dropped, 0.0, "{}", agent.log());
}

#[test]
fn a_collector_is_believed_by_its_own_authority_and_by_no_other() {
    needs!(Programs, Root);
    for protocol in ["http/protobuf", "grpc"] {
        let Some(collector) = Collector::prepare().unwrap() else {
            return;
        };
        let collector = match protocol {
            "grpc" => collector.by_grpc(),
            _ => collector,
        };
        believed_by_its_own_authority_only(collector, protocol);
    }
}

fn believed_by_its_own_authority_only(collector: Collector, protocol: &str) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca").unwrap();
    let other = Authority::new(folder.path(), "other").unwrap();
    let hosts = &["127.0.0.1"];
    let identity = authority
        .issue("collector", "collector", "", hosts)
        .unwrap();
    let mut collector = collector.over_tls(identity);
    collector.start().unwrap();
    let trusting = |authority: &Authority| {
        pushing(&[
            ("ECO_OTLP__ENDPOINT", collector.url()),
            ("ECO_OTLP__PROTOCOL", protocol.into()),
            ("ECO_OTLP__INTERVAL", "1s".into()),
            (
                "ECO_OTLP__CA",
                authority.certificate().display().to_string(),
            ),
        ])
    };
    let wrong = trusting(&other);
    let told = "its TLS certificate is signed by no CA known here";
    wait::until("it is told", || wrong.log().contains(told)).unwrap();
    assert!(wrong.log().contains("set `ca`"), "{}", wrong.log());
    assert!(collector.points("eco.ticks").is_empty());
    drop(wrong);
    let right = trusting(&authority);
    wait::until("points come", || collector_has(&collector, 2)).unwrap();
    let failures = right.scrape().unwrap().sum("eco_push_failures_total", &[]);
    assert_eq!(failures, 0.0, "{}", right.log());
    assert!(!collector.lines().is_empty(), "the log comes the same way");
}

fn collector_has(collector: &Collector, points: usize) -> bool {
    collector.points("eco.ticks").len() >= points
}
