// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent's HTTP API over its Unix socket, one request per connection.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use eco_agent::api::{
    Carbon, IntensityRequest, Job, JobRequest, ManagedJob, Pod, Problem, Status, Units,
};
pub(crate) use eco_https::escaped as path_segment;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use crate::{exit::Failure, out::printable};

/// An agent answers from memory; one that needs longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than an agent with 100,000 processes has to say.
const LARGEST_ANSWER: usize = 64 << 20;

/// A client of one agent. Calls block.
pub(crate) struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

/// What the agent has under a job's name. Each has members that the other lacks.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum FoundJob {
    /// A job of a cluster, on this node.
    Managed(Box<ManagedJob>),
    /// A run of eco's own that is open.
    Run(Box<Job>),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody listens.
    #[error("no agent listens on {}", .0.display())]
    NoAgent(PathBuf),
    /// The socket may not be used.
    #[error(
        "{}: permission denied; ask an administrator to let your group use the agent's socket",
        .0.display()
    )]
    Denied(PathBuf),
    /// The agent said no, and why.
    #[error("the agent on {} says: {detail} (HTTP {status})", .socket.display())]
    Refused {
        /// Where it listens.
        socket: PathBuf,
        /// The HTTP status.
        status: u16,
        /// Its reason.
        detail: String,
    },
    /// Something answers that is no agent, or one of another version.
    #[error(
        "what listens on {} answers {path} with {what}: it is no eco-agent, or one of another \
         version; see `eco-agent --version` and --socket",
        .socket.display()
    )]
    Strange {
        /// Where it listens.
        socket: PathBuf,
        /// What was asked.
        path: String,
        /// What came.
        what: String,
    },
    /// The connection failed under way, or took too long.
    #[error("the agent on {} {what}; see its log", .socket.display())]
    Broken {
        /// Where it listens.
        socket: PathBuf,
        /// What happened.
        what: String,
    },
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let advice = match error {
            ClientError::NoAgent(_) => {
                "; start one with `sudo eco-agent`, or name another socket with --socket"
            }
            _ => "",
        };
        Self::absent(format!("{error}{advice}"))
    }
}

