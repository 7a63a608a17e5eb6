// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What went wrong, for the one who asked: a problem document (RFC 9457), or, below `/apis`, a
//! `Status` as clients of Kubernetes expect it.

use axum::{
    Json,
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use eco_agent::api::Problem;
use serde_json::json;

use crate::{cluster::ClusterError, store::StoreError};

/// A request that is not answered, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
}

impl Refusal {
    /// The question makes no sense.
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// Who asks is not known.
    pub(crate) fn unknown(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// Who asks is known, and may not.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// There is nothing like that.
    pub(crate) fn absent(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }

    /// There is, but not that way.
    pub(crate) fn method(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
    }

    /// Not now.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    fn problem(&self) -> Response {
        let body = Problem {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
        };
        let json = Json(body).into_response().into_body();
        let kind = (header::CONTENT_TYPE, "application/problem+json");
        (self.status, [kind], json).into_response()
    }

    /// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
    fn kubernetes_status(&self) -> Response {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.detail,
            "reason": reason(self.status),
            "code": self.status.as_u16(),
        });
        (self.status, Json(body)).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let said = error.to_string();
        match error {
            StoreError::TooFarBack { .. } => Self::bad(said),
            StoreError::Busy { .. } | StoreError::NoAgent(..) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, said)
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, said),
        }
    }
}

impl From<ClusterError> for Refusal {
    fn from(error: ClusterError) -> Self {
        let said = error.to_string();
        match error {
            // What the API server thinks of a selector is about the question, not about us.
            ClusterError::Refused { status: 400, .. } => Self::bad(said),
            ClusterError::Refused { status: 429, .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, said)
            }
            _ => Self::new(StatusCode::BAD_GATEWAY, said),
        }
    }
}

/// Gives errors of the framework's own (a query that does not parse) the same shape, and those
/// below `/apis` the shape of Kubernetes.
pub(crate) async fn shape(request: Request, next: Next) -> Response {
    let is_kubernetes = request.uri().path().starts_with("/apis");
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let refusal = match response.extensions().get::<Refusal>() {
        Some(refusal) if !is_kubernetes => {
            debug_assert_eq!(refusal.status, status);
            return response;
        }
        Some(refusal) => refusal.clone(),
        None => {
            let body = axum::body::to_bytes(response.into_body(), 4096).await;
            let body = body.unwrap_or_default();
            Refusal::new(status, String::from_utf8_lossy(&body))
        }
    };
    if is_kubernetes {
        refusal.kubernetes_status()
    } else {
        refusal.problem()
    }
}

fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        _ => "InternalError",
    }
}
