// SPDX-License-Identifier: Apache-2.0 OR MIT
//! By a gRPC client over HTTP/2.

use std::collections::HashMap;

use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpListener, sync::watch};
use tonic::client::Grpc;

use super::*;
use crate::{
    cluster::Cluster,
    http_client::Remote,
    listener::{self, Protocol},
    store::Source,
    test_server::{Asked, TestServer},
};

/// A scaler whose store knows two pods and two nodes' intensities.
struct Scaler {
    address: String,
    _stop: watch::Sender<bool>,
    _servers: [TestServer; 2],
}

fn store(asked: &Asked) -> (u16, String) {
    let rows = if asked.body.contains("eco_carbon_intensity") {
        r#"{"metric":{"node":"n1"},"value":[0,"100"]},{"metric":{"node":"n2"},"value":[0,"300"]}"#
    } else {
        r#"{"metric":{"pod":"a","node":"n1","domain":"package"},"value":[0,"1.5"]},
           {"metric":{"pod":"b","node":"n1","domain":"package"},"value":[0,"2"]}"#
    };
    (
        200,
        format!(r#"{{"status":"success","data":{{"result":[{rows}]}}}}"#),
    )
}

fn pods(asked: &Asked) -> (u16, String) {
    let rows = match asked.path.as_str() {
        path if path.contains("none") => "",
        path if path.contains("new") => r#"{"cells":["new"]}"#,
        _ => r#"{"cells":["a"]},{"cells":["b"]}"#,
    };
    let columns = r#""columnDefinitions":[{"format":"name"}]"#;
    (200, format!(r#"{{{columns},"rows":[{rows}]}}"#))
}

impl Scaler {
    async fn start() -> Self {
        let servers = [TestServer::with(store).await, TestServer::with(pods).await];
        let source = Source::Store(Remote::at(servers[0].url()));
        let mut service = Service::for_tests(&source);
        let cluster = Cluster::new(&Remote::at(servers[1].url())).unwrap();
        Arc::get_mut(&mut service).unwrap().cluster = Some(cluster);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(listener::serve(
            listener,
            None,
            Protocol::Keda(service),
            stopped,
        ));
        Self {
            address,
            _stop: stop,
            _servers: servers,
        }
    }

    fn client(&self) -> Grpc<Client<HttpConnector, tonic::body::Body>> {
        let http = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .build_http();
        Grpc::with_origin(http, self.address.parse().unwrap())
    }

    async fn unary<A, T>(&self, method: &str, asked: A) -> Result<T, Status>
    where
        A: prost::Message + Send + Sync + 'static,
        T: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/externalscaler.ExternalScaler/{method}")
            .parse()
            .unwrap();
        let codec = ProstCodec::<A, T>::default();
        let answer = self
            .client()
            .unary(tonic::Request::new(asked), path, codec)
            .await?;
        Ok(answer.into_inner())
    }

    async fn first<T>(&self, method: &str, asked: ScaledObjectRef) -> Result<T, Status>
    where
        T: prost::Message + Default + Send + Sync + 'static,
    {
        let path = format!("/externalscaler.ExternalScaler/{method}")
            .parse()
            .unwrap();
        let codec = ProstCodec::<ScaledObjectRef, T>::default();
        let request = tonic::Request::new(asked);
        let answer = self.client().server_streaming(request, path, codec).await?;
        let first = answer.into_inner().message().await?;
        first.ok_or_else(|| Status::data_loss("it ended without a word"))
    }
}

fn object(pairs: &[(&str, &str)]) -> ScaledObjectRef {
    let owned = pairs
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()));
    ScaledObjectRef {
        name: "so".into(),
        namespace: "ns".into(),
        scaler_metadata: HashMap::from_iter(owned),
    }
}

fn asked(name: &str, pairs: &[(&str, &str)]) -> GetMetricsRequest {
    GetMetricsRequest {
        scaled_object_ref: Some(object(pairs)),
        metric_name: name.into(),
    }
}

#[tokio::test]
async fn a_trigger_on_power_gets_the_sum_over_the_pods() {
    let scaler = Scaler::start().await;
    let trigger = [("target", "2.5"), ("activation", "3")];
    let spec: GetMetricSpecResponse = scaler
        .unary("GetMetricSpec", object(&trigger))
        .await
        .unwrap();
    assert_eq!(spec.metric_specs[0].target_size_float, 2.5);
    let name = spec.metric_specs[0].metric_name.clone();
    let values: GetMetricsResponse = scaler
        .unary("GetMetrics", asked(&name, &trigger))
        .await
        .unwrap();
    assert_eq!(values.metric_values[0].metric_value_float, 3.5);
    let active: IsActiveResponse = scaler.unary("IsActive", object(&trigger)).await.unwrap();
    assert!(active.result);
}

#[tokio::test]
async fn streams_tell_the_present_at_once() {
    let scaler = Scaler::start().await;
    let dirty = [
        ("metric", "carbon_intensity"),
        ("target", "1"),
        ("activeBelow", "150"),
    ];
    let active: IsActiveResponse = scaler
        .first("StreamIsActive", object(&dirty))
        .await
        .unwrap();
    assert!(!active.result, "the mean of 100 and 300 is not below 150");
    let spec: GetMetricSpecResponse = scaler
        .first("StreamMetricSpec", object(&dirty))
        .await
        .unwrap();
    assert_eq!(spec.metric_specs[0].metric_name, "carbon_intensity");
}

#[tokio::test]
async fn without_pods_power_is_zero_and_with_unknown_ones_it_is_unknown() {
    let scaler = Scaler::start().await;
    let none = [("target", "1"), ("labelSelector", "app=none")];
    let values: GetMetricsResponse = scaler
        .unary("GetMetrics", asked("power_watts", &none))
        .await
        .unwrap();
    assert_eq!(values.metric_values[0].metric_value_float, 0.0);
    let starting = [("target", "1"), ("labelSelector", "app=new")];
    let status =
        scaler.unary::<_, GetMetricsResponse>("GetMetrics", asked("power_watts", &starting));
    assert_eq!(status.await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_as_that() {
    let scaler = Scaler::start().await;
    let trigger = [("target", "1")];
    let other = scaler.unary::<_, GetMetricsResponse>("GetMetrics", asked("beauty", &trigger));
    assert_eq!(other.await.unwrap_err().code(), Code::InvalidArgument);
    let empty = scaler.unary::<_, GetMetricsResponse>("GetMetrics", GetMetricsRequest::default());
    assert_eq!(empty.await.unwrap_err().code(), Code::InvalidArgument);
    let method = scaler.unary::<_, IsActiveResponse>("Dance", object(&trigger));
    assert_eq!(method.await.unwrap_err().code(), Code::Unimplemented);
}
