// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Configurations, good and bad.

use super::*;

fn file(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let mut settings = Settings::defaults();
    settings.read_file(Some(file.path()))?;
    settings.build()
}

#[test]
fn flag_beats_variable_beats_file() {
    let path = tempfile::NamedTempFile::new().unwrap();
    fs::write(
        path.path(),
        "interval = \"2s\"\ntop = 7\n[idle]\npolicy = \"equal\"\n",
    )
    .unwrap();
    let mut settings = Settings::defaults();
    settings.read_file(Some(path.path())).unwrap();
    let variables = [
        ("ECO_INTERVAL", "3s"),
        ("ECO_IDLE__POLICY", "proportional"),
        ("HOME", ""),
    ];
    let owned = variables.map(|(k, v)| (k.to_owned(), v.to_owned()));
    settings.read_variables(owned.into_iter()).unwrap();
    settings.set_flag("interval", Some("500ms".into()));
    let config = settings.build().unwrap();
    assert_eq!(config.interval, Duration::from_millis(500));
    assert_eq!(config.idle_policy, IdlePolicy::Proportional);
    assert_eq!(config.top, 7);
    assert!(settings.explained().contains("(flag --interval)"));
    assert!(settings.explained().parse::<Table>().is_ok());
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let error = file("intervall = \"1s\"").unwrap_err().to_string();
    assert!(error.contains("did you mean interval?"), "{error}");
    assert!(
        file("[idle]\npolitics = 1")
            .unwrap_err()
            .to_string()
            .contains("idle.policy")
    );
}

#[test]
fn a_value_that_makes_no_sense_is_named_with_its_place() {
    for text in [
        "interval = \"99ms\"",
        "interval = \"61s\"",
        "interval = \"NaN\"",
        "top = -1",
        "listen = \"nowhere\"",
        "tier = \"magic\"",
        "compat = \"scaphandre\"",
        "log = \"loud\"",
        "[model]\nidle_watts = \"-5\"",
        "[idle]\npolicy = \"x\"",
        "[carbon]\ng_per_kwh = -1",
        "[carbon]\ng_per_kwh = nan",
        "[carbon]\ng_per_kwh = 360000",
        "[carbon]\ng_per_kwh = \"green\"",
        "[carbon]\ng_per_kwh = 360\nzone = \"a\\nb\"",
        "[carbon]\nzone = \"Atlantis\"",
        "[carbon]\npue = 0.9",
        "[carbon]\npue = \"inf\"",
        "[redfish]\ninsecure = \"maybe\"",
        "[otlp]\nendpoint = \"collector:4318\"",
        "[otlp]\nendpoint = \"https://u:p@collector\"",
        "[otlp]\nendpoint = \"http://\"",
        "[otlp]\ntemporality = \"both\"",
        "[otlp]\nendpoint = \"http://c\"\ninterval = \"1ms\"",
        "[otlp]\nendpoint = \"http://c\"\nheaders_file = \"/h\"",
        "[remote_write]\nurl = \"http://s\"\ntoken_file = \"/t\"",
        "[redfish]\nurl = \"https://bmc.example\"",
        "[redfish]\nurl = \"https://bmc.example\"\nuser = \"reader\"",
    ] {
        let error = file(text).unwrap_err();
        assert!(matches!(error, ConfigError::Bad { .. }), "{text}: {error}");
    }
    assert!(matches!(file("= ="), Err(ConfigError::File { .. })));
}

#[test]
fn a_controller_is_asked_only_if_one_is_named() {
    assert_eq!(file("[redfish]\nuser = \"reader\"").unwrap().redfish, None);
    let text = "[redfish]\nurl = \"https://bmc.example\"\nuser = \"reader\"\n\
                password_file = \"/etc/eco/bmc\"\ninsecure = true\n";
    let redfish = file(text).unwrap().redfish.unwrap();
    assert_eq!(redfish.password_file, PathBuf::from("/etc/eco/bmc"));
    assert_eq!(redfish.ca_file, None);
    assert!(redfish.insecure);
}

#[test]
fn a_constant_goes_before_a_zones_average_and_neither_is_nothing() {
    let standing = |text: &str| file(text).unwrap().carbon.standing;
    assert_eq!(standing(""), None);
    let germany = standing("[carbon]\nzone = \"de\"").unwrap();
    assert_eq!(germany.zone, "DE");
    assert!(germany.source.contains("Ember") && germany.estimated);
    let constant = standing("[carbon]\nzone = \"our roof\"\ng_per_kwh = 24").unwrap();
    assert_eq!(
        (constant.zone.as_str(), constant.g_per_kwh.get()),
        ("our roof", 24.0)
    );
    let error = file("[carbon]\nzone = \"germany\"")
        .unwrap_err()
        .to_string();
    assert!(error.contains("did you mean DE (Germany)"), "{error}");
    assert_eq!(file("[carbon]\npue = 1.4").unwrap().carbon.pue.get(), 1.4);
}
