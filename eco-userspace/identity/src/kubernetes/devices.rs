// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which container has which GPU: the kubelet's pod-resources socket.
//!
//! The socket speaks gRPC and nothing else. One call without arguments is one HTTP/2 stream, so
//! this is `h2` on tokio, which the agent links already, and four kinds of message; tonic would
//! bring tower, prost and their macros into a privileged program for it.

mod wire;

use std::{io, path::Path, time::Duration};

use tokio::net::UnixStream;
use ureq::http::{HeaderMap, Request, header};

/// `podresources/v1`, stable since Kubernetes 1.20.
const LIST: &str = "http://localhost/v1.PodResourcesLister/List";

/// A call with an empty message: not compressed, no bytes.
const EMPTY: &[u8] = &[0; 5];

/// For the whole call, on a socket of this machine.
const DEADLINE: Duration = Duration::from_secs(5);

/// The longest answer that is read. A node has some thousand devices at most.
const MOST_BYTES: usize = 16 << 20;

/// Between a GPU's id and the number of a copy of it that containers share: NVIDIA's plug-in
/// (`GPU-<uuid>::3`), and AMD's (`0000:03:00.0-slice-2`).
const BEFORE_COPY: [&str; 2] = ["::", "-slice-"];

/// A device that a container has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// As the device plug-in calls it: `GPU-<uuid>` or `MIG-<uuid>` with NVIDIA's, the PCI address
    /// with AMD's.
    pub id: String,
    /// The resource that was asked for: `nvidia.com/gpu`.
    pub resource: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name. The kubelet does not tell its uid.
    pub pod: String,
    /// The container's name.
    pub container: String,
}

impl Device {
    /// The id without the copy's number that time-slicing appends: `GPU-<uuid>::3`.
    #[must_use]
    pub fn hardware(&self) -> &str {
        let cuts = BEFORE_COPY.iter().filter_map(|cut| self.id.find(cut));
        &self.id[..cuts.min().unwrap_or(self.id.len())]
    }

    /// Whether it is one of several copies: others may have the same GPU.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.hardware().len() < self.id.len()
    }
}

/// Why the socket tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// No connection.
    #[error("cannot be connected to: {0}")]
    Connect(#[from] io::Error),
    /// No HTTP/2, or one that broke.
    #[error("breaks off: {0}")]
    Http2(#[from] h2::Error),
    /// A call that failed: gRPC's status.
    #[error("gRPC status {0}")]
    Status(String),
    /// An answer of another shape.
    #[error("answers what is no list of devices")]
    Shape,
    /// An answer without end.
    #[error("answers more than {} MB", MOST_BYTES >> 20)]
    TooLong,
    /// No answer.
    #[error("does not answer within {} s", DEADLINE.as_secs())]
    Late,
}

/// All devices that containers have, by the socket at `path`.
///
/// # Errors
/// When nothing answers there, or not that.
pub(super) fn list(path: &Path) -> Result<Vec<Device>, DevicesError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let answer = runtime.block_on(async {
        let call = tokio::time::timeout(DEADLINE, call(path));
        call.await.map_err(|_| DevicesError::Late)?
    })?;
    let message = unframed(&answer).ok_or(DevicesError::Shape)?;
    wire::devices(message).ok_or(DevicesError::Shape)
}

async fn call(path: &Path) -> Result<Vec<u8>, DevicesError> {
    let socket = UnixStream::connect(path).await?;
    let (client, connection) = h2::client::Builder::new()
        .max_header_list_size(16 << 10)
        .handshake(socket)
        .await?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let mut client = client.ready().await?;
    let request = Request::post(LIST)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|_| DevicesError::Shape)?;
    let (response, mut sender) = client.send_request(request, false)?;
    sender.send_data(EMPTY, true)?;
    let (head, mut body) = response.await?.into_parts();
    if head.status != 200 {
        return Err(DevicesError::Status(format!("HTTP {}", head.status)));
    }
    check(&head.headers)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        if bytes.len() + chunk.len() > MOST_BYTES {
            return Err(DevicesError::TooLong);
        }
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    if let Some(trailers) = body.trailers().await? {
        check(&trailers)?;
    }
    Ok(bytes)
}

/// gRPC's status, in the trailers or, of a call that failed at once, in the headers.
fn check(headers: &HeaderMap) -> Result<(), DevicesError> {
    match headers.get("grpc-status") {
        Some(status) if status != "0" => {
            let status = status.to_str().unwrap_or("?");
            let text = headers.get("grpc-message").and_then(|m| m.to_str().ok());
            let text = text.unwrap_or_default();
            Err(DevicesError::Status(format!("{status} {text:.200}")))
        }
        _ => Ok(()),
    }
}

/// The message of gRPC's length-prefixed frame.
fn unframed(bytes: &[u8]) -> Option<&[u8]> {
    let (&[compressed, a, b, c, d], message) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    (compressed == 0 && message.len() == length).then_some(message)
}

#[cfg(test)]
mod tests;
