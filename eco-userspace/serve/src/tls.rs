// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TLS to those who ask: a certificate of the operator's, read anew when it is renewed, or one
//! of our own; and the client certificate of the API server's front proxy.

mod certificate;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, pem::PemObject},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use self::certificate::Served;
pub use self::certificate::TlsError;
use crate::{
    auth::{Peer, Recognition},
    cluster::Cluster,
};

/// How the API is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// In the clear: on a loopback address only.
    Off,
    /// With a certificate that is made at the start and signed by nobody else.
    SelfSigned,
    /// With a certificate from files in PEM. They are read anew when they change.
    Files {
        /// The certificate, and those between it and its CA.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// How often files and the API server's front proxy are looked at again. Both overlap when they
/// are rotated, by hours.
const LOOKED_AT: Duration = Duration::from_secs(30);

/// How soon again, while nothing is known of the front proxy yet.
const TRIED_AGAIN: Duration = Duration::from_secs(3);

/// What connections are accepted with: always the newest.
#[derive(Debug)]
pub(crate) struct ServerTls {
    served: Arc<Served>,
    current: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// `None` where there is none.
    pub(crate) fn new(tls: &Tls) -> Result<Option<Arc<Self>>, TlsError> {
        let served = match tls {
            Tls::Off => return Ok(None),
            Tls::SelfSigned => Served::self_signed()?,
            Tls::Files { certificate, key } => Served::from_files(certificate, key)?,
        };
        let served = Arc::new(served);
        let current = config(&served, HTTP_1, None)?;
        Ok(Some(Arc::new(Self {
            served,
            current: RwLock::new(Arc::new(current)),
        })))
    }

    /// The same certificate for gRPC. With CAs, whoever connects must have a certificate of one.
    pub(crate) fn for_grpc(&self, client_ca_file: Option<&Path>) -> Result<Arc<Self>, TlsError> {
        let authorities = client_ca_file.map(|path| {
            std::fs::read_to_string(path).map_err(|why| TlsError::File {
                path: path.to_owned(),
                why: why.to_string(),
            })
        });
        let authorities = authorities.transpose()?;
        let clients = authorities.as_deref().map(|pem| Clients {
            authorities: pem,
            must_be_known: true,
        });
        let current = config(&self.served, HTTP_2, clients)?;
        Ok(Arc::new(Self {
            served: Arc::clone(&self.served),
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// From now on, client certificates of these CAs are asked for and checked. Nobody needs one;
    /// who has another is refused.
    fn ask_for_clients(&self, authorities: &str) -> Result<(), TlsError> {
        let clients = Clients {
            authorities,
            must_be_known: false,
        };
        let config = config(&self.served, HTTP_1, Some(clients))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        Ok(())
    }
}

/// Looks at the certificate's files again and again.
pub(crate) async fn follow_files(tls: Arc<ServerTls>) {
    loop {
        sleep(LOOKED_AT).await;
        match tls.served.read_again() {
            Ok(true) => tracing::info!("the certificate was renewed"),
            Ok(false) => {}
            Err(why) => tracing::warn!(%why, "the certificate is not renewed: the old one stays"),
        }
    }
}

/// Asks the API server again and again how its front proxy is recognised.
pub(crate) async fn follow_front_proxy(
    cluster: Cluster,
    recognition: Arc<Recognition>,
    tls: Option<Arc<ServerTls>>,
) {
    loop {
        match cluster.front_proxy().await {
            Ok(proxy) => {
                let authorities = proxy.authorities.clone();
                // First the check of certificates, then the belief in what stands behind it.
                let checked = match &tls {
                    Some(tls) if !authorities.is_empty() => tls.ask_for_clients(&authorities),
                    _ => Ok(()),
                };
                match checked {
                    Ok(()) => {
                        if recognition.learn(proxy) {
                            tracing::info!("the API server's front proxy is known");
                        }
                    }
                    Err(why) => tracing::warn!(%why, "the front proxy's CA cannot be used"),
                }
            }
            Err(why) => tracing::warn!(
                %why,
                "the front proxy is not known: requests through the API server are refused; this \
                 service account needs the role extension-apiserver-authentication-reader"
            ),
        }
        let is_known = recognition.known().is_some();
        sleep(if is_known { LOOKED_AT } else { TRIED_AGAIN }).await;
    }
}

/// Who is at the other end, from the certificate that the handshake has checked.
pub(crate) fn peer(certificates: Option<&[CertificateDer<'_>]>) -> Peer {
    let name = certificates.and_then(|chain| {
        let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
        let name = certificate.subject().iter_common_name().next()?;
        name.as_str().ok().map(str::to_owned)
    });
    Peer { common_name: name }
}

/// What is spoken inside of TLS, as the handshake names it.
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// Client certificates that are asked for.
struct Clients<'a> {
    /// CAs in PEM.
    authorities: &'a str,
    must_be_known: bool,
}

fn config(
    served: &Arc<Served>,
    protocol: &[u8],
    clients: Option<Clients<'_>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::other)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(verifier(&clients, provider)?),
    };
    let mut config = builder.with_cert_resolver(Arc::clone(served) as Arc<_>);
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn verifier(
    clients: &Clients<'_>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(clients.authorities.as_bytes()) {
        let certificate = certificate.map_err(TlsError::other)?;
        roots.add(certificate).map_err(TlsError::other)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = if clients.must_be_known {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder.build().map_err(TlsError::other)
}

#[cfg(test)]
mod tests;
