// SPDX-License-Identifier: Apache-2.0 OR MIT

use super::*;
use crate::{
    store::query::{Matcher, POD_ENERGY, Reading},
    test_server::TestServer,
};

const ONE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[
    {"metric":{"node":"n1","domain":"package"},"value":[1735689600.123,"12.5"]}]}}"#;

fn query() -> Query {
    Query {
        family: &POD_ENERGY,
        matchers: vec![Matcher::is("namespace", "a&b")],
        by: vec!["domain", "node", "pod"],
        reading: Reading::Last,
    }
}

async fn answer(status: u16, body: &str) -> Result<Rows, StoreError> {
    let server = TestServer::answering(status, body).await;
    let store = Prometheus::new(&Remote::at(server.url())).unwrap();
    store.read(&query()).await
}

async fn error(status: u16, body: &str) -> String {
    answer(status, body).await.unwrap_err().to_string()
}

fn one_of(value: &str) -> String {
    ONE.replace("12.5", value)
}

#[tokio::test]
async fn rows_have_the_labels_that_were_asked_for_in_their_order() {
    let rows = answer(200, ONE).await.unwrap();
    assert_eq!(rows.rows.len(), 1);
    assert_eq!(rows.rows[0].labels, ["package", "n1", ""]);
    assert_eq!(rows.rows[0].value, 12.5);
    assert!(rows.warnings.is_empty());
}

#[tokio::test]
async fn the_question_is_sent_whole() {
    let server = TestServer::answering(200, ONE).await;
    let store = Prometheus::new(&Remote::at(format!("{}/prefix/", server.url()))).unwrap();
    store.read(&query()).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/prefix/api/v1/query");
    assert!(
        asked[0].body.contains("namespace%3D%22a%26b%22"),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_value_that_no_counter_can_have_is_left_out_and_said() {
    for value in ["NaN", "+Inf", "-Inf", "-1", "1e999", "x", ""] {
        let rows = answer(200, &one_of(value)).await.unwrap();
        assert!(rows.rows.is_empty(), "{value}");
        assert!(
            rows.warnings[0].contains("1 values of eco_pod_energy"),
            "{value}"
        );
    }
    let rows = answer(200, &one_of("-0")).await.unwrap();
    assert!(rows.rows[0].value.is_sign_positive());
}

#[tokio::test]
async fn a_stores_own_warnings_are_passed_on() {
    let with = |warnings| ONE.replacen('{', &format!("{{\"warnings\":{warnings},"), 1);
    let rows = answer(200, &with(r#"["store-3 is down"]"#)).await.unwrap();
    assert_eq!(rows.warnings, ["store-3 is down"]);
    assert!(
        answer(200, &with("null"))
            .await
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[tokio::test]
async fn an_overloaded_store_is_told_from_one_that_refuses() {
    for status in [429, 503] {
        let said = error(status, "slow down").await;
        assert!(
            said.contains("too busy") && said.contains(&status.to_string()),
            "{said}"
        );
    }
    for status in [401, 403] {
        assert!(error(status, "").await.contains("token"), "{status}");
    }
}

#[tokio::test]
async fn a_stores_reason_is_told() {
    let said = error(
        422,
        r#"{"status":"error","errorType":"execution","error":"query timed out\nin expression"}"#,
    )
    .await;
    assert!(said.contains("query timed out in expression"), "{said}");
}

#[tokio::test]
async fn what_is_no_store_is_told_as_that() {
    for (status, body) in [
        (200, "<html>Sign in</html>"),
        (502, " <h1>Bad gateway</h1>"),
        (200, ""),
        (200, "{"),
        (200, "[]"),
        (200, "{\"status\":\"success\"}"),
        (
            200,
            r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#,
        ),
        (
            200,
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{}}]}}"#,
        ),
        (500, "\u{1b}[2Jboom"),
    ] {
        let said = error(status, body).await;
        assert!(
            said.contains("is it a store") && !said.contains('\u{1b}'),
            "{body}: {said}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_no_answer() {
    let server = TestServer::cutting_off(ONE).await;
    let store = Prometheus::new(&Remote::at(server.url())).unwrap();
    let said = store.read(&query()).await.unwrap_err().to_string();
    assert!(said.contains("broke off"), "{said}");
}
