// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The API server: who somebody is, what they may do, and which pods there are.
//!
//! Four requests, written out, instead of a client library: `kube` with its generated types
//! would be most of what this program is compiled from.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use eco_https::escaped;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::http_client::{Answer, Body, HttpClient, HttpError, Remote};

/// Where Kubernetes puts a service account's credentials into a container.
/// <https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// The API server answers these from memory.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where the API server writes down how its front proxy is recognised.
/// <https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/>
const AUTHENTICATION: &str =
    "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

/// As `kubectl get` shows it, a row a pod and no objects: of 1,000 pods that is 250 kB in 10 ms,
/// where their metadata alone are 3.8 MB in 40 ms.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables>
const AS_TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

/// The API server as a pod finds it.
///
/// # Errors
/// When this process does not run in a pod with a service account's token.
pub fn in_cluster() -> io::Result<Remote> {
    let variable = |name| {
        let missing =
            || io::Error::other(format!("{name} is not set: this is no pod of a cluster"));
        env::var(name).map_err(|_| missing())
    };
    let host = variable("KUBERNETES_SERVICE_HOST")?;
    let port = variable("KUBERNETES_SERVICE_PORT")?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    let folder = Path::new(SERVICE_ACCOUNT);
    let file = |name| Some(folder.join(name)).filter(|path: &PathBuf| path.exists());
    Ok(Remote {
        url: format!("https://{host}:{port}"),
        ca_file: file("ca.crt"),
        token_file: file("token"),
        headers: Vec::new(),
    })
}

/// Why the API server has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The request itself failed.
    #[error("the API server: {0}")]
    Http(#[from] HttpError),
    /// It said no, or that it cannot.
    #[error("the API server says to {what}: {reason} (HTTP {status})")]
    Refused {
        /// What it was asked.
        what: &'static str,
        /// The HTTP status.
        status: u16,
        /// Its reason.
        reason: String,
    },
    /// What it says cannot be understood.
    #[error("the API server's answer to {what} makes no sense: {why}")]
    Strange {
        /// What it was asked.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// Somebody, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct User {
    #[serde(rename = "username")]
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Act {
    /// Read something that has a place in the cluster's API.
    Resource {
        verb: &'static str,
        group: &'static str,
        resource: &'static str,
        subresource: String,
        /// Empty: all of them.
        namespace: String,
        /// Empty: all of them.
        name: String,
    },
    /// Read some other path.
    Path(&'static str),
}

/// What the API server thinks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_allowed: bool,
    pub(crate) reason: String,
}

/// How requests that come through the API server are recognised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FrontProxy {
    /// CAs of its client certificate, in PEM.
    pub(crate) authorities: String,
    /// The common names that it may have; empty: any.
    pub(crate) names: Vec<String>,
    pub(crate) user_headers: Vec<String>,
    pub(crate) group_headers: Vec<String>,
    pub(crate) extra_prefixes: Vec<String>,
}

/// A client of the API server.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    client: HttpClient,
}

impl Cluster {
    pub(crate) fn new(remote: &Remote) -> Result<Self, HttpError> {
        let client = HttpClient::new(remote, DEADLINE)?;
        Ok(Self { client })
    }

