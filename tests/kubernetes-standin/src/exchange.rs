// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection: HTTP/1.1 as far as these servers need it.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

use crate::{Access, Fault, Shared};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// How often a watch that has nothing to tell looks whether its client is still there.
const BREATH: Duration = Duration::from_millis(50);

/// Answers until the client goes.
pub(crate) fn converse(stream: Stream, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream) {
        let may = allowed(&request, stream.get_ref(), shared);
        let fault = {
            let mut script = shared.script.lock().expect("no thread panics with it");
            script.asked.push(format!("GET {}", request.target));
            script.faults.pop_front()
        };
        let out = stream.get_mut();
        let done = match fault {
            Some(Fault::Status(status, headers)) => reply(out, status, headers, b"{}"),
            Some(Fault::Bytes(bytes)) => reply(out, 200, "", &bytes),
            Some(Fault::Reset) => {
                let _ =
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"items\": [");
                let _ = out.flush();
                return;
            }
            Some(Fault::Silence) => loop {
                thread::park();
            },
            Some(Fault::Lag(time)) => {
                thread::sleep(time);
                answer(out, &request, may, shared)
            }
            None => answer(out, &request, may, shared),
        };
        if done.is_err() {
            return;
        }
    }
}

fn answer(out: &mut Stream, request: &Request, may: bool, shared: &Shared) -> io::Result<()> {
    if !may {
        return reply(out, 401, "", b"{}");
    }
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let value = |key: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(k, _)| *k == key).map(|(_, value)| value);
        value.filter(|value| !value.is_empty())
    };
    let number = |key: &str, default| value(key).map_or(default, |v| v.parse().unwrap_or(default));
    let list = |limit, skip| {
        let script = shared.script.lock().expect("no thread panics with it");
        script.pods.list(limit, skip).to_string()
    };
    match path {
        "/pods" => reply(out, 200, "", list(usize::MAX, 0).as_bytes()),
        "/api/v1/pods" if value("watch").is_some() => {
            watch(out, number("resourceVersion", 0), shared)
        }
        "/api/v1/pods" => {
            let page = list(number("limit", usize::MAX), number("continue", 0));
            reply(out, 200, "", page.as_bytes())
        }
        _ => reply(out, 404, "", b"{}"),
    }
}

/// Tells what happens until the client goes.
fn watch(out: &mut Stream, mut version: usize, shared: &Shared) -> io::Result<()> {
    out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    out.flush()?;
    loop {
        let events = {
            let script = shared.script.lock().expect("no thread panics with it");
            let woken = shared.changed.wait_timeout_while(script, BREATH, |script| {
                script.pods.version() <= version && script.faults.is_empty()
            });
            let (mut script, _) = woken.expect("no thread panics with it");
            if let Some(Fault::Reset) = script.faults.front() {
                script.faults.pop_front();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let events = script.pods.since(version);
            version = script.pods.version();
            events
        };
        for event in &events {
            chunk(out, event)?;
        }
        if events.iter().any(|event| event["type"] == "ERROR") {
            out.write_all(b"0\r\n\r\n")?;
            return out.flush();
        }
    }
}

fn chunk(out: &mut Stream, event: &Value) -> io::Result<()> {
    let line = format!("{event}\n");
    write!(out, "{:x}\r\n{line}\r\n", line.len())?;
    out.flush()
}

fn reply(out: &mut Stream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    write!(
        out,
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n"
    )?;
    out.write_all(body)?;
    out.flush()
}

fn allowed(request: &Request, stream: &Stream, shared: &Shared) -> bool {
    let script = shared.script.lock().expect("no thread panics with it");
    match &script.access {
        Access::Token(token) => {
            request.authorization.as_deref() == Some(format!("Bearer {token}").as_str())
        }
        Access::Certificate(_) => stream.conn.peer_certificates().is_some(),
    }
}

struct Request {
    target: String,
    authorization: Option<String>,
}

impl Request {
    /// The next request, which has no body; `None` when the client has gone.
    fn read(stream: &mut BufReader<Stream>) -> Option<Self> {
        let mut first = String::new();
        let mut authorization = None;
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            if first.is_empty() {
                first = line;
            } else if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("authorization")
            {
                authorization = Some(value.trim().to_owned());
            }
        }
        let target = first.split(' ').nth(1)?.to_owned();
        Some(Self {
            target,
            authorization,
        })
    }
}
