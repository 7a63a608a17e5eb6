// SPDX-License-Identifier: Apache-2.0 OR MIT
//! HTTP/1.1 as far as an agent's answers need it: one request per connection.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Keeps a test from hanging on an agent that does.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `content-type`.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

/// Asks whoever listens on the Unix socket at `socket`.
///
/// # Errors
/// When nobody does, or the answer is no HTTP.
pub fn ask(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
    let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, "localhost", method, path, body.map(Body::json))
}

/// Gets an `http://HOST:PORT/PATH`.
///
/// # Errors
/// When it is no such address, nobody listens there, or the answer is no HTTP.
pub fn get(url: &str) -> Result<Response> {
    at(url, "GET", None)
}

/// Posts to an `http://HOST:PORT/PATH`.
///
/// # Errors
/// As [`get`].
pub fn post(url: &str, body: &Value) -> Result<Response> {
    at(url, "POST", Some(Body::json(body)))
}

/// Posts plain text to an `http://HOST:PORT/PATH`.
///
/// # Errors
/// As [`get`].
pub fn post_text(url: &str, text: String) -> Result<Response> {
    let kind = "text/plain";
    at(url, "POST", Some(Body { kind, text }))
}

/// What is sent.
struct Body {
    kind: &'static str,
    text: String,
}

impl Body {
    fn json(value: &Value) -> Self {
        Self {
            kind: "application/json",
            text: value.to_string(),
        }
    }
}

fn at(url: &str, method: &str, body: Option<Body>) -> Result<Response> {
    let rest = url
        .strip_prefix("http://")
        .with_context(|| format!("{url}: is no http:// URL"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let stream = TcpStream::connect(&address).with_context(|| url.to_owned())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, host, method, &format!("/{path}"), body)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    body: Option<Body>,
) -> Result<Response> {
    let Body { kind, text } = body.unwrap_or_else(|| Body {
        kind: "application/json",
        text: String::new(),
    });
    let length = text.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: eco-tests\r\n\
         connection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{text}").as_bytes())?;
    answer(BufReader::new(stream))
}

fn answer(mut from: BufReader<impl Read>) -> Result<Response> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no HTTP: {line:?}"))?;
    let (mut content_type, mut length, mut chunked) = (String::new(), None, false);
    loop {
        line.clear();
        from.read_line(&mut line)?;
        if line.trim_end().is_empty() && line.ends_with('\n') {
            break;
        }
        let (name, value) = line
            .split_once(':')
            .context("the head of the answer is cut off")?;
        match name.to_ascii_lowercase().as_str() {
            "content-type" => content_type = value.trim().to_owned(),
            "content-length" => length = Some(value.trim().parse::<u64>()?),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => unchunk(&mut from, &mut body)?,
        Some(length) => {
            from.take(length).read_to_end(&mut body)?;
            if body.len() as u64 != length {
                bail!("{} of {length} bytes came", body.len());
            }
        }
        None => drop(from.read_to_end(&mut body)?),
    }
    Ok(Response {
        status,
        content_type,
        body: String::from_utf8(body)?,
    })
}

fn unchunk(from: &mut BufReader<impl Read>, body: &mut Vec<u8>) -> Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).context("a chunk without its size")?;
        from.take(size).read_to_end(body)?;
        from.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Response> {
        answer(BufReader::new(text.as_bytes()))
    }

    #[test]
    fn a_body_comes_whole_however_it_is_framed() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ] {
            let response = read(text).unwrap();
            assert_eq!(
                (response.status, response.body.as_str()),
                (200, "abc"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_answer() {
        assert!(read("").is_err());
        assert!(read("HTTP/1.1 200 OK\r\ncontent-le").is_err());
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").is_err());
    }
}
