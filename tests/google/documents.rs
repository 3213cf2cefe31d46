//! The judge of requests: discovery documents find what is wrong with one.

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::readers::{Sent, undocumented};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![discovery_document_finds_what_is_wrong_with_a_request]
}

async fn discovery_document_finds_what_is_wrong_with_a_request() -> TestResult {
    let table = "/bigquery/v2/projects/p/datasets/d/tables/t";
    let external = json!({ "externalDataConfiguration": { "sourceFormat": "ICEBERG", "sourceUris": ["gs://b/m.json"] } });
    let patch = |path: String, body: Value| ("bigquery.v2", "PATCH", path, Some(body));
    let storage = |method, path: &str| ("storage.v1", method, path.to_owned(), None);
    for ((api, method, path, body), expected) in [
        (
            patch(format!("{table}?autodetect_schema=true"), external.clone()),
            None,
        ),
        (patch(table.to_owned(), json!({ "schema": null })), None),
        (
            patch(format!("{table}?autodetectSchema=true"), external.clone()),
            Some("no parameter `autodetectSchema`"),
        ),
        (
            patch(format!("{table}?autodetect_schema=yes"), external.clone()),
            Some("`autodetect_schema` is not 'yes'"),
        ),
        (
            patch(format!("{table}/rows"), external.clone()),
            Some("0 methods"),
        ),
        (
            patch(
                table.to_owned(),
                json!({ "externalDataConfiguration": { "sourceUri": "gs://b/m.json" } }),
            ),
            Some("body.externalDataConfiguration has no member `sourceUri`"),
        ),
        (
            patch(
                table.to_owned(),
                json!({ "externalDataConfiguration": { "sourceUris": "gs://b/m.json" } }),
            ),
            Some("sourceUris is no list"),
        ),
        (
            patch(table.to_owned(), json!({ "etag": "x" })),
            Some("body.etag is for the answer alone"),
        ),
        (
            patch(table.to_owned(), json!({ "labels": { "team": 1 } })),
            Some("body.labels.team is no string: 1"),
        ),
        (
            storage("DELETE", "/storage/v1/b/b/o/a%2Fb?ifGenerationMatch=1"),
            None,
        ),
        (
            storage("DELETE", "/storage/v1/b/b/o/a%2Fb?ifGenerationMatch=x"),
            Some("`ifGenerationMatch` is not 'x'"),
        ),
        (storage("DELETE", "/storage/v1/b/b/o/a/b"), Some("0 methods")),
        (
            storage("GET", "/v1/b/b/o/a"),
            Some("the path begins with storage/v1/"),
        ),
        (storage("POST", "/storage/v1/b/b/o"), None),
        (storage("POST", "/storage/v1/b"), Some("`project` is missing")),
    ] {
        let sent = Sent {
            method: method.to_owned(),
            path,
            body,
        };
        let problems = undocumented(api, std::slice::from_ref(&sent))?;
        match expected {
            None => assert!(problems.is_empty(), "{problems:?}"),
            Some(expected) => {
                assert_eq!(problems.len(), 1, "{sent:?}: {problems:?}");
                assert!(problems[0].contains(expected), "{problems:?}");
            }
        }
    }
    Ok(())
}
