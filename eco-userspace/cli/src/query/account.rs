// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What pods, jobs and runs have in common, in the forms that people and programs read.

use std::{collections::BTreeSet, time::Duration};

use eco_agent::api::{ByDomain, Job, ManagedJob, Pod};
use jiff::Timestamp;

use crate::{
    energy,
    out::{printable, quantity, span},
};

/// What something has used on a node.
pub(super) struct Account<'a> {
    title: String,
    /// Who answers for it, and the like.
    about: Vec<(&'static str, String)>,
    energy: &'a ByDomain,
    carbon: Option<&'a ByDomain>,
    cpu_seconds: f64,
    /// Power of late.
    watts: Option<f64>,
    /// How long it has run.
    elapsed: Option<Duration>,
    node: &'a str,
    estimated: bool,
    /// Whose joules they are.
    sources: Vec<&'a str>,
}

impl<'a> Account<'a> {
    pub(super) fn of_pod(pod: &'a Pod) -> Self {
        let owner = pod.owner.as_ref();
        let owner = owner.map(|owner| ("owner", format!("{} {}", owner.kind, owner.name)));
        Self {
            title: format!("{}/{}", pod.namespace, pod.name),
            about: owner.into_iter().collect(),
            energy: &pod.energy_joules,
            carbon: pod.carbon_grams.as_ref(),
            cpu_seconds: pod.cpu_seconds,
            watts: Some(pod.watts),
            elapsed: None,
            node: &pod.node,
            estimated: pod.estimated,
            sources: pod.sources.iter().map(String::as_str).collect(),
        }
    }

    pub(super) fn of_job(job: &'a ManagedJob) -> Self {
        let told = [
            ("name", Some(&job.name)),
            ("user", Some(&job.user)),
            ("account", job.account.as_ref()),
            ("partition", job.partition.as_ref()),
        ];
        let told = told
            .into_iter()
            .filter_map(|(what, text)| Some((what, text?.clone())));
        // The way that its user knows a task of an array.
        let task = job.array.as_ref().map(|task| format!(" ({task})"));
        let task = task.unwrap_or_default();
        Self {
            title: format!("{} job {}{task}", job.manager, job.id),
            about: told.filter(|(_, text)| !text.is_empty()).collect(),
            energy: &job.energy_joules,
            carbon: job.carbon_grams.as_ref(),
            cpu_seconds: job.cpu_seconds,
            watts: Some(job.watts),
            elapsed: None,
            node: &job.node,
            estimated: job.estimated,
            sources: job.sources.iter().map(String::as_str).collect(),
        }
    }

    /// A run that is open on `node`.
    pub(super) fn of_run(run: &'a Job, node: &'a str, now: Timestamp) -> Self {
        let mut about = vec![("name", run.name.clone()), ("user", run.user.clone())];
        if let Some(part) = &run.part_of {
            about.push(("part of", format!("{}/{}", part.manager, part.job)));
        }
        let started: Option<Timestamp> = run.started.parse().ok();
        let elapsed = started.and_then(|started| now.duration_since(started).try_into().ok());
        let sources: BTreeSet<&str> = run.meters.iter().map(|m| m.source.as_str()).collect();
        Self {
            title: format!("{} run {}", run.manager, run.id),
            about,
            energy: &run.energy_joules,
            carbon: run.carbon_grams.as_ref(),
            cpu_seconds: run.cpu_seconds,
            watts: None,
            elapsed,
            node,
            estimated: run.estimated,
            sources: sources.into_iter().collect(),
        }
    }

    /// The same, run for so long if that is known better.
    pub(super) fn over(self, elapsed: Option<Duration>) -> Self {
        Self {
            elapsed: elapsed.or(self.elapsed),
            ..self
        }
    }

    pub(super) fn table(&self) -> String {
        let mut rows = self.about.clone();
        if let Some(joules) = energy::total(self.energy) {
            rows.push((
                "energy",
                format!("{}  {}", quantity(joules, "J"), self.label()),
            ));
        }
        if let Some(watts) = self.mean_watts() {
            rows.push(("mean power", quantity(watts, "W")));
        }
        if let Some(grams) = self.carbon.and_then(energy::total) {
            rows.push(("carbon", quantity(grams, "g")));
        }
        rows.push(("CPU time", span(self.cpu_seconds)));
        if let Some(elapsed) = self.elapsed {
            rows.push(("wall time", span(elapsed.as_secs_f64())));
        }
        if let Some(watts) = self.watts {
            rows.push(("power now", quantity(watts, "W")));
        }
        rows.push(("node", self.node.to_owned()));
        let mut text = format!("{}\n", printable(&self.title));
        for (what, value) in rows {
            text += &format!("  {what:<10}  {}\n", printable(&value));
        }
        text
    }

    pub(super) fn line(&self) -> String {
        let mut parts = Vec::new();
        if let Some(joules) = energy::total(self.energy) {
            parts.push(format!("{} ({})", quantity(joules, "J"), self.label()));
        }
        if let Some(watts) = self.mean_watts() {
            parts.push(quantity(watts, "W on average"));
        }
        if let Some(grams) = self.carbon.and_then(energy::total) {
            parts.push(quantity(grams, "g CO2e"));
        }
        parts.push(quantity(self.cpu_seconds, "s of CPU"));
        let text = format!("eco: {}: {} on {}", self.title, parts.join(", "), self.node);
        printable(&text).to_string() + "\n"
    }

