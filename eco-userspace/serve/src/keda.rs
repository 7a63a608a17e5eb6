// SPDX-License-Identifier: Apache-2.0 OR MIT
//! KEDA's external scaler: gRPC, in the terms of its `externalscaler.proto`.
//!
//! <https://keda.sh/docs/latest/concepts/external-scalers/>
//!
//! The protocol is seven messages and five methods: they stand here as Rust, in [`messages`] and
//! in [`answer`], and not as output of a generator that every build would have to compile first.
//! KEDA's own client is what they are tested with (tests/tests).
//!
//! KEDA asks on behalf of a ScaledObject, and says of which namespace it is. A trigger can only
//! name pods of that namespace, so that nobody learns of another's through it.

pub(crate) mod messages;
mod trigger;

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, stream};
use hyper::{Request, Response, body::Incoming};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status, body::Body, server::Grpc};
use tonic_prost::ProstCodec;

use self::{
    messages::{
        GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec,
        MetricValue, ScaledObjectRef,
    },
    trigger::{Metric, Trigger},
};
use crate::{
    custom_metrics::Selector,
    pod_metrics::Pods,
    refusal::Refusal,
    service::Service,
    store::query::{INTENSITY, Matcher, Query, Reading},
};

/// How often a stream looks whether the answer has changed: the usual scrape.
const LOOKED_AT: Duration = Duration::from_secs(15);

/// A trigger's text is a few lines.
const LARGEST_MESSAGE: usize = 64 << 10;

type Answer<T> = Result<tonic::Response<T>, Status>;
type Later<T> = Pin<Box<dyn Future<Output = Answer<T>> + Send>>;
type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers one request.
pub(crate) async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Response<Body> {
    macro_rules! grpc {
        () => {
            Grpc::new(ProstCodec::default()).max_decoding_message_size(LARGEST_MESSAGE)
        };
    }
    match request.uri().path() {
        "/externalscaler.ExternalScaler/IsActive" => {
            let method = Method(move |object| is_active(Arc::clone(&service), object));
            grpc!().unary(method, request).await
        }
        "/externalscaler.ExternalScaler/StreamIsActive" => {
            let method = Method(move |object| stream_is_active(Arc::clone(&service), object));
            grpc!().server_streaming(method, request).await
        }
        "/externalscaler.ExternalScaler/GetMetricSpec" => {
            let method = Method(metric_spec);
            grpc!().unary(method, request).await
        }
        "/externalscaler.ExternalScaler/GetMetrics" => {
            let method = Method(move |asked| metrics(Arc::clone(&service), asked));
            grpc!().unary(method, request).await
        }
        "/externalscaler.ExternalScaler/StreamMetricSpec" => {
            let method = Method(stream_metric_spec);
            grpc!().server_streaming(method, request).await
        }
        path => Status::unimplemented(format!("there is no method {path}")).into_http(),
    }
}

async fn is_active(service: Arc<Service>, object: ScaledObjectRef) -> Answer<IsActiveResponse> {
    let trigger = Trigger::parse(&object.scaler_metadata)?;
    let value = value(&service, &object.namespace, &trigger).await?;
    let result = trigger.is_active(value);
    Ok(tonic::Response::new(IsActiveResponse { result }))
}

/// Tells at once, and again whenever it changes. A store that fails ends the stream with the
/// reason: KEDA opens another.
async fn stream_is_active(
    service: Arc<Service>,
    object: ScaledObjectRef,
) -> Answer<Updates<IsActiveResponse>> {
    let trigger = Trigger::parse(&object.scaler_metadata)?;
    let state = (service, object.namespace, trigger, None, Instant::now());
    let updates = stream::try_unfold(
        state,
        |(service, namespace, trigger, told, mut next)| async move {
            loop {
                sleep_until(next).await;
                next = Instant::now() + LOOKED_AT;
                let value = value(&service, &namespace, &trigger).await?;
                let result = trigger.is_active(value);
                if told != Some(result) {
                    let state = (service, namespace, trigger, Some(result), next);
                    return Ok(Some((IsActiveResponse { result }, state)));
                }
            }
        },
    );
    Ok(tonic::Response::new(updates.boxed()))
}

