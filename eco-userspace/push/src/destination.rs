// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who is pushed to: one HTTP address, which takes a batch or says why not.

use std::{fs, io, path::PathBuf, time::Duration};

use eco_https::{ClientIdentity, Options, Refusal, Rejected, SetupError, Trust};

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
}

/// A receiver with the connection to it, which is kept.
pub struct Destination {
    remote: Remote,
    agent: eco_https::Client,
    rejected: Rejected,
    headers: &'static [(&'static str, &'static str)],
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
        let (agent, rejected) = eco_https::agent(&Options {
            trust: remote.trust.clone(),
            identity: remote.identity.clone(),
            deadline: DEADLINE,
        })?;
        Ok(Self {
            remote,
            agent,
            rejected,
            headers,
        })
    }

    /// Sends a batch to a path below the address; the answer's body, if it was taken.
    pub(crate) fn send(&self, path: &str, batch: &[u8]) -> Result<Vec<u8>, PushError> {
        let url = &format!("{}{path}", self.remote.url);
        let unreachable = |why: String| PushError::Unreachable {
            url: url.clone(),
            why,
        };
        let mut request = self.agent.post(url);
        for (name, value) in self.headers {
            request = request.header(*name, *value);
        }
        if let Some(path) = &self.remote.headers_file {
            for line in read(path)?.lines().filter(|line| !line.trim().is_empty()) {
                let (name, value) = line.split_once(':').ok_or_else(|| PushError::File {
                    path: path.clone(),
                    why: "a line is no `name: value`".into(),
                })?;
                request = request.header(name.trim(), value.trim());
            }
        }
        if let Some(path) = &self.remote.token_file {
            let token = format!("Bearer {}", read(path)?.trim());
            request = request.header("authorization", token);
        }
        let mut response = request
            .send(batch)
            .map_err(|why| unreachable(self.told(&why)))?;
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

    /// Why there is no answer, and what to do about it if that is a matter of trust.
    fn told(&self, error: &ureq::Error) -> String {
        let refusal = match error {
            ureq::Error::Io(error) => Refusal::of(error),
            _ => None,
        };
        let Some(refusal) = refusal else {
            return error.to_string();
        };
        match self.rejected.fingerprint() {
            Some(shown) => format!("{refusal} (SHA-256 {shown}); set `ca` to who signed it"),
            None => refusal.to_string(),
        }
    }
}

fn read(path: &PathBuf) -> Result<String, PushError> {
    fs::read_to_string(path).map_err(|why| PushError::File {
        path: path.clone(),
        why: why.to_string(),
    })
}