    /// The names of a namespace's pods, those that a label selector picks if there is one.
    ///
    /// The list comes from the API server's own cache (`resourceVersion=0`), so that asking each
    /// time costs it little, and nothing has to be watched and kept here.
    pub(crate) async fn pods(
        &self,
        namespace: &str,
        selector: Option<&str>,
    ) -> Result<BTreeSet<String>, ClusterError> {
        let namespace = escaped(namespace);
        let selector = selector.map(|text| format!("&labelSelector={}", escaped(text)));
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods?resourceVersion=0&includeObject=None{}",
            selector.unwrap_or_default()
        );
        let answer = self.client.get(&path, AS_TABLE).await?;
        let table: Table = parse("list pods", &answer)?;
        table.names().ok_or_else(|| ClusterError::Strange {
            what: "list pods",
            why: "its table has no column of names".into(),
        })
    }

    /// Whose bearer token that is; `None`: nobody's.
    pub(crate) async fn review_token(&self, token: &str) -> Result<Option<User>, ClusterError> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            #[serde(default)]
            authenticated: bool,
            #[serde(default)]
            user: User,
        }
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token },
        });
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let Review { status } = self.review("review a token", path, &review).await?;
        Ok(status.authenticated.then_some(status.user))
    }

    /// Whether they may.
    pub(crate) async fn review_access(
        &self,
        user: &User,
        act: &Act,
    ) -> Result<Verdict, ClusterError> {
        #[derive(Deserialize)]
        struct Review {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            allowed: bool,
            #[serde(default)]
            denied: bool,
            #[serde(default)]
            reason: String,
        }
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let review = access_review(user, act);
        let Review { status } = self.review("review an access", path, &review).await?;
        Ok(Verdict {
            is_allowed: status.allowed && !status.denied,
            reason: status.reason,
        })
    }

    /// How its front proxy is recognised.
    pub(crate) async fn front_proxy(&self) -> Result<FrontProxy, ClusterError> {
        const WHAT: &str = "read extension-apiserver-authentication";
        #[derive(Deserialize)]
        struct ConfigMap {
            #[serde(default)]
            data: BTreeMap<String, String>,
        }
        let answer = self.client.get(AUTHENTICATION, "application/json").await?;
        let ConfigMap { mut data } = parse(WHAT, &answer)?;
        let mut take = |key: &str| data.remove(key).unwrap_or_default();
        let authorities = take("requestheader-client-ca-file");
        let mut list = |key: &str, otherwise: &[&str]| match take(key).trim() {
            "" => Ok(otherwise.iter().map(|&name| name.to_owned()).collect()),
            text => serde_json::from_str(text).map_err(|why| ClusterError::Strange {
                what: WHAT,
                why: format!("{key}: {why}"),
            }),
        };
        Ok(FrontProxy {
            authorities,
            names: list("requestheader-allowed-names", &[])?,
            user_headers: list("requestheader-username-headers", &["X-Remote-User"])?,
            group_headers: list("requestheader-group-headers", &["X-Remote-Group"])?,
            extra_prefixes: list("requestheader-extra-headers-prefix", &["X-Remote-Extra-"])?,
        })
    }

    async fn review<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        review: &Value,
    ) -> Result<T, ClusterError> {
        let body = review.to_string();
        let answer = self.client.post(path, Body::Json(body.as_bytes())).await?;
        parse(what, &answer)
    }
}

fn access_review(user: &User, act: &Act) -> Value {
    let mut spec = json!({
        "user": user.name,
        "uid": user.uid,
        "groups": user.groups,
        "extra": user.extra,
    });
    match act {
        Act::Resource {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
        } => {
            spec["resourceAttributes"] = json!({
                "verb": verb,
                "group": group,
                "version": "*",
                "resource": resource,
                "subresource": subresource,
                "namespace": namespace,
                "name": name,
            });
        }
        Act::Path(path) => spec["nonResourceAttributes"] = json!({ "verb": "get", "path": path }),
    }
    json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    })
}

/// A list as people read it.
/// <https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go>, `Table`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Table {
    column_definitions: Vec<Column>,
    #[serde(deserialize_with = "null_if_empty")]
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Column {
    format: String,
}

#[derive(Deserialize)]
struct Row {
    cells: Vec<Value>,
}

impl Table {
    /// What stands in the column that the API server marks as that of names; `None` where a row
    /// has no such cell.
    fn names(self) -> Option<BTreeSet<String>> {
        let mut columns = self.column_definitions.iter();
        let name = columns.position(|column| column.format == "name")?;
        let names = self.rows.iter().map(|row| {
            let cell = row.cells.get(name)?;
            cell.as_str().map(str::to_owned)
        });
        names.collect()
    }
}

/// Go writes a list that was never filled as `null`.
fn null_if_empty<'de, D, T>(list: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(list)?.unwrap_or_default())
}

