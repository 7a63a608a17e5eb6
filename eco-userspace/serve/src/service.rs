// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What all requests share. There is no state of the cluster in it: replicas need not agree on
//! anything, and one that restarts has lost nothing.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::header,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;

use crate::{
    api,
    auth::{self, Access, Caller, Recognition},
    cluster::{Act, Cluster},
    custom_metrics,
    own_metrics::{self, OwnMetrics},
    refusal::{self, Refusal},
    store::Store,
};

/// What a request needs to be answered.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) store: Store,
    /// Absent where eco serves without Kubernetes.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) access: Arc<Access>,
    /// How the API server's front proxy is recognised, once that is known.
    pub(crate) recognition: Arc<Recognition>,
    /// The span that power is a mean over.
    pub(crate) power_window: Duration,
    pub(crate) own: OwnMetrics,
}

/// Everything that is served over HTTP.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let open = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(api::openapi))
        .route("/apis", get(groups))
        .merge(custom_metrics::discovery())
        .merge(api::discovery());
    let access = Arc::clone(&service.access);
    let closed = Router::new()
        .route("/metrics", get(own_metrics))
        .merge(custom_metrics::routes())
        .merge(api::routes())
        .layer(middleware::from_fn_with_state(access, auth::authenticate));
    open.merge(closed)
        .fallback(|| async {
            Refusal::absent("there is no such path; /openapi.json lists those that there are")
        })
        .method_not_allowed_fallback(|| async {
            Refusal::method("everything here is read, with GET; see /openapi.json")
        })
        .layer(middleware::from_fn(refusal::shape))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&service),
            own_metrics::record,
        ))
        .with_state(service)
}

/// Whether requests can be answered at all. The store is left out of it on purpose: an aggregated
/// API that is not ready breaks discovery, and with it the deletion of namespaces, for the whole
/// cluster; one whose store is down answers with the reason.
async fn ready(State(service): State<Arc<Service>>) -> Result<&'static str, Refusal> {
    let waits = matches!(*service.access, Access::Delegated(_));
    if waits && service.recognition.known().is_none() {
        return Err(Refusal::unavailable(
            "the API server has not said yet how its front proxy is recognised; see the log",
        ));
    }
    Ok("ready\n")
}

/// All groups of the aggregated API.
async fn groups() -> Json<serde_json::Value> {
    Json(json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [custom_metrics::group(), api::group()],
    }))
}

async fn own_metrics(
    State(service): State<Arc<Service>>,
    caller: Caller,
) -> Result<Response, Refusal> {
    service.access.check(&caller, Act::Path("/metrics")).await?;
    let kind = (
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    );
    Ok(([kind], service.own.text()).into_response())
}

#[cfg(test)]
impl Service {
    /// A service that lets everybody ask a store, without Kubernetes.
    pub(crate) fn for_tests(source: &crate::store::Source) -> Arc<Self> {
        Arc::new(Self {
            store: Store::open(source).unwrap(),
            cluster: None,
            access: Arc::new(Access::Everybody),
            recognition: Arc::default(),
            power_window: Duration::from_secs(60),
            own: OwnMetrics::default(),
        })
    }
}
