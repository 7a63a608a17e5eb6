// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The API server's pods of one node: a list, and then what changes.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    time::Duration,
};

use eco_https::escaped;
use serde::Deserialize;

use super::{
    pod::{ApiPod, Pod, PodList},
    service::{Service, Trouble},
};

/// Pods a page.
const PAGE: usize = 500;

/// After this long the server ends a watch by itself, and it begins anew.
const WATCH_S: u64 = 240;

/// A server that has nothing to say sends a bookmark each minute; one that does not even do
/// that has gone away without a word.
const SILENCE: Duration = Duration::from_secs(90);

/// The longest event that is read; etcd holds no object of more than 1.5 MB.
const LONGEST_EVENT: u64 = 4 << 20;

/// What changed.
pub(super) enum Change {
    /// A pod is new or other than before.
    Put(Box<Pod>),
    /// The pod of this uid was deleted.
    Gone(String),
}

/// The API server's pods of one node.
pub(super) struct Watcher<'a> {
    pub(super) service: Service,
    pub(super) node: &'a str,
    pub(super) labels: &'a [String],
}

impl Watcher<'_> {
    /// All pods, and the version to watch from.
    pub(super) fn list(&self) -> Result<(Vec<Pod>, String), Trouble> {
        let mut pods = Vec::new();
        let mut token = String::new();
        loop {
            let query = format!("{}&limit={PAGE}&continue={token}", self.selector());
            let page: PodList = self.service.json(&query)?;
            let kept = page
                .items
                .into_iter()
                .filter_map(|pod| pod.keep(self.labels));
            pods.extend(kept);
            if page.metadata.r#continue.is_empty() {
                return Ok((pods, page.metadata.resource_version));
            }
            token = escaped(&page.metadata.r#continue);
        }
    }

    /// Gives each change since `version` to `tell`, until the server ends the watch or the
    /// connection breaks; `version` is then where to go on.
    ///
    /// # Errors
    /// [`Trouble::Gone`] when the server has forgotten that version: list again.
    pub(super) fn follow(
        &self,
        version: &mut String,
        mut tell: impl FnMut(Change),
    ) -> Result<(), Trouble> {
        let query = format!(
            "{}&watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_S}&resourceVersion={}",
            self.selector(),
            escaped(version)
        );
        let mut response = self.service.stream(&query, SILENCE)?;
        let mut reader = BufReader::new(response.body_mut().as_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = reader.by_ref().take(LONGEST_EVENT);
            match limited.read_until(b'\n', &mut line) {
                // The end, or a connection that was reset: there may be more where it broke.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) if !line.ends_with(b"\n") => {
                    let is_long = line.len() as u64 == LONGEST_EVENT;
                    return if is_long {
                        Err(Trouble::TooLong)
                    } else {
                        Ok(())
                    };
                }
                Ok(_) => {}
            }
            let kind = parsed::<Kind>(&line)?.kind;
            if kind == "ERROR" {
                return Err(match parsed::<Event<Failure>>(&line)?.object.code {
                    410 => Trouble::Gone,
                    429 => Trouble::Busy(Duration::from_secs(1)),
                    code => Trouble::Status(code),
                });
            }
            let event: Event<ApiPod> = parsed(&line)?;
            let meta = &event.object.metadata;
            if !meta.resource_version.is_empty() {
                version.clone_from(&meta.resource_version);
            }
            match kind.as_str() {
                "DELETED" => tell(Change::Gone(meta.uid.clone())),
                "ADDED" | "MODIFIED" => {
                    if let Some(pod) = event.object.keep(self.labels) {
                        tell(Change::Put(Box::new(pod)));
                    }
                }
                // Bookmarks, and what is yet to be invented.
                _ => {}
            }
        }
    }

    fn selector(&self) -> String {
        let node = escaped(self.node);
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}")
    }
}

/// What an event is about; its object is passed over.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Event<T> {
    object: T,
}

/// The status that stands in an event instead of a pod.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
}

fn parsed<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, Trouble> {
    serde_json::from_slice(line).map_err(|error| Trouble::Shape(error.to_string()))
}
