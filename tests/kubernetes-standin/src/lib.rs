// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kubelet and an API server of one node, whose pods are a script.
//!
//! For what a true one does seldom: certificates that have expired, resets, 410 Gone, 429, a
//! thousand pods a minute. It speaks HTTP/1.1 over TLS with the paths, statuses, lists and watch
//! events of the true ones (Kubernetes 1.34), and no more of them than eco asks for. It is a
//! test's, so it panics where a test would.

#![expect(clippy::expect_used, reason = "it is a part of tests, which panic")]

mod certificate;
mod exchange;
mod pods;

use std::{
    collections::VecDeque,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use rustls::ServerConnection;
use serde_json::Value;

use self::pods::Pods;
pub use self::{certificate::Certificate, pods::pod};

/// How the next question is answered, instead of well.
#[derive(Clone, Debug)]
pub enum Fault {
    /// With this status and these header lines.
    Status(u16, &'static str),
    /// With these bytes as JSON.
    Bytes(Vec<u8>),
    /// With half an answer, and an end of the connection.
    Reset,
    /// Not at all.
    Silence,
    /// Well, after this time.
    Lag(Duration),
}

/// Whom the server lets in.
#[derive(Clone, Debug)]
pub enum Access {
    /// Who has this bearer token.
    Token(String),
    /// Who has a certificate signed by this CA, in PEM.
    Certificate(String),
}

/// A running server of both APIs.
pub struct Standin {
    shared: Arc<Shared>,
    address: SocketAddr,
    certificate: Certificate,
}

struct Shared {
    script: Mutex<Script>,
    changed: Condvar,
}

struct Script {
    pods: Pods,
    access: Access,
    faults: VecDeque<Fault>,
    asked: Vec<String>,
}

impl Standin {
    /// A server with a certificate for 127.0.0.1 that its own CA signed, without pods; its token
    /// is `secret`.
    #[must_use]
    pub fn start() -> Self {
        let access = Access::Token("secret".into());
        Self::with(Certificate::good("127.0.0.1"), access)
    }

    /// A server with that certificate and access.
    #[must_use]
    pub fn with(certificate: Certificate, access: Access) -> Self {
        let config = certificate.server(&access);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            script: Mutex::new(Script {
                pods: Pods::default(),
                access,
                faults: VecDeque::new(),
                asked: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (shared, config) = (Arc::clone(&of_thread), Arc::clone(&config));
                thread::spawn(move || {
                    let connection = ServerConnection::new(config).expect("a configuration");
                    exchange::converse(rustls::StreamOwned::new(connection, socket), &shared);
                });
            }
        });
        Self {
            shared,
            address,
            certificate,
        }
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its certificate.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Makes a pod, or changes the one of its uid.
    pub fn put(&self, pod: Value) {
        self.script().pods.put(pod);
        self.shared.changed.notify_all();
    }

    /// Deletes the pod of this uid.
    pub fn delete(&self, uid: &str) {
        self.script().pods.delete(uid);
        self.shared.changed.notify_all();
    }

    /// Forgets what changed until now: a watch from before gets 410 Gone.
    pub fn compact(&self) {
        self.script().pods.compact();
    }

    /// Answers the next questions badly, one after the other.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script().faults.extend(faults);
    }

    /// Lets in whoever has this token from now on.
    pub fn set_token(&self, token: &str) {
        self.script().access = Access::Token(token.into());
    }

    /// All that was asked, `GET PATH?QUERY`, those who were not let in too.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.script().asked.clone()
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.shared.script.lock().expect("no thread panics with it")
    }
}
