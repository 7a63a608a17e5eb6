// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is pushed to: one address, which takes a batch by HTTP or gRPC, or says why not.

use std::{cell::RefCell, fs, io, path::PathBuf, time::Duration};

use eco_https::{ClientIdentity, Options, Refusal, Rejected, SetupError, Trust};

use crate::grpc::{CallError, Channel};

/// For one batch, from the name's look-up to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// Of an answer so much is read.
const MOST_ANSWER: u64 = 64 << 10;
/// A receiver that wants to be left alone for longer is asked after this.
const MOST_PATIENCE: u64 = 300;

/// A receiver, as an operator writes it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `http://` or `https://`, a host, and the path, or what is common to all paths.
    pub url: String,
    /// Lines of `name: value`, sent with each batch; read anew each time, as secrets change.
    pub headers_file: Option<PathBuf>,
    /// A bearer token, read anew each time too.
    pub token_file: Option<PathBuf>,
    /// Whom to believe.
    pub trust: Trust,
    /// Who to be.
    pub identity: Option<ClientIdentity>,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// A file of headers or a token.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No answer.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        why: String,
    },
    /// An answer that is no yes.
    #[error("{url} answers {status}: {said}")]
    Refused {
        /// Where.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it says.
        said: String,
        /// For how long it wants to be left alone, if it says so.
        after: Option<Duration>,
    },
    /// A gRPC call that failed.
    #[error("{url} answers with gRPC status {code}: {said}")]
    Failed {
        /// Where.
        url: String,
        /// gRPC's status.
        code: u32,
        /// The beginning of what it says.
        said: String,
    },
}

/// Where a receiver takes one signal.
pub(crate) struct Address {
    /// By HTTP, below its own address.
    pub(crate) path: &'static str,
    /// By gRPC.
    pub(crate) method: &'static str,
}

/// A receiver with the connection to it, which is kept.
pub struct Destination {
    remote: Remote,
    carrier: Carrier,
    rejected: Rejected,
}

/// How a batch gets there.
enum Carrier {
    /// The headers go with each batch.
    Http(eco_https::Client, &'static [(&'static str, &'static str)]),
    Grpc(RefCell<Channel>),
}

impl Destination {
    /// Connects when it is first used. `headers` go with each batch.
    ///
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn new(
        remote: Remote,
        headers: &'static [(&'static str, &'static str)],
    ) -> Result<Self, SetupError> {
        let (agent, rejected) = eco_https::agent(&options(&remote))?;
        Ok(Self {
            remote,
            carrier: Carrier::Http(agent, headers),
            rejected,
        })
    }

    /// One that is called by gRPC. Connects when it is first used.
    ///
    /// # Errors
    /// When the address is none, or a file of certificates cannot be used.
    pub fn by_grpc(remote: Remote) -> Result<Self, SetupError> {
        let (channel, rejected) = Channel::new(&remote.url, &options(&remote))?;
        Ok(Self {
            remote,
            carrier: Carrier::Grpc(RefCell::new(channel)),
            rejected,
        })
    }

    /// Sends a batch to a path below the address, or to a method of a gRPC service; the answer's
    /// body, if it was taken.
    pub(crate) fn send(&self, to: &Address, batch: &[u8]) -> Result<Vec<u8>, PushError> {
        let headers = self.secrets()?;
        match &self.carrier {
            Carrier::Http(agent, constant) => {
                let mut request = agent.post(format!("{}{}", self.remote.url, to.path));
                for (name, value) in *constant {
                    request = request.header(*name, *value);
                }
                for (name, value) in &headers {
                    request = request.header(name, value);
                }
                self.by_http(request, to.path, batch)
            }
            Carrier::Grpc(channel) => {
                let answer = channel.borrow_mut().call(to.method, &headers, batch);
                answer.map_err(|why| self.failed(why))
            }
        }
    }

    /// The headers that only the operator knows.
    fn secrets(&self) -> Result<Vec<(String, String)>, PushError> {
        let mut headers = Vec::new();
        if let Some(path) = &self.remote.headers_file {
            for line in read(path)?.lines().filter(|line| !line.trim().is_empty()) {
                let (name, value) = line.split_once(':').ok_or_else(|| PushError::File {
                    path: path.clone(),
                    why: "a line is no `name: value`".into(),
                })?;
                headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if let Some(path) = &self.remote.token_file {
            let token = format!("Bearer {}", read(path)?.trim());
            headers.push(("authorization".to_owned(), token));
        }
        Ok(headers)
    }

    fn by_http(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        path: &str,
        batch: &[u8],
    ) -> Result<Vec<u8>, PushError> {
        let url = &format!("{}{path}", self.remote.url);
        let unreachable = |why: String| PushError::Unreachable {
            url: url.clone(),
            why,
        };
        let mut response = request.send(batch).map_err(|why| {
            let refusal = match &why {
                ureq::Error::Io(error) => Refusal::of(error),
                _ => None,
            };
            unreachable(self.told(refusal, &why))
        })?;
        let status = response.status().as_u16();
        let after = response.headers().get("retry-after");
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = eco_https::body(&mut response, MOST_ANSWER);
        let body = body.map_err(|why: io::Error| unreachable(why.to_string()))?;
        let body = body.unwrap_or_default();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let said = String::from_utf8_lossy(&body);
        let first = said.lines().next().unwrap_or_default();
        let printable = |c: &char| !c.is_control();
        Err(PushError::Refused {
            url: url.clone(),
            status,
            said: first.chars().filter(printable).take(200).collect(),
            after: after.map(|s: u64| Duration::from_secs(s.min(MOST_PATIENCE))),
        })
    }

    /// What a call that failed means for the batch.
    fn failed(&self, why: CallError) -> PushError {
        let url = self.remote.url.clone();
        match why {
            CallError::Status { code, said } => PushError::Failed { url, code, said },
            CallError::Http(status) => PushError::Refused {
                url,
                status,
                said: "this is no gRPC".to_owned(),
                after: None,
            },
            why => {
                let refusal = match &why {
                    CallError::Io(error) => Refusal::of(error),
                    _ => None,
                };
                let why = self.told(refusal, &why);
                PushError::Unreachable { url, why }
            }
        }
    }

    /// Why there is no answer, and what to do about it if that is a matter of trust.
    fn told(&self, refusal: Option<Refusal>, error: &dyn std::fmt::Display) -> String {
        let Some(refusal) = refusal else {
            return error.to_string();
        };
        match self.rejected.fingerprint() {
            Some(shown) => format!("{refusal} (SHA-256 {shown}); set `ca` to who signed it"),
            None => refusal.to_string(),
        }
    }
}

fn options(remote: &Remote) -> Options {
    Options {
        trust: remote.trust.clone(),
        identity: remote.identity.clone(),
        deadline: DEADLINE,
    }
}

fn read(path: &PathBuf) -> Result<String, PushError> {
    fs::read_to_string(path).map_err(|why| PushError::File {
        path: path.clone(),
        why: why.to_string(),
    })
}
