// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asking another server over HTTP: the store, an agent, the API server.
//!
//! Connections are kept. An answer has a deadline and a largest size, and what goes wrong is
//! told with the address and what to do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, StatusCode, Uri,
    body::Bytes,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio::time::timeout;

/// More than Prometheus has to say of 100,000 pods.
const LARGEST_ANSWER: usize = 256 << 20;
/// A server on the cluster's own network that does not take a connection by then is not there.
const CONNECT: Duration = Duration::from_secs(5);
/// Shorter than the time after which the usual servers and balancers close an idle connection,
/// so that a request rarely meets one that is being closed.
const KEPT_IDLE: Duration = Duration::from_secs(20);

/// Another server, as an operator writes it down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// `http://` or `https://`, a host, and a path that its own paths are appended to.
    pub url: String,
    /// CAs in PEM that may have signed its certificate; the system's if absent.
    pub ca_file: Option<PathBuf>,
    /// A file with a bearer token, read anew for each request as it may be rotated.
    pub token_file: Option<PathBuf>,
    /// Headers to send with each request, such as a store's tenant.
    pub headers: Vec<(String, String)>,
}

impl Remote {
    /// A server that wants no more than its address.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address is none.
    #[error("{url:?} is no address: {why}; write http://HOST:PORT or https://HOST:PORT")]
    Address {
        /// As it was written, without what may be secret in it.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that the connection needs cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A header that was asked for is none.
    #[error("{0:?} is no HTTP header that can be sent")]
    Header(String),
    /// TLS cannot be had at all.
    #[error("TLS: {0}")]
    Tls(String),
    /// No connection, or one that broke.
    #[error("{url} cannot be asked: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        why: String,
    },
    /// It took too long.
    #[error("{url} did not answer in {seconds} s")]
    Late {
        /// Where.
        url: String,
        /// The deadline.
        seconds: u64,
    },
    /// It has too much to say.
    #[error("{url} answered with more than {} MiB; ask for less, or for a shorter window", LARGEST_ANSWER >> 20)]
    Endless {
        /// Where.
        url: String,
    },
}

