// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTPS to a service of this machine's own network: a management controller, the kubelet, the
//! cluster's API server.
//!
//! Such services come with certificates that they signed themselves, or that a CA of their own
//! did; ureq's own TLS has no way to pin one, so this wraps rustls for it. A credential goes to
//! the one host that was named: there are no redirects and no proxies.

mod connector;
mod refusal;
mod trust;

use std::{
    io::{self, Read as _},
    path::PathBuf,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::{
    Agent, Body,
    http::Response,
    unversioned::{
        resolver::DefaultResolver,
        transport::{Connector as _, TcpConnector},
    },
};

pub use rustls;
pub use ureq::Agent as Client;

pub use self::{
    refusal::{Refusal, Rejected},
    trust::{Trust, parse_fingerprint},
};

/// All but the characters that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text as one value of a form or a query, or as one segment of a path: it cannot leave its place.
#[must_use]
pub fn escaped(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// How to talk to a service.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to believe.
    pub trust: Trust,
    /// Who to be, if a password or token is not what tells.
    pub identity: Option<ClientIdentity>,
    /// For one question, from the name's look-up to the last byte.
    pub deadline: Duration,
}

/// A client's certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, and those between it and the CA, in PEM.
    pub certificate: PathBuf,
    /// The private key, in PEM. May be the same file.
    pub key: PathBuf,
}

/// Why there can be no connection, whatever the service says.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// No CA was named, and the system has no list of those that it trusts.
    #[error("this system has no list of CAs")]
    NoSystemList,
    /// A file of certificates or of a key.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file without what it should hold.
    #[error("{}: holds no {wanted} in PEM", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// What is to be asked.
    #[error("{url}: {why}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// TLS cannot be set up with it.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// A client for one service, and where it notes the certificate that it does not believe.
///
/// It treats no HTTP status as an error.
///
/// # Errors
/// When a file of certificates cannot be used.
pub fn agent(options: &Options) -> Result<(Agent, Rejected), SetupError> {
    let rejected = Rejected::default();
    let identity = options.identity.as_ref();
    let tls = connector::TlsConnector::new(&options.trust, identity, rejected.clone())?;
    let config = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect could lead a password anywhere.
        .max_redirects(0)
        .max_redirects_will_error(false)
        // The service is on the machine's own network; a proxy need not see the password.
        .proxy(None)
        .timeout_global(Some(options.deadline))
        .user_agent(concat!("eco-agent/", env!("CARGO_PKG_VERSION")))
        .build();
    let connector = TcpConnector::default().chain(tls);
    let agent = Agent::with_parts(config, connector, DefaultResolver::default());
    Ok((agent, rejected))
}

/// TLS for a client of HTTP/2 (gRPC), and where it notes the certificate that it does not believe.
///
/// # Errors
/// When a file of certificates cannot be used.
pub fn http2_config(options: &Options) -> Result<(rustls::ClientConfig, Rejected), SetupError> {
    let rejected = Rejected::default();
    let identity = options.identity.as_ref();
    let mut config = connector::config(&options.trust, identity, rejected.clone())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok((config, rejected))
}

/// The body of an answer; `None` if it has more than `most` bytes.
///
/// # Errors
/// When it breaks off.
pub fn body(response: &mut Response<Body>, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let mut reader = response.body_mut().as_reader().take(most + 1);
    reader.read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_escaped_cannot_leave_its_place() {
        assert_eq!(escaped("a-1._~"), "a-1._~");
        assert_eq!(escaped("../x?y&z\n"), "..%2Fx%3Fy%26z%0A");
        assert_eq!(escaped("\u{e9}"), "%C3%A9");
    }
}
