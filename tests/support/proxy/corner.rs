//! A test's corner of the server: what its requests are there, and how they come back.

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use super::Call;

/// What a request is, by its path.
pub fn call_of(method: &Method, path: &str) -> Call {
    let Some((_, place)) = path.split_once("/namespaces") else {
        let is_config = path.ends_with("/config");
        return if is_config { Call::Config } else { Call::Token };
    };
    let depth = place.matches('/').count();
    match (depth, method.as_str()) {
        (0 | 1, _) => Call::Namespace,
        (2, "GET") => Call::List,
        (2, _) => Call::CreateTable,
        (3, "GET" | "HEAD") => Call::Load,
        (3, "DELETE") => Call::Drop,
        (3, _) => Call::Commit,
        _ => Call::Credentials,
    }
}

/// The path on the server: under the root, and without a prefix, of which it has none.
pub fn inside(root: &str, path: &str) -> String {
    let Some((_, rest)) = path.split_once("/namespaces") else {
        return path.to_owned();
    };
    match rest.strip_prefix('/') {
        Some(rest) => format!("/v1/namespaces/{root}%1F{rest}"),
        None if rest.contains("parent=") => {
            let parent = format!("parent={root}%1F");
            format!("/v1/namespaces{}", rest.replace("parent=", &parent))
        }
        None => format!("/v1/namespaces?parent={root}"),
    }
}

/// The body for the server: only the creation of a namespace names one that counts.
pub fn rooted(root: &str, call: Call, body: Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(&body) else {
        return body;
    };
    match value["namespace"].as_array_mut() {
        Some(levels) if call == Call::Namespace => levels.insert(0, root.into()),
        _ => return body,
    }
    value.to_string().into()
}

/// The answer as the test knows its names.
pub fn unrooted(root: &str, call: Call, body: &Bytes) -> Bytes {
    if !matches!(call, Call::Namespace | Call::List) {
        return body.clone();
    }
    let text = String::from_utf8_lossy(body);
    text.replace(&format!("\"{root}\","), "").into()
}

/// One page of a list, as the path asks for it.
pub fn page(path: &str, size: usize, body: &Bytes) -> Bytes {
    let token = path.split_once("pageToken=").map_or("", |(_, token)| token);
    let start: usize = token.parse().unwrap_or(0);
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let all = value["identifiers"].as_array().cloned().unwrap_or_default();
    let page: Vec<&Value> = all.iter().skip(start).take(size).collect();
    let next = (start + size < all.len()).then(|| (start + size).to_string());
    json!({ "identifiers": page, "next-page-token": next })
        .to_string()
        .into()
}
