//! Subscriptions, by Google's emulator, and the keys of signed pushes.

use std::path::PathBuf;

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;

use super::{Checked, check};
use crate::support::front::{Front, Mishap};
use crate::support::lake::Lake;
use crate::support::pubsub::PubSub;
use crate::support::signing::{KeyServer, SigningKey};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        subscription_that_is_kept_longer_than_remembered_fails,
        settings_that_may_not_be_meant_so_are_warned_of,
        subscriptions_need_a_project,
        role_that_is_missing_is_a_warning,
        api_that_is_off_is_named,
        keys_of_signed_pushes_are_fetched,
    ]
}

/// A table that remembers so long, and is fed by a subscription.
fn configured(lake: &Lake, subscription: &str, retention: &str) -> TestResult<PathBuf> {
    let rest = format!(
        "tables: {{ t.rows: {{ from: [{{ subscription: {subscription} }}], ledger: {{ retention: {retention} }}, \
         schema: [{{ name: id, type: long }}] }} }}"
    );
    lake.config("", &rest)
}

async fn asked(lake: &Lake, pubsub: &PubSub, subscription: &str, retention: &str) -> TestResult<Checked> {
    let config = configured(lake, &pubsub.full(subscription), retention)?;
    let emulator = [("PUBSUB_EMULATOR_HOST", pubsub.host().to_owned())];
    check(&config, &[], &emulator).await
}

async fn subscription_that_is_kept_longer_than_remembered_fails() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("rows").await?;
    let settings = json!({
        "messageRetentionDuration": "604800s", "ackDeadlineSeconds": 60, "expirationPolicy": {},
    });
    pubsub.subscribe("rows", "rows", settings).await?;
    // Seven days and one are eight, and no more.
    let checked = asked(&lake, &pubsub, "rows", "8d").await?;
    assert_ne!(checked.line("subscription")?.0, "failed", "{}", checked.report);
    assert_eq!(checked.code, Some(0));
    let checked = asked(&lake, &pubsub, "rows", "191h").await?;
    assert_eq!(checked.failed(), ["subscription"]);
    let (_, told, remedy) = checked.line("subscription")?;
    assert!(
        told.contains("keeps messages for 7d, and t.rows remembers them for 191h"),
        "{told}"
    );
    assert!(
        remedy.contains("Set ledger.retention of t.rows to 8d at least"),
        "{remedy}"
    );

    let checked = asked(&lake, &pubsub, "none", "8d").await?;
    assert_eq!(checked.failed(), ["subscription"]);
    assert_eq!(checked.line("subscription")?.1, "there is no such subscription");
    Ok(())
}

async fn settings_that_may_not_be_meant_so_are_warned_of() -> TestResult {
    let (lake, pubsub) = (Lake::new()?, PubSub::new()?);
    pubsub.topic("rows").await?;
    pubsub.topic("dead").await?;
    let full = pubsub.full("x").replace("/subscriptions/x", "/topics/dead");
    let settings = json!({ "deadLetterPolicy": { "deadLetterTopic": full, "maxDeliveryAttempts": 7 } });
    pubsub.subscribe("rows", "rows", settings).await?;
    let checked = asked(&lake, &pubsub, "rows", "8d").await?;
    assert_eq!(checked.code, Some(0));
    let (outcome, told, _) = checked.line("subscription")?;
    assert_eq!(outcome, "warned");
    for said in [
        "deadline is 10s, and server.ack_deadline is 1m",
        "after 7 attempts it forwards messages",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    Ok(())
}

async fn subscriptions_need_a_project() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake, "rows", "8d")?;
    let checked = check(&config, &[], &[]).await?;
    assert_eq!(checked.code, Some(0));
    assert_eq!(checked.line("subscription")?.0, "skipped");
    let nowhere = [("PUBSUB_EMULATOR_HOST", "127.0.0.1:1".to_owned())];
    let checked = check(&config, &["--project", "p-test"], &nowhere).await?;
    assert_eq!(checked.failed(), ["subscription"]);
    assert_eq!(checked.named("projects/p-test/subscriptions/rows")?.0, "failed");
    Ok(())
}

