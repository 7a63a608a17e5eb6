// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Asking a Redfish service: one host, one login, JSON of a bounded size, a deadline.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eco_https::{Options, Refusal, Rejected, SetupError, Trust};
use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

/// The largest resource that is read; true ones are some kB.
const MOST_BYTES: u64 = 1 << 20;

/// For one question, from the name's look-up to the last byte. Slow controllers take 3 s.
const DEADLINE: Duration = Duration::from_secs(10);

/// For the good-bye at the end.
const LOGOUT_DEADLINE: Duration = Duration::from_millis(800);

/// Where sessions are made if the root does not say (DSP0266, 13.3.4).
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

/// Who asks whom.
#[derive(Clone)]
pub(super) struct Login {
    /// `https://host:port`, without a path.
    pub(super) base: String,
    pub(super) user: String,
    pub(super) password: String,
}

/// Why a question got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The login or the right to read is refused.
    #[error("user and password are refused; see redfish.user and redfish.password_file")]
    Refused,
    /// An HTTP status that is no success.
    #[error("{path}: HTTP status {status}")]
    Status {
        /// The resource.
        path: String,
        /// The status.
        status: u16,
    },
    /// More bytes than any true resource has.
    #[error("{path}: is larger than {} kB, which no true resource is", MOST_BYTES / 1024)]
    TooLong {
        /// The resource.
        path: String,
    },
    /// No JSON.
    #[error("{path}: is not JSON; is redfish.url a Redfish service?")]
    NotJson {
        /// The resource.
        path: String,
    },
    /// JSON of another shape.
    #[error("{path}: lacks {lacks}")]
    Shape {
        /// The resource.
        path: String,
        /// What is not there.
        lacks: &'static str,
    },
    /// A link that leads elsewhere.
    #[error("a link leads out of the service: {link:.80}")]
    Link {
        /// The link.
        link: String,
    },
    /// No connection, or one that broke.
    #[error("{why}")]
    Connection {
        /// What went wrong.
        why: String,
    },
}

impl Trouble {
    /// Whether only this resource is in trouble, not the service.
    pub(super) fn is_local(&self) -> bool {
        !matches!(self, Self::Refused | Self::Connection { .. })
    }
}

/// A connection to a service, logged in when need be.
pub(super) struct Client {
    agent: Agent,
    login: Login,
    rejected: Rejected,
    session: Session,
}

enum Session {
    None,
    Open {
        token: String,
        /// To be deleted at the end; empty if the service did not say.
        place: String,
    },
    /// The service makes no sessions: each question carries the password.
    Basic,
}

impl Client {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// For people: when the trusted certificates cannot be used.
    pub(super) fn new(login: Login, trust: &Trust) -> Result<Self, String> {
        let options = Options {
            trust: trust.clone(),
            identity: None,
            deadline: DEADLINE,
        };
        let (agent, rejected) = eco_https::agent(&options).map_err(|why| unusable(&why))?;
        Ok(Self {
            agent,
            login,
            rejected,
            session: Session::None,
        })
    }

    /// The resource at `path`.
    ///
    /// # Errors
    /// See [`Trouble`]. A session that has ended is renewed once.
    pub(super) fn get(&mut self, path: &str) -> Result<Value, Trouble> {
        let url = self.url(path)?;
        if matches!(self.session, Session::None) {
            self.log_in()?;
        }
        let mut response = self.send(&url)?;
        if response.status() == 401 && matches!(self.session, Session::Open { .. }) {
            self.session = Session::None;
            self.log_in()?;
            response = self.send(&url)?;
        }
        match response.status().as_u16() {
            200 => json_of(path, response),
            401 | 403 => Err(Trouble::Refused),
            status => Err(Trouble::Status {
                path: path.to_owned(),
                status,
            }),
        }
    }

