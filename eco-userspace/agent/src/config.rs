// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How the agent is asked to run: flag beats variable beats file beats default.

mod carbon;
mod compat;
mod directories;
mod history;
mod keys;
mod push;

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use eco_attribution::IdlePolicy;
use eco_identity::{kubernetes::KubernetesConfig, slurm::SlurmConfig};
use eco_meter::{model::ModelConfig, redfish::RedfishConfig};
use eco_usage::Wanted;
use toml::{Table, Value};

pub use self::compat::Compat;
use self::keys::{KEYS, Key};
use crate::{carbon::CarbonConfig, outlets::history::HistoryConfig};

/// Where the file is looked for unless one is named.
pub const DEFAULT_FILE: &str = "/etc/eco/agent.toml";

/// The shortest and the longest tick.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The tick.
    pub interval: Duration,
    /// The Unix socket.
    pub socket: PathBuf,
    /// TCP, if asked for.
    pub listen: Option<SocketAddr>,
    /// Where meters are read.
    pub sysfs: PathBuf,
    /// Where processes are looked up.
    pub procfs: PathBuf,
    /// Where counters are kept; `None`: in memory only.
    pub state: Option<PathBuf>,
    /// `auto` or `procfs`.
    pub tier: String,
    /// The node's name; the host's if empty.
    pub node: String,
    /// How many processes are shown by name in `/metrics`.
    pub top: usize,
    /// Who pays for idle.
    pub idle_policy: IdlePolicy,
    /// Whose names are served too.
    pub compat: Option<Compat>,
    /// What electricity emits here.
    pub carbon: CarbonConfig,
    /// The model, where there is no meter.
    pub model: ModelConfig,
    /// The management controller to ask, if one is named.
    pub redfish: Option<RedfishConfig>,
    /// The NVIDIA driver's library: a path, or a name that the loader looks up.
    pub nvml_library: String,
    /// ROCm's amd-smi, likewise; empty for none.
    pub amdsmi_library: String,
    /// Who knows the pods.
    pub kubernetes: KubernetesConfig,
    /// Who knows the Slurm jobs.
    pub slurm: SlurmConfig,
    /// Who is pushed to.
    pub push: crate::outlets::push::PushConfig,
    /// What is kept of each tick.
    pub history: HistoryConfig,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub log: String,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key {key}; did you mean {nearest}?")]
    Unknown {
        /// Where it was found.
        origin: String,
        /// The key.
        key: String,
        /// The one that looks most like it.
        nearest: String,
    },
    /// A value that makes no sense.
    #[error("{origin}: {key} = {value:?}: {why}")]
    Bad {
        /// Where it was found.
        origin: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong.
        why: String,
    },
}