    /// Whoever reads it splits at `;` and `=`: neither may be in a value.
    pub(super) fn comment(&self) -> String {
        let mut text = "eco:1".to_owned();
        if let Some(joules) = energy::total(self.energy) {
            text += &format!(";energy_j={joules:.3}");
        }
        text += &format!(";cpu_s={:.3}", self.cpu_seconds);
        if let Some(grams) = self.carbon.and_then(energy::total) {
            text += &format!(";carbon_g={grams:.6}");
        }
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
        let node: String = self.node.chars().filter(is_plain).collect();
        text += &format!(";node={node}");
        if self.estimated {
            text += ";estimated=1";
        }
        text + "\n"
    }

    /// Whether the joules are an estimate, and whose they are.
    fn label(&self) -> String {
        let known = if self.estimated {
            "estimated"
        } else {
            "measured"
        };
        match self.sources.join(", ") {
            none if none.is_empty() => format!("{known}, without idle"),
            sources => format!("{known}: {sources}; without idle"),
        }
    }

    fn mean_watts(&self) -> Option<f64> {
        let seconds = self.elapsed?.as_secs_f64();
        let joules = energy::total(self.energy)?;
        (seconds > 0.0).then(|| joules / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> ManagedJob {
        ManagedJob {
            manager: "slurm".to_owned(),
            id: "7".to_owned(),
            user: "ada\u{1b}[2J".to_owned(),
            node: "n1;x=y".to_owned(),
            cpu_seconds: 2.5,
            energy_joules: [("package", 10.0), ("core", 9.0), ("dram", 1.0)]
                .map(|(domain, joules)| (domain.to_owned(), joules))
                .into(),
            carbon_grams: Some([("package".to_owned(), 0.25)].into()),
            sources: vec!["rapl-powercap".to_owned()],
            ..ManagedJob::default()
        }
    }

    #[test]
    fn a_comment_is_one_word_that_can_be_taken_apart() {
        let job = job();
        let text = Account::of_job(&job).comment();
        assert_eq!(
            text,
            "eco:1;energy_j=11.000;cpu_s=2.500;carbon_g=0.250000;node=n1xy\n"
        );
        assert!(!text.trim_end().contains(char::is_whitespace));
    }

    #[test]
    fn a_line_says_what_is_known_and_is_one() {
        let mut job = job();
        job.id = "7\nforged".to_owned();
        let line = Account::of_job(&job).line();
        let told = "11.0 J (measured: rapl-powercap; without idle), 250 mg CO2e, \
                    2.50 s of CPU on n1;x=y\n";
        assert!(
            line.starts_with("eco: slurm job 7") && line.ends_with(told),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        job.carbon_grams = None;
        job.energy_joules.clear();
        assert!(
            Account::of_job(&job)
                .line()
                .ends_with(": 2.50 s of CPU on n1;x=y\n")
        );
    }

    #[test]
    fn a_task_of_an_array_is_called_as_its_user_calls_it() {
        let mut job = job();
        job.array = Some("5_2".to_owned());
        let line = Account::of_job(&job).line();
        assert!(line.starts_with("eco: slurm job 7 (5_2): "), "{line}");
    }

    #[test]
    fn average_power_is_said_where_the_time_is_known_and_is_some() {
        let mut job = job();
        job.estimated = true;
        job.sources.clear();
        let over = |seconds| {
            Account::of_job(&job)
                .over(Some(Duration::from_secs(seconds)))
                .line()
        };
        let told = "11.0 J (estimated, without idle), 5.50 W on average, ";
        assert!(over(2).contains(told), "{}", over(2));
        assert!(!over(0).contains("average"), "{}", over(0));
    }

    #[test]
    fn an_open_run_says_what_it_is_a_part_of_and_how_long_it_has_run() {
        let now: Timestamp = "2026-11-25T12:00:10Z".parse().unwrap();
        let mut run = Job {
            id: "3".to_owned(),
            manager: "eco".to_owned(),
            name: "train".to_owned(),
            started: "2026-11-25T12:00:00Z".to_owned(),
            energy_joules: [("package".to_owned(), 20.0)].into(),
            part_of: Some(eco_agent::api::PartOf {
                manager: "slurm".to_owned(),
                job: "4711".to_owned(),
                ..Default::default()
            }),
            ..Job::default()
        };
        let table = Account::of_run(&run, "n1", now).table();
        for row in ["eco run 3\n", "slurm/4711\n", "2.00 W\n", "10.0 s\n"] {
            assert!(table.contains(row), "{row}: {table}");
        }
        for odd in ["", "yesterday", "2027-01-01T00:00:00Z"] {
            run.started = odd.to_owned();
            let table = Account::of_run(&run, "n1", now).table();
            assert!(!table.contains("mean power"), "{odd}: {table}");
        }
    }

    #[test]
    fn without_an_intensity_or_a_meter_nothing_is_said_of_them() {
        let mut job = job();
        job.carbon_grams = None;
        job.energy_joules.clear();
        let account = Account::of_job(&job);
        assert_eq!(account.comment(), "eco:1;cpu_s=2.500;node=n1xy\n");
        assert!(!account.table().contains("energy"));
    }

    #[test]
    fn what_a_stranger_named_does_nothing_to_a_terminal() {
        let job = job();
        assert!(!Account::of_job(&job).table().contains('\u{1b}'));
    }
}
