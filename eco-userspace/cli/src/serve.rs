// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco serve`: the cluster's API.

use std::{env, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, ValueEnum};
use eco_agent::config::parse_duration;
use eco_serve::{AccessRule, Config, Keda, Remote, ServeError, Source, Tls, in_cluster, serve};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use crate::exit::{self, Failure, Outcome};

const HELP: &str = "\
In a cluster the API server decides who may ask (--access kubernetes, the default there); outside
of one everybody on this machine may, and nobody else can. GET /openapi.json describes the API.

Examples:
  eco serve --store http://prometheus:9090
  eco serve --agents http://node1:9510,http://node2:9510
  curl 'http://127.0.0.1:9511/v1/nodes?window=1h'";

/// Serve the cluster's API: energy and carbon of pods, namespaces, nodes and jobs.
#[derive(Args)]
#[command(after_help = HELP)]
#[command(group(ArgGroup::new("source").required(true).args(["store", "agents"])))]
pub(crate) struct ServeArgs {
    /// A Prometheus-compatible store: what comes before /api/v1/query.
    #[arg(long, env = "ECO_SERVE__STORE", value_name = "URL")]
    store: Option<String>,

    /// Headers for the store, such as a tenant's.
    #[arg(long, value_name = "NAME=VALUE", value_parser = header, requires = "store")]
    store_header: Vec<(String, String)>,

    /// The agents themselves, where there is no store: their --listen addresses.
    #[arg(
        long,
        env = "ECO_SERVE__AGENTS",
        value_name = "URL,…",
        value_delimiter = ','
    )]
    agents: Vec<String>,

    /// How often agents are asked.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    agents_interval: Duration,

    /// How far back questions may go without a store.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    agents_history: Duration,

    /// CAs in PEM for the store or the agents; the system's if absent.
    #[arg(long, env = "ECO_SERVE__CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// A file with a bearer token for the store or the agents.
    #[arg(long, env = "ECO_SERVE__TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Where to listen.
    #[arg(
        long,
        env = "ECO_SERVE__LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9511"
    )]
    listen: SocketAddr,

    /// Where KEDA's external scaler listens; nowhere if absent.
    #[arg(long, env = "ECO_SERVE__KEDA_LISTEN", value_name = "ADDR")]
    keda_listen: Option<SocketAddr>,

    /// CAs in PEM of KEDA's client certificate, which it then must have.
    #[arg(
        long,
        env = "ECO_SERVE__KEDA_CLIENT_CA_FILE",
        value_name = "FILE",
        requires = "keda_listen"
    )]
    keda_client_ca_file: Option<PathBuf>,

    /// Who may ask: whom the API server lets, or everybody on this machine.
    #[arg(long, env = "ECO_SERVE__ACCESS", value_enum)]
    access: Option<AccessArg>,

    /// A certificate in PEM, read anew when it is renewed; one of our own if absent.
    #[arg(
        long,
        env = "ECO_SERVE__TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,

    /// Its key in PEM.
    #[arg(
        long,
        env = "ECO_SERVE__TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,

    /// The API server; the one of this pod's cluster if absent.
    #[arg(long, env = "ECO_SERVE__KUBERNETES", value_name = "URL")]
    kubernetes: Option<String>,

    /// CAs in PEM for the API server.
    #[arg(
        long,
        env = "ECO_SERVE__KUBERNETES_CA_FILE",
        value_name = "FILE",
        requires = "kubernetes"
    )]
    kubernetes_ca_file: Option<PathBuf>,

    /// A file with a bearer token for the API server.
    #[arg(
        long,
        env = "ECO_SERVE__KUBERNETES_TOKEN_FILE",
        value_name = "FILE",
        requires = "kubernetes"
    )]
    kubernetes_token_file: Option<PathBuf>,

    /// What power is a mean over; at least two scrapes.
    #[arg(
        long,
        env = "ECO_SERVE__POWER_WINDOW",
        value_name = "TIME",
        default_value = "60s",
        value_parser = duration
    )]
    power_window: Duration,

    /// error, warn, info, debug or trace.
    #[arg(
        long,
        env = "ECO_SERVE__LOG",
        value_name = "LEVEL",
        default_value = "info"
    )]
    log: LevelFilter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AccessArg {
    /// Whom the API server lets.
    Kubernetes,
    /// Everybody on this machine.
    Everybody,
}

