// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Pods, and jobs by their manager.

use axum::{
    Json,
    extract::{ConnectInfo, Path, Query, State},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;

use super::{ApiError, Peer, parse_window};
use crate::{
    query,
    service::Handle,
    workloads::{cluster_job, pods, slurm, work},
};

/// The query of these paths.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    window: Option<String>,
}

pub(super) async fn pod(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((namespace, name)): Path<(String, String)>,
    Query(asked): Query<Window>,
) -> Result<Response, ApiError> {
    let window = parse_window(asked.window.as_deref())?;
    let caller = peer.caller();
    let missing = format!(
        "no pod {namespace}/{name} has used anything on this node of late; a new one is named \
         within seconds, and /v1/status says if names are missing"
    );
    let pod = core
        .ask(move |core| query::pod(core, &namespace, &name, window, caller))
        .await?;
    let pod = pod.ok_or(ApiError::NotFound(missing))?;
    Ok(Json(pod).into_response())
}

pub(super) async fn job(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((manager, id)): Path<(String, String)>,
    Query(asked): Query<Window>,
) -> Result<Response, ApiError> {
    if manager == cluster_job::MANAGER {
        let (caller, run) = (peer.caller(), id.clone());
        let open = core.ask(move |core| work::show(core, &run, caller)).await?;
        if let Ok(run) = open {
            return Ok(Json(run).into_response());
        }
    }
    managed_job(&core, &peer, manager, id, &asked).await
}

/// Kubernetes' jobs, whose ids have a slash.
pub(super) async fn job_of_namespace(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((manager, namespace, name)): Path<(String, String, String)>,
    Query(asked): Query<Window>,
) -> Result<Response, ApiError> {
    managed_job(&core, &peer, manager, format!("{namespace}/{name}"), &asked).await
}

async fn managed_job(
    core: &Handle,
    peer: &Peer,
    manager: String,
    id: String,
    asked: &Window,
) -> Result<Response, ApiError> {
    let window = parse_window(asked.window.as_deref())?;
    if ![cluster_job::MANAGER, slurm::MANAGER, pods::MANAGER].contains(&manager.as_str()) {
        return Err(ApiError::NotFound(format!(
            "this agent knows no jobs of {manager}; it knows those of eco, slurm and kubernetes"
        )));
    }
    let caller = peer.caller();
    let missing = format!("no job {id} of {manager} has used anything on this node of late");
    let job = core
        .ask(move |core| query::managed_job(core, &manager, &id, window, caller))
        .await?;
    let job = job.ok_or(ApiError::NotFound(missing))?;
    Ok(Json(job).into_response())
}
