// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What people are told of a certificate that is not believed.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::CertificateError;

/// The fingerprint of the last certificate that was not believed, for people to compare.
#[derive(Clone, Debug, Default)]
pub struct Rejected(Arc<Mutex<Option<String>>>);

impl Rejected {
    /// It, as `AB:CD:…`; `None` if there was none yet.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn note(&self, fingerprint: [u8; 32]) {
        let shown: Vec<String> = fingerprint.iter().map(|b| format!("{b:02X}")).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown.join(":"));
    }
}

/// Why TLS failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its time is over.
    #[error("its TLS certificate has expired")]
    Expired,
    /// Nobody who is believed signed it.
    #[error("its TLS certificate is signed by no CA known here")]
    UnknownIssuer,
    /// It is good, for somebody else.
    #[error("its TLS certificate is for another name")]
    WrongName,
    /// Another is pinned.
    #[error("its TLS certificate is not the pinned one")]
    NotPinned,
    /// Otherwise no good certificate.
    #[error("its TLS certificate is not valid: {0}")]
    Invalid(String),
    /// No matter of certificates.
    #[error("TLS: {0}")]
    Tls(String),
}

impl Refusal {
    /// What an error says of TLS, if TLS is what went wrong.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        let rustls::Error::InvalidCertificate(why) = error else {
            return Some(Self::Tls(error.to_string()));
        };
        Some(match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::ApplicationVerificationFailure => Self::NotPinned,
            other => Self::Invalid(format!("{other:?}")),
        })
    }
}
