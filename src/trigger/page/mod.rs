//! The status page: what this process knows of its tables, as HTML for people and as JSON for scripts.
//!
//! Nothing is asked of a store, a catalog or BigQuery for it: it shows what happened in this process since its start, and
//! says so. One [`Status`] feeds both forms. It holds no payload and no secret.

mod chart;
mod html;
mod status;
mod text;

use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

pub use self::status::Page;

use super::http::Server;
use super::problem::Problem;
use crate::error::{Error, ErrorKind, Result};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Nothing but the page's own style and script runs, nothing is fetched but the page, and nobody may frame it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| BASE64.encode(Sha256::digest(text));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The calls of the page; none where there is no page.
pub(super) fn routes(has_page: bool) -> Router<Arc<Server>> {
    if !has_page {
        return Router::new();
    }
    Router::new()
        .route("/", get(show))
        .route("/v1/tables", get(list))
        .route("/v1/tables/{table}", get(tell))
}

async fn show(State(server): State<Arc<Server>>, headers: HeaderMap, uri: Uri) -> Response {
    answer(&server, &uri, &headers, |page, permit| {
        let status = page.status(is_draining(&server), number(&uri));
        let headers = [
            (CONTENT_TYPE, "text/html; charset=utf-8"),
            (CONTENT_SECURITY_POLICY, POLICY.as_str()),
            (REFERRER_POLICY, "no-referrer"),
        ];
        let text = html::page(&status).into_bytes();
        Ok((headers, Held::body(text, permit)).into_response())
    })
}

async fn list(State(server): State<Arc<Server>>, headers: HeaderMap, uri: Uri) -> Response {
    answer(&server, &uri, &headers, |page, permit| {
        Ok(json(&page.status(is_draining(&server), number(&uri)), permit))
    })
}

async fn tell(
    State(server): State<Arc<Server>>,
    headers: HeaderMap,
    uri: Uri,
    table: Result<Path<String>, PathRejection>,
) -> Response {
    answer(&server, &uri, &headers, |page, permit| {
        let found = table.ok().and_then(|Path(table)| page.table(&table));
        let unknown = || {
            let message = "The configuration has no table of this name, and this process has met none.";
            Error::new(ErrorKind::NotFound, message)
        };
        Ok(json(&found.ok_or_else(unknown)?, permit))
    })
}

/// An answer, counted until the last of it is sent: a viewer may take long to read it.
struct Held {
    body: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl Held {
    fn body(body: Vec<u8>, permit: OwnedSemaphorePermit) -> Bytes {
        let _permit = permit;
        Bytes::from_owner(Self { body, _permit })
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Answers whoever may look, a few at a time. What is shown is of this moment, and for no cache.
fn answer(
    server: &Server,
    uri: &Uri,
    headers: &HeaderMap,
    show: impl FnOnce(&Page, OwnedSemaphorePermit) -> Result<Response>,
) -> Response {
    let shown = match &server.page {
        Some(page) => page.access.check_viewer(uri, headers).and_then(|()| {
            let permit = page.answers.clone().try_acquire_owned();
            let full = |_| {
                Error::new(
                    ErrorKind::Full,
                    "As many look at the status page as may at one time.",
                )
            };
            show(page, permit.map_err(full)?)
        }),
        None => Err(Error::new(ErrorKind::NotFound, "There is no status page.")),
    };
    let mut response = shown.unwrap_or_else(refusal);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn refusal(error: Error) -> Response {
    let kind = error.kind();
    let status = match kind {
        // Missing is what was asked for, not a table that should be there.
        ErrorKind::NotFound => 404,
        kind => kind.api_status(),
    };
    let mut response = Problem(error).with_status(status);
    if kind == ErrorKind::Unauthenticated {
        // Beside the bearer token, which it names already: a browser asks for a password then.
        let challenge = HeaderValue::from_static("Basic realm=\"landfast\", charset=\"UTF-8\"");
        response.headers_mut().append(WWW_AUTHENTICATE, challenge);
    }
    response
}

fn json(value: &impl Serialize, permit: OwnedSemaphorePermit) -> Response {
    // Numbers and text always serialise.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    ([(CONTENT_TYPE, "application/json")], Held::body(body, permit)).into_response()
}

fn is_draining(server: &Server) -> bool {
    server.draining.load(std::sync::atomic::Ordering::Acquire)
}

/// Which page of tables is asked for: the first, unless the query says another.
fn number(uri: &Uri) -> usize {
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let mut pages = query.filter(|(name, _)| name == "page");
    let page = pages.next().and_then(|(_, number)| number.parse().ok());
    page.unwrap_or(1)
}
