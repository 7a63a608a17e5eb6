// SPDX-License-Identifier: Apache-2.0 OR MIT
//! gRPC on Unix sockets, as the kubelet speaks it with its neighbours: both ends, without a
//! generator. Messages stand as Rust beside those who use them.

use std::{
    fs, future,
    os::unix::net::UnixListener as StdListener,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use prost::Message;
use tokio::{
    net::{UnixListener, UnixStream},
    runtime::{Builder, Runtime},
    sync::oneshot,
};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A server on a thread of its own. Dropped, it ends, and its socket goes.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: PathBuf,
}

/// What a call is answered.
#[derive(Debug)]
pub struct Answer {
    /// In its frame.
    frame: Vec<u8>,
    /// Whether it is the first of a stream, to which nothing is ever added.
    lasts: bool,
}

/// A call that fails: a status of gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The message is none, or asks for what is not there.
    InvalidArgument = 3,
    /// There is no such method.
    Unimplemented = 12,
}

impl Server {
    /// Answers calls on `socket` by their path and message.
    ///
    /// # Errors
    /// When there can be no such socket.
    pub fn start(
        socket: PathBuf,
        answer: impl Fn(&str, &[u8]) -> Result<Answer, Refusal> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = StdListener::bind(&socket).with_context(|| socket.display().to_string())?;
        listener.set_nonblocking(true)?;
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = serve(listener, Arc::new(answer)) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            socket,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}

impl Answer {
    /// One message.
    #[must_use]
    pub fn once(message: &impl Message) -> Self {
        Self {
            frame: framed(message),
            lasts: false,
        }
    }

    /// The first message of a stream that stays open, and to which nothing is added.
    #[must_use]
    pub fn lasting(message: &impl Message) -> Self {
        Self {
            frame: framed(message),
            lasts: true,
        }
    }
}

/// Asks the server on `socket`, and drops what it answers.
///
/// # Errors
/// When it refuses, or is not there.
pub fn call(socket: &Path, path: &str, message: &impl Message) -> Result<()> {
    runtime()?.block_on(async {
        let stream = UnixStream::connect(socket).await?;
        let (client, connection) = h2::client::handshake(stream).await?;
        // Ends with the runtime.
        tokio::spawn(connection);
        let head = Request::post(format!("http://localhost{path}"))
            .header(header::CONTENT_TYPE, GRPC)
            .header(header::TE, "trailers")
            .body(())?;
        let (response, mut sender) = client.ready().await?.send_request(head, false)?;
        sender.send_data(framed(message).into(), true)?;
        let (head, mut body) = response.await?.into_parts();
        while let Some(chunk) = body.data().await {
            body.flow_control().release_capacity(chunk?.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        match trailers.get("grpc-status") {
            Some(status) if status == "0" => Ok(()),
            _ => bail!("{path}: {trailers:?}"),
        }
    })
}

/// The message of a call.
///
/// # Errors
/// When it is none.
pub fn message<T: Message + Default>(frame: &[u8]) -> Result<T, Refusal> {
    let message = frame.get(5..).ok_or(Refusal::InvalidArgument)?;
    T::decode(message).map_err(|_| Refusal::InvalidArgument)
}

/// A message in gRPC's length-prefixed frame, not compressed.
fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = message.len() as u32;
    [&[0], &length.to_be_bytes()[..], &message].concat()
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_io().build()?)
}

async fn serve<F>(listener: StdListener, answer: Arc<F>) -> Result<()>
where
    F: Fn(&str, &[u8]) -> Result<Answer, Refusal> + Send + Sync + 'static,
{
    let listener = UnixListener::from_std(listener)?;
    loop {
        let (socket, _) = listener.accept().await?;
        tokio::spawn(converse(socket, Arc::clone(&answer)));
    }
}

/// Answers the calls of one connection, each beside the others: one of them may last.
async fn converse<F>(socket: UnixStream, answer: Arc<F>) -> Result<()>
where
    F: Fn(&str, &[u8]) -> Result<Answer, Refusal> + Send + Sync + 'static,
{
    let mut connection = h2::server::handshake(socket).await?;
    while let Some(call) = connection.accept().await {
        let (request, mut respond) = call?;
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let path = request.uri().path().to_owned();
            let asked = read(request.into_body()).await?;
            let mut head = Response::new(());
            head.headers_mut().insert(header::CONTENT_TYPE, GRPC);
            let mut stream = respond.send_response(head, false)?;
            let status = match answer(&path, &asked) {
                Ok(Answer { frame, lasts }) => {
                    stream.send_data(frame.into(), false)?;
                    if lasts {
                        // Ends with the runtime.
                        future::pending::<()>().await;
                    }
                    0
                }
                Err(refusal) => refusal as u16,
            };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", status.into());
            stream.send_trailers(trailers)?;
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        bytes.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Text {
        #[prost(string, tag = "1")]
        text: String,
    }

    #[test]
    fn a_call_is_answered_by_its_path_and_message() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let server = Server::start(socket.clone(), |path, asked| {
            let asked: Text = message(asked)?;
            match path {
                "/echo" if asked.text.is_empty() => Err(Refusal::InvalidArgument),
                "/echo" => Ok(Answer::once(&asked)),
                _ => Err(Refusal::Unimplemented),
            }
        });
        let ask = |path: &str, text: &str| call(&socket, path, &Text { text: text.into() });
        ask("/echo", &"long ".repeat(100_000)).unwrap();
        for (path, text, status) in [("/echo", "", "3"), ("/fly", "x", "12")] {
            let refused = ask(path, text).unwrap_err().to_string();
            assert!(refused.contains(&format!("{status:?}")), "{refused}");
        }
        drop(server);
        assert!(!socket.exists() && ask("/echo", "x").is_err());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 1, 0xff]] {
            assert_eq!(message::<Text>(bytes), Err(Refusal::InvalidArgument));
        }
    }
}
