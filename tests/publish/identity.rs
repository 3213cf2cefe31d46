//! Who moves the pointer: each request bears a token, and one that is refused is had anew once.

use hyper::Method;
use libtest_mimic::Trial;

use super::site::{Site, message};
use crate::support::bigquery::Mishap;
use crate::support::google::{Google, Mood};
use crate::support::server::Server;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![every_request_bears_a_token_and_a_refused_one_is_had_anew]
}

async fn every_request_bears_a_token_and_a_refused_one_is_had_anew() -> TestResult {
    let site = Site::new().await?;
    let google = Google::start(&[Mood::Named("first", 3600), Mood::Named("second", 3600)]).await?;
    let mut command = site.command(&["serve"]);
    let endpoint = format!("http://{}/bigquery/v2/", site.front.host());
    command
        .env_remove("BIGQUERY_EMULATOR_HOST")
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env("CLOUDSDK_API_ENDPOINT_OVERRIDES_BIGQUERY", endpoint)
        .env("GCE_METADATA_HOST", google.host())
        .env("HOME", site.config().parent().ok_or("a folder")?);
    site.front.next(Method::GET, Mishap::Refuse(401, "authError"), 1);
    let server = Server::start(command).await?;
    assert_eq!(server.pusher().push(&message(0)).await, 204);
    site.caught_up().await?;
    let sent = site.front.requests();
    let bearers: Vec<&str> = sent
        .iter()
        .filter_map(|sent| sent.authorization.as_deref())
        .collect();
    assert_eq!(bearers.len(), sent.len(), "a request without a token: {sent:?}");
    let (first, others) = bearers.split_first().ok_or("no request")?;
    assert_eq!(*first, "Bearer first");
    // The dataset, the external table, and what was refused.
    assert!(
        others.len() >= 4 && others.iter().all(|bearer| *bearer == "Bearer second"),
        "{others:?}"
    );
    assert_eq!(google.asked(), 2);
    site.front.documented()
}
