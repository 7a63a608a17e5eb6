// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an operator decides.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{http_client::Remote, store::Source, tls::Tls};

/// Everything that `eco serve` can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the API listens; port 0 for any free one.
    pub listen: SocketAddr,
    /// KEDA's external scaler, if it is served.
    pub keda: Option<Keda>,
    /// Where the numbers come from.
    pub source: Source,
    /// How the API is served.
    pub tls: Tls,
    /// Who may ask.
    pub access: AccessRule,
    /// The API server: for access, and for which pods there are. May be absent where everybody
    /// may ask.
    pub api_server: Option<Remote>,
    /// The span that power is a mean over: at least two scrapes.
    pub power_window: Duration,
}

/// How KEDA's external scaler is served: with TLS, and the same certificate, if the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keda {
    /// Where it listens.
    pub listen: SocketAddr,
    /// CAs in PEM that have signed KEDA's client certificate. Without it whoever reaches the
    /// address may ask: KEDA has no other way to say who it is, so the network must be closed.
    pub client_ca_file: Option<PathBuf>,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRule {
    /// Whom the API server lets.
    Delegated,
    /// Everybody on this machine.
    Everybody,
}

/// The power window where none is given: four scrapes of the usual 15 s.
pub const USUAL_POWER_WINDOW: Duration = Duration::from_secs(60);

/// Why a configuration is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing is kept from those on the network.
    #[error(
        "everybody could read what runs here from {0}: listen on a loopback address (127.0.0.1), \
         or let the API server decide (--access kubernetes)"
    )]
    OpenToTheNetwork(SocketAddr),
    /// Tokens would be read on the way.
    #[error(
        "bearer tokens would cross the network in the clear to {0}: serve with TLS, or listen on \
         a loopback address (127.0.0.1)"
    )]
    InTheClear(SocketAddr),
    /// Nobody to ask who may.
    #[error("without an API server nobody can decide who may ask: name one with --kubernetes")]
    NobodyDecides,
    /// A client certificate is part of TLS.
    #[error("KEDA's client certificate can only be checked where there is TLS: give a certificate")]
    ClientsWithoutTls,
    /// The power window is no window.
    #[error("a power window of {0} s is not between 2 s and an hour")]
    PowerWindow(u64),
}

impl Config {
    /// Whether it may be served like that.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let is_local = self.listen.ip().is_loopback();
        match self.access {
            AccessRule::Everybody if !is_local => {
                return Err(ConfigError::OpenToTheNetwork(self.listen));
            }
            AccessRule::Delegated if self.api_server.is_none() => {
                return Err(ConfigError::NobodyDecides);
            }
            _ => {}
        }
        if let Some(keda) = &self.keda {
            if keda.client_ca_file.is_some() && self.tls == Tls::Off {
                return Err(ConfigError::ClientsWithoutTls);
            }
            if self.access == AccessRule::Everybody && !keda.listen.ip().is_loopback() {
                return Err(ConfigError::OpenToTheNetwork(keda.listen));
            }
        }
        if self.tls == Tls::Off && !is_local {
            return Err(ConfigError::InTheClear(self.listen));
        }
        let seconds = self.power_window.as_secs();
        if !(2..=3600).contains(&seconds) {
            return Err(ConfigError::PowerWindow(seconds));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, tls: Tls, access: AccessRule) -> Config {
        Config {
            listen: listen.parse().unwrap(),
            keda: None,
            source: Source::Store(Remote::at("http://store")),
            tls,
            access,
            api_server: None,
            power_window: USUAL_POWER_WINDOW,
        }
    }

    #[test]
    fn nothing_is_served_to_the_network_without_leave_or_in_the_clear() {
        use AccessRule::{Delegated, Everybody};
        let open = config("127.0.0.1:0", Tls::Off, Everybody);
        assert_eq!(open.check(), Ok(()));
        let network = config("0.0.0.0:0", Tls::SelfSigned, Everybody);
        assert!(matches!(
            network.check(),
            Err(ConfigError::OpenToTheNetwork(_))
        ));
        let mut delegated = config("[::]:0", Tls::Off, Delegated);
        assert_eq!(delegated.check(), Err(ConfigError::NobodyDecides));
        delegated.api_server = Some(Remote::at("https://api"));
        assert!(matches!(delegated.check(), Err(ConfigError::InTheClear(_))));
        delegated.tls = Tls::SelfSigned;
        assert_eq!(delegated.check(), Ok(()));
    }

    #[test]
    fn kedas_scaler_is_not_opened_to_the_network_by_an_open_api() {
        let mut config = config("127.0.0.1:0", Tls::Off, AccessRule::Everybody);
        let mut keda = Keda {
            listen: "0.0.0.0:9512".parse().unwrap(),
            client_ca_file: None,
        };
        config.keda = Some(keda.clone());
        assert!(matches!(
            config.check(),
            Err(ConfigError::OpenToTheNetwork(_))
        ));
        keda.listen = "127.0.0.1:9512".parse().unwrap();
        keda.client_ca_file = Some("ca.crt".into());
        config.keda = Some(keda);
        assert_eq!(config.check(), Err(ConfigError::ClientsWithoutTls));
    }

    #[test]
    fn a_power_window_is_long_enough_to_see_two_scrapes_and_short_enough_to_be_now() {
        let mut config = config("127.0.0.1:0", Tls::Off, AccessRule::Everybody);
        for seconds in [0, 1, 3601] {
            config.power_window = Duration::from_secs(seconds);
            assert_eq!(config.check(), Err(ConfigError::PowerWindow(seconds)));
        }
    }
}
