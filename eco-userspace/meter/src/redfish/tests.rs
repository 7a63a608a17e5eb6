// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Controllers, honest and hostile, over real sockets and real TLS.

use std::path::Path;

use eco_redfish_standin::{CHASSIS, ENVIRONMENT, Identity, POWER, ROOT, SESSIONS, Server};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{Load, MeterError};

const ENOUGH: Duration = Duration::from_secs(60);

/// A configuration with its files.
struct Setup {
    config: RedfishConfig,
    folder: TempDir,
}

impl Setup {
    fn plain(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password_file = folder.path().join("password");
        fs::write(&password_file, "secret\n").unwrap();
        let config = RedfishConfig {
            url: server.url(),
            user: "user".into(),
            password_file,
            insecure: true,
            ..RedfishConfig::default()
        };
        Self { config, folder }
    }

    fn trusting(server: &Server, identity: &Identity) -> Self {
        let mut setup = Self::plain(server);
        let path = setup.folder.path().join("ca.pem");
        fs::write(&path, &identity.authority).unwrap();
        setup.config.ca_file = Some(path);
        setup.config.insecure = false;
        setup
    }

    fn bmc(&self) -> Bmc {
        Bmc::new(&self.config).unwrap()
    }
}

/// What a person is told of a controller with this in its tree.
fn told_of(path: &str, bytes: &[u8]) -> String {
    let server = Server::plain().unwrap();
    server.set_bytes(path, bytes.to_vec());
    let found = discover_within(&Setup::plain(&server).config, ENOUGH);
    found.findings[0].what.clone()
}

#[test]
fn a_controller_is_asked_with_a_session_that_is_ended_at_the_end() {
    let server = Server::plain().unwrap();
    let mut bmc = Setup::plain(&server).bmc();
    assert_eq!(bmc.ask(), Ok(312_000_000));
    server.set_watts(401.5);
    assert_eq!(bmc.ask(), Ok(401_500_000));
    drop(bmc);
    assert_eq!(server.count(&format!("POST {SESSIONS}")), 1);
    assert_eq!(
        server.count(&format!("GET {CHASSIS} ")),
        1,
        "the way is found once"
    );
    assert_eq!(server.count(&format!("GET {POWER} token-")), 2);
    assert_eq!(server.count(&format!("DELETE {SESSIONS}/1 token-")), 1);
}

#[test]
fn a_session_that_has_run_out_is_renewed() {
    let server = Server::plain().unwrap();
    let mut bmc = Setup::plain(&server).bmc();
    bmc.ask().unwrap();
    server.script().tokens.clear();
    assert_eq!(bmc.ask(), Ok(312_000_000));
    assert_eq!(server.count("POST"), 2);
}

#[test]
fn a_controller_without_sessions_gets_the_password_each_time() {
    let server = Server::plain().unwrap();
    server.script().has_sessions = false;
    let mut bmc = Setup::plain(&server).bmc();
    assert_eq!(bmc.ask(), Ok(312_000_000));
    assert_eq!(server.count(&format!("GET {POWER} Basic ")), 1);
}

#[test]
fn a_refused_password_is_not_tried_again_at_once() {
    let server = Server::plain().unwrap();
    server.script().refuses = true;
    let mut bmc = Setup::plain(&server).bmc();
    for _ in 0..5 {
        assert!(bmc.ask().unwrap_err().contains("redfish.password_file"));
    }
    assert_eq!(server.count(""), 1, "controllers lock accounts");
}

#[test]
fn a_controller_that_a_ca_vouches_for_becomes_a_meter() {
    let identity = Identity::good("127.0.0.1").unwrap();
    let server = Server::tls(&identity).unwrap();
    let mut found = discover_within(&Setup::trusting(&server, &identity).config, ENOUGH);
    assert_eq!(found.findings, []);
    let meter = &mut found.meters[0];
    assert_eq!(meter.descriptor().source, Source::Redfish);
    meter.read(&Load::default()).unwrap();
}

#[test]
fn a_certificate_that_is_not_good_says_why() {
    let expired = Identity::new("127.0.0.1", 2000, 2001).unwrap();
    let elsewhere = Identity::good("bmc.example").unwrap();
    let stranger = Identity::good("127.0.0.1").unwrap();
    let other = Identity::good("127.0.0.1").unwrap();
    for (identity, authority, word) in [
        (&expired, &expired, "has expired"),
        (&elsewhere, &elsewhere, "another name"),
        (&stranger, &other, "no CA known here"),
    ] {
        let server = Server::tls(identity).unwrap();
        let setup = Setup::trusting(&server, authority);
        let error = setup.bmc().ask().unwrap_err();
        assert!(error.contains(word), "{error}");
        assert_eq!(server.count(""), 0, "nothing was said to it");
        // The fingerprint that the error tells is the one to pin.
        let (_, rest) = error.split_once("redfish.fingerprint = \"").unwrap();
        let mut pinned = setup.config.clone();
        pinned.fingerprint = Some(rest.split('"').next().unwrap().to_owned());
        assert_eq!(Bmc::new(&pinned).unwrap().ask(), Ok(312_000_000));
        pinned.fingerprint = Some("00".repeat(32));
        let error = Bmc::new(&pinned).unwrap().ask().unwrap_err();
        assert!(
            error.contains("not the one of redfish.fingerprint"),
            "{error}"
        );
    }
}

#[test]
fn insecure_believes_anyone() {
    let expired = Identity::new("bmc.example", 2000, 2001).unwrap();
    let server = Server::tls(&expired).unwrap();
    assert_eq!(Setup::plain(&server).bmc().ask(), Ok(312_000_000));
}

