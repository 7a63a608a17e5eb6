// SPDX-License-Identifier: Apache-2.0 OR MIT
//! gRPC's calls of one message each, on a connection that is kept.
//!
//! A call is one HTTP/2 stream, so this is `h2` on tokio, which the agent links already for the
//! kubelet's devices; tonic would bring tower and its macros into a privileged program for it.

use std::{io, sync::Arc, time::Duration};

use eco_https::{Options, Rejected, SetupError, rustls};
use h2::client::SendRequest;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{Builder, Runtime},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

/// Where collectors take gRPC, if the address says no port.
const PORT: u16 = 4317;

/// Of an answer so much is read.
const MOST_ANSWER: usize = 64 << 10;

/// Why a call has no answer that counts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection, or one that broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No HTTP/2.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// No gRPC: an HTTP status.
    #[error("HTTP {0}")]
    Http(u16),
    /// gRPC's own status, and what it says of it.
    #[error("gRPC status {code}: {said}")]
    Status {
        /// <https://grpc.io/docs/guides/status-codes/>
        code: u32,
        /// The beginning of what it says.
        said: String,
    },
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    /// What cannot stand in a request.
    #[error("{0}")]
    Request(String),
}

/// A server, and the connection to it.
pub(crate) struct Channel {
    runtime: Runtime,
    host: String,
    port: u16,
    base: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    deadline: Duration,
    kept: Option<SendRequest<bytes::Bytes>>,
}

impl Channel {
    /// To `http://` or `https://`, a host and a port. Connects when it is first used; the second
    /// is where it notes a certificate that it does not believe.
    ///
    /// # Errors
    /// When the address is none, a file of certificates cannot be used, or the kernel refuses.
    pub(crate) fn new(url: &str, options: &Options) -> Result<(Self, Rejected), SetupError> {
        let no_address = |why: &str| SetupError::Address {
            url: url.to_owned(),
            why: why.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| no_address("is no address"))?;
        let host = uri.host().ok_or_else(|| no_address("names no host"))?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let (config, rejected) = eco_https::http2_config(options)?;
        let tls = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| no_address("holds no host name"))?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
            Some("http") => None,
            _ => return Err(no_address("is neither http:// nor https://")),
        };
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|why| no_address(&format!("cannot be asked: {why}")))?;
        let channel = Self {
            runtime,
            port: uri.port_u16().unwrap_or(PORT),
            base: url.trim_end_matches('/').to_owned(),
            host,
            tls,
            deadline: options.deadline,
            kept: None,
        };
        Ok((channel, rejected))
    }

    /// Calls a method with a message; the message of the answer.
    ///
    /// # Errors
    /// When there is none, or it says that it did not do it.
    pub(crate) fn call(
        &mut self,
        method: &str,
        headers: &[(String, String)],
        message: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        let request = self.request(method, headers)?;
        let Self {
            runtime,
            host,
            port,
            tls,
            deadline,
            kept,
            ..
        } = self;
        let deadline = *deadline;
        let work = async {
            let mut client = match usable(kept.take()).await {
                Some(client) => client,
                None => connect(host, *port, tls.as_ref()).await?,
            };
            let answer = exchange(&mut client, request, message).await;
            // What failed as a call has not broken the connection.
            if matches!(answer, Ok(_) | Err(CallError::Status { .. })) {
                *kept = Some(client);
            }
            answer
        };
        runtime.block_on(async {
            let answer = timeout(deadline, work).await;
            answer.map_err(|_| CallError::Late(deadline))?
        })
    }

    fn request(
        &self,
        method: &str,
        headers: &[(String, String)],
    ) -> Result<Request<()>, CallError> {
        let mut request = Request::post(format!("{}{method}", self.base))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .header(
                header::USER_AGENT,
                concat!("eco-agent/", env!("CARGO_PKG_VERSION")),
            );
        for (name, value) in headers {
            // HTTP/2 has names in lower case only.
            let name = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes());
            let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) else {
                return Err(CallError::Request(
                    "a header that cannot be sent".to_owned(),
                ));
            };
            request = request.header(name, value);
        }
        request
            .body(())
            .map_err(|why| CallError::Request(why.to_string()))
    }
}

