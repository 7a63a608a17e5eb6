// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One connection: HTTP/1.1 as far as a controller needs it.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    sync::{Mutex, PoisonError},
};

use crate::script::{Reply, Script};

/// No question is longer; a login is the longest.
const MOST_BODY: usize = 1 << 16;

/// A question.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// `X-Auth-Token` or `Authorization`, as it came; empty for none.
    pub(crate) credential: String,
    pub(crate) body: Vec<u8>,
}

/// Answers until it is closed, or the controller goes away.
pub(crate) fn converse(stream: impl Read + Write, script: &Mutex<Script>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Request::read(&mut stream) {
        let reply = {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            if script.is_away {
                return;
            }
            script.answer(&request)
        };
        let out = stream.get_mut();
        if write(&reply, out).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

impl Request {
    /// The next one; `None` when the client has gone, or says nothing that can be understood.
    fn read(stream: &mut BufReader<impl Read>) -> Option<Self> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                return None;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            lines.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name)
                    .then(|| value.trim().to_owned())
            })
        };
        let length = header("content-length").and_then(|n| n.parse().ok());
        let length: usize = length.unwrap_or_default();
        if length > MOST_BODY {
            return None;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let credential = header("x-auth-token").or_else(|| header("authorization"));
        let mut words = lines.first()?.split(' ');
        Some(Self {
            method: words.next()?.to_owned(),
            path: words.next()?.to_owned(),
            credential: credential.unwrap_or_default(),
            body,
        })
    }
}

fn write(reply: &Reply, out: &mut impl Write) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {}\r\nOData-Version: 4.0\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = reply.body.len();
    head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    out.write_all(head.as_bytes())?;
    out.write_all(&reply.body)
}
