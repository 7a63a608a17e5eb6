// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The management controller over HTTPS: DMTF Redfish.
//!
//! Only where a person has configured it. The controller is asked on a thread of its own, which
//! holds no privilege; its slow, stepped values are booked as such.

mod client;
mod power;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use eco_https::Trust;

use self::{
    client::{Client, Login, Trouble},
    power::{Gauge, Told},
};
use crate::{
    Descriptor, Domain, Finding, Found, Source,
    background::{Background, Probe, SteppedMeter},
    boottime_ns,
    integral::Integral,
};

/// How often the controller is asked: some ms of its CPU each time, and its own steps are mostly
/// longer.
const PERIOD: Duration = Duration::from_secs(2);

/// How long the agent's start waits for the first answer. A search asks some dozen resources.
const PATIENCE: Duration = Duration::from_secs(8);

/// After a refused login: controllers lock accounts that knock too often.
const AFTER_REFUSAL: Duration = Duration::from_secs(300);

/// The controller's own energy counter comes in steps of up to 0.1 kWh; less is not compared.
const LEAST_COMPARED_KWH: f64 = 2.0;

/// Power and energy come from one controller: more than this is a fault.
const MOST_DISAGREEMENT: f64 = 0.05;

/// How to reach a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedfishConfig {
    /// `https://bmc.example` or `https://10.0.0.1:8443`.
    pub url: String,
    /// The account: one that may only read is enough.
    pub user: String,
    /// The file that holds its password.
    pub password_file: PathBuf,
    /// CAs in PEM that may have signed its certificate; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// SHA-256 of its certificate in hex; believed instead of any CA.
    pub fingerprint: Option<String>,
    /// Believe any certificate, and allow `http`.
    pub insecure: bool,
}

/// Asks the controller that `config` names.
///
/// Waits some seconds for its first answer. A controller that is away then is asked on, and
/// becomes a meter once it answers.
#[must_use]
pub fn discover(config: &RedfishConfig) -> Found {
    discover_within(config, PATIENCE)
}

fn discover_within(config: &RedfishConfig, patience: Duration) -> Found {
    let mut found = Found::default();
    let place = config.url.clone();
    let start = Bmc::new(config).and_then(|bmc| {
        Background::start("eco-redfish", PERIOD, bmc).map_err(|why| format!("no thread: {why}"))
    });
    let background = match start {
        Ok(background) => background,
        Err(why) => {
            let advice = "Put the configuration right and start the agent again.";
            found.findings.push(Finding::new(place, why, advice));
            return found;
        }
    };
    let trouble = match background.first(patience) {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(why),
        None => Some(format!("has not answered within {} s", patience.as_secs())),
    };
    let awaited = trouble.map(|why| {
        let advice = "It is asked on; its joules begin when it answers.";
        Finding::new(&place, why, advice)
    });
    found.findings.extend(awaited.clone());
    let descriptor = Descriptor {
        name: "board".to_owned(),
        domain: Domain::Board,
        device: "board".to_owned(),
        source: Source::Redfish,
    };
    let meter = SteppedMeter::new(descriptor, place, background).awaited(awaited);
    found.meters.push(Box::new(meter));
    found
}

/// The controller, as the thread asks it.
struct Bmc {
    client: Client,
    gauge: Option<Gauge>,
    refused: Option<Instant>,
    check: EnergyCheck,
    place: String,
}

impl Bmc {
    fn new(config: &RedfishConfig) -> Result<Self, String> {
        let base = base(&config.url, config.insecure)?;
        let password = fs::read_to_string(&config.password_file).map_err(|why| {
            let path = config.password_file.display();
            format!("redfish.password_file = {path}: cannot be read: {why}")
        })?;
        let login = Login {
            base: base.clone(),
            user: config.user.clone(),
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
        };
        let trust = match &config.fingerprint {
            Some(text) => Trust::Pinned(eco_https::parse_fingerprint(text).ok_or(
                "redfish.fingerprint is no SHA-256: 64 hexadecimal digits, with colons or without",
            )?),
            None if config.insecure => Trust::Anyone,
            None => Trust::Authorities(config.ca_file.clone()),
        };
        Ok(Self {
            client: Client::new(login, &trust)?,
            gauge: None,
            refused: None,
            check: EnergyCheck::default(),
            place: base,
        })
    }

