// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asking the kubelet or the API server: HTTPS with a token or a client certificate.

use std::{
    fs,
    io::{self, BufReader, Read as _},
    path::PathBuf,
    time::Duration,
};

use eco_https::{Options, Refusal, Rejected, SetupError};
use serde::de::DeserializeOwned;
use ureq::{
    Agent, Body,
    http::{Response, header::RETRY_AFTER},
};

/// The longest answer that is read. 250 pods with all that people write into annotations are
/// some 10 MB.
const MOST_BYTES: u64 = 64 << 20;

/// The longest wait that a service may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A service of Kubernetes.
pub(super) struct Service {
    /// `https://host:port`.
    base: String,
    token_file: Option<PathBuf>,
    agent: Agent,
    rejected: Rejected,
}

/// Why a service gives no pods.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It cannot even be asked.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The token is not there.
    #[error("{}: cannot be read: {source}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nobody answers, or not to the end.
    #[error("{0}")]
    Connection(String),
    /// Its certificate is not believed.
    #[error("{refusal}")]
    Untrusted {
        /// Why.
        refusal: Refusal,
        /// What it showed.
        fingerprint: Option<String>,
    },
    /// It does not know us, or we may not.
    #[error("refuses to answer (HTTP status {0})")]
    Refused(u16),
    /// It has too much to do.
    #[error("asks for a pause of {} s", .0.as_secs())]
    Busy(Duration),
    /// What we would go on from is too old (410 Gone).
    #[error("no longer knows what changed since it was asked last")]
    Gone,
    /// Another status.
    #[error("HTTP status {0}")]
    Status(u16),
    /// What it says is none of what it should.
    #[error("its answer is no list of pods: {0}")]
    Shape(String),
    /// What it says has no end.
    #[error("its answer is longer than {} MB", MOST_BYTES >> 20)]
    TooLong,
}

impl Service {
    pub(super) fn new(
        base: &str,
        token_file: Option<PathBuf>,
        options: &Options,
    ) -> Result<Self, Trouble> {
        let (agent, rejected) = eco_https::agent(options)?;
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            token_file,
            agent,
            rejected,
        })
    }

    /// The JSON at `path`.
    pub(super) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Trouble> {
        let mut response = self.answered(self.get(path)?.call())?;
        let body = response.body_mut().as_reader();
        let mut limited = BufReader::with_capacity(1 << 16, body.take(MOST_BYTES));
        let parsed = serde_json::from_reader(&mut limited);
        parsed.map_err(|error| match error.io_error_kind() {
            Some(_) => Trouble::Connection(format!("broke off: {error}")),
            None if limited.get_ref().limit() == 0 => Trouble::TooLong,
            None => Trouble::Shape(error.to_string()),
        })
    }

    /// What comes at `path` as long as the service likes, if it says something each `pause`.
    pub(super) fn stream(&self, path: &str, pause: Duration) -> Result<Response<Body>, Trouble> {
        let request = self.get(path)?;
        let config = request.config().timeout_global(None);
        let request = config.timeout_per_read(Some(pause)).build();
        self.answered(request.call())
    }

    fn get(
        &self,
        path: &str,
    ) -> Result<ureq::RequestBuilder<ureq::typestate::WithoutBody>, Trouble> {
        let url = format!("{}{path}", self.base);
        let request = self.agent.get(url).header("Accept", "application/json");
        let Some(path) = &self.token_file else {
            return Ok(request);
        };
        // Anew each time: a mounted token is replaced before it runs out, every hour.
        let token = fs::read_to_string(path).map_err(|source| Trouble::Token {
            path: path.clone(),
            source,
        })?;
        Ok(request.header("Authorization", format!("Bearer {}", token.trim())))
    }

    fn answered(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let response = answer.map_err(|error| self.failed(&error))?;
        match response.status().as_u16() {
            200 => Ok(response),
            status @ (401 | 403) => Err(Trouble::Refused(status)),
            410 => Err(Trouble::Gone),
            429 => {
                let header = response.headers().get(RETRY_AFTER);
                let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
                let pause = Duration::from_secs(seconds.unwrap_or(1));
                Err(Trouble::Busy(pause.min(LONGEST_WAIT)))
            }
            status => Err(Trouble::Status(status)),
        }
    }

    fn failed(&self, error: &ureq::Error) -> Trouble {
        match error {
            ureq::Error::Io(error) => match Refusal::of(error) {
                Some(refusal) => Trouble::Untrusted {
                    refusal,
                    fingerprint: self.rejected.fingerprint(),
                },
                None => Trouble::Connection(format!("cannot be reached: {error}")),
            },
            ureq::Error::Timeout(_) => Trouble::Connection("does not answer in time".into()),
            other => Trouble::Connection(format!("cannot be asked: {other}")),
        }
    }
}

impl Trouble {
    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> String {
        match self {
            Self::Setup(SetupError::NoSystemList) => "Set kubernetes.ca.".into(),
            Self::Setup(_) => "Correct kubernetes.ca, .certificate or .key.".into(),
            Self::Token { .. } => {
                "Set kubernetes.token_file, or kubernetes.certificate and kubernetes.key.".into()
            }
            Self::Connection(_) => {
                "Check that it runs, and kubernetes.url; pods are named by uid meanwhile.".into()
            }
            Self::Untrusted {
                refusal,
                fingerprint,
            } => {
                let shown = fingerprint.as_deref().unwrap_or("?");
                let what = match refusal {
                    Refusal::Expired => "Renew it",
                    _ => "Set kubernetes.ca to the certificate that signed it, or to itself",
                };
                format!("{what}; it showed the certificate with SHA-256 {shown}.")
            }
            Self::Refused(401) => "Its token or certificate is not known there: check \
                                   kubernetes.token_file, or kubernetes.certificate."
                .into(),
            Self::Refused(_) => {
                "Grant `get` on `nodes/pods` (kubelet; `nodes/proxy` before 1.33), or \
                                 `list` and `watch` on `pods` (API server)."
                    .into()
            }
            Self::Busy(_) | Self::Gone => "Nothing need be done; it is asked again.".into(),
            Self::Status(_) | Self::Shape(_) | Self::TooLong => {
                "Check that kubernetes.url is a kubelet or an API server.".into()
            }
        }
    }
}
