// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco-agent`: measures this node and serves what it measured.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use eco_agent::outlets::push;
use eco_agent::{
    config::{self, Config, Settings},
    core::Core,
    http::{Peer, router},
    own::{log, memory, privileges},
    query,
    service::Service,
};
use eco_push::Queue;
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{SignalKind, signal},
};

/// Measures this node's energy and apportions it to processes, containers and jobs.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  eco-agent --listen 127.0.0.1:9510\n  \
                  curl --unix-socket /run/eco/agent.sock http://eco/v1/status\n\n\
                  Each setting is also a key of /etc/eco/agent.toml and a variable \
                  (ECO_INTERVAL, ECO_IDLE__POLICY, …); flag beats variable beats file."
)]
struct Arguments {
    /// The configuration file [default: /etc/eco/agent.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve HTTP on this address too
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The Unix socket [default: /run/eco/agent.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// The tick, 100ms to 60s [default: 1s]
    #[arg(long, value_name = "TIME")]
    interval: Option<String>,
    /// Read meters under this folder instead of /sys
    #[arg(long, value_name = "DIR")]
    sysfs: Option<String>,
    /// Look processes up under this folder instead of /proc
    #[arg(long, value_name = "DIR")]
    procfs: Option<String>,
    /// Keep counters here [default: /var/lib/eco]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Serve the series of another exporter too: kepler
    #[arg(long, value_name = "NAME")]
    compat: Option<String>,
    /// Print docs/metrics.md, every metric with its labels, and end
    #[arg(long)]
    print_metrics: bool,
    /// Check the configuration, print the effective one, and end
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.print_metrics {
        print(&eco_agent::outlets::metrics::page::markdown());
        return ExitCode::SUCCESS;
    }
    let settings = match settings(&arguments) {
        Ok(settings) => settings,
        Err(why) => return fail(&why, 2),
    };
    let config = match settings.build() {
        Ok(config) => config,
        Err(why) => return fail(&why.into(), 2),
    };
    if arguments.check_config {
        print(&settings.explained());
        return ExitCode::SUCCESS;
    }
    let logs = push::log_queue(&config);
    log::start(&config.log, logs.clone());
    match run(config, logs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(&why, 3),
    }
}

fn settings(arguments: &Arguments) -> Result<Settings> {
    let mut settings = Settings::defaults();
    let file = arguments
        .config
        .clone()
        .or_else(|| std::env::var_os("ECO_CONFIG").map(Into::into));
    settings.read_file(file.as_deref())?;
    settings.read_variables(config::variables())?;
    settings.set_flag("listen", arguments.listen.clone());
    settings.set_flag("socket", arguments.socket.clone());
    settings.set_flag("interval", arguments.interval.clone());
    settings.set_flag("sysfs", arguments.sysfs.clone());
    settings.set_flag("procfs", arguments.procfs.clone());
    settings.set_flag("state", arguments.state.clone());
    settings.set_flag("compat", arguments.compat.clone());
    Ok(settings)
}

#[expect(clippy::print_stdout, reason = "what was asked for")]
fn print(text: &str) {
    print!("{text}");
}

fn fail(why: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("eco-agent: {why:#}");
    ExitCode::from(status)
}

fn run(config: Config, logs: Option<Arc<Queue>>) -> Result<()> {
    // The doors first: an agent that cannot serve should not begin to count.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _inside = runtime.enter();
    let socket = bind_socket(&config.socket)?;
    let tcp = config.listen.map(bind_tcp).transpose()?;
    let path = config.socket.clone();

    let push = push::prepare(&config, logs)?;
    let core = Core::new(config);
    // Before the first thread: each has capabilities of its own, and inherits its maker's.
    let left = privileges::drop_unused(core.needs());
    let service = Service::start(core).context("starting the tick")?;
    let outlets = push.start(&service.handle()).context("starting to push")?;
    log::findings(&service.handle().ask_and_wait(query::status)?);
    memory::release_code();
    tracing::info!(socket = %path.display(), capabilities = ?left, "eco-agent is ready");

    let served = runtime.block_on(serve(&service, socket, tcp));
    // Once more, while there is still somebody to ask.
    drop(outlets);
    drop(service);
    let _ = fs::remove_file(&path);
    tracing::info!("eco-agent has stopped");
    served
}

async fn serve(service: &Service, socket: UnixListener, tcp: Option<TcpListener>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = router(service.handle());
    let over_tcp = app.clone();
    let local = axum::serve(socket, app.into_make_service_with_connect_info::<Peer>());
    let remote = async {
        match tcp {
            Some(tcp) => {
                axum::serve(tcp, over_tcp.into_make_service_with_connect_info::<Peer>()).await
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = local.into_future() => ended.context("serving the socket"),
        ended = remote => ended.context("serving TCP"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

/// Binds the socket, for everyone: what each may see is decided by who they are.
fn bind_socket(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| {
            format!(
                "{}: cannot be made; name another with --socket",
                folder.display()
            )
        })?;
    }
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        // A socket that nobody answers on is left over from an agent that was killed.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!(
                "{shown}: another eco-agent answers here; stop it, or name another with --socket"
            );
        }
        fs::remove_file(path)
            .with_context(|| format!("{shown}: left over, and cannot be removed"))?;
    }
    let socket = UnixListener::bind(path)
        .with_context(|| format!("{shown}: cannot be bound; name another with --socket"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("{shown}: cannot be opened to users"))?;
    Ok(socket)
}

fn bind_tcp(address: std::net::SocketAddr) -> Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)
        .with_context(|| format!("{address}: cannot be listened on; name another with --listen"))?;
    listener.set_nonblocking(true)?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "whoever reaches this address sees every process's name and use");
    }
    Ok(TcpListener::from_std(listener)?)
}
