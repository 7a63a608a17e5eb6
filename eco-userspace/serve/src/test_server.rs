// SPDX-License-Identifier: Apache-2.0 OR MIT
//! For tests: a server that gives the answers it was told, right or wrong, and remembers what
//! it was asked. What only a broken or hostile server says, no real one can be made to say.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: String,
}

type Respond = Arc<dyn Fn(&Asked) -> Vec<u8> + Send + Sync>;

/// The server; it stops when it is dropped.
pub(crate) struct TestServer {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl TestServer {
    /// Always the same answer.
    pub(crate) async fn answering(status: u16, body: &str) -> Self {
        let body = body.to_owned();
        Self::with(move |_| (status, body.clone())).await
    }

    /// An answer that depends on the question.
    pub(crate) async fn with(
        answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::raw(move |asked| {
            let (status, body) = answer(asked);
            let length = body.len();
            format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
        })
        .await
    }

    /// An answer that ends before its end.
    pub(crate) async fn cutting_off(body: &str) -> Self {
        let length = body.len();
        let half = body[..length / 2].to_owned();
        Self::raw(move |_| {
            format!("HTTP/1.1 200 x\r\ncontent-length: {length}\r\n\r\n{half}").into_bytes()
        })
        .await
    }

    async fn raw(respond: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (notes, respond): (_, Respond) = (Arc::clone(&asked), Arc::new(respond));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&respond), Arc::clone(&notes)));
            }
        });
        Self { url, asked, task }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request, one answer, and the connection is closed.
async fn serve(mut stream: TcpStream, respond: Respond, notes: Arc<Mutex<Vec<Asked>>>) {
    let mut bytes = Vec::new();
    let asked = loop {
        if let Some(asked) = parse(&bytes) {
            break asked;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let answer = respond(&asked);
    notes
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(asked);
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

fn parse(bytes: &[u8]) -> Option<Asked> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let body = body.get(..length.unwrap_or(0))?;
    Some(Asked {
        path: head.split(' ').nth(1)?.to_owned(),
        body: body.to_owned(),
    })
}