fn parse<T: DeserializeOwned>(what: &'static str, answer: &Answer) -> Result<T, ClusterError> {
    if !answer.status.is_success() {
        #[derive(Deserialize)]
        struct Status {
            message: String,
        }
        let said: Result<Status, _> = serde_json::from_slice(&answer.body);
        return Err(ClusterError::Refused {
            what,
            status: answer.status.as_u16(),
            reason: said.map_or_else(|_| "no reason".into(), |status| status.message),
        });
    }
    serde_json::from_slice(&answer.body).map_err(|why| ClusterError::Strange {
        what,
        why: why.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_server::TestServer;

    async fn cluster(status: u16, body: &str) -> (Cluster, TestServer) {
        let server = TestServer::answering(status, body).await;
        let cluster = Cluster::new(&Remote::at(server.url())).unwrap();
        (cluster, server)
    }

    #[tokio::test]
    async fn pods_are_listed_by_selector() {
        let table = json!({
            "kind": "Table",
            "columnDefinitions": [{"name": "Age", "format": ""}, {"name": "Name", "format": "name"}],
            "rows": [{"cells": ["1d", "b"]}, {"cells": ["5s", "a"]}],
        });
        let (cluster, server) = cluster(200, &table.to_string()).await;
        let pods = cluster.pods("n/../x", Some("app in (a,b)")).await.unwrap();
        assert_eq!(pods.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(
            server.asked()[0].path,
            "/api/v1/namespaces/n%2F..%2Fx/pods?resourceVersion=0&includeObject=None&labelSelector=app%20in%20%28a%2Cb%29"
        );
    }

    #[tokio::test]
    async fn no_pods_are_an_empty_list_and_no_list_is_an_error() {
        let names = r#""columnDefinitions":[{"format":"name"}]"#;
        for rows in ["null", "[]"] {
            let (cluster, _server) = cluster(200, &format!("{{{names},\"rows\":{rows}}}")).await;
            let pods = cluster.pods("n", Some("app=x")).await;
            assert_eq!(pods, Ok(BTreeSet::new()), "{rows}");
        }
        for strange in [
            r#"{"kind":"Status"}"#,
            r#"{"columnDefinitions":[],"rows":[{"cells":["a"]}]}"#,
            r#"{"columnDefinitions":[{"format":"name"}],"rows":[{"cells":[]}]}"#,
            r#"{"columnDefinitions":[{"format":"name"}],"rows":[{"cells":[7]}]}"#,
        ] {
            let (cluster, _server) = cluster(200, strange).await;
            assert!(cluster.pods("n", None).await.is_err(), "{strange}");
        }
    }

    #[tokio::test]
    async fn a_token_is_somebodys_or_nobodys() {
        let yes = r#"{"status":{"authenticated":true,"user":{"username":"u","groups":["g"]}}}"#;
        let user = cluster(200, yes)
            .await
            .0
            .review_token("t")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("u", vec!["g".to_owned()])
        );
        for no in [r#"{"status":{"authenticated":false}}"#, r#"{"status":{}}"#] {
            assert_eq!(
                cluster(200, no).await.0.review_token("t").await.unwrap(),
                None
            );
        }
    }

    #[tokio::test]
    async fn what_is_both_allowed_and_denied_is_denied() {
        let user = User::default();
        for (status, is_allowed) in [
            (r#"{"allowed":true}"#, true),
            (r#"{"allowed":false,"reason":"r"}"#, false),
            (r#"{"allowed":true,"denied":true}"#, false),
        ] {
            let (cluster, _server) = cluster(201, &format!("{{\"status\":{status}}}")).await;
            let verdict = cluster
                .review_access(&user, &Act::Path("/metrics"))
                .await
                .unwrap();
            assert_eq!(verdict.is_allowed, is_allowed, "{status}");
        }
    }

    #[tokio::test]
    async fn an_api_server_that_cannot_answer_lets_nobody_in() {
        let user = User::default();
        for (status, body) in [
            (200, "{}"),
            (200, "<html>"),
            (429, ""),
            (403, "{}"),
            (200, ""),
        ] {
            let (cluster, _server) = cluster(status, body).await;
            assert!(cluster.review_token("t").await.is_err(), "{status} {body}");
            let verdict = cluster.review_access(&user, &Act::Path("/metrics")).await;
            assert!(verdict.is_err(), "{status} {body}");
        }
    }

    #[tokio::test]
    async fn the_front_proxy_is_known_by_what_the_api_server_writes_down() {
        let map = json!({"data": {
            "requestheader-client-ca-file": "PEM",
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        }});
        let (known, _server) = cluster(200, &map.to_string()).await;
        let proxy = known.front_proxy().await.unwrap();
        assert_eq!(proxy.names, ["front-proxy-client"]);
        assert_eq!(proxy.group_headers, ["X-Remote-Group"]);
        let broken = json!({"data": {"requestheader-allowed-names": "x"}}).to_string();
        let (cluster, _server) = cluster(200, &broken).await;
        let said = cluster.front_proxy().await.unwrap_err().to_string();
        assert!(said.contains("requestheader-allowed-names"), "{said}");
    }
}