impl Client {
    /// A client of the agent on `socket`. Does not connect yet.
    pub(crate) fn new(socket: &Path) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Failure::absent(format!("this process may open no more: {error}")))?;
        Ok(Self {
            socket: socket.to_owned(),
            runtime,
        })
    }

    /// `GET /v1/status`.
    pub(crate) fn status(&self) -> Result<Status, ClientError> {
        self.json(Method::GET, "/v1/status", None::<&()>)
    }

    /// `GET /v1/units`: those of a kind that use the most power, no more than `top`, as means
    /// over `window`.
    pub(crate) fn units(
        &self,
        kind: &str,
        top: u32,
        window: Duration,
    ) -> Result<Units, ClientError> {
        let path = format!(
            "/v1/units?kind={kind}&top={top}&window={}ms",
            window.as_millis()
        );
        self.json(Method::GET, &path, None::<&()>)
    }

    /// The same of what lies in one unit; all of them without `top`.
    pub(crate) fn parts(
        &self,
        kind: &str,
        within: Option<&str>,
        top: Option<u32>,
        window: Duration,
    ) -> Result<Units, ClientError> {
        let mut path = format!("/v1/units?kind={kind}&window={}ms", window.as_millis());
        if let Some(top) = top {
            path.push_str(&format!("&top={top}"));
        }
        if let Some(within) = within {
            path.push_str(&format!("&within={}", path_segment(within)));
        }
        self.json(Method::GET, &path, None::<&()>)
    }

    /// `GET /v1/units`: all of every kind, each with what it lies in.
    pub(crate) fn whole_picture(&self, window: Duration) -> Result<Units, ClientError> {
        let path = format!("/v1/units?parents=true&window={}ms", window.as_millis());
        self.json(Method::GET, &path, None::<&()>)
    }

    /// `GET /v1/intensity`.
    pub(crate) fn intensity(&self) -> Result<Carbon, ClientError> {
        self.json(Method::GET, "/v1/intensity", None::<&()>)
    }

    /// `PUT /v1/intensity`.
    pub(crate) fn push_intensity(&self, request: &IntensityRequest) -> Result<Carbon, ClientError> {
        self.json(Method::PUT, "/v1/intensity", Some(request))
    }

    /// `DELETE /v1/intensity`.
    pub(crate) fn withdraw_intensity(&self) -> Result<Carbon, ClientError> {
        self.json(Method::DELETE, "/v1/intensity", None::<&()>)
    }

    /// `GET /v1/pods/{namespace}/{name}`.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Result<Pod, ClientError> {
        let (namespace, name) = (path_segment(namespace), path_segment(name));
        let path = format!("/v1/pods/{namespace}/{name}");
        self.json(Method::GET, &path, None::<&()>)
    }

    /// `GET /v1/jobs/{manager}/{id}`; an id of Kubernetes has two parts.
    pub(crate) fn job(&self, manager: &str, id: &[&str]) -> Result<FoundJob, ClientError> {
        let id: Vec<String> = id.iter().map(|part| path_segment(part)).collect();
        let path = format!("/v1/jobs/{}/{}", path_segment(manager), id.join("/"));
        self.json(Method::GET, &path, None::<&()>)
    }

    /// Whether `GET /readyz` says yes.
    pub(crate) fn ready(&self) -> Result<bool, ClientError> {
        match self.answer(Method::GET, "/readyz", Bytes::new()) {
            Ok(_) => Ok(true),
            Err(ClientError::Refused { status: 503, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `POST /v1/jobs`: opens a job.
    pub(crate) fn open_job(&self, request: &JobRequest) -> Result<Job, ClientError> {
        self.json(Method::POST, "/v1/jobs", Some(request))
    }

    /// `DELETE /v1/jobs/{id}`: closes a job and gives its final account.
    pub(crate) fn close_job(&self, id: &str) -> Result<Job, ClientError> {
        let path = format!("/v1/jobs/{}", path_segment(id));
        self.json(Method::DELETE, &path, None::<&()>)
    }

    fn json<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let body = match body {
            Some(value) => serde_json::to_vec(value)
                .map_err(|error| self.broken(&format!("was not asked: {error}")))?,
            None => Vec::new(),
        };
        let answer = self.answer(method, path, body.into())?;
        serde_json::from_slice(&answer).map_err(|error| {
            let what = if answer.trim_ascii_start().starts_with(b"<") {
                "a web page".to_owned()
            } else {
                format!("bad JSON ({error})")
            };
            self.strange(path, &what)
        })
    }

    fn answer(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        self.runtime.block_on(async {
            let whole = async {
                let response = self.send(method, path, body).await?;
                let status = response.status();
                let body = self.collect(response).await?;
                if status.is_success() {
                    Ok(body)
                } else {
                    Err(self.refusal(path, status, &body))
                }
            };
            within(PATIENCE, whole).await.unwrap_or_else(|| {
                Err(self.broken(&format!(
                    "did not answer {path} in {} s",
                    PATIENCE.as_secs()
                )))
            })
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<hyper::Response<hyper::body::Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| self.unreachable(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&format!("broke off: {error}")))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "eco-agent")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&format!("was not asked: {error}")))?;
        sender.send_request(request).await.map_err(|error| {
            if error.is_parse() {
                self.strange(path, "something other than HTTP")
            } else {
                self.broken(&format!("broke off: {error}"))
            }
        })
    }

    async fn collect(
        &self,
        response: hyper::Response<hyper::body::Incoming>,
    ) -> Result<Bytes, ClientError> {
        match Limited::new(response.into_body(), LARGEST_ANSWER)
            .collect()
            .await
        {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self.broken("answers without end")),
            Err(error) => Err(self.broken(&format!("broke off in its answer: {error}"))),
        }
    }

    fn refusal(&self, path: &str, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => ClientError::Refused {
                socket: self.socket.clone(),
                status: status.as_u16(),
                detail: printable(&problem.detail).into_owned(),
            },
            // An agent that is starting may say no more than the status.
            Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => ClientError::Refused {
                socket: self.socket.clone(),
                status: status.as_u16(),
                detail: "not ready yet".to_owned(),
            },
            Err(_) => self.strange(path, &format!("HTTP {status} and no reason")),
        }
    }

    fn unreachable(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoAgent(self.socket.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => self.broken(&format!("cannot be reached: {error}")),
        }
    }

    fn strange(&self, path: &str, what: &str) -> ClientError {
        ClientError::Strange {
            socket: self.socket.clone(),
            path: path.to_owned(),
            what: what.to_owned(),
        }
    }

    fn broken(&self, what: &str) -> ClientError {
        ClientError::Broken {
            socket: self.socket.clone(),
            what: what.to_owned(),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    timeout(limit, work).await.ok()
}
