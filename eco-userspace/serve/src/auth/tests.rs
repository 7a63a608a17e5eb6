// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::{
    http_client::Remote,
    test_server::{Asked, TestServer},
};

/// An API server that knows one token, whose owner sees one namespace.
fn tenants(asked: &Asked) -> (u16, String) {
    let is_token = asked.path.ends_with("tokenreviews");
    let status = match is_token {
        true if asked.body.contains("\"good\"") => {
            r#"{"authenticated":true,"user":{"username":"tenant","groups":["g"]}}"#
        }
        true => r#"{"authenticated":false}"#,
        false if asked.body.contains(r#""namespace":"theirs""#) => r#"{"allowed":true}"#,
        false => r#"{"allowed":false,"reason":"no role"}"#,
    };
    (201, format!("{{\"status\":{status}}}"))
}

async fn access(server: &TestServer) -> Access {
    let cluster = Cluster::new(&Remote::at(server.url())).unwrap();
    Access::delegated(cluster, Arc::default())
}

fn token(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::AUTHORIZATION,
        format!("Bearer {token}").parse().unwrap(),
    );
    headers
}

fn pods_of(namespace: &str) -> Act {
    Act::Resource {
        verb: "get",
        group: "custom.metrics.k8s.io",
        resource: "pods",
        subresource: "power_watts".into(),
        namespace: namespace.into(),
        name: "*".into(),
    }
}

#[tokio::test]
async fn a_tenant_sees_their_namespace_and_is_refused_elsewhere() {
    let server = TestServer::with(tenants).await;
    let access = access(&server).await;
    let user = access
        .caller(&Peer::default(), &token("good"))
        .await
        .unwrap();
    let caller = Caller(user);
    access.check(&caller, pods_of("theirs")).await.unwrap();
    let refusal = access.check(&caller, pods_of("others")).await.unwrap_err();
    assert_eq!(refusal.status, 403);
    assert_eq!(
        refusal.detail,
        "user \"tenant\" may not get pods/power_watts of custom.metrics.k8s.io in namespace \
         \"others\": no role"
    );
}

#[tokio::test]
async fn whom_nobody_knows_is_not_let_in() {
    let server = TestServer::with(tenants).await;
    let access = access(&server).await;
    let basic = {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Basic Zm9v".parse().unwrap());
        headers
    };
    for headers in [token("bad"), token(""), basic, HeaderMap::new()] {
        let refusal = access.caller(&Peer::default(), &headers).await.unwrap_err();
        assert_eq!(refusal.status, 401, "{headers:?}");
    }
}

#[tokio::test]
async fn headers_of_a_stranger_do_not_say_who_asks() {
    let server = TestServer::with(tenants).await;
    let access = access(&server).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-remote-user", "admin".parse().unwrap());
    let refusal = access.caller(&Peer::default(), &headers).await.unwrap_err();
    assert_eq!(refusal.status, 401);
}

#[tokio::test]
async fn the_api_server_is_asked_once_for_the_same() {
    let server = TestServer::with(tenants).await;
    let access = access(&server).await;
    for _ in 0..3 {
        let user = access
            .caller(&Peer::default(), &token("good"))
            .await
            .unwrap();
        access
            .check(&Caller(user), pods_of("theirs"))
            .await
            .unwrap();
    }
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn an_api_server_that_fails_lets_nobody_in_and_is_asked_again() {
    let server = TestServer::answering(500, "").await;
    let access = access(&server).await;
    for asked in 1..3 {
        let refusal = access
            .caller(&Peer::default(), &token("good"))
            .await
            .unwrap_err();
        assert_eq!(refusal.status, 502);
        assert_eq!(server.asked().len(), asked);
    }
}