/// Serves until it is told to stop.
pub(crate) fn main(args: &ServeArgs) -> Outcome {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(std::io::stderr)
        .with_max_level(args.log)
        .init();
    let config = args.config()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure::absent(format!("no threads to serve with: {why}")))?;
    runtime.block_on(async {
        let stop = stopped().map_err(|why| Failure::absent(format!("no signals: {why}")))?;
        serve(&config, stop).await.map_err(|why| match why {
            ServeError::Config(_) => Failure::usage(why.to_string()),
            _ => Failure::absent(why.to_string()),
        })
    })?;
    Ok(exit::DONE)
}

impl ServeArgs {
    fn config(&self) -> Result<Config, Failure> {
        let api_server = self.api_server()?;
        let access = match self.access {
            Some(AccessArg::Everybody) => AccessRule::Everybody,
            Some(AccessArg::Kubernetes) => AccessRule::Delegated,
            None if api_server.is_some() => AccessRule::Delegated,
            None => AccessRule::Everybody,
        };
        let tls = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Tls::Files {
                certificate: certificate.clone(),
                key: key.clone(),
            },
            // The API server speaks nothing but TLS to an aggregated API.
            _ if access == AccessRule::Delegated => Tls::SelfSigned,
            _ => Tls::Off,
        };
        Ok(Config {
            listen: self.listen,
            keda: self.keda_listen.map(|listen| Keda {
                listen,
                client_ca_file: self.keda_client_ca_file.clone(),
            }),
            source: self.source(),
            tls,
            access,
            api_server,
            power_window: self.power_window,
        })
    }

    fn source(&self) -> Source {
        let remote = |url: &String| Remote {
            url: url.clone(),
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
            headers: self.store_header.clone(),
        };
        match &self.store {
            Some(url) => Source::Store(remote(url)),
            None => Source::Agents {
                agents: self.agents.iter().map(remote).collect(),
                interval: self.agents_interval,
                history: self.agents_history,
            },
        }
    }

    fn api_server(&self) -> Result<Option<Remote>, Failure> {
        if let Some(url) = &self.kubernetes {
            return Ok(Some(Remote {
                url: url.clone(),
                ca_file: self.kubernetes_ca_file.clone(),
                token_file: self.kubernetes_token_file.clone(),
                headers: Vec::new(),
            }));
        }
        let is_in_a_pod = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        if !is_in_a_pod && self.access != Some(AccessArg::Kubernetes) {
            return Ok(None);
        }
        in_cluster().map(Some).map_err(|why| {
            Failure::absent(format!("{why}; name the API server with --kubernetes URL"))
        })
    }
}

/// Done when this process is asked to stop.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "no time; write 5s, 1m or 1h".into())
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Shell {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn config(arguments: &[&str]) -> Config {
        let all = ["eco"].iter().chain(arguments);
        Shell::try_parse_from(all).unwrap().serve.config().unwrap()
    }

    #[test]
    fn alone_on_a_machine_it_serves_everybody_on_it_in_the_clear() {
        let config = config(&["--store", "http://127.0.0.1:9090"]);
        assert_eq!(config.access, AccessRule::Everybody);
        assert_eq!(config.tls, Tls::Off);
        assert!(config.listen.ip().is_loopback());
    }

    #[test]
    fn with_an_api_server_that_decides_and_there_is_tls() {
        let config = config(&["--store", "http://s", "--kubernetes", "https://api:6443"]);
        assert_eq!(config.access, AccessRule::Delegated);
        assert_eq!(config.tls, Tls::SelfSigned);
    }

    #[test]
    fn numbers_come_from_one_place() {
        let parse = |arguments: &[&str]| {
            let all = ["eco"].iter().chain(arguments);
            Shell::try_parse_from(all).map(|shell| shell.serve.source())
        };
        assert!(parse(&[]).is_err());
        assert!(parse(&["--store", "http://s", "--agents", "http://a"]).is_err());
        let Ok(Source::Agents { agents, .. }) = parse(&["--agents", "http://a,http://b"]) else {
            panic!("two agents are a source");
        };
        assert_eq!(agents.len(), 2);
    }
}