async fn role_that_is_missing_is_a_warning() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake, "rows", "8d")?;
    for body in [
        "{\"error\":{\"code\":403,\"message\":\"User not authorized.\",\"status\":\"PERMISSION_DENIED\"}}",
        "a proxy's page",
    ] {
        let front = Front::before("http://127.0.0.1:1").await?;
        let path = "/v1/projects/p-test/subscriptions/rows";
        front.next(Method::GET, path, Mishap::Answer(403, body), 1);
        let variables = [("PUBSUB_EMULATOR_HOST", front.url())];
        let checked = check(&config, &["--project", "p-test"], &variables).await?;
        assert_eq!(checked.code, Some(0));
        let (outcome, _, remedy) = checked.line("subscription")?;
        assert_eq!(outcome, "warned");
        assert!(remedy.contains("roles/pubsub.viewer"), "{remedy}");
        assert_eq!(front.seen().len(), 1);
    }
    Ok(())
}

async fn api_that_is_off_is_named() -> TestResult {
    let lake = Lake::new()?;
    let body = "{\"error\":{\"code\":403,\"message\":\"Cloud Pub/Sub API has not been used in project p-test before or it is disabled. \
                Enable it by visiting https://console.developers.google.com/apis/api/pubsub.googleapis.com/overview?project=p-test \
                then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and \
                retry.\",\"status\":\"PERMISSION_DENIED\"}}";
    let front = Front::before("http://127.0.0.1:1").await?;
    front.next(Method::GET, "/", Mishap::Answer(403, body), 100);
    let variables = [("PUBSUB_EMULATOR_HOST", front.url())];
    let config = configured(&lake, "rows", "8d")?;
    let checked = check(&config, &["--project", "p-test"], &variables).await?;
    assert_eq!(
        (checked.code, checked.line("subscription")?.0),
        (Some(0), "warned")
    );
    let remedy = "Turn the API on, and wait some minutes: gcloud services enable pubsub.googleapis.com --project=p-test";
    assert_eq!(checked.line("subscription")?.2, remedy);

    // The same words of a catalog.
    let text = std::fs::read_to_string(&config)?;
    let (begin, end) = text.split_once("catalog:").ok_or("a catalog")?;
    let (_, end) = end.split_once('\n').ok_or("a line")?;
    std::fs::write(
        &config,
        format!(
            "{begin}catalog: {{ type: rest, uri: \"{}\" }}\n{end}",
            front.url()
        ),
    )?;
    let checked = check(&config, &[], &[]).await?;
    assert!(checked.failed().contains(&"catalog"), "{:?}", checked.failed());
    assert_eq!(checked.line("catalog")?.2, remedy);
    Ok(())
}

async fn keys_of_signed_pushes_are_fetched() -> TestResult {
    let lake = Lake::new()?;
    let keys = KeyServer::start(&[&SigningKey::new("k1")?]).await?;
    let config = configured(&lake, "projects/p/subscriptions/rows", "8d")?;
    let signed =
        "push_auth: { audience: \"https://a.example\", service_accounts: [a@p.iam.gserviceaccount.com] }";
    let text = std::fs::read_to_string(&config)?.replace("push_auth: off", signed);
    // No subscription is asked about.
    let text = text.replace("from: [{ subscription: projects/p/subscriptions/rows }], ", "");
    let config = lake.write_config(&text)?;
    let variables = [("PUSH_KEYS_EMULATOR_HOST", keys.host().to_owned())];
    let checked = check(&config, &[], &variables).await?;
    checked.passed();
    assert_eq!(checked.line("push keys")?.1, "fetched 1 keys");
    keys.fail();
    let checked = check(&config, &[], &variables).await?;
    assert_eq!(checked.failed(), ["push keys"]);
    Ok(())
}