    fn send(&self, url: &str) -> Result<Response<Body>, Trouble> {
        let request = self.agent.get(url).header("Accept", "application/json");
        let request = match &self.session {
            Session::Open { token, .. } => request.header("X-Auth-Token", token),
            Session::Basic | Session::None => request.header("Authorization", self.basic()),
        };
        request.call().map_err(|error| self.failed(error))
    }

    fn log_in(&mut self) -> Result<(), Trouble> {
        let url = self.url(SESSIONS)?;
        let body = json!({"UserName": self.login.user, "Password": self.login.password});
        let request = self
            .agent
            .post(url)
            .header("Content-Type", "application/json");
        let response = request
            .send(body.to_string())
            .map_err(|error| self.failed(error))?;
        let header = |name: &str| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        self.session = match (response.status().as_u16(), header("X-Auth-Token")) {
            (200 | 201, Some(token)) => Session::Open {
                token,
                place: header("Location").unwrap_or_default(),
            },
            // Sessions run out on controllers that allow only a few; the password still works.
            (401 | 403, _) => return Err(Trouble::Refused),
            _ => Session::Basic,
        };
        Ok(())
    }

    /// The address of `link`, which must stay within the service.
    fn url(&self, link: &str) -> Result<String, Trouble> {
        let base = &self.login.base;
        let path = link.strip_prefix(base.as_str()).unwrap_or(link);
        let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
        if path.starts_with('/') && !path.starts_with("//") && path.len() < 1_024 && is_plain {
            Ok(format!("{base}{path}"))
        } else {
            Err(Trouble::Link {
                link: link.to_owned(),
            })
        }
    }

    fn basic(&self) -> String {
        let pair = format!("{}:{}", self.login.user, self.login.password);
        format!("Basic {}", STANDARD.encode(pair))
    }

    fn failed(&self, error: ureq::Error) -> Trouble {
        let why = match &error {
            ureq::Error::Io(error) => Refusal::of(error).map_or_else(
                || format!("cannot be reached: {error}"),
                |refusal| refused(&refusal, &self.rejected),
            ),
            ureq::Error::Timeout(_) => format!("has not answered within {} s", DEADLINE.as_secs()),
            other => format!("cannot be asked: {other}"),
        };
        Trouble::Connection { why }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Session::Open { token, place } = &self.session else {
            return;
        };
        // Controllers allow few sessions, and keep forgotten ones for half an hour.
        if let Ok(url) = self.url(place) {
            let request = self.agent.delete(url).header("X-Auth-Token", token);
            let request = request
                .config()
                .timeout_global(Some(LOGOUT_DEADLINE))
                .build();
            let _ = request.call();
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// What to do about a certificate that is not believed.
fn refused(refusal: &Refusal, rejected: &Rejected) -> String {
    let advice = match refusal {
        Refusal::Expired => ": renew it in the controller",
        Refusal::UnknownIssuer => ": set redfish.ca_file",
        Refusal::WrongName => " than redfish.url says",
        Refusal::NotPinned => {
            return "its TLS certificate is not the one of redfish.fingerprint".into();
        }
        Refusal::Invalid(_) => "",
        Refusal::Tls(_) => return refusal.to_string(),
    };
    let pin = rejected.fingerprint().map_or_else(String::new, |seen| {
        format!(" (if it is the right one, pin it: redfish.fingerprint = \"{seen}\")")
    });
    format!("{refusal}{advice}{pin}")
}

fn unusable(why: &SetupError) -> String {
    match why {
        SetupError::NoSystemList => format!("{why}: set redfish.ca_file or redfish.fingerprint"),
        SetupError::Unreadable { source, .. } => format!("{why}: {source}"),
        _ => why.to_string(),
    }
}

fn json_of(path: &str, mut response: Response<Body>) -> Result<Value, Trouble> {
    let path = path.to_owned();
    match eco_https::body(&mut response, MOST_BYTES) {
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map_err(|_| Trouble::NotJson { path }),
        Ok(None) => Err(Trouble::TooLong { path }),
        Err(why) => {
            let why = format!("{path}: broke off: {why}");
            Err(Trouble::Connection { why })
        }
    }
}
