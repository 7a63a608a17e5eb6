// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who asks, and whether they may: the API server decides both, as for any aggregated API.
//!
//! Requests arrive in one of two ways. Through the API server, which has checked who asks and
//! says so in headers: they are believed only from a client certificate of its front proxy. Or
//! directly, with a bearer token, which the API server reviews. What is then asked for is put to
//! the API server too, so that the cluster's own roles say who sees which namespace.

mod front_proxy;
mod memory;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

pub(crate) use self::front_proxy::Recognition;
use self::memory::Memory;
use crate::{
    cluster::{Act, Cluster, User, Verdict},
    refusal::Refusal,
};

/// How long an answer of the API server is believed. A role that is taken away works so long;
/// the API server's own webhooks have the same order of delay.
const BELIEVED: Duration = Duration::from_secs(10);

/// How many answers are kept at most: bounded, as whoever asks chooses the names.
const KEPT: usize = 4096;

/// The other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The common name in its client certificate, which was signed by a CA of the front proxy.
    pub(crate) common_name: Option<String>,
}

/// Who is let in.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody: for one machine, on its loopback address.
    Everybody,
    /// Whom the API server lets.
    Delegated(Box<Delegated>),
}

/// The API server's answers, and what is remembered of them.
#[derive(Debug)]
pub(crate) struct Delegated {
    cluster: Cluster,
    recognition: Arc<Recognition>,
    tokens: Memory<[u8; 32], Option<User>>,
    verdicts: Memory<(User, Act), Verdict>,
}

/// Who asks. A handler takes it as an argument; there is none for whom nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller(pub(crate) User);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let known = parts.extensions.get::<Self>().cloned();
        known.ok_or_else(|| Refusal::unknown("it is not known who asks"))
    }
}

/// Finds out who asks, for all routes that it is a layer of.
pub(crate) async fn authenticate(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().cloned();
    match access
        .caller(&peer.unwrap_or_default(), request.headers())
        .await
    {
        Ok(user) => {
            request.extensions_mut().insert(Caller(user));
            next.run(request).await
        }
        Err(refusal) => refusal.into_response(),
    }
}

impl Access {
    /// Access as the API server decides.
    pub(crate) fn delegated(cluster: Cluster, recognition: Arc<Recognition>) -> Self {
        Self::Delegated(Box::new(Delegated {
            cluster,
            recognition,
            tokens: Memory::new(KEPT, BELIEVED),
            verdicts: Memory::new(KEPT, BELIEVED),
        }))
    }

    /// Who asks.
    async fn caller(&self, peer: &Peer, headers: &HeaderMap) -> Result<User, Refusal> {
        let Self::Delegated(delegated) = self else {
            return Ok(User::default());
        };
        if let Some(user) = delegated.recognition.user(peer, headers) {
            return Ok(user);
        }
        let Some(token) = bearer(headers) else {
            return Err(Refusal::unknown(
                "it is not known who asks: come through the API server (kubectl eco does), or send \
                 a bearer token",
            ));
        };
        let known = delegated.user_of(token).await?;
        known.ok_or_else(|| Refusal::unknown("the API server does not know this bearer token"))
    }

    /// Whether they may.
    pub(crate) async fn check(&self, caller: &Caller, act: Act) -> Result<(), Refusal> {
        let Self::Delegated(delegated) = self else {
            return Ok(());
        };
        let verdict = delegated.verdict(&caller.0, &act).await?;
        if verdict.is_allowed {
            return Ok(());
        }
        let mut detail = format!("user {:?} may not {}", caller.0.name, described(&act));
        if !verdict.reason.is_empty() {
            detail.push_str(": ");
            detail.push_str(&verdict.reason);
        }
        Err(Refusal::forbidden(detail))
    }
}

impl Delegated {
    async fn user_of(&self, token: &str) -> Result<Option<User>, Refusal> {
        // The digest, so that no token lies about in memory.
        let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        let mut key = [0; 32];
        key.copy_from_slice(digest.as_ref());
        if let Some(known) = self.tokens.get(&key) {
            return Ok(known);
        }
        let user = self.cluster.review_token(token).await?;
        self.tokens.put(key, user.clone());
        Ok(user)
    }

    async fn verdict(&self, user: &User, act: &Act) -> Result<Verdict, Refusal> {
        let key = (user.clone(), act.clone());
        if let Some(known) = self.verdicts.get(&key) {
            return Ok(known);
        }
        let verdict = self.cluster.review_access(user, act).await?;
        self.verdicts.put(key, verdict.clone());
        Ok(verdict)
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn described(act: &Act) -> String {
    match act {
        Act::Path(path) => format!("read {path}"),
        Act::Resource {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name: _,
        } => {
            let part = if subresource.is_empty() {
                String::new()
            } else {
                format!("/{subresource}")
            };
            let place = if namespace.is_empty() {
                "the cluster's scope".to_owned()
            } else {
                format!("namespace {namespace:?}")
            };
            format!("{verb} {resource}{part} of {group} in {place}")
        }
    }
}

#[cfg(test)]
mod tests;
