// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Grams: which intensity they are counted at, who may set it, and what is said where there is
//! none. That they add up is in `conservation.rs`, that they survive a kill in `restart.rs`.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::{
    collections::BTreeMap,
    net::TcpListener,
    process::{Command, Output},
};

use eco_tests::{
    agent::{Agent, Setup},
    http::{self, Response},
    metrics::Metrics,
    needs, programs,
    run::{self, By},
    user::{self, NOBODY},
    wait,
    workload::Workload,
};
use serde_json::{Value, json};

fn configured(settings: &[(&'static str, &str)]) -> Agent {
    let mut setup = Setup::default();
    for (name, value) in settings {
        setup.variables.push((name, (*value).to_owned()));
    }
    Agent::start(setup).unwrap()
}

fn put(agent: &Agent, body: &Value) -> Response {
    http::ask(&agent.socket(), "PUT", "/v1/intensity", Some(body)).unwrap()
}

fn pushed(g_per_kwh: &Value) -> Value {
    json!({"zone": "DE", "g_per_kwh": g_per_kwh, "kind": "average", "source": "a test"})
}

fn eco(agent: &Agent, arguments: &[&str]) -> Output {
    let mut eco = Command::new(programs::eco());
    eco.arg("--socket").arg(agent.socket()).args(arguments);
    eco.output().unwrap()
}

fn node_grams(metrics: &Metrics) -> f64 {
    metrics.sum("eco_node_carbon_grams_total", &[])
}

fn uncovered_joules(metrics: &Metrics) -> f64 {
    metrics.sum("eco_carbon_uncovered_energy_joules_total", &[])
}

/// By what tells a series of a family apart, without the family's own suffix.
fn series(metrics: &Metrics, suffix: &str) -> BTreeMap<String, f64> {
    let of_family = metrics.iter().filter_map(|sample| {
        let family = sample.name.strip_suffix(suffix)?;
        // The agent's own share has no carbon series; a time without intensity has no carbon.
        let told = !["eco_agent", "eco_carbon_uncovered"].contains(&family);
        let labels = sample.series();
        told.then(|| {
            (
                format!("{family}{}", &labels[sample.name.len()..]),
                sample.value(),
            )
        })
    });
    of_family.collect()
}

#[test]
fn every_energy_series_has_a_carbon_series_in_proportion() {
    needs!(Programs, Root);
    let agent = configured(&[
        ("ECO_CARBON__G_PER_KWH", "412.5"),
        ("ECO_CARBON__PUE", "1.4"),
    ]);
    let _load = Workload::new("burn 600").unwrap().start().unwrap();
    for _ in 0..4 {
        agent.scrape().unwrap();
        agent.after_ticks(2).unwrap();
    }
    let metrics = agent.scrape().unwrap();
    let (energy, carbon) = (
        series(&metrics, "_energy_joules_total"),
        series(&metrics, "_carbon_grams_total"),
    );
    assert_eq!(
        energy.keys().collect::<Vec<_>>(),
        carbon.keys().collect::<Vec<_>>()
    );
    assert!(energy.len() > 8, "{energy:?}");
    for (labels, joules) in &energy {
        let (grams, wanted) = (carbon[labels], joules * 412.5 * 1.4 / 3.6e6);
        assert!(
            (grams - wanted).abs() <= 1e-9 * wanted,
            "{labels}: {grams} g, not {wanted}"
        );
    }
    assert!(node_grams(&metrics) > 0.0);
    assert_eq!(metrics.sum("eco_carbon_pue", &[]), 1.4);
    assert_eq!(uncovered_joules(&metrics), 0.0);
}

#[test]
fn without_an_intensity_there_is_no_carbon_series_and_the_status_says_how_to_get_one() {
    needs!(Programs, Root);
    let agent = configured(&[]);
    agent.after_ticks(2).unwrap();
    let metrics = agent.scrape().unwrap();
    let carbon: Vec<&str> = metrics
        .iter()
        .map(|sample| sample.name.as_str())
        .filter(|name| name.contains("carbon"))
        .collect();
    assert!(carbon.is_empty(), "{carbon:?}");
    let status = agent.status().unwrap();
    assert_eq!(status["carbon"]["intensity"], Value::Null);
    assert!(
        status["advice"].to_string().contains("carbon.zone"),
        "{status}"
    );
    let units = agent.json("/v1/units").unwrap();
    assert!(units["node"].get("carbon_grams").is_none(), "{units}");
    let job = run::workload(&By::Agent(agent.socket()), "burn 0.3").unwrap();
    assert!(job.json["carbon_grams"].is_null() && job.json["intensity"].is_null());
}

#[test]
fn a_pushed_intensity_counts_from_then_on_and_says_what_it_is() {
    needs!(Programs, Root);
    let agent = configured(&[]);
    agent.after_ticks(2).unwrap();
    agent.push_intensity("DE", 360.0).unwrap();
    agent.after_ticks(2).unwrap();
    let metrics = agent.scrape().unwrap();
    let labels = [
        ("zone", "DE"),
        ("source", "a test"),
        ("kind", "average"),
        ("estimated", "false"),
    ];
    assert_eq!(
        metrics.sum("eco_carbon_intensity_grams_per_kwh", &labels),
        360.0
    );
    let joules = metrics.sum("eco_node_energy_joules_total", &[]);
    let before = uncovered_joules(&metrics);
    assert!(before > 0.0, "what was used before is not told");
    let wanted = (joules - before) * 360.0 / 3.6e6;
    assert!((node_grams(&metrics) - wanted).abs() <= 1e-6 * wanted);
}

#[test]
fn one_that_is_over_counts_nothing_more_and_is_called_stale() {
    needs!(Programs, Root);
    let agent = configured(&[]);
    let set = [
        "intensity",
        "set",
        "360",
        "--zone",
        "DE",
        "--valid-for",
        "1s",
    ];
    let output = eco(&agent, &set);
    assert!(output.status.success(), "{output:?}");
    wait::until("it is over", || {
        let answer = agent.json("/v1/intensity").unwrap();
        answer["intensity"].is_null() && answer["stale"]["zone"] == "DE"
    })
    .unwrap();
    // The tick in which it ended may still be its own.
    agent.after_ticks(2).unwrap();
    let first = agent.scrape().unwrap();
    agent.after_ticks(2).unwrap();
    let second = agent.scrape().unwrap();
    assert_eq!(node_grams(&first), node_grams(&second));
    assert!(node_grams(&first) > 0.0, "the series stays");
    assert!(uncovered_joules(&second) > uncovered_joules(&first));
    let intensities = second.select("eco_carbon_intensity_grams_per_kwh", &[]);
    assert_eq!(intensities.count(), 0);
    let status = agent.status().unwrap();
    assert!(
        status["advice"].to_string().contains("was valid until"),
        "{status}"
    );
}

#[test]
fn what_is_configured_holds_before_after_and_instead() {
    needs!(Programs, Root);
    let agent = configured(&[("ECO_CARBON__ZONE", "fr")]);
    let zone = || agent.json("/v1/intensity").unwrap()["intensity"]["zone"].clone();
    assert_eq!(zone(), "FR");
    agent.push_intensity("elsewhere", 1.0).unwrap();
    assert_eq!(zone(), "elsewhere");
    assert!(eco(&agent, &["intensity", "clear"]).status.success());
    assert_eq!(zone(), "FR");
}

#[test]
fn a_pushed_intensity_is_remembered_by_the_next_agent() {
    needs!(Programs, Root);
    let mut agent = configured(&[("ECO_CARBON__ZONE", "FR")]);
    agent.push_intensity("DE", 360.0).unwrap();
    agent.after_ticks(2).unwrap();
    let before = agent.scrape().unwrap();
    agent.restart().unwrap();
    let answer = agent.json("/v1/intensity").unwrap();
    assert_eq!(answer["intensity"]["g_per_kwh"], 360.0, "{answer}");
    assert!(node_grams(&agent.scrape().unwrap()) >= node_grams(&before));
}

#[test]
fn carbon_starts_at_zero_with_the_state_of_an_agent_that_knew_none() {
    needs!(Programs, Root);
    let mut old = configured(&[]);
    old.after_ticks(4).unwrap();
    let joules = old
        .scrape()
        .unwrap()
        .sum("eco_node_energy_joules_total", &[]);
    let state = tempfile::tempdir().unwrap();
    old.stop().unwrap();
    for file in std::fs::read_dir(old.state()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), state.path().join(file.file_name())).unwrap();
    }
    let mut setup = Setup {
        state: Some(state.path().to_owned()),
        ..Setup::default()
    };
    setup.variables.push(("ECO_CARBON__ZONE", "DE".to_owned()));
    let new = Agent::start(setup).unwrap();
    let metrics = new.scrape().unwrap();
    assert!(uncovered_joules(&metrics) >= joules);
    let covered = metrics.sum("eco_node_energy_joules_total", &[]) - uncovered_joules(&metrics);
    let wanted = covered * 380.95 / 3.6e6;
    assert!((node_grams(&metrics) - wanted).abs() <= 1e-6 * wanted.max(1e-6));
}

