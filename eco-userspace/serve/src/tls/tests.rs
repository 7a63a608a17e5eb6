// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server as a whole, over real TLS.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    AccessRule, Config, Remote, Server, Source, USUAL_POWER_WINDOW,
    test_server::{Asked, TestServer},
};

/// A CA, and client certificates that it signs.
struct Authority(Issuer<'static, KeyPair>, String);

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = KeyPair::generate().unwrap();
        let pem = params.self_signed(&pair).unwrap().pem();
        Self(Issuer::new(params, pair), pem)
    }

    fn client(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let pair = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&pair, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der());
        (vec![certificate.der().clone()], key.into())
    }
}

/// The certificate under test is our own: what is tested is the other direction.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The status of a `GET`; `None` where the connection was refused.
async fn status(url: &str, identity: Option<Identity>, headers: &str) -> Option<u16> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    let (address, path) = url.strip_prefix("https://")?.split_once('/')?;
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .ok()?;
    let request = format!("GET /{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer).into_owned();
    text.split(' ').nth(1)?.parse().ok()
}

/// An API server that names the CA of its front proxy and lets alice see namespace `a`.
fn api_server(authorities: String) -> impl Fn(&Asked) -> (u16, String) + Send + Sync {
    move |asked| {
        let answer = if asked.path.contains("configmaps") {
            json!({"data": {
                "requestheader-client-ca-file": authorities,
                "requestheader-allowed-names": "[\"front-proxy-client\"]",
            }})
        } else if asked.path.contains("subjectaccessreviews") {
            let is_allowed = asked.body.contains("\"user\":\"alice\"")
                && asked.body.contains("\"namespace\":\"a\"");
            json!({"status": {"allowed": is_allowed}})
        } else {
            json!({"columnDefinitions": [{"format": "name"}], "rows": [], "status": {}})
        };
        (200, answer.to_string())
    }
}

#[tokio::test]
async fn only_the_front_proxys_certificate_says_who_asks() {
    let (proxies, strangers) = (Authority::new(), Authority::new());
    let kubernetes = TestServer::with(api_server(proxies.1.clone())).await;
    let empty = r#"{"status":"success","data":{"result":[]}}"#;
    let store = TestServer::answering(200, empty).await;
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        keda: None,
        source: Source::Store(Remote::at(store.url())),
        tls: Tls::SelfSigned,
        access: AccessRule::Delegated,
        api_server: Some(Remote::at(kubernetes.url())),
        power_window: USUAL_POWER_WINDOW,
    };
    let server = Server::bind(&config).await.unwrap();
    let url = server.url();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    let get = |path: &str, identity, headers| {
        let url = format!("{url}{path}");
        async move { status(&url, identity, headers).await }
    };
    while get("/readyz", None, "").await != Some(200) {
        tokio::task::yield_now().await;
    }

    let pods = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/a/pods/*/power_watts";
    let elsewhere = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/b/pods/*/power_watts";
    let alice = "x-remote-user: alice\r\n";
    let proxy = || Some(proxies.client("front-proxy-client"));
    assert_eq!(get(pods, proxy(), alice).await, Some(200));
    assert_eq!(get(elsewhere, proxy(), alice).await, Some(403));
    assert_eq!(
        get(pods, proxy(), "").await,
        Some(401),
        "it does not say who asks"
    );
    assert_eq!(get(pods, None, alice).await, Some(401), "no certificate");
    let other_name = Some(proxies.client("somebody-else"));
    assert_eq!(
        get(pods, other_name, alice).await,
        Some(401),
        "another name"
    );
    let other_ca = Some(strangers.client("front-proxy-client"));
    assert_eq!(get(pods, other_ca, alice).await, None, "another CA");
    assert_eq!(get("/healthz", None, "").await, Some(200));
    assert_eq!(
        get("/apis/custom.metrics.k8s.io/v1beta2", None, "").await,
        Some(200)
    );
    assert_eq!(get("/metrics", None, "").await, Some(401));

    stop.send(()).unwrap();
    running.await.unwrap();
}