/// Values by key, each with where it came from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<String, (String, String)>,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn defaults() -> Self {
        let mut settings = Self::default();
        for key in KEYS {
            settings.put(key.name, key.default, "default");
        }
        settings
    }

    /// Takes in a file. The default one may be absent.
    ///
    /// # Errors
    /// When it cannot be read, is no TOML, or holds an unknown key.
    pub fn read_file(&mut self, named: Option<&Path>) -> Result<(), ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let shown = path.display().to_string();
        let failed = |why: String| ConfigError::File {
            path: shown.clone(),
            why,
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(e.to_string())),
        };
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| failed(e.to_string()))?;
        let mut flat = Vec::new();
        flatten("", &table, &mut flat);
        for (key, value) in flat {
            self.check_key(&key, &shown)?;
            self.put(&key, &value, &shown);
        }
        Ok(())
    }

    /// Takes in variables: `ECO_INTERVAL`, `ECO_IDLE__POLICY`.
    ///
    /// # Errors
    /// When one names an unknown key.
    pub fn read_variables(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("ECO_") else {
                continue;
            };
            // For the tools around the agent, not for it.
            if matches!(key, "TOOLS" | "BIN_DIR" | "CONFIG" | "JOB") {
                continue;
            }
            let key = key.to_lowercase().replace("__", ".");
            let origin = format!("variable {name}");
            self.check_key(&key, &origin)?;
            self.put(&key, &value, &origin);
        }
        Ok(())
    }

    /// Takes in a flag.
    pub fn set_flag(&mut self, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.put(key, &value, &format!("flag --{key}"));
        }
    }

    /// Makes sense of it all.
    ///
    /// # Errors
    /// Names the first value that makes none.
    pub fn build(&self) -> Result<Config, ConfigError> {
        let tier = self.get("tier").to_owned();
        if !matches!(tier.as_str(), "auto" | "procfs") {
            return Err(self.bad("tier", "must be auto or procfs"));
        }
        let log = self.get("log").to_owned();
        if log.parse::<tracing::level_filters::LevelFilter>().is_err() {
            return Err(self.bad("log", "must be error, warn, info, debug or trace"));
        }
        let policy = match self.get("idle.policy") {
            "separate" => IdlePolicy::Separate,
            "proportional" => IdlePolicy::Proportional,
            "equal" => IdlePolicy::Equal,
            _ => return Err(self.bad("idle.policy", "must be separate, proportional or equal")),
        };
        let top = self.get("top").parse().ok().filter(|top| *top <= 10_000);
        let top = top.ok_or_else(|| self.bad("top", "must be a whole number up to 10000"))?;
        let listen = match self.get("listen") {
            "" => None,
            text => Some(text.parse().map_err(|_| {
                self.bad(
                    "listen",
                    "must be an address and a port, such as 127.0.0.1:9510",
                )
            })?),
        };
        Ok(Config {
            interval: self.interval()?,
            socket: self.get("socket").into(),
            listen,
            sysfs: self.get("sysfs").into(),
            procfs: self.get("procfs").into(),
            state: Some(self.get("state"))
                .filter(|s| !s.is_empty())
                .map(PathBuf::from),
            tier,
            node: self.get("node").to_owned(),
            top,
            idle_policy: policy,
            compat: self.compat()?,
            carbon: self.carbon()?,
            model: ModelConfig {
                idle_watts: self.watts("model.idle_watts")?,
                max_watts: self.watts("model.max_watts")?,
                profile: Some(self.get("model.profile"))
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from),
            },
            redfish: self.redfish()?,
            nvml_library: self.get("nvml.library").to_owned(),
            amdsmi_library: self.get("amdsmi.library").to_owned(),
            kubernetes: self.kubernetes()?,
            slurm: self.slurm()?,
            push: self.push()?,
            history: self.history()?,
            log,
        })
    }

    /// The effective configuration as TOML, with where each value came from.
    #[must_use]
    pub fn explained(&self) -> String {
        let mut lines = vec![];
        let mut section = "";
        // Plain keys first: in TOML they cannot follow a section.
        let mut keys: Vec<&Key> = KEYS.iter().collect();
        keys.sort_by_key(|key| key.name.contains('.'));
        for key in keys {
            let (group, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if group != section {
                lines.push(format!("\n[{group}]"));
                section = group;
            }
            let (value, origin) = self.values.get(key.name).cloned().unwrap_or_default();
            let value = Value::String(value).to_string();
            lines.push(format!("{name} = {value}  # {} ({origin})", key.about));
        }
        lines.join("\n") + "\n"
    }

    fn interval(&self) -> Result<Duration, ConfigError> {
        let wrong = || self.bad("interval", "must be 100ms to 60s, such as 500ms or 1s");
        let interval = parse_duration(self.get("interval")).ok_or_else(wrong)?;
        let allowed = INTERVALS.0..=INTERVALS.1;
        if allowed.contains(&interval) {
            Ok(interval)
        } else {
            Err(wrong())
        }
    }

    fn redfish(&self) -> Result<Option<RedfishConfig>, ConfigError> {
        let some = |key: &str| self.some(key).map(str::to_owned);
        let insecure = self.is_true("redfish.insecure")?;
        let Some(url) = some("redfish.url") else {
            return Ok(None);
        };
        let needed = |key: &str| some(key).ok_or_else(|| self.bad(key, "redfish.url needs it"));
        Ok(Some(RedfishConfig {
            url,
            user: needed("redfish.user")?,
            password_file: needed("redfish.password_file")?.into(),
            ca_file: some("redfish.ca_file").map(PathBuf::from),
            fingerprint: some("redfish.fingerprint"),
            insecure,
        }))
    }

    fn watts(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.get(key) {
            "" => Ok(None),
            text => {
                let watts = text
                    .parse()
                    .ok()
                    .filter(|w: &f64| w.is_finite() && *w >= 0.0);
                watts
                    .map(Some)
                    .ok_or_else(|| self.bad(key, "must be a number of watts"))
            }
        }
    }

    fn is_true(&self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key) {
            "true" => Ok(true),
            "false" | "" => Ok(false),
            _ => Err(self.bad(key, "must be true or false")),
        }
    }

    /// The value, unless it is empty.
    fn some(&self, key: &str) -> Option<&str> {
        Some(self.get(key)).filter(|text| !text.is_empty())
    }

    fn get(&self, key: &str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value)
    }

    fn put(&mut self, key: &str, value: &str, origin: &str) {
        self.values
            .insert(key.to_owned(), (value.to_owned(), origin.to_owned()));
    }

    fn check_key(&self, key: &str, origin: &str) -> Result<(), ConfigError> {
        if KEYS.iter().any(|known| known.name == key) {
            return Ok(());
        }
        let nearest = KEYS
            .iter()
            .min_by_key(|known| strsim::levenshtein(known.name, key));
        Err(ConfigError::Unknown {
            origin: origin.to_owned(),
            key: key.to_owned(),
            nearest: nearest.map_or("", |k| k.name).to_owned(),
        })
    }

    fn bad(&self, key: &str, why: &str) -> ConfigError {
        let (value, origin) = self.values.get(key).cloned().unwrap_or_default();
        ConfigError::Bad {
            origin,
            key: key.to_owned(),
            value,
            why: why.to_owned(),
        }
    }
}

impl Config {
    /// Which source of CPU time to use.
    #[must_use]
    pub fn usage_wanted(&self) -> Wanted {
        if self.tier == "procfs" {
            Wanted::Procfs
        } else {
            Wanted::Best
        }
    }

    /// What the node is called.
    #[must_use]
    pub fn node_name(&self) -> String {
        if self.node.is_empty() {
            host_name()
        } else {
            self.node.clone()
        }
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

/// The variables of this process that are text.
pub fn variables() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// `1s`, `1.5s`, `500ms`, `1m`, `30d`; a bare number is seconds.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.trim().parse::<f64>().ok()? * scale).ok()
}

fn flatten(prefix: &str, table: &Table, flat: &mut Vec<(String, String)>) {
    for (key, value) in table {
        let key = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        match value {
            Value::Table(inner) => flatten(&key, inner, flat),
            Value::String(text) => flat.push((key, text.clone())),
            other => flat.push((key, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
