// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The whole program: bound, then run.

use std::{future::Future, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch};

use crate::{
    auth::{Access, Recognition},
    cluster::Cluster,
    config::{AccessRule, Config, ConfigError},
    http_client::HttpError,
    listener::{self, Protocol},
    own_metrics::OwnMetrics,
    service::{Service, router},
    store::{Store, StoreError},
    tls::{self, ServerTls, TlsError},
};

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It may not be served like that.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store, or an agent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The API server.
    #[error("the API server: {0}")]
    Cluster(#[from] HttpError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("{address} cannot be listened on: {why}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        why: std::io::Error,
    },
}

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
    keda: Option<Scaler>,
    service: Arc<Service>,
}

/// KEDA's own door.
#[derive(Debug)]
struct Scaler {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerTls>>,
}

/// Serves until `stop` is done: listens, says where in the log, and answers.
///
/// # Errors
/// When the configuration is none, or an address or a file cannot be used.
pub async fn serve(config: &Config, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    Server::bind(config).await?.run(stop).await;
    Ok(())
}

impl Server {
    /// Takes the addresses, reads the files.
    ///
    /// # Errors
    /// As [`serve`].
    pub async fn bind(config: &Config) -> Result<Self, ServeError> {
        config.check()?;
        let tls = ServerTls::new(&config.tls)?;
        let cluster = config.api_server.as_ref().map(Cluster::new).transpose()?;
        let recognition = Arc::new(Recognition::default());
        let access = match (config.access, &cluster) {
            (AccessRule::Delegated, Some(cluster)) => {
                Access::delegated(cluster.clone(), Arc::clone(&recognition))
            }
            (AccessRule::Delegated, None) => return Err(ConfigError::NobodyDecides.into()),
            (AccessRule::Everybody, _) => Access::Everybody,
        };
        let (listener, address) = bind(config.listen).await?;
        let keda = match &config.keda {
            None => None,
            Some(keda) => {
                let (listener, address) = bind(keda.listen).await?;
                let ca = keda.client_ca_file.as_deref();
                let tls = tls.as_ref().map(|tls| tls.for_grpc(ca)).transpose()?;
                Some(Scaler {
                    listener,
                    address,
                    tls,
                })
            }
        };
        let service = Service {
            store: Store::open(&config.source)?,
            cluster,
            access: Arc::new(access),
            recognition,
            power_window: config.power_window,
            own: OwnMetrics::default(),
        };
        Ok(Self {
            listener,
            address,
            tls,
            keda,
            service: Arc::new(service),
        })
    }

    /// Where it listens: `https://127.0.0.1:6443`.
    #[must_use]
    pub fn url(&self) -> String {
        listener::shown(self.address, self.tls.is_some())
    }

    /// Where KEDA's external scaler listens, if it does: `127.0.0.1:9512`.
    #[must_use]
    pub fn keda_address(&self) -> Option<SocketAddr> {
        self.keda.as_ref().map(|keda| keda.address)
    }

    /// Answers until `stop` is done, and what is under way then.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let keda = self.keda_address().map(tracing::field::display);
        tracing::info!(url = self.url(), keda, "eco serve listens");
        let (stop_all, stopping) = watch::channel(false);
        let mut followers = Vec::new();
        if let (Access::Delegated(_), Some(cluster)) =
            (&*self.service.access, self.service.cluster.clone())
        {
            let recognition = Arc::clone(&self.service.recognition);
            let tls = self.tls.clone();
            followers.push(tokio::spawn(tls::follow_front_proxy(
                cluster,
                recognition,
                tls,
            )));
        }
        if let Some(tls) = self.tls.clone() {
            followers.push(tokio::spawn(tls::follow_files(tls)));
        }
        let scaling = async {
            if let Some(keda) = self.keda {
                let protocol = Protocol::Keda(Arc::clone(&self.service));
                listener::serve(keda.listener, keda.tls, protocol, stopping.clone()).await;
            }
        };
        let protocol = Protocol::Http(router(Arc::clone(&self.service)));
        let serving = listener::serve(self.listener, self.tls, protocol, stopping.clone());
        let stopped = async {
            stop.await;
            let _ = stop_all.send(true);
        };
        tokio::join!(serving, scaling, stopped);
        followers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound
        .await
        .map_err(|why| ServeError::Listen { address, why })
}
