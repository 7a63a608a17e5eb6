// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asking an `eco serve` directly, past the API server.

use std::time::Duration;

use eco_agent::api::Problem;
use serde_json::Value;

use crate::http_client::{HttpClient, HttpError, Remote};

/// Longer than `eco serve` waits for its store.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The request itself failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It said no, and why.
    #[error("eco serve at {server} says: {detail} (HTTP {status})")]
    Refused {
        /// Where.
        server: String,
        /// The HTTP status.
        status: u16,
        /// Its reason.
        detail: String,
    },
    /// Something answers that is no eco serve.
    #[error("what answers at {server} is no eco serve: HTTP {status}, and {why}")]
    Strange {
        /// Where.
        server: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        why: String,
    },
}

/// A client of one `eco serve`.
#[derive(Clone, Debug)]
pub struct Client(HttpClient);

impl Client {
    /// A client; connects when it is first used.
    ///
    /// # Errors
    /// When the address or a file cannot be used.
    pub fn new(remote: &Remote) -> Result<Self, ClientError> {
        Ok(Self(HttpClient::new(remote, DEADLINE)?))
    }

    /// `GET` of a path, such as `/v1/nodes?window=1h`.
    ///
    /// # Errors
    /// When there is no answer, or one that is an error.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let answer = self.0.get(path, "application/json").await?;
        let server = || self.0.base().to_owned();
        let status = answer.status.as_u16();
        if !answer.status.is_success() {
            let problem: Result<Problem, _> = serde_json::from_slice(&answer.body);
            return Err(match problem {
                Ok(problem) => ClientError::Refused {
                    server: server(),
                    status,
                    detail: problem.detail,
                },
                Err(_) => ClientError::Strange {
                    server: server(),
                    status,
                    why: "no reason".into(),
                },
            });
        }
        serde_json::from_slice(&answer.body).map_err(|why| ClientError::Strange {
            server: server(),
            status,
            why: why.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::TestServer;

    async fn said(status: u16, body: &str) -> String {
        let server = TestServer::answering(status, body).await;
        let client = Client::new(&Remote::at(server.url())).unwrap();
        client.get("/v1/nodes").await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_reason_and_a_stranger_as_one() {
        let problem = r#"{"type":"about:blank","title":"","status":403,"detail":"no role"}"#;
        assert!(said(403, problem).await.contains("no role (HTTP 403)"));
        assert!(said(404, "not here").await.contains("is no eco serve"));
        assert!(said(200, "<html>").await.contains("is no eco serve"));
    }
}
