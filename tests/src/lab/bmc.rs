// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The lab's management controller: Redfish over HTTPS, with a certificate of its own making, a
//! session that must be opened, and one slow value.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};

/// The account that the controller knows.
const USER: &str = "monitor";

const PASSWORD: &str = "only-for-the-lab";

/// What a session's owner shows.
const TOKEN: &str = "lab-session";

/// Nobody asks more at once.
const MOST_HEADER_BYTES: u64 = 16 * 1024;

/// Who is silent for longer has gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// A controller on a port of this machine. Dropped, it answers nobody any more.
pub(super) struct Bmc {
    address: SocketAddr,
    certificate: PathBuf,
    password: PathBuf,
    shown_uw: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Bmc {
    /// Starts one, whose certificate and password are put into `folder`.
    ///
    /// # Errors
    /// When no port is to be had, or the files cannot be written.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let secret = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], secret)?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let bmc = Self {
            address: listener.local_addr()?,
            certificate: folder.join("bmc.pem"),
            password: folder.join("bmc.password"),
            shown_uw: Arc::default(),
            stopped: Arc::default(),
        };
        fs::write(&bmc.certificate, certificate.pem())?;
        fs::write(&bmc.password, PASSWORD)?;
        let (shown, stopped) = (Arc::clone(&bmc.shown_uw), Arc::clone(&bmc.stopped));
        let config = Arc::new(config);
        thread::Builder::new().name("bmc".into()).spawn(move || {
            for socket in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (shown, config) = (Arc::clone(&shown), Arc::clone(&config));
                // One that cannot be started costs its caller the answer.
                let _ = thread::Builder::new()
                    .name("bmc-caller".into())
                    .spawn(move || converse(socket, config, &shown));
            }
        })?;
        Ok(bmc)
    }

    /// Shows so much from now on.
    pub(super) fn show(&self, microwatts: u64) {
        self.shown_uw.store(microwatts, Ordering::Relaxed);
    }

    /// How eco's agent is told of it.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        vec![
            ("ECO_REDFISH__URL", format!("https://{}", self.address)),
            ("ECO_REDFISH__USER", USER.to_owned()),
            (
                "ECO_REDFISH__PASSWORD_FILE",
                self.password.display().to_string(),
            ),
            (
                "ECO_REDFISH__CA_FILE",
                self.certificate.display().to_string(),
            ),
        ]
    }
}

impl Drop for Bmc {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // So that it looks.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers one connection until it is closed. Whoever breaks it off has had enough.
fn converse(socket: TcpStream, config: Arc<ServerConfig>, shown: &AtomicU64) {
    let _ = socket.set_read_timeout(Some(PATIENCE));
    let Ok(connection) = ServerConnection::new(config) else {
        return;
    };
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    while let Ok(Some(request)) = read(&mut stream) {
        let watts = shown.load(Ordering::Relaxed) as f64 / 1e6;
        let answer = answer(&request, watts);
        let out = stream.get_mut();
        if out.write_all(&answer).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

struct Request {
    /// `GET /redfish/v1/`.
    line: String,
    token: Option<String>,
    body: Vec<u8>,
}

fn read(stream: &mut BufReader<impl Read>) -> io::Result<Option<Request>> {
    let mut request = Request {
        line: String::new(),
        token: None,
        body: Vec::new(),
    };
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.take(MOST_HEADER_BYTES).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            _ if request.line.is_empty() => {
                request.line = line.trim_end_matches(" HTTP/1.1").to_owned();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("x-auth-token") => {
                request.token = Some(value.trim().to_owned());
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            _ => {}
        }
    }
    stream.take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}

fn answer(request: &Request, watts: f64) -> Vec<u8> {
    const ROOT: &str = "GET /redfish/v1";
    if request.line.starts_with("POST ") {
        let login: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        if login["UserName"] == USER && login["Password"] == PASSWORD {
            let headers = format!("X-Auth-Token: {TOKEN}\r\nLocation: /redfish/v1/session/1\r\n");
            return reply("201 Created", &headers, &json!({}));
        }
        return reply("401 Unauthorized", "", &json!({}));
    }
    if request.line.starts_with("DELETE ") {
        return reply("204 No Content", "", &json!({}));
    }
    if request.line.trim_end_matches('/') == ROOT {
        let root = json!({
            "Chassis": {"@odata.id": "/redfish/v1/Chassis"},
            "Links": {"Sessions": {"@odata.id": "/redfish/v1/SessionService/Sessions"}},
        });
        return reply("200 OK", "", &root);
    }
    if request.token.as_deref() != Some(TOKEN) {
        return reply("401 Unauthorized", "", &json!({}));
    }
    let resource = match request.line.strip_prefix(ROOT).unwrap_or_default() {
        "/Chassis" => json!({"Members": [{"@odata.id": "/redfish/v1/Chassis/1"}]}),
        "/Chassis/1" => json!({
            "ChassisType": "RackMount",
            "Power": {"@odata.id": "/redfish/v1/Chassis/1/Power"},
        }),
        // Whole watts, as most controllers tell them.
        "/Chassis/1/Power" => json!({"PowerControl": [{"PowerConsumedWatts": watts.round()}]}),
        _ => return reply("404 Not Found", "", &json!({})),
    };
    reply("200 OK", "", &resource)
}

fn reply(status: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(line: &str, token: Option<&str>, body: &str) -> String {
        let request = Request {
            line: line.to_owned(),
            token: token.map(str::to_owned),
            body: body.as_bytes().to_vec(),
        };
        String::from_utf8(answer(&request, 312.4)).unwrap()
    }

    #[test]
    fn power_is_told_to_whoever_has_logged_in_only() {
        let power = "GET /redfish/v1/Chassis/1/Power";
        assert!(ask(power, None, "").contains("401"));
        assert!(ask("POST /redfish/v1/SessionService/Sessions", None, "{}").contains("401"));
        let login = json!({"UserName": USER, "Password": PASSWORD}).to_string();
        let opened = ask("POST /redfish/v1/SessionService/Sessions", None, &login);
        assert!(opened.contains(TOKEN));
        assert!(ask(power, Some(TOKEN), "").contains("312"));
        assert!(ask("GET /redfish/v1/Nowhere", Some(TOKEN), "").contains("404"));
    }
}
