// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Spans that a framework reports.

use axum::{
    Json,
    extract::{ConnectInfo, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use super::{ApiError, Peer, local, object};
use crate::{
    api,
    outlets::traces::{self, SpanError},
    service::Handle,
};

/// In bytes; what a request may hold at most is a quarter of it.
pub(super) const MOST_BODY: usize = 64 << 10;

pub(super) async fn report(
    State(core): State<Handle>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: axum::body::Bytes,
) -> Result<Response, ApiError> {
    let (_, pid) = local(&peer)?;
    let request: api::SpanRequest = object("span", &body)?;
    let caller = peer.caller();
    let context = core
        .ask(move |core| traces::report(core, &request, caller, pid))
        .await??;
    let traceparent = context.to_string();
    Ok((StatusCode::CREATED, Json(api::Span { traceparent })).into_response())
}

impl From<SpanError> for ApiError {
    fn from(error: SpanError) -> Self {
        let said = error.to_string();
        match error {
            SpanError::NotSent | SpanError::NoJob => Self::NotFound(said),
            SpanError::TooMany => Self::Busy(said),
            SpanError::Bad(_) => Self::Bad(said),
        }
    }
}
