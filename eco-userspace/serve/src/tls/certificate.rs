// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The certificate that is served.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The names of the service in a cluster; a pod's own is added.
const NAMES: [&str; 2] = ["localhost", "eco-serve"];

/// Why TLS cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Whatever else.
    #[error("TLS: {0}")]
    Other(String),
}

impl TlsError {
    pub(super) fn other(why: impl std::fmt::Display) -> Self {
        Self::Other(why.to_string())
    }
}

/// A certificate with its key, and where they came from.
#[derive(Debug)]
pub(super) struct Served {
    files: Option<(PathBuf, PathBuf)>,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    /// What the files held.
    text: (Vec<u8>, Vec<u8>),
    key: Arc<CertifiedKey>,
}

impl Served {
    /// One that nobody else has signed.
    pub(super) fn self_signed() -> Result<Self, TlsError> {
        let mut names: Vec<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
        names.push("127.0.0.1".to_owned());
        names.extend(
            std::env::var("HOSTNAME")
                .ok()
                .filter(|name| !name.is_empty()),
        );
        let pair = KeyPair::generate().map_err(TlsError::other)?;
        let mut params = CertificateParams::new(names).map_err(TlsError::other)?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "eco-serve");
        let certificate = params.self_signed(&pair).map_err(TlsError::other)?;
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
        Ok(Self {
            files: None,
            current: RwLock::new(Current {
                text: Default::default(),
                key: Arc::new(certified(vec![certificate.der().clone()], &key)?),
            }),
        })
    }

    /// One from files in PEM.
    pub(super) fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            files: Some((certificate.to_owned(), key.to_owned())),
            current: RwLock::new(read(certificate, key)?),
        })
    }

    /// Takes the files' new certificate, if it is new. One that cannot be used changes nothing.
    pub(super) fn read_again(&self) -> Result<bool, TlsError> {
        let Some((certificate, key)) = &self.files else {
            return Ok(false);
        };
        let newest = read(certificate, key)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = newest.text != current.text;
        *current = newest;
        Ok(is_new)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&current.key))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Current, TlsError> {
    let bad = |path: &Path, why: String| TlsError::File {
        path: path.to_owned(),
        why,
    };
    let text = |path: &Path| fs::read(path).map_err(|why| bad(path, why.to_string()));
    let (chain_text, key_text) = (text(certificate)?, text(key)?);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain_text)
        .collect::<Result<_, _>>()
        .map_err(|why| bad(certificate, why.to_string()))?;
    if chain.is_empty() {
        return Err(bad(certificate, "it holds no certificate in PEM".into()));
    }
    let parsed = PrivateKeyDer::from_pem_slice(&key_text);
    let parsed = parsed.map_err(|why| bad(key, why.to_string()))?;
    let certified = certified(chain, &parsed)?;
    // A pair that does not fit together would fail in each handshake, where nobody looks.
    certified.keys_match().map_err(|_| {
        bad(
            key,
            format!("it is not the key of {}", certificate.display()),
        )
    })?;
    Ok(Current {
        text: (chain_text, key_text),
        key: Arc::new(certified),
    })
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'_>,
) -> Result<CertifiedKey, TlsError> {
    let key = any_supported_type(key).map_err(TlsError::other)?;
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (String, String) {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        (
            params.self_signed(&pair).unwrap().pem(),
            pair.serialize_pem(),
        )
    }

    #[test]
    fn a_renewed_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        let write = |(chain, private): &(String, String)| {
            fs::write(&certificate, chain).unwrap();
            fs::write(&key, private).unwrap();
        };
        let (first, second) = (pair(), pair());
        write(&first);
        let served = Served::from_files(&certificate, &key).unwrap();
        assert_eq!(served.read_again(), Ok(false));
        write(&second);
        assert_eq!(served.read_again(), Ok(true));
        let before = Arc::clone(&served.current.read().unwrap().key);
        fs::write(&key, &first.1).unwrap();
        let said = served.read_again().unwrap_err().to_string();
        assert!(said.contains("it is not the key of"), "{said}");
        assert!(Arc::ptr_eq(&before, &served.current.read().unwrap().key));
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tls.crt");
        let said = Served::from_files(&path, &path).unwrap_err().to_string();
        assert!(said.contains("tls.crt: "), "{said}");
        fs::write(&path, "nothing").unwrap();
        let said = Served::from_files(&path, &path).unwrap_err().to_string();
        assert!(said.contains("no certificate"), "{said}");
    }
}