async fn metric_spec(object: ScaledObjectRef) -> Answer<GetMetricSpecResponse> {
    let trigger = Trigger::parse(&object.scaler_metadata)?;
    Ok(tonic::Response::new(spec(&trigger)))
}

/// Tells at once, and then has nothing to add: a target stands in the trigger, and with another
/// trigger KEDA asks anew.
async fn stream_metric_spec(object: ScaledObjectRef) -> Answer<Updates<GetMetricSpecResponse>> {
    let trigger = Trigger::parse(&object.scaler_metadata)?;
    let updates = stream::iter([Ok(spec(&trigger))]).chain(stream::pending());
    Ok(tonic::Response::new(updates.boxed()))
}

async fn metrics(service: Arc<Service>, asked: GetMetricsRequest) -> Answer<GetMetricsResponse> {
    let object = asked.scaled_object_ref.unwrap_or_default();
    let trigger = Trigger::parse(&object.scaler_metadata)?;
    let name = trigger.metric.name();
    if asked.metric_name != name {
        return Err(Status::invalid_argument(format!(
            "the trigger's metric is {name}, not {:?}",
            asked.metric_name
        )));
    }
    let value = value(&service, &object.namespace, &trigger).await?;
    Ok(tonic::Response::new(GetMetricsResponse {
        metric_values: vec![MetricValue {
            metric_name: name.to_owned(),
            metric_value: value.round() as i64,
            metric_value_float: value,
        }],
    }))
}

fn spec(trigger: &Trigger) -> GetMetricSpecResponse {
    GetMetricSpecResponse {
        metric_specs: vec![MetricSpec {
            metric_name: trigger.metric.name().to_owned(),
            // Older KEDAs read only the whole number, for which zero is no target.
            target_size: (trigger.target.round() as i64).max(1),
            target_size_float: trigger.target,
        }],
    }
}

/// The metric's value now.
async fn value(service: &Service, namespace: &str, trigger: &Trigger) -> Result<f64, Status> {
    let metric = match trigger.metric {
        Metric::Pods(metric) => metric,
        Metric::CarbonIntensity => return intensity(service, trigger).await,
    };
    let pods = Pods::Selected(trigger.label_selector.clone());
    let found = service
        .pod_metrics(metric, namespace, &pods, &Selector::default())
        .await
        .map_err(status)?;
    // Without pods, what they use is zero, and known to be. It is not where there are pods that
    // nothing is known of.
    if found.values.is_empty() && found.exist != Some(0) {
        return Err(Status::not_found(format!(
            "no {} is known of the pods that the trigger selects in namespace {namespace}",
            metric.name()
        )));
    }
    Ok(found.values.values().sum())
}

/// The mean over the nodes, or those of a zone.
async fn intensity(service: &Service, trigger: &Trigger) -> Result<f64, Status> {
    let zone = trigger.zone.iter();
    let query = Query {
        family: &INTENSITY,
        matchers: zone.map(|zone| Matcher::is("zone", zone)).collect(),
        by: vec!["node"],
        reading: Reading::Last,
    };
    let rows = service.store.read(&query).await;
    let rows = rows.map_err(|why| status(why.into()))?.rows;
    let nodes: BTreeSet<_> = rows.iter().map(|row| &row.labels).collect();
    if nodes.is_empty() {
        return Err(Status::not_found(
            "no carbon intensity is known there: configure one for the agents (carbon.zone, or \
             PUT /v1/intensity)",
        ));
    }
    Ok(rows.iter().map(|row| row.value).sum::<f64>() / nodes.len() as f64)
}

fn status(refusal: Refusal) -> Status {
    let code = match refusal.status.as_u16() {
        400 => Code::InvalidArgument,
        404 => Code::NotFound,
        _ => Code::Unavailable,
    };
    Status::new(code, refusal.detail)
}

/// A function as tonic wants it.
#[derive(Clone)]
struct Method<F>(F);

impl<F, A, T, Fut> tower_service::Service<tonic::Request<A>> for Method<F>
where
    F: FnMut(A) -> Fut,
    Fut: Future<Output = Answer<T>> + Send + 'static,
{
    type Response = tonic::Response<T>;
    type Error = Status;
    type Future = Later<T>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Status>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<A>) -> Later<T> {
        Box::pin((self.0)(request.into_inner()))
    }
}

#[cfg(test)]
mod tests;
