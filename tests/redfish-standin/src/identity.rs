// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Certificates, made for one run.

use std::{io, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// A certificate, its key, and the CA of its own that signed it.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    /// The CA, in PEM.
    pub authority: String,
}

impl Identity {
    /// For `name`, a host or an address: good for a century around now.
    ///
    /// # Errors
    /// When `name` is none.
    pub fn good(name: &str) -> io::Result<Self> {
        Self::new(name, 2000, 2100)
    }

    /// For `name`, from one year's beginning to another's.
    ///
    /// # Errors
    /// When `name` is none.
    pub fn new(name: &str, from: i32, until: i32) -> io::Result<Self> {
        Self::make(name, from, until).map_err(io::Error::other)
    }

    fn make(name: &str, from: i32, until: i32) -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::new([])?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate()?;
        // Two CAs of one name are told apart by their signature only.
        let unique = format!("CA {:?}", &ca_key.public_key_raw()[..8]);
        ca.distinguished_name.push(DnType::CommonName, unique);
        let authority = ca.self_signed(&ca_key)?.pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new([name.to_owned()])?;
        leaf.not_before = date_time_ymd(from, 1, 1);
        leaf.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        Ok(Self {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            authority,
        })
    }

    pub(crate) fn server(&self) -> io::Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.clone()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }
}