#[test]
fn json_of_the_wrong_size_or_shape_is_a_finding() {
    let mut long = b"{\"PowerControl\": [".to_vec();
    long.resize(50 << 20, b' ');
    assert!(told_of(POWER, &long).contains("larger than 1024 kB"));
    assert!(told_of(ROOT, &long).contains("larger than 1024 kB"));
    assert!(told_of(ROOT, b"<html>").contains("is not JSON"));
    assert!(told_of(ROOT, &[0xff; 9]).contains("is not JSON"));
    let deep = "[".repeat(100_000);
    assert!(told_of(ROOT, deep.as_bytes()).contains("is not JSON"));
    assert!(told_of(ROOT, b"[]").contains("lacks a link to Chassis"));
    assert!(told_of(POWER, b"{\"PowerControl\": 7}").contains("lacks a power reading"));
    let zero = b"{\"PowerControl\": [{\"PowerConsumedWatts\": 0}]}";
    assert!(told_of(POWER, zero).contains("lacks a power reading"));
}

#[test]
fn a_link_that_leads_elsewhere_is_not_followed() {
    for link in [
        "https://elsewhere.example/c",
        "//elsewhere.example/c",
        "c",
        "/c\r\nX: y",
        "/\\c",
    ] {
        let root = json!({"Chassis": {"@odata.id": link}});
        let told = told_of(ROOT, root.to_string().as_bytes());
        assert!(told.contains("leads out of the service"), "{link}: {told}");
    }
}

#[test]
fn a_tree_that_changes_is_searched_anew() {
    let server = Server::plain().unwrap();
    let mut bmc = Setup::plain(&server).bmc();
    bmc.ask().unwrap();
    server.script().tree.remove(POWER);
    assert!(bmc.ask().is_err());
    let link = json!({"EnvironmentMetrics": {"@odata.id": ENVIRONMENT}});
    server.set(CHASSIS, &link);
    server.set(ENVIRONMENT, &json!({"PowerWatts": {"Reading": 99}}));
    assert_eq!(bmc.ask(), Ok(99_000_000));
}

#[test]
fn a_controller_that_is_away_delays_no_tick_and_is_asked_on() {
    // Accepts, and never answers: the kernel queues the connection.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::plain().unwrap();
    let mut setup = Setup::plain(&server);
    setup.config.url = format!("http://{}", silent.local_addr().unwrap());
    let mut found = discover_within(&setup.config, Duration::from_millis(10));
    assert!(found.findings[0].what.contains("has not answered"));
    let error = found.meters[0].read(&Load::default()).unwrap_err();
    assert!(matches!(error, MeterError::NoAnswer { .. }), "{error}");
}

#[test]
fn a_configuration_that_makes_no_sense_is_a_finding() {
    let server = Server::plain().unwrap();
    let told = |change: &dyn Fn(&mut RedfishConfig)| {
        let mut setup = Setup::plain(&server);
        change(&mut setup.config);
        let found = discover_within(&setup.config, ENOUGH);
        assert!(found.meters.is_empty());
        found.findings[0].what.clone()
    };
    assert!(told(&|c| c.insecure = false).contains("use https"));
    assert!(told(&|c| c.url = "bmc".into()).contains("https://HOST"));
    assert!(told(&|c| c.url = "https://user:secret@bmc".into()).contains("only a host"));
    assert!(told(&|c| c.url = "https://bmc/redfish".into()).contains("only a host"));
    assert!(told(&|c| c.password_file = "/nonexistent".into()).contains("password_file"));
    assert!(told(&|c| c.fingerprint = Some("abc".into())).contains("64 hexadecimal"));
    let no_ca = |c: &mut RedfishConfig| {
        c.insecure = false;
        c.url = "https://127.0.0.1:1".into();
        c.ca_file = Some(Path::new("/nonexistent").into());
    };
    assert!(told(&no_ca).contains("/nonexistent"));
}

#[test]
fn a_controller_whose_energy_and_power_disagree_says_so() {
    const HOUR: u64 = 3_600_000_000_000;
    let run = |kwh_per_hour: f64| {
        let mut check = EnergyCheck::default();
        for minute in 0..600u64 {
            let told = Told {
                microwatts: 500_000_000,
                kilowatt_hours: Some(100.0 + minute as f64 / 60.0 * kwh_per_hour),
            };
            check.take(minute * HOUR / 60, &told);
        }
        check.disagreement
    };
    assert_eq!(run(0.5), None);
    let difference = run(1.0).unwrap();
    assert!((difference + 0.5).abs() < 0.01, "{difference}");
}

#[test]
fn a_configured_controller_that_answers_is_the_boards_one_meter() {
    let server = Server::plain().unwrap();
    let setup = Setup::plain(&server);
    let chip = setup.folder.path().join("class/hwmon/hwmon0");
    fs::create_dir_all(&chip).unwrap();
    fs::write(chip.join("name"), "power_meter").unwrap();
    fs::write(chip.join("power1_average"), "290000000").unwrap();
    let found = crate::discover(&crate::Options {
        sysfs: setup.folder.path().into(),
        procfs: setup.folder.path().into(),
        dev: setup.folder.path().into(),
        redfish: Some(setup.config.clone()),
        ..crate::Options::default()
    });
    let sources: Vec<Source> = found.meters.iter().map(|m| m.descriptor().source).collect();
    assert_eq!(sources, [Source::Redfish], "and no model beside it");
}
