// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How eco serve itself does: requests and how long they took, by route.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};

use crate::service::Service;

/// Upper bounds of the buckets, in seconds: around what is promised, 50 ms for a pod and 150 ms
/// for a namespace.
const BOUNDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.5, 2.0];

/// Counters by route and status. Routes are patterns, so there are few of them.
#[derive(Debug, Default)]
pub(crate) struct OwnMetrics {
    routes: Mutex<BTreeMap<String, Route>>,
}

#[derive(Debug, Default)]
struct Route {
    by_status: BTreeMap<u16, u64>,
    /// Requests no slower than each bound.
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

/// Notes each request.
pub(crate) async fn record(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    service.own.note(route, status, begun.elapsed());
    response
}

impl OwnMetrics {
    fn note(&self, route: String, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let route = routes.entry(route).or_default();
        *route.by_status.entry(status).or_default() += 1;
        route.count += 1;
        route.seconds += seconds;
        for (within, bound) in route.within.iter_mut().zip(BOUNDS) {
            *within += u64::from(seconds <= bound);
        }
    }

    /// In the text format of Prometheus.
    pub(crate) fn text(&self) -> String {
        let mut out = format!(
            "# HELP eco_serve_build_info This program.\n# TYPE eco_serve_build_info gauge\n\
             eco_serve_build_info{{version=\"{}\"}} 1\n\
             # HELP eco_serve_requests_total Requests, by route and status.\n\
             # TYPE eco_serve_requests_total counter\n",
            env!("CARGO_PKG_VERSION")
        );
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, route) in routes.iter() {
            for (status, count) in &route.by_status {
                let labels = format!("{{route=\"{name}\",code=\"{status}\"}}");
                let _ = writeln!(out, "eco_serve_requests_total{labels} {count}");
            }
        }
        out.push_str(
            "# HELP eco_serve_request_seconds Time that a request takes, the store's included.\n\
             # TYPE eco_serve_request_seconds histogram\n",
        );
        for (name, route) in routes.iter() {
            let infinite = (f64::INFINITY, route.count);
            let buckets = BOUNDS.into_iter().zip(route.within).chain([infinite]);
            for (bound, count) in buckets {
                let bound = if bound.is_finite() {
                    bound.to_string()
                } else {
                    "+Inf".to_owned()
                };
                let _ = writeln!(
                    out,
                    "eco_serve_request_seconds_bucket{{route=\"{name}\",le=\"{bound}\"}} {count}"
                );
            }
            let _ = write!(
                out,
                "eco_serve_request_seconds_sum{{route=\"{name}\"}} {}\n\
                 eco_serve_request_seconds_count{{route=\"{name}\"}} {}\n",
                route.seconds, route.count
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_bucket() {
        let own = OwnMetrics::default();
        own.note("/v1/pods".into(), 200, Duration::from_millis(7));
        own.note("/v1/pods".into(), 404, Duration::from_secs(9));
        let text = own.text();
        for line in [
            "eco_serve_requests_total{route=\"/v1/pods\",code=\"404\"} 1",
            "eco_serve_request_seconds_bucket{route=\"/v1/pods\",le=\"0.005\"} 0",
            "eco_serve_request_seconds_bucket{route=\"/v1/pods\",le=\"0.01\"} 1",
            "eco_serve_request_seconds_bucket{route=\"/v1/pods\",le=\"2\"} 1",
            "eco_serve_request_seconds_bucket{route=\"/v1/pods\",le=\"+Inf\"} 2",
            "eco_serve_request_seconds_count{route=\"/v1/pods\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
