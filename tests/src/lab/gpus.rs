// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's GPUs: processes that do nothing on the CPU, and the driver's stand-in whose script
//! says what each does on which GPU.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use eco_nvml_standin::{
    lab::Lab as Driver,
    scenario::{Gpu, Scenario as Script},
    truth,
};
use toml::{Table, Value};

use super::truth::GpuTruth;
use crate::clock::boottime_seconds;

/// GPUs that can be asked. Dropped, their processes end.
pub(super) struct Gpus {
    driver: Driver,
    script: Vec<Gpu>,
    names: Vec<Vec<String>>,
    began: f64,
    processes: Vec<Child>,
}

impl Gpus {
    /// Puts up the GPUs of a scenario, in the stand-in's own words but for two: a process has a
    /// `name` for people, and its pid is that of a process which is started for it.
    ///
    /// # Errors
    /// When the stand-in does not understand them, or a process cannot be started.
    pub(super) fn start(gpus: &[Table], faults: &[Table]) -> Result<Self> {
        let mut processes = Vec::new();
        let mut names = Vec::new();
        let mut gpus = gpus.to_vec();
        for gpu in &mut gpus {
            let mut of_gpu = Vec::new();
            for process in tables(gpu, "process") {
                let name = process.remove("name");
                let name = name.and_then(|name| name.as_str().map(str::to_owned));
                of_gpu.push(name.context("a process on a GPU has no `name`")?);
                ensure!(
                    !process.contains_key("pid"),
                    "a process on a GPU has a `pid`; the lab gives it one"
                );
                // Not forever: should the lab be killed, it goes by itself.
                let child = Command::new("sleep")
                    .arg("3600")
                    .stdin(Stdio::null())
                    .spawn()
                    .context("sleep")?;
                process.insert("pid".to_owned(), i64::from(child.id()).into());
                processes.push(child);
            }
            names.push(of_gpu);
        }
        // One clock for whoever loads the driver, and for the truth.
        let began = boottime_seconds();
        let mut script = Table::new();
        script.insert("began".to_owned(), began.into());
        script.insert("gpu".to_owned(), array(gpus));
        script.insert("fault".to_owned(), array(faults.to_vec()));
        let text = toml::to_string(&script)?;
        Ok(Self {
            script: Script::parse(&text)?.gpu,
            driver: Driver::new(&text).context("the NVIDIA driver's stand-in")?,
            names,
            began,
            processes,
        })
    }

    /// How eco's agent is told of them.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let library = self.driver.library().display().to_string();
        vec![("ECO_NVML__LIBRARY", library)]
    }

    /// What went through each up to now, and whose it was.
    pub(super) fn truth(&self) -> Vec<GpuTruth> {
        let now = boottime_seconds() - self.began;
        let gpus = self.script.iter().zip(&self.names);
        gpus.map(|(gpu, names)| {
            let mut processes = BTreeMap::new();
            for (process, name) in gpu.process.iter().zip(names) {
                let joules = truth::process_joules(process, 0.0, now);
                *processes.entry(name.clone()).or_default() += joules;
            }
            GpuTruth {
                joules: truth::joules(gpu, 0.0, now),
                idle_joules: gpu.idle_watts * now,
                processes,
                pids: gpu.process.iter().map(|process| process.pid).collect(),
            }
        })
        .collect()
    }
}

impl Drop for Gpus {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn tables<'a>(table: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Table> {
    let all = table.get_mut(key).and_then(Value::as_array_mut);
    all.into_iter().flatten().filter_map(Value::as_table_mut)
}

fn array(tables: Vec<Table>) -> Value {
    Value::Array(tables.into_iter().map(Value::Table).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_needs_a_name_and_is_given_its_pid() {
        for (text, why) in [
            (
                "[[gpu]]\nidle_watts = 1.0\n[[gpu.process]]\nwatts = 1.0",
                "name",
            ),
            (
                "[[gpu]]\nidle_watts = 1.0\n[[gpu.process]]\nname = \"a\"\npid = 1",
                "pid",
            ),
        ] {
            let scenario: Table = text.parse().unwrap();
            let gpus = scenario["gpu"].as_array().unwrap();
            let gpus: Vec<Table> = gpus
                .iter()
                .map(|gpu| gpu.as_table().unwrap().clone())
                .collect();
            let said = Gpus::start(&gpus, &[]).err().unwrap();
            assert!(said.to_string().contains(why), "{said}");
        }
    }
}
