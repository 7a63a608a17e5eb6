// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `/v1/intensity`: what is used now; pushed and withdrawn by administrators.

use axum::{
    Json,
    extract::{ConnectInfo, State},
};
use jiff::Timestamp;

use crate::{
    api::{Carbon, IntensityRequest},
    core::Core,
    http::{ApiError, Peer, object},
    query::Caller,
    service::Handle,
};

/// `GET /v1/intensity`.
pub(crate) async fn show(State(core): State<Handle>) -> Result<Json<Carbon>, ApiError> {
    let answer = |core: &mut Core| core.intensities.answer(Timestamp::now());
    Ok(Json(core.ask(answer).await?))
}

/// `PUT /v1/intensity`.
pub(crate) async fn push(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: axum::body::Bytes,
) -> Result<Json<Carbon>, ApiError> {
    administrator(&peer)?;
    let request: IntensityRequest = object("intensity", &body)?;
    let pushed = request
        .intensity(Timestamp::now())
        .map_err(|why| ApiError::Bad(format!("the body is no intensity: {why}")))?;
    tracing::info!(
        zone = pushed.zone,
        g_per_kwh = pushed.g_per_kwh.get(),
        source = pushed.source,
        "an intensity was pushed"
    );
    Ok(Json(core.ask(|core| take(core, Some(pushed))).await?))
}

/// `DELETE /v1/intensity`.
pub(crate) async fn withdraw(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Carbon>, ApiError> {
    administrator(&peer)?;
    Ok(Json(core.ask(|core| take(core, None)).await?))
}

fn take(core: &mut Core, pushed: Option<eco_intensity::Intensity>) -> Carbon {
    // What was used until now was used at the intensity until now.
    core.tick();
    core.intensities.push(pushed);
    core.intensities.answer(Timestamp::now())
}

/// An intensity is everybody's: only who answers for the machine sets it, and only where the
/// kernel says who that is.
fn administrator(peer: &Peer) -> Result<(), ApiError> {
    match (peer, peer.caller()) {
        (Peer::Local { .. }, Caller::Administrator) => Ok(()),
        (Peer::Local { .. }, Caller::User(_)) => Err(ApiError::Forbidden(
            "only root and the agent's own user may set the intensity".into(),
        )),
        (Peer::Remote(_), _) => Err(ApiError::Forbidden(
            "the intensity is set on the agent's Unix socket, where it knows who asks".into(),
        )),
    }
}
