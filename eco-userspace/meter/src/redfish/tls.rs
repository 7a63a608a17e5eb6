// SPDX-License-Identifier: Apache-2.0 OR MIT
//! TLS to a management controller: its certificate is checked against a CA file or a fingerprint.
//!
//! ureq's own TLS has no way to pin a certificate, and most controllers come with a certificate
//! that they signed themselves; so this wraps rustls for it.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

/// Where distributions keep the CAs that the machine's owner trusts.
const SYSTEM_BUNDLES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// Whom to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Certificates signed by a CA of this file; `None`: of the system's.
    Authorities(Option<PathBuf>),
    /// The one certificate with this SHA-256.
    Pinned([u8; 32]),
    /// Anyone.
    Anyone,
}

/// Wraps connections to `https` addresses.
pub(super) struct TlsConnector {
    config: Arc<ClientConfig>,
}

/// The fingerprint of the last certificate that was not believed, for people to compare.
pub(super) type Rejected = Arc<Mutex<Option<String>>>;

impl TlsConnector {
    /// A connector that believes `trust`.
    ///
    /// # Errors
    /// For people: when the CA file cannot be used.
    pub(super) fn new(trust: &Trust, rejected: Rejected) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let authorities = match trust {
            Trust::Authorities(file) => Some(authorities(file.as_deref(), &provider)?),
            _ => None,
        };
        let verifier = Arc::new(Verifier {
            trust: trust.clone(),
            authorities,
            provider: Arc::clone(&provider),
            rejected,
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

/// Reads `AB:CD:…`, or the same without colons.
pub(super) fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
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

/// What went wrong with TLS, if that is what went wrong: for people.
pub(super) fn explain(error: &io::Error, rejected: &Rejected) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(why) = error else {
        return Some(format!("TLS: {error}"));
    };
    let seen = rejected
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let pin = seen.map_or_else(String::new, |seen| {
        format!(" (if it is the right one, pin it: redfish.fingerprint = \"{seen}\")")
    });
    Some(match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("its TLS certificate has expired: renew it in the controller{pin}")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            format!("its TLS certificate is signed by no CA known here: set redfish.ca_file{pin}")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("its TLS certificate is for another name than redfish.url says{pin}")
        }
        CertificateError::ApplicationVerificationFailure => {
            format!("its TLS certificate is not the one of redfish.fingerprint{pin}")
        }
        other => format!("its TLS certificate is not valid: {other:?}{pin}"),
    })
}

fn authorities(
    file: Option<&Path>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let path = match file {
        Some(path) => path.to_owned(),
        None => SYSTEM_BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
            .ok_or("this system has no list of CAs: set redfish.ca_file or redfish.fingerprint")?,
    };
    let shown = path.display();
    let bytes = fs::read(&path).map_err(|why| format!("{shown}: cannot be read: {why}"))?;
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok);
    roots.add_parsable_certificates(certificates);
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|_| format!("{shown}: holds no CA certificate in PEM"))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    rejected: Rejected,
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
            (Trust::Authorities(_), Some(authorities)) => {
                authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now)
            }
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        };
        if verdict.is_err() {
            let shown: Vec<String> = fingerprint.iter().map(|b| format!("{b:02X}")).collect();
            *self.rejected.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.join(":"));
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

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::ring::digest::digest(&::ring::digest::SHA256, bytes);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    fingerprint
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(plain) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() {
            return Ok(Some(Either::A(plain)));
        }
        let host = details.uri.host().unwrap_or_default();
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|_| ureq::Error::Tls("the address holds no host name"))?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut socket = TransportAdapter::new(plain.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport {
            buffers,
            stream: StreamOwned::new(connection, socket),
        })))
    }
}

/// An encrypted connection.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        use io::Write;
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        use io::Read;
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for TlsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConnector").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
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
        let error = TlsConnector::new(&trust, Rejected::default()).unwrap_err();
        assert!(error.contains("no CA certificate"), "{error}");
    }
}
