// SPDX-License-Identifier: Apache-2.0 OR MIT

use axum::{Router, body::Body, http::Request};
use serde_json::Value;
use tower_service::Service as _;

use crate::{
    http_client::Remote,
    service::{self, Service},
    store::Source,
    test_server::{Asked, TestServer},
};

/// A store that knows one pod, with or without an intensity.
fn store(asked: &Asked) -> (u16, String) {
    let knows = |name| asked.body.contains(name);
    let is_known = (knows("eco_pod_energy") || knows("eco_node_energy")) && !knows("%22absent%22");
    let row = r#"{"metric":{"node":"n1","namespace":"a","pod":"p","container":"c","domain":"package","estimated":"false","manager":"slurm"},"value":[0,"12"]}"#;
    let rows = if is_known { row } else { "" };
    let data = format!(r#"{{"resultType":"vector","result":[{rows}]}}"#);
    (200, format!(r#"{{"status":"success","data":{data}}}"#))
}

async fn get(path: &str) -> (u16, String, Value) {
    let server = TestServer::with(store).await;
    get_from(&server, path).await
}

async fn get_from(server: &TestServer, path: &str) -> (u16, String, Value) {
    let store = Source::Store(Remote::at(server.url()));
    let mut router: Router = service::router(Service::for_tests(&store));
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.call(request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    let value = serde_json::from_slice(&body).unwrap_or(Value::String(text));
    (status, kind, value)
}

#[tokio::test]
async fn a_pod_is_answered_with_its_window_and_the_books_behind_it() {
    let (status, _, pod) = get("/v1/pods/a/p?window=5m&by=container").await;
    assert_eq!(status, 200, "{pod}");
    assert_eq!(pod["kind"], "pods");
    assert_eq!(pod["window_seconds"], 300.0);
    assert_eq!((&pod["namespace"], &pod["pod"]), (&"a".into(), &"p".into()));
    assert_eq!(pod["energy_joules"]["total"], 12.0);
    assert_eq!(pod["by"][0]["container"], "c");
    assert!(pod["carbon_grams"].is_null());
    assert_eq!(pod["conservation"]["node_joules"], 12.0);
}

#[tokio::test]
async fn both_faces_say_the_same() {
    let (_, _, direct) = get("/v1/pods/a").await;
    let (_, _, aggregated) =
        get("/apis/eco-observer.github.io/v1/namespaces/a/pods?timeout=5s").await;
    assert_eq!(direct["items"], aggregated["items"]);
    assert_eq!(direct["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_known_is_absent_and_never_zero() {
    let (status, kind, problem) = get("/v1/pods/a/absent").await;
    assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("pods a/absent"),
        "{problem}"
    );
    let (status, _, many) = get("/v1/pods/absent").await;
    assert_eq!((status, many["items"].as_array().unwrap().len()), (200, 0));
    assert!(many["conservation"].is_null());
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_a_problem_document() {
    for (path, part) in [
        ("/v1/pods?window=yesterday", "no time"),
        ("/v1/pods?by=colour", "container"),
        ("/v1/pods?windw=1h", "windw"),
        ("/v1/nothing", "openapi.json"),
    ] {
        let (status, kind, problem) = get(path).await;
        assert!((400..500).contains(&status), "{path}");
        assert_eq!(kind, "application/problem+json", "{path}");
        assert_eq!(problem["status"], status);
        assert!(
            problem["detail"].as_str().unwrap().contains(part),
            "{path}: {problem}"
        );
    }
}

#[tokio::test]
async fn below_apis_an_error_is_a_status_of_kubernetes() {
    let (status, kind, error) = get("/apis/eco-observer.github.io/v1/pods?window=x").await;
    assert_eq!((status, kind.as_str()), (400, "application/json"));
    assert_eq!(
        (&error["kind"], &error["reason"]),
        (&"Status".into(), &"BadRequest".into())
    );
    assert!(error["message"].as_str().unwrap().contains("no time"));
}

#[tokio::test]
async fn a_store_that_is_down_is_told_as_that() {
    for (said, status) in [(429, 503), (500, 502), (401, 502)] {
        let server = TestServer::answering(said, "<html>").await;
        let (found, _, problem) = get_from(&server, "/v1/nodes").await;
        assert_eq!(found, status, "{problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(server.url()),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn jobs_are_found_by_path_and_by_query() {
    let server = TestServer::with(store).await;
    get_from(&server, "/v1/jobs/slurm/7").await;
    get_from(&server, "/v1/jobs?manager=slurm&job=7").await;
    let asked = server.asked();
    let jobs = asked
        .iter()
        .filter(|asked| asked.body.contains("increase%28eco_job_energy"));
    for asked in jobs.clone() {
        assert!(
            asked.body.contains("manager%3D%22slurm%22%2Cjob%3D%227%22"),
            "{asked:?}"
        );
    }
    assert_eq!(jobs.count(), 2);
}

#[tokio::test]
async fn the_document_lists_the_paths_that_are_served() {
    let (_, _, document) = get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    for (path, operation) in paths {
        let path = path
            .replace("{namespace}", "a")
            .replace("{metric}", "power_watts")
            .replace("{manager}", "slurm");
        let path = path.replace(['{', '}'], "");
        let (status, _, said) = get(&path).await;
        let is_documented =
            status == 200 || operation["get"]["responses"][status.to_string()].is_object();
        assert!(is_documented, "{path}: {status} {said}");
        let no_route = said["detail"].as_str().or(said["message"].as_str());
        assert!(
            !no_route.is_some_and(|text| text.contains("no such path")),
            "{path}"
        );
    }
    let routes = [
        include_str!("../api.rs"),
        include_str!("../service.rs"),
        include_str!("../custom_metrics.rs"),
    ];
    let routes = routes
        .iter()
        .flat_map(|source| source.split(".route(").skip(1));
    let routes: Vec<&str> = routes
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(routes.len() > 15);
    for route in routes {
        assert!(
            paths.keys().any(|path| path.ends_with(route)),
            "{route} is not documented"
        );
    }
}

#[tokio::test]
async fn what_is_served_has_the_fields_that_are_documented() {
    let (_, _, document) = get("/openapi.json").await;
    let check = |schema: &str, value: &Value| {
        let schema = &document["components"]["schemas"][schema];
        let known = schema["properties"].as_object().unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(known.contains_key(field), "{field} is not documented");
        }
        for field in schema["required"].as_array().unwrap() {
            assert!(
                value.get(field.as_str().unwrap()).is_some(),
                "{field} is missing"
            );
        }
    };
    let (_, _, one) = get("/v1/pods/a/p?by=node").await;
    check("One", &one);
    check("Conservation", &one["conservation"]);
    let (_, _, many) = get("/v1/namespaces").await;
    check("Many", &many);
    check("Item", &many["items"][0]);
    let (_, _, problem) = get("/v1/pods?window=x").await;
    check("Problem", &problem);
}
