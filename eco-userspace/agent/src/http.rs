// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The HTTP API, on the agent's Unix socket and, if asked for, on TCP.

mod spans;
mod stream;
mod workloads;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{
        ConnectInfo, DefaultBodyLimit, Path, Query, Request, State, connect_info::Connected,
    },
    http::{HeaderMap, HeaderName, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
    serve::IncomingStream,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::net::{TcpListener, UnixListener};

use crate::{
    api::{Job, JobRequest, Problem},
    carbon,
    core::Core,
    ledger::accounts::Kind,
    outlets::{exposition::Dialect, metrics},
    query::{self, Caller, UnitsRequest},
    service::{Handle, Stopping},
    workloads::{cluster_job, jobs::JobError, work},
};

/// How often, and with which pause, it is looked whether the pod of a new job has a name.
const NAME_LOOKS: u32 = 10;
const NAME_LOOK: Duration = Duration::from_millis(100);

/// The description of this API.
const OPENAPI: &str = include_str!("openapi.json");

/// How Prometheus says for how long it will wait.
const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Who is at the other end.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process of this machine, by its credentials; `None` where the kernel does not say.
    Local {
        /// Its user.
        uid: Option<u32>,
        /// Its id, in the agent's own namespace.
        pid: Option<u32>,
    },
    /// Somewhere on the network. May read, as the operator chose to listen; may change nothing.
    Remote(SocketAddr),
}

impl Peer {
    /// What the peer may see.
    #[must_use]
    pub fn caller(&self) -> Caller {
        // SAFETY: takes nothing, cannot fail.
        let own = unsafe { libc::geteuid() };
        match self {
            Self::Remote(_) | Self::Local { uid: Some(0), .. } => Caller::Administrator,
            Self::Local { uid: Some(uid), .. } if *uid == own => Caller::Administrator,
            Self::Local { uid: Some(uid), .. } => Caller::User(*uid),
            Self::Local { uid: None, .. } => Caller::User(u32::MAX),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Remote(address) => address.ip().to_string(),
            Self::Local { uid, .. } => format!("uid {uid:?}"),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        let pid = credentials
            .and_then(|c| c.pid())
            .and_then(|pid| u32::try_from(pid).ok());
        Self::Local {
            uid: credentials.map(|c| c.uid()),
            pid,
        }
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Remote(*stream.remote_addr())
    }
}

/// All routes.
pub fn router(core: Handle) -> Router {
    Router::new()
        .route("/metrics", get(metrics_text))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/openapi.json",
            get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) }),
        )
        .route("/v1/status", get(status))
        .route("/v1/units", get(units))
        .route("/v1/stream", get(stream::units))
        .route("/v1/jobs", post(open_job).get(list_jobs))
        .route("/v1/jobs/{id}", delete(close_job).get(show_job))
        .route(
            "/v1/spans",
            post(spans::report).layer(DefaultBodyLimit::max(spans::MOST_BODY)),
        )
        .route("/v1/jobs/{manager}/{id}", get(workloads::job))
        .route(
            "/v1/jobs/{manager}/{namespace}/{name}",
            get(workloads::job_of_namespace),
        )
        .route("/v1/pods/{namespace}/{name}", get(workloads::pod))
        .route(
            "/v1/intensity",
            get(carbon::http::show)
                .put(carbon::http::push)
                .delete(carbon::http::withdraw),
        )
        .fallback(|| async { ApiError::NotFound("there is no such path".into()) })
        .method_not_allowed_fallback(|| async { ApiError::Method })
        .layer(middleware::from_fn(own_problems))
        .with_state(core)
}

/// What went wrong, for the one who asked.
#[derive(Debug)]
pub enum ApiError {
    /// The question makes no sense.
    Bad(String),
    /// Not allowed.
    Forbidden(String),
    /// Not there.
    NotFound(String),
    /// Not now.
    Busy(String),
    /// Not that way.
    Method,
    /// The agent is going.
    Stopping,
}

impl From<Stopping> for ApiError {
    fn from(_: Stopping) -> Self {
        Self::Stopping
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let said = error.to_string();
        match error {
            JobError::NotYours(_) | JobError::TooMany => Self::Forbidden(said),
            JobError::NoJob(_) => Self::NotFound(said),
            _ => Self::Bad(said),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Bad(detail) => (StatusCode::BAD_REQUEST, detail),
            Self::Forbidden(detail) => (StatusCode::FORBIDDEN, detail),
            Self::NotFound(detail) => (StatusCode::NOT_FOUND, detail),
            Self::Busy(detail) => (StatusCode::TOO_MANY_REQUESTS, detail),
            Self::Method => (
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method; /openapi.json lists what it takes".into(),
            ),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, Stopping.to_string()),
        };
        problem(status, detail)
    }
}

