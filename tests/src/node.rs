// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A node of its own on this machine: a network namespace with one link, to the test, and a host
//! name of its own for what runs there.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    process::Command,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, bail};

/// Links are numbered within 198.18.0.0/15, which RFC 2544 keeps for such tests.
static LINKS: AtomicU8 = AtomicU8::new(0);

/// A node. Dropped, it is gone with all its links.
#[derive(Debug)]
pub struct Node {
    host_name: String,
    namespace: String,
    address: String,
    file: File,
}

impl Node {
    /// Sets one up. Needs root, and iproute2.
    ///
    /// # Errors
    /// When the machine does not let it.
    pub fn new(host_name: &str) -> Result<Self> {
        let link = LINKS.fetch_add(1, Relaxed);
        let id = format!("{}-{link}", std::process::id());
        let namespace = format!("eco-test-{id}");
        // Names of links are at most 15 bytes long.
        let outside = format!("eco{id}");
        // Tests of two programs may run at a time.
        let block = std::process::id() % 250;
        let (address, inside) = (
            format!("198.18.{block}.{}", 4 * link + 1),
            format!("198.18.{block}.{}", 4 * link + 2),
        );
        ip(&["netns", "add", &namespace])?;
        let path = format!("/run/netns/{namespace}");
        let node = Self {
            host_name: host_name.to_owned(),
            address: address.clone(),
            file: File::open(&path).context(path)?,
            namespace: namespace.clone(),
        };
        let within = ["-n", &namespace];
        ip(&[
            "link", "add", &outside, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])?;
        ip(&["address", "add", &format!("{address}/30"), "dev", &outside])?;
        ip(&["link", "set", &outside, "up"])?;
        let inside = format!("{inside}/30");
        ip(&[&within[..], &["address", "add", &inside, "dev", "eth0"]].concat())?;
        ip(&[&within[..], &["link", "set", "eth0", "up"]].concat())?;
        ip(&[&within[..], &["route", "add", "default", "via", &address]].concat())?;
        Ok(node)
    }

    /// The test's end of its link: all that it can reach of this machine.
    #[must_use]
    pub fn gateway(&self) -> &str {
        &self.address
    }

    /// Has `command` run there.
    pub(crate) fn hold(&self, command: &mut Command) -> io::Result<()> {
        let namespace = self.file.try_clone()?;
        let name = self.host_name.clone();
        // SAFETY: the closure makes three system calls, on an open file and on text that it owns,
        // and allocates only on failure.
        unsafe {
            command.pre_exec(move || {
                let done = libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) == 0
                    && libc::unshare(libc::CLONE_NEWUTS) == 0
                    && libc::sethostname(name.as_ptr().cast(), name.len()) == 0;
                if done {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            });
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The link goes with its other end.
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("ip {}: {said}", arguments.join(" "));
    }
    Ok(())
}
