// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes connections, and answers what comes over them until it is told to stop.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{sleep, timeout},
};
use tower_service::Service as _;

use crate::{
    auth::Peer,
    keda,
    service::Service,
    tls::{self, ServerTls},
};

/// Connections at once. A cluster's API servers and autoscalers hold a few dozen.
const MOST_CONNECTIONS: usize = 1024;

/// Whoever connects and says nothing holds one of those no longer than this.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// How long requests under way may take after the order to stop.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// After a connection could not be taken (no descriptor is free), until the next try.
const BREATH: Duration = Duration::from_millis(50);

/// After such a silence an idle peer is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// What is spoken over connections.
#[derive(Clone)]
pub(crate) enum Protocol {
    /// HTTP/1.1: the API, for people and for Kubernetes.
    Http(Router),
    /// gRPC: KEDA's external scaler.
    Keda(Arc<Service>),
}

/// Serves until `stop` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    protocol: Protocol,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, place) = accepted;
        let (tls, protocol, watcher) = (tls.clone(), protocol.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let Some(tls) = tls else {
                protocol.answer(stream, Peer::default(), watcher).await;
                return;
            };
            match timeout(FIRST_WORDS, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => {
                    let peer = tls::peer(stream.get_ref().1.peer_certificates());
                    protocol.answer(stream, peer, watcher).await;
                }
                Ok(Err(why)) => tracing::debug!(%why, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        });
    }
    drop(listener);
    if timeout(LAST_WORDS, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests under way");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // It is never closed, so there is always a place in the end.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written whole; waiting for more to send would only delay them.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(why) => {
                tracing::warn!(%why, "a connection is not taken");
                sleep(BREATH).await;
            }
        }
    }
}

impl Protocol {
    async fn answer<S>(self, stream: S, peer: Peer, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        let ended = match self {
            Self::Http(router) => {
                let service = service_fn(move |request: Request<Incoming>| {
                    let mut request = request.map(Body::new);
                    request.extensions_mut().insert(peer.clone());
                    router.clone().call(request)
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(FIRST_WORDS)
                    .serve_connection(stream, service);
                watcher.watch(connection).await
            }
            Self::Keda(shared) => {
                let service = service_fn(move |request| {
                    let answer = keda::answer(Arc::clone(&shared), request);
                    async { Ok::<_, Infallible>(answer.await) }
                });
                let connection = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .keep_alive_interval(SILENCE)
                    .serve_connection(stream, service);
                watcher.watch(connection).await
            }
        };
        if let Err(why) = ended {
            tracing::debug!(%why, "a connection broke");
        }
    }
}

/// Where to listen, for people.
pub(crate) fn shown(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}
