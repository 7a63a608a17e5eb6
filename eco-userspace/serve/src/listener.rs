// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes connections, and answers what comes over them until it is told to stop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
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

/// Serves `router` until `stop` says so.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerTls>>,
    router: Router,
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
        let (tls, router, watcher) = (tls.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _place = place;
            let Some(tls) = tls else {
                answer(stream, Peer::default(), router, watcher).await;
                return;
            };
            match timeout(FIRST_WORDS, tls.acceptor().accept(stream)).await {
                Ok(Ok(stream)) => {
                    let peer = tls::peer(stream.get_ref().1.peer_certificates());
                    answer(stream, peer, router, watcher).await;
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
pub(crate) async fn accept(
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

async fn answer<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Peer,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_WORDS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(why) = watcher.watch(connection).await {
        tracing::debug!(%why, "a connection broke");
    }
}

/// Where to listen, for people.
pub(crate) fn shown(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{address}")
}
