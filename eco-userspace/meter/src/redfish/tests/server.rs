// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A controller on a port of this machine, over TLS or in the clear.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use serde_json::{Value, json};

/// What the controller answers with, and what it was asked.
#[derive(Default)]
pub(super) struct Script {
    /// Resources by path.
    pub(super) tree: HashMap<String, Vec<u8>>,
    /// Whether sessions are made; else 404.
    pub(super) has_sessions: bool,
    /// The token that is good now; empty: none.
    pub(super) token: String,
    /// Whether the password is right.
    pub(super) refuses: bool,
    /// `METHOD path credential` of each request.
    pub(super) asked: Vec<String>,
}

/// A running controller.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) script: Arc<Mutex<Script>>,
    address: SocketAddr,
    scheme: &'static str,
}

impl Server {
    pub(super) fn plain() -> Self {
        Self::start(None)
    }

    pub(super) fn tls(identity: &Identity) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(identity.key.clone()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.clone()], key)
            .unwrap();
        Self::start(Some(Arc::new(config)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            script: Arc::default(),
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
        };
        server.script.lock().unwrap().has_sessions = true;
        server.set("/redfish/v1/", &json!({"Chassis": {"@odata.id": "/c"}}));
        server.set("/c", &json!({"Members": [{"@odata.id": "/c/1"}]}));
        server.set("/c/1", &json!({"Power": {"@odata.id": "/p"}}));
        server.set_watts(312.0);
        let script = Arc::clone(&server.script);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (script, tls) = (Arc::clone(&script), tls.clone());
                thread::spawn(move || match tls {
                    Some(config) => {
                        let connection = ServerConnection::new(config).unwrap();
                        converse(StreamOwned::new(connection, socket), &script);
                    }
                    None => converse(socket, &script),
                });
            }
        });
        server
    }

    pub(super) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.address.port())
    }

    pub(super) fn set(&self, path: &str, resource: &Value) {
        self.set_bytes(path, resource.to_string().into_bytes());
    }

    pub(super) fn set_bytes(&self, path: &str, bytes: Vec<u8>) {
        self.script.lock().unwrap().tree.insert(path.into(), bytes);
    }

    pub(super) fn set_watts(&self, watts: f64) {
        self.set(
            "/p",
            &json!({"PowerControl": [{"PowerConsumedWatts": watts}]}),
        );
    }

    /// How many requests began so.
    pub(super) fn count(&self, start: &str) -> usize {
        let script = self.script.lock().unwrap();
        script
            .asked
            .iter()
            .filter(|asked| asked.starts_with(start))
            .count()
    }
}

/// Answers one connection until it is closed.
fn converse(stream: impl Read + Write, script: &Mutex<Script>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if !matches!(stream.read_line(&mut line), Ok(1..)) {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            lines.iter().find_map(|line| {
                let (key, value) = line.split_once(": ")?;
                key.eq_ignore_ascii_case(name).then(|| value.to_owned())
            })
        };
        let length = header("content-length")
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let credential = header("x-auth-token")
            .or(header("authorization"))
            .unwrap_or_default();
        let request = lines[0].trim_end_matches(" HTTP/1.1");
        let answer = script.lock().unwrap().answer(request, &credential);
        let out = stream.get_mut();
        if out.write_all(&answer).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

impl Script {
    fn answer(&mut self, request: &str, credential: &str) -> Vec<u8> {
        self.asked
            .push(format!("{request} {credential}").trim().to_owned());
        let (method, path) = request.split_once(' ').unwrap();
        let is_login = method == "POST";
        if is_login && !self.has_sessions {
            return reply("404 Not Found", "", b"{}");
        }
        if self.refuses {
            return reply("401 Unauthorized", "", b"{}");
        }
        if is_login {
            self.token = format!("token-{}", self.asked.len());
            let headers = format!("X-Auth-Token: {}\r\nLocation: /session/1\r\n", self.token);
            return reply("201 Created", &headers, b"{}");
        }
        // user:secret
        if credential != self.token && credential != "Basic dXNlcjpzZWNyZXQ=" {
            return reply("401 Unauthorized", "", b"{}");
        }
        match self.tree.get(path) {
            Some(body) => reply("200 OK", "", body),
            None => reply("404 Not Found", "", b"{}"),
        }
    }
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut reply =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n").into_bytes();
    reply.extend_from_slice(body);
    reply
}

/// A certificate and its key, made for this run.
pub(super) struct Identity {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: Vec<u8>,
    /// The CA that signed it, in PEM.
    pub(super) authority: String,
}

impl Identity {
    /// Good for a century around now.
    pub(super) fn good(name: &str) -> Self {
        Self::new(name, 2000, 2100)
    }

    pub(super) fn new(name: &str, from: i32, until: i32) -> Self {
        let mut ca = CertificateParams::new([]).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        // Two CAs of one name are told apart by their signature only.
        let unique = format!("CA {:?}", &ca_key.public_key_raw()[..8]);
        ca.distinguished_name.push(DnType::CommonName, unique);
        let authority = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(ca, ca_key);
        let mut leaf = CertificateParams::new([name.to_owned()]).unwrap();
        leaf.not_before = date_time_ymd(from, 1, 1);
        leaf.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, &issuer).unwrap();
        Self {
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
            authority,
        }
    }
}
