// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A management controller without a machine: DMTF Redfish on a port of this one, over TLS with
//! a certificate made for the run, or in the clear.
//!
//! Whoever asks it logs in for a session (DSP0266, 13.3.4) or sends the password each time, finds
//! the chassis from the service's root, and reads its power where a real controller has it:
//! `Power` or `EnvironmentMetrics`. What it answers, and what it was asked, is its [`Script`].

mod connection;
mod identity;
mod script;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

pub use self::{
    identity::Identity,
    script::{CHASSIS, ENVIRONMENT, POWER, ROOT, Resource, SESSIONS, Script},
};

/// A controller that answers. Its threads end with the process.
#[derive(Clone)]
pub struct Server {
    script: Arc<Mutex<Script>>,
    address: SocketAddr,
    scheme: &'static str,
}

impl Server {
    /// One that anyone on the way can read along.
    ///
    /// # Errors
    /// When there is no port for it.
    pub fn plain() -> io::Result<Self> {
        Self::start(None)
    }

    /// One that shows `identity`'s certificate.
    ///
    /// # Errors
    /// When there is no port for it, or the certificate and its key are of no use.
    pub fn tls(identity: &Identity) -> io::Result<Self> {
        Self::start(Some(identity.server()?))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let server = Self {
            script: Arc::default(),
            address: listener.local_addr()?,
            scheme: if tls.is_some() { "https" } else { "http" },
        };
        let script = Arc::clone(&server.script);
        thread::Builder::new()
            .name("redfish-standin".into())
            .spawn(move || {
                for socket in listener.incoming().flatten() {
                    let (script, tls) = (Arc::clone(&script), tls.clone());
                    thread::spawn(move || match tls.map(ServerConnection::new) {
                        Some(Ok(connection)) => {
                            connection::converse(StreamOwned::new(connection, socket), &script);
                        }
                        Some(Err(_)) => {}
                        None => connection::converse(socket, &script),
                    });
                }
            })?;
        Ok(server)
    }

    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.address.port())
    }

    /// What it goes by; nobody is answered while it is held.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        // Nothing is left half done under this lock.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a resource at a path.
    pub fn set(&self, path: &str, resource: &Value) {
        self.set_bytes(path, resource.to_string().into_bytes());
    }

    /// Puts bytes at a path, which need be no JSON.
    pub fn set_bytes(&self, path: &str, bytes: Vec<u8>) {
        self.script().tree.insert(path.to_owned(), bytes);
    }

    /// The power that it tells from now on.
    pub fn set_watts(&self, watts: f64) {
        self.script().tell_watts(watts);
    }

    /// How many requests began so: `METHOD path credential`.
    #[must_use]
    pub fn count(&self, start: &str) -> usize {
        let script = self.script();
        let began = script.asked.iter().filter(|asked| asked.starts_with(start));
        began.count()
    }
}
