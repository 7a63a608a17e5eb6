// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The messages of `externalscaler.proto`, with its field numbers.
//!
//! <https://github.com/kedacore/keda/blob/main/pkg/scalers/externalscaler/externalscaler.proto>

use std::collections::HashMap;

/// A ScaledObject, and what its trigger says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ScaledObjectRef {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) scaler_metadata: HashMap<String, String>,
}

/// Whether there should be any replica.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct IsActiveResponse {
    #[prost(bool, tag = "1")]
    pub(crate) result: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetMetricSpecResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) metric_specs: Vec<MetricSpec>,
}

/// A metric and what it should be.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricSpec {
    #[prost(string, tag = "1")]
    pub(crate) metric_name: String,
    /// For KEDA before 2.9; later ones read the next.
    #[prost(int64, tag = "2")]
    pub(crate) target_size: i64,
    #[prost(double, tag = "3")]
    pub(crate) target_size_float: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetMetricsRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) scaled_object_ref: Option<ScaledObjectRef>,
    #[prost(string, tag = "2")]
    pub(crate) metric_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GetMetricsResponse {
    #[prost(message, repeated, tag = "1")]
    pub(crate) metric_values: Vec<MetricValue>,
}

/// A metric and what it is.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct MetricValue {
    #[prost(string, tag = "1")]
    pub(crate) metric_name: String,
    /// For KEDA before 2.9; later ones read the next.
    #[prost(int64, tag = "2")]
    pub(crate) metric_value: i64,
    #[prost(double, tag = "3")]
    pub(crate) metric_value_float: f64,
}