fn problem(status: StatusCode, detail: String) -> Response {
    let body = Problem {
        kind: "about:blank".into(),
        title: status.canonical_reason().unwrap_or_default().into(),
        status: status.as_u16(),
        detail,
    };
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        Json(body).into_response().into_body(),
    )
        .into_response()
}

/// Errors of the framework's own (a body that is no JSON, a query that does not parse) are
/// problem documents too.
async fn own_problems(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let content = response.headers().get(header::CONTENT_TYPE);
    let plain = content.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !plain {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), 4096)
        .await
        .unwrap_or_default();
    problem(status, String::from_utf8_lossy(&body).into_owned())
}

async fn ready(State(core): State<Handle>) -> Result<&'static str, ApiError> {
    core.ask(|_| "ready\n").await.map_err(Into::into)
}

async fn metrics_text(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if peer.caller() != Caller::Administrator {
        return Err(ApiError::Forbidden(
            "metrics show every user's processes; ask /v1/units for your own".into(),
        ));
    }
    let text = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let dialect = Dialect::accepted(text(header::ACCEPT));
    // Two jobs of one Prometheus at different intervals differ in their timeout, if in anything.
    let scraper = format!(
        "{} {} {}",
        peer.name(),
        text(header::USER_AGENT),
        text(SCRAPE_TIMEOUT)
    );
    let body = core
        .ask(move |core| {
            let begun = Instant::now();
            let mut out = String::with_capacity(core.scrape_bytes);
            metrics::render(core, dialect, &mut out);
            // The next one is about as long: it grows into its buffer once, not by doubling.
            core.scrape_bytes = out.len() + out.len() / 8;
            let now = core.now();
            core.scrapers.scraped(&scraper, now);
            core.latencies.scrape.record(begun.elapsed());
            out
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, dialect.content_type())], body).into_response())
}

async fn status(State(core): State<Handle>) -> Result<Response, ApiError> {
    Ok(Json(core.ask(query::status).await?).into_response())
}

/// The query of `/v1/units` and `/v1/stream`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitsQuery {
    kind: Option<String>,
    top: Option<usize>,
    window: Option<String>,
    within: Option<String>,
    #[serde(default)]
    parents: bool,
}

impl UnitsQuery {
    /// Makes sense of it.
    ///
    /// # Errors
    /// When the kind or the window is none.
    pub fn request(&self) -> Result<UnitsRequest, ApiError> {
        let kind = match self.kind.as_deref().filter(|kind| !kind.is_empty()) {
            None => None,
            Some(label) => Some(Kind::from_label(label).ok_or_else(|| {
                let known: Vec<&str> = Kind::ALL.iter().map(|kind| kind.label()).collect();
                ApiError::Bad(format!(
                    "no kind {label:?}; it is one of {}",
                    known.join(", ")
                ))
            })?),
        };
        Ok(UnitsRequest {
            kind,
            top: self.top,
            window: parse_window(self.window.as_deref())?,
            within: self.within.as_deref().map(within).transpose()?,
            parents: self.parents,
        })
    }
}

fn within(text: &str) -> Result<query::Within, ApiError> {
    query::Within::parse(text).ok_or_else(|| {
        ApiError::Bad(format!(
            "within {text:?} names no unit; write KIND:NAME, such as container:… or pod:UID"
        ))
    })
}

/// The span of means; `None` for the last tick.
fn parse_window(text: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let parsed = crate::config::parse_duration(text).filter(|window| !window.is_zero());
    let wrong = || ApiError::Bad(format!("window {text:?} is no time; write 10s or 1m"));
    parsed.ok_or_else(wrong).map(Some)
}

async fn units(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Query(asked): Query<UnitsQuery>,
) -> Result<Response, ApiError> {
    let request = asked.request()?;
    let caller = peer.caller();
    let units = core
        .ask(move |core| query::units(core, &request, caller))
        .await?;
    Ok(Json(units).into_response())
}

async fn open_job(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let (uid, pid) = local(&peer)?;
    let request: JobRequest = if body.is_empty() {
        JobRequest::default()
    } else {
        object("job", &body)?
    };
    if let Some(pid) = pid {
        until_named(&core, pid).await?;
    }
    let job = core
        .ask(move |core| work::open(core, &request, uid, pid))
        .await??;
    Ok((StatusCode::CREATED, Json(job)).into_response())
}

