// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agents themselves, on a cluster that has no store: each is asked for its counters every
//! few seconds, and what they showed of late is kept in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::{
    StoreError,
    history::History,
    query::{Query, Reading, Row, Rows},
    samples::samples,
};
use crate::http_client::{HttpClient, HttpError, Remote};

/// An agent answers from memory.
const DEADLINE: Duration = Duration::from_secs(4);

/// All agents that were named.
#[derive(Debug)]
pub(crate) struct Agents {
    agents: Vec<Arc<Agent>>,
    kept: Duration,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Agent {
    client: HttpClient,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    history: History,
    problem: Option<String>,
}

impl Agent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Agents {
    /// Asks each from now on.
    pub(super) fn start(
        remotes: &[Remote],
        interval: Duration,
        kept: Duration,
    ) -> Result<Self, StoreError> {
        let agents = remotes.iter().map(|remote| {
            Ok(Arc::new(Agent {
                client: HttpClient::new(remote, DEADLINE)?,
                state: Mutex::new(State {
                    history: History::new(interval, kept),
                    problem: Some("it was not asked yet".into()),
                }),
            }))
        });
        let agents: Vec<_> = agents.collect::<Result<_, HttpError>>()?;
        let tasks = agents
            .iter()
            .map(|agent| tokio::spawn(ask_again_and_again(Arc::clone(agent), interval)))
            .collect();
        Ok(Self {
            agents,
            kept,
            tasks,
        })
    }

    /// How far back questions may go.
    pub(super) fn kept(&self) -> Duration {
        self.kept
    }

    /// Adds up what the agents know. An agent that does not answer is a warning, as the rest of
    /// the answer still holds; it is an error when none does.
    pub(super) fn read(&self, query: &Query) -> Result<Rows, StoreError> {
        self.ready()?;
        if let Reading::Increase(window) | Reading::Rate(window) = query.reading
            && window > self.kept
        {
            return Err(StoreError::TooFarBack {
                asked: window.as_secs(),
                kept: self.kept.as_secs(),
            });
        }
        let now = Instant::now();
        let mut sums: HashMap<Vec<String>, f64> = HashMap::new();
        let mut warnings = Vec::new();
        for agent in &self.agents {
            let state = agent.state();
            state.history.read(query, now, |labels, value| {
                *sums.entry(labels).or_default() += value;
            });
            if let Some(problem) = &state.problem {
                warnings.push(format!("agent {}: {problem}", agent.client.base()));
            }
        }
        let rows = sums.into_iter();
        Ok(Rows {
            rows: rows.map(|(labels, value)| Row { labels, value }).collect(),
            warnings,
        })
    }

    /// Whether any agent answers.
    fn ready(&self) -> Result<(), StoreError> {
        let mut last = "none was named".to_owned();
        for agent in &self.agents {
            match &agent.state().problem {
                None => return Ok(()),
                Some(problem) => last = format!("{}: {problem}", agent.client.base()),
            }
        }
        Err(StoreError::NoAgent(self.agents.len(), last))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn ask_again_and_again(agent: Arc<Agent>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = agent.client.get("/metrics", "text/plain").await;
        let mut state = agent.state();
        let problem = match outcome {
            Ok(answer) if answer.status.is_success() => {
                let text = String::from_utf8_lossy(&answer.body);
                state.history.record(samples(&text), Instant::now());
                None
            }
            Ok(answer) => Some(format!("HTTP {}", answer.status.as_u16())),
            Err(why) => Some(why.to_string()),
        };
        if problem != state.problem
            && let Some(problem) = &problem
        {
            tracing::warn!(
                agent = agent.client.base(),
                problem,
                "an agent does not answer"
            );
        }
        state.problem = problem;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::{
        store::query::{Matcher, POD_CPU},
        test_server::TestServer,
    };

    const SOON: Duration = Duration::from_millis(20);

    fn query(reading: Reading) -> Query {
        Query {
            family: &POD_CPU,
            matchers: vec![Matcher::is("namespace", "ns")],
            by: vec!["pod"],
            reading,
        }
    }

    fn start(urls: &[&str]) -> Agents {
        let remotes: Vec<_> = urls.iter().map(|url| Remote::at(*url)).collect();
        Agents::start(&remotes, SOON, Duration::from_secs(60)).unwrap()
    }

    /// An agent whose counter grows by one at each scrape.
    async fn agent(node: &'static str) -> TestServer {
        let scrapes = AtomicU32::new(0);
        TestServer::with(move |_| {
            let value = scrapes.fetch_add(1, Ordering::Relaxed);
            let text = format!(
                "eco_pod_cpu_seconds_total{{node=\"{node}\",namespace=\"ns\",pod=\"p\",\
                 container=\"c\"}} {value}\n"
            );
            (200, text)
        })
        .await
    }

    async fn until(agents: &Agents, reading: Reading, mut done: impl FnMut(&Rows) -> bool) -> Rows {
        loop {
            if let Ok(rows) = agents.read(&query(reading))
                && done(&rows)
            {
                return rows;
            }
            tokio::time::sleep(SOON).await;
        }
    }

    #[tokio::test]
    async fn a_pod_on_two_nodes_is_the_sum_of_both() {
        let (one, two) = (agent("n1").await, agent("n2").await);
        let agents = start(&[one.url(), two.url()]);
        let window = Reading::Increase(Duration::from_secs(30));
        let rows = until(&agents, window, |rows| {
            rows.rows.first().is_some_and(|row| row.value >= 6.0)
        });
        let rows = rows.await;
        assert_eq!(rows.rows.len(), 1);
        assert_eq!(rows.rows[0].labels, ["p"]);
        assert!(rows.warnings.is_empty());
    }

    #[tokio::test]
    async fn an_agent_that_is_down_is_said_and_the_others_still_count() {
        let (one, broken) = (agent("n1").await, TestServer::answering(500, "").await);
        let agents = start(&[one.url(), broken.url()]);
        let rows = until(&agents, Reading::Last, |rows| {
            rows.rows.len() == 1 && rows.warnings.iter().any(|w| w.contains("HTTP 500"))
        });
        assert_eq!(rows.await.warnings.len(), 1);
    }

    #[tokio::test]
    async fn without_any_agent_there_is_no_answer_rather_than_zero() {
        let broken = TestServer::answering(500, "").await;
        let agents = start(&[broken.url()]);
        let said = agents.read(&query(Reading::Last)).unwrap_err().to_string();
        assert!(said.starts_with("none of the 1 agents answers"), "{said}");
    }

    #[tokio::test]
    async fn a_window_that_nobody_remembers_is_refused_with_what_to_do() {
        let one = agent("n1").await;
        let agents = start(&[one.url()]);
        until(&agents, Reading::Last, |rows| !rows.rows.is_empty()).await;
        let far = Reading::Increase(Duration::from_secs(3600));
        let said = agents.read(&query(far)).unwrap_err().to_string();
        assert!(said.contains("--store"), "{said}");
    }
}
