// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The operators' API: what pods, namespaces, nodes and jobs used.
//!
//! It is served twice. Below `/v1`, for those who come directly; and as an aggregated API of the
//! cluster, so that `kubectl` and everybody with a kubeconfig reaches it through the API server,
//! which says who asks. (Its proxy to services would not: it takes the credentials off.)

mod window;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    auth::Caller,
    cluster::Act,
    consumption::{self, Conservation, Findings, Item, Question, Subject},
    refusal::Refusal,
    service::Service,
};

/// The group of the aggregated API, by the project's own domain.
pub const GROUP: &str = "eco-observer.github.io";

/// The description of this API.
const OPENAPI: &str = include_str!("api/openapi.json");

/// The window where none is asked for, and so much is kept.
const USUAL_WINDOW: Duration = Duration::from_secs(3600);

/// What can be asked for in the query.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    window: Option<String>,
    by: Option<String>,
    manager: Option<String>,
    job: Option<String>,
    /// `kubectl --request-timeout` sends it, and the API server heeds it.
    #[serde(rename = "timeout")]
    _timeout: Option<String>,
}

/// What was found of many.
#[derive(Serialize)]
struct Many {
    kind: &'static str,
    #[serde(flatten)]
    span: Span,
    #[serde(flatten)]
    findings: Findings,
}

/// What was found of one.
#[derive(Serialize)]
struct One {
    kind: &'static str,
    #[serde(flatten)]
    span: Span,
    #[serde(flatten)]
    item: Item,
    conservation: Option<Conservation>,
    warnings: Vec<String>,
}

/// What numbers are about, in time.
#[derive(Serialize)]
struct Span {
    /// The end of both windows, RFC 3339.
    at: String,
    window_seconds: f64,
    power_window_seconds: f64,
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// The `APIGroup`.
pub(crate) fn group() -> Value {
    let version = json!({ "groupVersion": format!("{GROUP}/v1"), "version": "v1" });
    json!({
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": GROUP,
        "versions": [version],
        "preferredVersion": version,
    })
}

/// What the API server asks before it forwards.
pub(crate) fn discovery() -> Router<Arc<Service>> {
    Router::new()
        .route(
            "/apis/eco-observer.github.io",
            get(|| async { Json(group()) }),
        )
        .route(
            "/apis/eco-observer.github.io/v1",
            get(|| async { Json(resources()) }),
        )
}

/// No resources: answers are no objects that `kubectl get` could list or anybody could watch, and
/// what is not listed here is not mistaken for that.
fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/v1"),
        "resources": [],
    })
}

/// Both faces.
pub(crate) fn routes() -> Router<Arc<Service>> {
    let everywhere = Router::new()
        .route("/pods", get(all_pods))
        .route("/namespaces", get(namespaces))
        .route("/namespaces/{namespace}", get(namespace))
        .route("/nodes", get(nodes))
        .route("/nodes/{node}", get(node))
        .route("/jobs", get(jobs));
    let direct = everywhere
        .clone()
        .route("/pods/{namespace}", get(pods))
        .route("/pods/{namespace}/{pod}", get(pod))
        .route("/jobs/{manager}/{job}", get(job));
    // Paths as Kubernetes' own, so that its roles can be written for them. A job's id may hold
    // what a name there may not: it is asked for in the query (`jobs?manager=slurm&job=1`).
    let aggregated = everywhere
        .route("/namespaces/{namespace}/pods", get(pods))
        .route("/namespaces/{namespace}/pods/{pod}", get(pod));
    Router::new()
        .nest("/v1", direct)
        .nest("/apis/eco-observer.github.io/v1", aggregated)
}

type Shared = State<Arc<Service>>;

async fn all_pods(
    State(service): Shared,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Pods {
        namespace: None,
        pod: None,
    };
    many(&service, &caller, subject, &asked).await
}

async fn pods(
    State(service): Shared,
    caller: Caller,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Pods {
        namespace: Some(namespace),
        pod: None,
    };
    many(&service, &caller, subject, &asked).await
}

