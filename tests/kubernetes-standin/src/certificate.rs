// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Certificates, made for one run.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::Access;

/// A certificate, its key, and the CA of its own that signed it.
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate: String,
    /// Its private key, in PEM.
    pub key: String,
    /// The CA, in PEM.
    pub authority: String,
}

impl Certificate {
    /// One for `name` that is good for a century around now.
    #[must_use]
    pub fn good(name: &str) -> Self {
        Self::new(name, 2000, 2100)
    }

    /// One for `name` from one year's beginning to another's.
    #[must_use]
    pub fn new(name: &str, from: i32, until: i32) -> Self {
        let mut ca = CertificateParams::new([]).expect("no names");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("a key");
        // Two CAs of one name are told apart by their signature only.
        let unique = format!("CA {:?}", &ca_key.public_key_raw()[..8]);
        ca.distinguished_name.push(DnType::CommonName, unique);
        let authority = ca.self_signed(&ca_key).expect("a certificate").pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new([name.to_owned()]).expect("a name");
        leaf.not_before = date_time_ymd(from, 1, 1);
        leaf.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
        Self {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            authority,
        }
    }

    pub(crate) fn server(&self, access: &Access) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions that ring has");
        let builder = match access {
            Access::Token(_) => builder.with_no_client_auth(),
            Access::Certificate(authority) => {
                let mut roots = RootCertStore::empty();
                let authority = CertificateDer::from_pem_slice(authority.as_bytes());
                roots.add(authority.expect("a CA")).expect("a CA");
                let clients =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build();
                builder.with_client_cert_verifier(clients.expect("a CA"))
            }
        };
        let chain = vec![certificate.expect("a certificate")];
        Arc::new(builder.with_single_cert(chain, key).expect("its key"))
    }
}