    fn told(&mut self) -> Result<Told, Trouble> {
        let client = &mut self.client;
        let get = &mut |path: &str| client.get(path);
        if let Some(gauge) = &self.gauge {
            match gauge.read(get) {
                Ok(Some(told)) => return Ok(told),
                // The tree has changed (an update of the controller): look anew.
                Ok(None) => self.gauge = None,
                Err(trouble) if trouble.is_local() => self.gauge = None,
                Err(trouble) => return Err(trouble),
            }
        }
        let found = power::find(get)?.ok_or(Trouble::Shape {
            path: power::ROOT.to_owned(),
            lacks: "a power reading in any chassis: the controller measures none, or its \
                    account may not read it",
        })?;
        self.gauge = Some(found.0);
        Ok(found.1)
    }
}

impl Probe for Bmc {
    fn ask(&mut self) -> Result<u64, String> {
        if self.refused.is_some_and(|at| at.elapsed() < AFTER_REFUSAL) {
            return Err(Trouble::Refused.to_string());
        }
        let told = self.told();
        self.refused = matches!(told, Err(Trouble::Refused)).then(Instant::now);
        let told = told.map_err(|trouble| trouble.to_string())?;
        self.check.take(boottime_ns(), &told);
        Ok(told.microwatts)
    }

    fn notes(&self) -> Vec<Finding> {
        let note = self.check.disagreement.map(|difference| {
            let what = format!(
                "its power adds up to {:+.0} % of what its own energy counter says",
                100.0 * difference
            );
            let advice =
                "Compare with the supplies or the rack's meter; see the controller's notes.";
            Finding::new(&self.place, what, advice)
        });
        note.into_iter().collect()
    }
}

/// Compares the power with the controller's own count of energy, where it keeps one.
#[derive(Default)]
struct EnergyCheck {
    integral: Integral,
    /// The counter in kWh, and the integral in µJ, when this began.
    base: Option<(f64, u64)>,
    disagreement: Option<f64>,
}

impl EnergyCheck {
    fn take(&mut self, at_ns: u64, told: &Told) {
        use crate::Quality::Reset;
        if self.integral.add(at_ns, told.microwatts) == Reset {
            self.base = None;
        }
        let Some(kwh) = told.kilowatt_hours else {
            return;
        };
        let total = self.integral.total();
        let (kwh_base, total_base) = *self.base.get_or_insert((kwh, total));
        if kwh < kwh_base {
            self.base = None;
        } else if kwh - kwh_base >= LEAST_COMPARED_KWH {
            let counted = (total - total_base) as f64 / 3.6e12;
            let difference = counted / (kwh - kwh_base) - 1.0;
            self.disagreement = Some(difference).filter(|d| d.abs() > MOST_DISAGREEMENT);
        }
    }
}

/// The address without a path; `http` only where a person has said that it may be read along.
fn base(url: &str, insecure: bool) -> Result<String, String> {
    let wrong = |why: &str| Err(format!("redfish.url = {url:?}: {why}"));
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("give https://HOST");
    };
    match scheme {
        "https" => {}
        "http" if insecure => {}
        "http" => return wrong("http shows the password to the network; use https"),
        _ => return wrong("give https://HOST"),
    }
    let host = rest.trim_end_matches('/');
    let is_plain = host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-.:[]%_".contains(&b));
    if host.is_empty() || !is_plain {
        return wrong("give only a host and a port: https://HOST:PORT");
    }
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests;