async fn pod(
    State(service): Shared,
    caller: Caller,
    Path((namespace, pod)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Pods {
        namespace: Some(namespace),
        pod: Some(pod),
    };
    one(&service, &caller, subject, &asked).await
}

async fn namespaces(
    State(service): Shared,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Namespaces { namespace: None };
    many(&service, &caller, subject, &asked).await
}

async fn namespace(
    State(service): Shared,
    caller: Caller,
    Path(namespace): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Namespaces {
        namespace: Some(namespace),
    };
    one(&service, &caller, subject, &asked).await
}

async fn nodes(
    State(service): Shared,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    many(&service, &caller, Subject::Nodes { node: None }, &asked).await
}

async fn node(
    State(service): Shared,
    caller: Caller,
    Path(node): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Nodes { node: Some(node) };
    one(&service, &caller, subject, &asked).await
}

async fn jobs(
    State(service): Shared,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Jobs {
        manager: asked.manager.clone(),
        job: asked.job.clone(),
    };
    many(&service, &caller, subject, &asked).await
}

async fn job(
    State(service): Shared,
    caller: Caller,
    Path((manager, job)): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Result<Response, Refusal> {
    let subject = Subject::Jobs {
        manager: Some(manager),
        job: Some(job),
    };
    one(&service, &caller, subject, &asked).await
}

async fn many(
    service: &Service,
    caller: &Caller,
    subject: Subject,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let question = allowed(service, caller, subject, asked).await?;
    let findings = consumption::find(&service.store, &question).await?;
    let answer = Many {
        kind: question.subject.kind(),
        span: Span::of(&question),
        findings,
    };
    Ok(Json(answer).into_response())
}

async fn one(
    service: &Service,
    caller: &Caller,
    subject: Subject,
    asked: &Asked,
) -> Result<Response, Refusal> {
    let question = allowed(service, caller, subject, asked).await?;
    let mut findings = consumption::find(&service.store, &question).await?;
    // A job that changed its user on the way would be two: the one that used more is meant.
    let Some(item) = (!findings.items.is_empty()).then(|| findings.items.remove(0)) else {
        return Err(Refusal::absent(format!(
            "nothing is known of {} in the last {}: it did not run, or the agents where it ran \
             are not scraped",
            question.subject.named(),
            window::shown(question.window)
        )));
    };
    let answer = One {
        kind: question.subject.kind(),
        span: Span::of(&question),
        item,
        conservation: findings.conservation,
        warnings: findings.warnings,
    };
    Ok(Json(answer).into_response())
}

/// The question, if it may be asked.
async fn allowed(
    service: &Service,
    caller: &Caller,
    subject: Subject,
    asked: &Asked,
) -> Result<Question, Refusal> {
    service.access.check(caller, act(&subject)).await?;
    let window = match asked.window.as_deref() {
        None | Some("") => USUAL_WINDOW.min(service.store.kept().unwrap_or(USUAL_WINDOW)),
        Some(text) => window::parse(text)?,
    };
    let by = match asked.by.as_deref() {
        None | Some("") => None,
        Some(wanted) => {
            let known = subject.breakdowns();
            let found = known.iter().copied().find(|label| *label == wanted);
            Some(found.ok_or_else(|| {
                let (kind, known) = (subject.kind(), known.join(", "));
                Refusal::bad(format!(
                    "{kind} are not broken down by {wanted:?}: by {known}"
                ))
            })?)
        }
    };
    Ok(Question {
        subject,
        window,
        power_window: service.power_window,
        by,
    })
}

/// What of the aggregated API that is: the same role opens both faces.
fn act(subject: &Subject) -> Act {
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let (namespace, name) = match subject {
        Subject::Pods { namespace, pod } => (text(namespace), text(pod)),
        Subject::Namespaces { namespace } => (text(namespace), text(namespace)),
        Subject::Nodes { node } => (String::new(), text(node)),
        // Jobs are asked for in the query, so it is their list that is read.
        Subject::Jobs { .. } => Default::default(),
    };
    Act::Resource {
        verb: if name.is_empty() { "list" } else { "get" },
        group: GROUP,
        resource: subject.kind(),
        subresource: String::new(),
        namespace,
        name,
    }
}

impl Span {
    fn of(question: &Question) -> Self {
        Self {
            at: Timestamp::now().to_string(),
            window_seconds: question.window.as_secs_f64(),
            power_window_seconds: question.power_window.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests;
