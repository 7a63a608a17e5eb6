// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a service is the one that it says it is.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{Rejected, SetupError};

/// Where distributions keep the CAs that the machine's owner trusts.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Certificates signed by a CA of this file for the host's name, and the very certificates
    /// in the file, whatever their name; `None`: those signed by a CA of the system's.
    Authorities(Option<PathBuf>),
    /// The one certificate with this SHA-256.
    Pinned([u8; 32]),
    /// Anyone.
    Anyone,
}

/// Reads a SHA-256 as `AB:CD:…`, or the same without colons.
#[must_use]
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: String = text
        .chars()
        .filter(|c| *c != ':' && !c.is_whitespace())
        .collect();
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut fingerprint = [0; 32];
    for (at, byte) in fingerprint.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(fingerprint)
}

/// Checks a service's certificate.
#[derive(Debug)]
pub(crate) struct Verifier {
    trust: Trust,
    authorities: Option<Authorities>,
    provider: Arc<CryptoProvider>,
    rejected: Rejected,
}

#[derive(Debug)]
struct Authorities {
    verifier: Arc<WebPkiServerVerifier>,
    /// What the named file holds: a kubelet's own certificate names the node, and is asked for
    /// by a loopback address.
    certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub(crate) fn new(
        trust: &Trust,
        provider: Arc<CryptoProvider>,
        rejected: Rejected,
    ) -> Result<Self, SetupError> {
        let authorities = match trust {
            Trust::Authorities(file) => Some(authorities(file.as_deref(), &provider)?),
            _ => None,
        };
        Ok(Self {
            trust: trust.clone(),
            authorities,
            provider,
            rejected,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = sha256(end_entity);
        let verdict = match (&self.trust, &self.authorities) {
            (Trust::Anyone, _) => Ok(ServerCertVerified::assertion()),
            (Trust::Pinned(wanted), _) if *wanted == fingerprint => {
                Ok(ServerCertVerified::assertion())
            }
            (_, Some(known)) if known.certificates.contains(end_entity) => {
                Ok(ServerCertVerified::assertion())
            }
            (_, Some(known)) => {
                let verifier = &known.verifier;
                verifier.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        if verdict.is_err() {
            self.rejected.note(fingerprint);
        }
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn authorities(
    file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Authorities, SetupError> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or(SetupError::NoSystemList)?,
    };
    let certificates = certificates(&path)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map_err(|_| SetupError::Empty {
                path,
                wanted: "CA certificate",
            })?;
    Ok(Authorities {
        verifier,
        // A list of the system's is long, and holds CAs only.
        certificates: file.map_or_else(Vec::new, |_| certificates),
    })
}

/// The certificates of a file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let bytes = fs::read(path).map_err(|source| SetupError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    Ok(CertificateDer::pem_slice_iter(&bytes)
        .filter_map(Result::ok)
        .collect())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, bytes);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_with_colons_and_without() {
        let plain = "0a".repeat(32);
        assert_eq!(parse_fingerprint(&plain), Some([10; 32]));
        let colons = ["0A"; 32].join(":");
        assert_eq!(parse_fingerprint(&colons), Some([10; 32]));
        for text in [
            "",
            "0a",
            &"0g".repeat(32),
            &"0a".repeat(33),
            &"é".repeat(32),
        ] {
            assert_eq!(parse_fingerprint(text), None, "{text}");
        }
    }

    #[test]
    fn a_ca_file_without_a_ca_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "no certificate").unwrap();
        let trust = Trust::Authorities(Some(file.path().to_owned()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let error = Verifier::new(&trust, provider, Rejected::default()).unwrap_err();
        assert!(error.to_string().contains("no CA certificate"), "{error}");
    }
}
