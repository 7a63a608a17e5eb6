// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Requests that come through the API server: it has checked who asks, and says so in headers.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::Peer;
use crate::cluster::{FrontProxy, User};

/// How the front proxy is recognised, as the API server last said. Nobody is believed before it
/// has said so.
#[derive(Debug, Default)]
pub(crate) struct Recognition(RwLock<Option<Arc<FrontProxy>>>);

impl Recognition {
    /// Takes in what the API server says. Tells whether that is new.
    pub(crate) fn learn(&self, proxy: FrontProxy) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.as_deref() != Some(&proxy);
        if is_new {
            *known = Some(Arc::new(proxy));
        }
        is_new
    }

    /// What is known.
    pub(crate) fn known(&self) -> Option<Arc<FrontProxy>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Whom the front proxy speaks for; `None` if this is not the front proxy.
    pub(super) fn user(&self, peer: &Peer, headers: &HeaderMap) -> Option<User> {
        let name = peer.common_name.as_ref()?;
        let proxy = self.known()?;
        if !proxy.names.is_empty() && !proxy.names.contains(name) {
            return None;
        }
        let all = |names: &[String]| {
            let values = names.iter().flat_map(|name| headers.get_all(name.as_str()));
            let values = values.filter_map(|value| value.to_str().ok());
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let user = all(&proxy.user_headers).into_iter().next()?;
        Some(User {
            name: user,
            uid: String::new(),
            groups: all(&proxy.group_headers),
            extra: extra(headers, &proxy.extra_prefixes),
        })
    }
}

/// `X-Remote-Extra-Scopes: a` is what they are beyond their name: `{"scopes": ["a"]}`.
fn extra(headers: &HeaderMap, prefixes: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        // Header names are in lower case here.
        let key = prefixes
            .iter()
            .find_map(|prefix| name.as_str().strip_prefix(&prefix.to_ascii_lowercase()));
        if let (Some(key), Ok(value)) = (key, value.to_str()) {
            extra
                .entry(unescaped(key))
                .or_default()
                .push(value.to_owned());
        }
    }
    extra
}

/// The API server writes what may not stand in a header's name as `%2F`.
fn unescaped(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognition() -> Recognition {
        let recognition = Recognition::default();
        let list = |name: &str| vec![name.to_owned()];
        recognition.learn(FrontProxy {
            names: list("front-proxy-client"),
            user_headers: list("X-Remote-User"),
            group_headers: list("X-Remote-Group"),
            extra_prefixes: list("X-Remote-Extra-"),
            ..FrontProxy::default()
        });
        recognition
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn peer(name: &str) -> Peer {
        Peer {
            common_name: Some(name.into()),
        }
    }

    #[test]
    fn the_front_proxy_says_who_asks() {
        let said = headers(&[
            ("x-remote-user", "alice"),
            ("x-remote-group", "devs"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-extra-example.org%2fscope", "a"),
        ]);
        let user = recognition()
            .user(&peer("front-proxy-client"), &said)
            .unwrap();
        assert_eq!(user.name, "alice");
        assert_eq!(user.groups, ["devs", "system:authenticated"]);
        assert_eq!(user.extra["example.org/scope"], ["a"]);
    }

    #[test]
    fn nobody_else_may_say_who_asks() {
        let said = headers(&[
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
        ]);
        let known = recognition();
        assert_eq!(known.user(&Peer::default(), &said), None);
        assert_eq!(known.user(&peer("kubelet"), &said), None);
        assert_eq!(
            Recognition::default().user(&peer("front-proxy-client"), &said),
            None
        );
        assert_eq!(known.user(&peer("front-proxy-client"), &headers(&[])), None);
    }

    #[test]
    fn an_escape_that_is_none_stays_as_it_is() {
        assert_eq!(unescaped("a%2Fb"), "a/b");
        assert_eq!(unescaped("a%2"), "a%2");
        assert_eq!(unescaped("%zz%"), "%zz%");
    }
}
