// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the cluster's numbers come from: a store that scrapes the agents, or, on a cluster that
//! has none, the agents themselves.

mod agents;
mod history;
mod prometheus;
mod promql;
pub(crate) mod query;
mod samples;

use std::time::Duration;

use self::{
    agents::Agents,
    prometheus::Prometheus,
    query::{Query, Rows},
};
use crate::http_client::{HttpError, Remote};

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Prometheus-compatible store; what comes before `/api/v1/query` of its address.
    Store(Remote),
    /// The agents themselves, by their `--listen` addresses.
    Agents {
        /// Each agent.
        agents: Vec<Remote>,
        /// How often each is asked.
        interval: Duration,
        /// How far back questions may go.
        history: Duration,
    },
}

/// Why a store has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The request itself failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It has too much to do.
    #[error("the store at {store} is too busy (HTTP {status}): try again, or ask for less")]
    Busy {
        /// Where.
        store: String,
        /// The HTTP status.
        status: u16,
    },
    /// It wants somebody that it knows.
    #[error("the store at {store} lets nobody in like that (HTTP {status}): check its token file")]
    Denied {
        /// Where.
        store: String,
        /// The HTTP status.
        status: u16,
    },
    /// It has a reason of its own.
    #[error("the store at {store} says: {error} (HTTP {status})")]
    Refused {
        /// Where.
        store: String,
        /// The HTTP status.
        status: u16,
        /// Its reason.
        error: String,
    },
    /// Something answers that is no store.
    #[error("{store} answers with {what} (HTTP {status}); is it a store? It begins: {begin:?}")]
    Strange {
        /// Where.
        store: String,
        /// The HTTP status.
        status: u16,
        /// What came.
        what: String,
        /// How that begins.
        begin: String,
    },
    /// Agents are not asked about what they no longer know.
    #[error(
        "a window of {asked} s is longer than the {kept} s that are kept without a store; ask for \
         less, or run `eco serve --store`"
    )]
    TooFarBack {
        /// What was asked for.
        asked: u64,
        /// What there can be.
        kept: u64,
    },
    /// No agent has answered yet, or none does any more.
    #[error("none of the {0} agents answers: {1}")]
    NoAgent(usize, String),
}

/// A store, of whichever kind.
#[derive(Debug)]
pub(crate) enum Store {
    Prometheus(Box<Prometheus>),
    Agents(Box<Agents>),
}

impl Store {
    /// Agents are asked from now on, in the background; a store when there is a question.
    pub(crate) fn open(source: &Source) -> Result<Self, StoreError> {
        Ok(match source {
            Source::Store(remote) => Self::Prometheus(Box::new(Prometheus::new(remote)?)),
            Source::Agents {
                agents,
                interval,
                history,
            } => Self::Agents(Box::new(Agents::start(agents, *interval, *history)?)),
        })
    }

    /// How far back questions may go, if that is known before one is asked.
    pub(crate) fn kept(&self) -> Option<Duration> {
        match self {
            Self::Prometheus(_) => None,
            Self::Agents(agents) => Some(agents.kept()),
        }
    }

    /// Asks.
    pub(crate) async fn read(&self, query: &Query) -> Result<Rows, StoreError> {
        match self {
            Self::Prometheus(store) => store.read(query).await,
            Self::Agents(agents) => agents.read(query),
        }
    }
}