async fn close_job(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Json<Job>, ApiError> {
    local(&peer)?;
    let caller = peer.caller();
    Ok(Json(
        core.ask(move |core| work::close(core, &id, caller))
            .await??,
    ))
}

async fn show_job(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(id): Path<String>,
) -> Result<Json<Job>, ApiError> {
    let caller = peer.caller();
    Ok(Json(
        core.ask(move |core| work::show(core, &id, caller))
            .await??,
    ))
}

async fn list_jobs(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Vec<Job>>, ApiError> {
    let caller = peer.caller();
    let list = move |core: &mut Core| {
        let open = core.jobs.iter().filter(|job| query::owns(job, caller));
        open.map(|job| query::job(core, job, None)).collect()
    };
    Ok(Json(core.ask(list).await?))
}

/// A pod's first command may open a job before the kubelet has told the pod's name, and with it
/// the job that all of this is a part of.
async fn until_named(core: &Handle, pid: u32) -> Result<(), ApiError> {
    for _ in 0..NAME_LOOKS {
        let awaits = move |core: &mut Core| cluster_job::awaits_name(core, pid);
        if !core.ask(awaits).await? {
            break;
        }
        tokio::time::sleep(NAME_LOOK).await;
    }
    Ok(())
}

/// Who changes something must be known by the kernel.
fn local(peer: &Peer) -> Result<(u32, Option<u32>), ApiError> {
    match peer {
        Peer::Local {
            uid: Some(uid),
            pid,
        } => Ok((*uid, *pid)),
        _ => Err(ApiError::Forbidden(
            "jobs are opened and closed on the agent's Unix socket, where it knows who asks".into(),
        )),
    }
}

/// Reads a body that is a JSON object, called `what` in errors.
pub(crate) fn object<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, ApiError> {
    // serde would take a list too, and an empty one for a request without any wish.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(ApiError::Bad(format!(
            "the body is no {what}: it must be a JSON object"
        )));
    }
    serde_json::from_slice(body)
        .map_err(|why| ApiError::Bad(format!("the body is no {what}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn document() -> serde_json::Value {
        serde_json::from_str(OPENAPI).unwrap()
    }

    #[test]
    fn the_document_lists_the_paths_that_are_served() {
        let documented = document();
        let source = include_str!("http.rs");
        let routes: Vec<&str> = source
            .split(".route(")
            .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
            .filter(|path| path.starts_with('/'))
            .collect();
        assert!(routes.len() > 8);
        let listed = documented["paths"].as_object().unwrap();
        for path in &routes {
            assert!(
                listed.contains_key(*path),
                "{path} is served and not documented"
            );
        }
        assert_eq!(listed.len(), routes.len());
    }

    #[test]
    fn what_is_served_has_the_fields_that_are_documented() {
        fn check(name: &str, value: impl serde::Serialize) {
            let document = document();
            let schema = &document["components"]["schemas"][name];
            let known = schema["properties"].as_object().unwrap();
            let value = serde_json::to_value(value).unwrap();
            for field in value.as_object().unwrap().keys() {
                assert!(
                    known.contains_key(field),
                    "{name}.{field} is not documented"
                );
            }
            for field in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    value.get(field.as_str().unwrap()).is_some(),
                    "{name}.{field} is missing"
                );
            }
        }
        check("Status", api::Status::default());
        check("MeterStatus", api::MeterStatus::default());
        check("Units", api::Units::default());
        let grams = || Some(api::ByDomain::new());
        let node = api::Node {
            carbon_grams: grams(),
            carbon_grams_per_hour: Some(0.0),
            meters: vec![api::NodeMeter::default()],
            ..api::Node::default()
        };
        check("Node", node);
        check("NodeMeter", api::NodeMeter::default());
        let unit = api::Unit {
            carbon_grams: grams(),
            carbon_grams_per_hour: Some(0.0),
            parents: Some(Vec::new()),
            pod: Some(String::new()),
            container: Some(String::new()),
            ..api::Unit::default()
        };
        check("Unit", unit);
        let job = Job {
            traceparent: Some(String::new()),
            carbon_grams: grams(),
            ..Job::default()
        };
        check("Job", job);
        check("Span", api::Span::default());
        check("Pod", api::Pod::default());
        check("PodContainer", api::PodContainer::default());
        check("ManagedJob", api::ManagedJob::default());
        let intensity = || eco_intensity::zones::find("DE").unwrap().intensity();
        let until = Some(jiff::Timestamp::UNIX_EPOCH);
        let carbon = api::Carbon {
            intensity: Some(intensity()),
            stale: Some(intensity()),
            ..api::Carbon::default()
        };
        check("Carbon", carbon);
        check(
            "Intensity",
            eco_intensity::Intensity {
                valid_until: until,
                ..intensity()
            },
        );
        check(
            "IntensityRequest",
            api::IntensityRequest {
                zone: "DE".into(),
                g_per_kwh: 360.0,
                kind: eco_intensity::Kind::Average,
                source: "x".into(),
                valid_until: until,
                estimated: false,
            },
        );
        check("Problem", Problem::default());
    }
}