#[test]
fn what_cannot_be_an_intensity_is_refused_and_changes_nothing() {
    needs!(Programs, Root);
    let agent = configured(&[("ECO_CARBON__ZONE", "DE")]);
    let before = agent.json("/v1/intensity").unwrap();
    let mut bodies: Vec<Value> = [
        json!(-1.0),
        json!(3_000.5),
        json!(1e300),
        json!("360"),
        json!(null),
        json!([360]),
    ]
    .iter()
    .map(pushed)
    .collect();
    for (field, value) in [
        ("zone", json!("")),
        ("zone", json!("D\nE")),
        ("source", json!("x".repeat(300))),
        ("kind", json!("typical")),
        ("valid_until", json!("2020-01-01T00:00:00Z")),
        ("valid_until", json!("tomorrow")),
        ("valid_untill", json!("2999-01-01T00:00:00Z")),
    ] {
        let mut body = pushed(&json!(360));
        body[field] = value;
        bodies.push(body);
    }
    for field in ["zone", "g_per_kwh", "kind", "source"] {
        let mut body = pushed(&json!(360));
        body.as_object_mut().unwrap().remove(field);
        bodies.push(body);
    }
    bodies.extend([json!([]), json!({}), json!("NaN")]);
    for body in &bodies {
        let answer = put(&agent, body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert_eq!(answer.content_type, "application/problem+json");
        let detail = answer.json().unwrap()["detail"].to_string();
        assert!(
            detail.contains("the body is no intensity"),
            "{body}: {detail}"
        );
    }
    let empty = http::ask(&agent.socket(), "PUT", "/v1/intensity", None).unwrap();
    assert_eq!(empty.status, 400, "{}", empty.body);
    assert_eq!(agent.json("/v1/intensity").unwrap(), before);
}

#[test]
fn a_configuration_that_cannot_be_true_is_refused_at_the_start() {
    needs!(Programs, Root);
    for (name, value, said) in [
        ("ECO_CARBON__G_PER_KWH", "-3", "from 0 to 3000"),
        ("ECO_CARBON__G_PER_KWH", "NaN", "from 0 to 3000"),
        ("ECO_CARBON__PUE", "0.5", "from 1 to 10"),
        ("ECO_CARBON__ZONE", "germany", "DE (Germany)"),
    ] {
        let mut setup = Setup::default();
        setup.variables.push((name, value.to_owned()));
        let mut agent = Agent::spawn(setup).unwrap();
        assert_eq!(agent.until_ended().unwrap().code(), Some(2), "{value}");
        assert!(agent.log().contains(said), "{}", agent.log());
    }
}

#[test]
fn everybody_may_read_the_intensity_and_only_administrators_set_it() {
    needs!(Programs, Root, OtherUser);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut setup = Setup::default();
    let listen = ["--listen".into(), free.to_string().into()];
    setup.arguments.extend(listen);
    let agent = Agent::start(setup).unwrap();
    let body = pushed(&json!(1));
    let as_nobody = |method: &str, body: Option<&Value>| {
        let ask = || http::ask(&agent.socket(), method, "/v1/intensity", body);
        user::acting_as(NOBODY, ask).unwrap().unwrap()
    };
    assert_eq!(as_nobody("GET", None).status, 200);
    assert_eq!(as_nobody("PUT", Some(&body)).status, 403);
    assert_eq!(as_nobody("DELETE", None).status, 403);
    let url = format!("http://{free}/v1/intensity");
    assert_eq!(http::put(&url, &body).unwrap().status, 403);
    assert_eq!(http::get(&url).unwrap().status, 200);
    let answer = agent.json("/v1/intensity").unwrap();
    assert_eq!(answer["intensity"], Value::Null, "{answer}");
}

#[test]
fn a_run_says_its_grams_and_where_they_come_from() {
    needs!(Programs, Root);
    let agent = configured(&[("ECO_CARBON__G_PER_KWH", "500")]);
    let by = By::Agent(agent.socket());
    let counted = run::workload(&by, "burn 0.5").unwrap();
    assert_grams(&counted, 500.0, "configured");
    let options = ["--region", "de"];
    let zone = run::run(&by, &options, &["sh", "-c", "exec $WORKLOAD burn 0.5"]).unwrap();
    assert_grams(&zone, 380.95, "Ember");
    assert!(
        zone.stderr.contains("zone DE, average, Ember"),
        "{}",
        zone.stderr
    );
    let unknown = run::run(&by, &["--region", "germany"], &["true"]).unwrap();
    assert_eq!(unknown.status, 2);
    assert!(
        unknown.stderr.contains("DE (Germany)"),
        "{}",
        unknown.stderr
    );
}

fn assert_grams(outcome: &run::Outcome, g_per_kwh: f64, source: &str) {
    assert_eq!(outcome.status, 0, "{outcome:?}");
    let json = &outcome.json;
    let joules = json["energy_joules"]["total"].as_f64().unwrap();
    let (grams, wanted) = (
        json["carbon_grams"].as_f64().unwrap(),
        joules * g_per_kwh / 3.6e6,
    );
    assert!(wanted > 0.0);
    assert!(
        (grams / wanted - 1.0).abs() < 1e-6,
        "{grams} g, not {wanted}"
    );
    assert_eq!(json["intensity"]["g_per_kwh"], g_per_kwh);
    let named = json["intensity"]["source"].to_string();
    assert!(named.contains(source), "{named}");
    assert!(outcome.stderr.contains("carbon  "), "{}", outcome.stderr);
}
