// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The keys of who is pushed to.

use std::{path::PathBuf, time::Duration};

use eco_https::{ClientIdentity, Trust};
use eco_push::{
    Remote,
    otlp::{Temporality, Transport},
};

use super::{ConfigError, Settings, parse_duration};
use crate::outlets::push::{OtlpConfig, PushConfig, RemoteWriteConfig};

/// How often is sensible.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));

impl Settings {
    pub(super) fn push(&self) -> Result<PushConfig, ConfigError> {
        let temporality = match self.get("otlp.temporality") {
            "cumulative" => Temporality::Cumulative,
            "delta" => Temporality::Delta,
            _ => return Err(self.bad("otlp.temporality", "must be cumulative or delta")),
        };
        let transport = match self.get("otlp.protocol") {
            "http/protobuf" => Transport::Http,
            "grpc" => Transport::Grpc,
            _ => return Err(self.bad("otlp.protocol", "must be http/protobuf or grpc")),
        };
        let otlp = match self.remote("otlp", "endpoint")? {
            Some(mut to) => {
                to.url.truncate(to.url.trim_end_matches('/').len());
                let has_path = to.url.matches('/').count() > 2;
                if transport == Transport::Grpc && has_path {
                    let why = "has a path, which gRPC has no place for; leave it out";
                    return Err(self.bad("otlp.endpoint", why));
                }
                Some(OtlpConfig {
                    traces: self.is_true("otlp.traces")?,
                    logs: self.is_true("otlp.logs")?,
                    interval: self.push_interval("otlp.interval")?,
                    transport,
                    temporality,
                    to,
                })
            }
            None => None,
        };
        let remote_write = match self.remote("remote_write", "url")? {
            Some(mut to) => {
                to.token_file = self.some("remote_write.token_file").map(PathBuf::from);
                let is_secret = to.token_file.is_some() && !to.url.starts_with("https://");
                if is_secret && !self.is_true("remote_write.insecure")? {
                    let why = "would go unencrypted; write https, or insecure = true";
                    return Err(self.bad("remote_write.token_file", why));
                }
                Some(RemoteWriteConfig {
                    interval: self.push_interval("remote_write.interval")?,
                    to,
                })
            }
            None => None,
        };
        Ok(PushConfig { otlp, remote_write })
    }

    fn remote(&self, section: &str, address: &str) -> Result<Option<Remote>, ConfigError> {
        let key = |name: &str| format!("{section}.{name}");
        let path = |name: &str| self.some(&key(name)).map(PathBuf::from);
        let insecure = self.is_true(&key("insecure"))?;
        let certificate = path("certificate");
        let Some(url) = self.some(&key(address)) else {
            return Ok(None);
        };
        if !is_address(url) {
            let why = "must be http:// or https://, a host and a port, and hold no password";
            return Err(self.bad(&key(address), why));
        }
        let headers_file = path("headers_file");
        if headers_file.is_some() && !insecure && goes_in_the_clear(url) {
            let why = "would go unencrypted; write https, or insecure = true";
            return Err(self.bad(&key("headers_file"), why));
        }
        let trust = if insecure || url.starts_with("http://") {
            Trust::Anyone
        } else {
            Trust::Authorities(path("ca"))
        };
        Ok(Some(Remote {
            url: url.to_owned(),
            headers_file,
            token_file: None,
            trust,
            identity: certificate.map(|certificate| ClientIdentity {
                key: path("key").unwrap_or_else(|| certificate.clone()),
                certificate,
            }),
        }))
    }

    fn push_interval(&self, key: &str) -> Result<Duration, ConfigError> {
        let interval = parse_duration(self.get(key));
        interval
            .filter(|interval| (INTERVALS.0..=INTERVALS.1).contains(interval))
            .ok_or_else(|| self.bad(key, "must be 1s to 1h, such as 10s"))
    }
}

/// Whether others may read along: over plain http, but to this machine itself.
fn goes_in_the_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let address = host.parse::<std::net::IpAddr>();
    host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
}

fn is_address(url: &str) -> bool {
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'@';
        !rest.is_empty() && !rest.starts_with('/') && rest.bytes().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_this_machine_or_is_encrypted_may_carry_secrets() {
        for safe in [
            "https://collector:4318",
            "http://localhost:4318",
            "http://127.0.0.1:4318/x",
            "http://127.9.9.9",
            "http://[::1]:4318",
        ] {
            assert!(!goes_in_the_clear(safe), "{safe}");
        }
        for open in [
            "http://collector:4318",
            "http://10.0.0.1",
            "http://localhost.example",
            "http://127.0.0.1.example/",
            "http://[fe80::1]:4318",
            "http://collector/127.0.0.1",
            "http://?localhost",
        ] {
            assert!(goes_in_the_clear(open), "{open}");
        }
    }
}