/// What came back, whatever the status.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A body to send, and of what type.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    None,
    Form(&'a str),
    Json(&'a [u8]),
}

/// A client of one server. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    base: String,
    token_file: Option<PathBuf>,
    headers: Vec<(HeaderName, HeaderValue)>,
    deadline: Duration,
    inner: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// A client; connects when it is first used.
    ///
    /// # Errors
    /// When the address, a header or the CA file cannot be used.
    pub(crate) fn new(remote: &Remote, deadline: Duration) -> Result<Self, HttpError> {
        let base = base(&remote.url)?;
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        http.enforce_http(false);
        let tls = tls(remote.ca_file.as_deref(), base.starts_with("https:"))?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let inner = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(KEPT_IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let headers = remote.headers.iter().map(|(name, value)| {
            let bad = || HttpError::Header(name.clone());
            let name = HeaderName::try_from(name.as_str()).map_err(|_| bad())?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| bad())?;
            Ok((name, value))
        });
        Ok(Self {
            base,
            token_file: remote.token_file.clone(),
            headers: headers.collect::<Result<_, _>>()?,
            deadline,
            inner,
        })
    }

    /// Where it asks.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// `GET` of a path below the base, which starts with a slash and may have a query.
    pub(crate) async fn get(&self, path: &str, accept: &str) -> Result<Answer, HttpError> {
        self.send(Method::GET, path, accept, Body::None).await
    }

    /// `POST` to a path below the base.
    pub(crate) async fn post(&self, path: &str, body: Body<'_>) -> Result<Answer, HttpError> {
        self.send(Method::POST, path, "application/json", body)
            .await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Body<'_>,
    ) -> Result<Answer, HttpError> {
        let unreachable = |why: String| HttpError::Unreachable {
            url: self.base.clone(),
            why,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header(ACCEPT, accept);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(token) = self.token()? {
            request = request.header(AUTHORIZATION, token);
        }
        let (kind, bytes) = match body {
            Body::None => (None, Bytes::new()),
            Body::Form(text) => (
                Some("application/x-www-form-urlencoded"),
                Bytes::copy_from_slice(text.as_bytes()),
            ),
            Body::Json(json) => (Some("application/json"), Bytes::copy_from_slice(json)),
        };
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request
            .body(Full::new(bytes))
            .map_err(|why| unreachable(why.to_string()))?;
        let whole = async {
            let response = self.inner.request(request).await;
            let response = response.map_err(|why| unreachable(chain(&why)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LARGEST_ANSWER);
            match body.collect().await {
                Ok(body) => Ok(Answer {
                    status,
                    body: body.to_bytes(),
                }),
                Err(why) if why.is::<LengthLimitError>() => Err(HttpError::Endless {
                    url: self.base.clone(),
                }),
                Err(why) => Err(unreachable(format!("it broke off in its answer: {why}"))),
            }
        };
        timeout(self.deadline, whole).await.unwrap_or_else(|_| {
            Err(HttpError::Late {
                url: self.base.clone(),
                seconds: self.deadline.as_secs(),
            })
        })
    }

    /// The header's value. The file is small and in memory (a projected volume), so it is read
    /// right here.
    fn token(&self) -> Result<Option<HeaderValue>, HttpError> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let bad = |why: String| HttpError::File {
            path: path.clone(),
            why,
        };
        let token = std::fs::read_to_string(path).map_err(|why| bad(why.to_string()))?;
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| bad("it holds no bearer token".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Checks an address, and takes off the slash at its end.
fn base(url: &str) -> Result<String, HttpError> {
    // A password in an address would be shown in each error and log: it is not taken at all,
    // and not repeated here.
    let shown = match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    };
    let bad = |why: &str| HttpError::Address {
        url: shown.clone(),
        why: why.into(),
    };
    let uri: Uri = url.parse().map_err(|_| bad("it does not parse"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("it does not begin with http:// or https://"));
    }
    let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it holds a user or a password; use a token file"));
    }
    if uri.query().is_some() {
        return Err(bad("it has a query"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn tls(ca_file: Option<&Path>, is_needed: bool) -> Result<ClientConfig, HttpError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|why| HttpError::File {
                    path: path.to_owned(),
                    why: why.to_string(),
                })?;
            }
        }
        None if is_needed => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        None => {}
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| HttpError::Tls(why.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The certificates of a PEM file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let bad = |why: String| HttpError::File {
        path: path.to_owned(),
        why,
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|why| bad(why.to_string()))?;
    if found.is_empty() {
        return Err(bad("it holds no certificate in PEM".into()));
    }
    Ok(found)
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_asked_is_refused_at_once() {
        for (url, why) in [
            ("prometheus:9090", "http://"),
            ("ftp://host", "http://"),
            ("", "does not parse"),
            ("http://host/?x=1", "a query"),
        ] {
            let error = HttpClient::new(&Remote::at(url), CONNECT).unwrap_err();
            assert!(error.to_string().contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_neither_taken_nor_repeated() {
        let error = HttpClient::new(&Remote::at("https://u:hunter2@host"), CONNECT).unwrap_err();
        let said = error.to_string();
        assert!(
            said.contains("token file") && !said.contains("hunter2"),
            "{said}"
        );
    }

    #[test]
    fn a_ca_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "nothing").unwrap();
        let remote = Remote {
            ca_file: Some(path),
            ..Remote::at("https://host")
        };
        let error = HttpClient::new(&remote, CONNECT).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("ca.crt: it holds no certificate")
        );
    }

    #[tokio::test]
    async fn a_token_file_that_is_not_there_is_named_and_nothing_is_sent_without() {
        let remote = Remote {
            token_file: Some("/nowhere/token".into()),
            ..Remote::at("http://127.0.0.1:1")
        };
        let client = HttpClient::new(&remote, CONNECT).unwrap();
        let error = client.get("/", "*/*").await.unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/token: "), "{error}");
    }

    #[tokio::test]
    async fn nobody_at_the_other_end_is_told_with_the_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let client = HttpClient::new(&Remote::at(format!("http://{address}")), CONNECT).unwrap();
        let said = client.get("/", "*/*").await.unwrap_err().to_string();
        assert!(
            said.contains(&address.to_string()) && said.contains("refused"),
            "{said}"
        );
    }
}