/// The connection that is kept, if it still stands: what has come in since the last call is heard
/// first, for a server may have hung up.
async fn usable(kept: Option<SendRequest<bytes::Bytes>>) -> Option<SendRequest<bytes::Bytes>> {
    let kept = kept?;
    for _ in 0..2 {
        tokio::task::yield_now().await;
    }
    kept.ready().await.ok()
}

async fn connect(
    host: &str,
    port: u16,
    tls: Option<&(TlsConnector, ServerName<'static>)>,
) -> Result<SendRequest<bytes::Bytes>, CallError> {
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    match tls {
        Some((connector, name)) => {
            let socket = connector.connect(name.clone(), socket).await?;
            handshake(socket).await
        }
        None => handshake(socket).await,
    }
}

async fn handshake(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<bytes::Bytes>, CallError> {
    let (client, connection) = h2::client::Builder::new()
        .enable_push(false)
        .max_header_list_size(16 << 10)
        .handshake(socket)
        .await?;
    // Goes on while a call is waited for, and ends with the connection.
    tokio::spawn(connection);
    Ok(client.ready().await?)
}

async fn exchange(
    client: &mut SendRequest<bytes::Bytes>,
    request: Request<()>,
    message: &[u8],
) -> Result<Vec<u8>, CallError> {
    let (response, mut sender) = client.send_request(request, false)?;
    sender.send_data(framed(message).into(), true)?;
    let (head, mut body) = response.await?.into_parts();
    if head.status != 200 {
        return Err(CallError::Http(head.status.as_u16()));
    }
    // Of a call that failed at once the headers are the trailers.
    if head.headers.contains_key(STATUS) {
        check(&head.headers)?;
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let room = MOST_ANSWER.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        body.flow_control().release_capacity(chunk.len())?;
    }
    if !head.headers.contains_key(STATUS) {
        check(&body.trailers().await?.unwrap_or_default())?;
    }
    Ok(bytes.get(FRAME_HEAD..).unwrap_or_default().to_vec())
}

const STATUS: &str = "grpc-status";

/// Whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A call without a status has failed: its stream was cut off (status 2, unknown).
fn check(headers: &HeaderMap) -> Result<(), CallError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let code = text(STATUS).and_then(|code| code.parse().ok()).unwrap_or(2);
    if code == 0 {
        return Ok(());
    }
    let said = text("grpc-message").unwrap_or_default();
    let printable = |c: &char| !c.is_control();
    Err(CallError::Status {
        code,
        said: said.chars().filter(printable).take(200).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_framed_with_its_length() {
        assert_eq!(framed(b"abc"), [0, 0, 0, 0, 3, b'a', b'b', b'c']);
    }

    #[test]
    fn only_a_status_of_zero_is_a_yes() {
        let headers = |pairs: &[(&'static str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| {
                let value = HeaderValue::from_str(value).unwrap();
                (HeaderName::from_static(name), value)
            });
            pairs.collect::<HeaderMap>()
        };
        assert!(check(&headers(&[("grpc-status", "0")])).is_ok());
        for (pairs, wanted) in [
            (headers(&[]), 2),
            (headers(&[("grpc-status", "x")]), 2),
            (
                headers(&[("grpc-status", "14"), ("grpc-message", "busy")]),
                14,
            ),
        ] {
            let Err(CallError::Status { code, .. }) = check(&pairs) else {
                panic!("{pairs:?}");
            };
            assert_eq!(code, wanted);
        }
    }

    #[test]
    fn a_server_that_is_no_grpc_or_not_there_is_told_and_not_waited_for() {
        let options = Options {
            trust: eco_https::Trust::Anyone,
            identity: None,
            deadline: Duration::from_secs(2),
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (mut channel, _) = Channel::new(&url, &options).unwrap();
        let answers = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        });
        let why = channel.call("/a.B/C", &[], b"").unwrap_err();
        assert!(
            matches!(why, CallError::Http2(_) | CallError::Io(_)),
            "{why}"
        );
        answers.join().unwrap();
        let why = channel.call("/a.B/C", &[], b"").unwrap_err();
        assert!(matches!(why, CallError::Io(_)), "{why}");
        for bad in ["", "nothing", "http://"] {
            assert!(Channel::new(bad, &options).is_err(), "{bad}");
        }
    }
}
