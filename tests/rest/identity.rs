//! Who we are to the server: tokens that are given, refused, renewed, and never shown.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use futures::future::join_all;
use landfast::catalog::{Catalog, Patience, RestCatalog};
use landfast::config::{OAuth2Config, RestAuth, RestCatalogConfig};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;

use super::{World, Writer, commits};
use crate::support::clock::TestClock;
use crate::support::faults::Gate;
use crate::support::proxy::{Call, Identity, Trouble};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        bearer_token_is_sent_and_never_shown,
        token_is_had_by_client_credentials_and_renewed_ahead,
        refused_token_is_renewed_once_and_the_commit_lands_once,
        identity_that_stays_refused_is_rejected_without_effect,
        wrong_credential_is_rejected_and_never_shown,
        token_endpoint_that_fails_leaves_a_commit_unsent,
        refused_commit_for_which_no_other_token_is_had_tells_both,
        failed_renewal_leaves_the_token_that_still_lasts,
        many_requests_fetch_one_token,
    ]
}

fn oauth2(world: &World, credential: &str) -> RestCatalogConfig {
    RestCatalogConfig {
        auth: RestAuth::OAuth2(OAuth2Config {
            credential: credential.into(),
            scope: "catalog".to_owned(),
            oauth2_server_uri: None,
        }),
        ..world.config()
    }
}

fn clients(expires_in: Option<u64>) -> Identity {
    Identity::OAuth2 {
        id: Some("landfast"),
        secret: "s3cret:x",
        expires_in,
    }
}

const CREDENTIAL: &str = "landfast:s3cret:x";

async fn with_clock(world: &World, clock: &Arc<TestClock>) -> TestResult<Arc<RestCatalog>> {
    let config = oauth2(world, CREDENTIAL);
    Ok(Arc::new(
        world.open_at(&config, Patience::default(), clock.clone()).await?,
    ))
}

async fn bearer_token_is_sent_and_never_shown() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(Identity::Bearer("s3cret-token"));
    let with = |token: &str| RestCatalogConfig {
        auth: RestAuth::Bearer { token: token.into() },
        ..world.config()
    };
    let catalog = world.open(&with("s3cret-token"), Patience::default()).await?;
    create(&catalog, &orders()).await?;
    assert!(!format!("{catalog:?}").contains("s3cret"));
    let error = world
        .open(&with("wr0ng-token"), Patience::default())
        .await
        .expect_err("it is wrong");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    // The proxy's words quote the token.
    let report = error.report();
    assert!(report.contains("Not so, Bearer ***"), "{report}");
    assert!(
        report.contains("catalog.auth") && report.contains(&world.proxy.url()),
        "{report}"
    );
    assert!(!report.contains("wr0ng"), "{report}");
    Ok(())
}

async fn token_is_had_by_client_credentials_and_renewed_ahead() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    create(catalog.as_ref(), &orders()).await?;
    clock.advance(TimeDelta::seconds(3530));
    catalog.load_table(&orders()).await?;
    assert_eq!(world.proxy.tokens_given(), 1);
    clock.advance(TimeDelta::seconds(15));
    catalog.load_table(&orders()).await?;
    assert_eq!(world.proxy.tokens_given(), 2, "a minute before its end");
    let loads = world.proxy.seen(Call::Load);
    let tokens: Vec<_> = loads
        .iter()
        .map(|load| load.headers["authorization"].clone())
        .collect();
    assert_eq!(tokens.len(), 2, "no request was refused");
    assert_ne!(tokens[0], tokens[1]);
    let form = &world.proxy.seen(Call::Token)[0];
    assert_eq!(form.path, "/v1/oauth/tokens");
    assert!(String::from_utf8_lossy(&form.body).contains("scope=catalog"));
    Ok(())
}

async fn refused_token_is_renewed_once_and_the_commit_lands_once() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(None));
    world.proxy.always(
        Call::Config,
        Trouble::alter(|config| config["idempotency-key-lifetime"] = "PT30M".into()),
    );
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    let mut writer = Writer::new(catalog).await?;
    for (id, status) in [(0, 401), (1, 419), (2, 403)] {
        // A 403 is not taken for the token's fault while it is young.
        clock.advance(TimeDelta::seconds(61));
        world.proxy.once(Call::Commit, Trouble::Answer(status));
        writer.append(id).await?;
    }
    world.proxy.revoke();
    writer.append(3).await?;
    let mut sent = world.proxy.seen(Call::Commit);
    assert_eq!(sent.len(), 9);
    // The first row's own commit, behind that of the empty snapshot which met the first refusal.
    sent.remove(2);
    for pair in sent.chunks(2) {
        let of = |name: &str| (pair[0].headers[name].clone(), pair[1].headers[name].clone());
        let (token, fresh) = of("authorization");
        assert_ne!(token, fresh);
        // The same request, so the same key.
        let (key, again) = of("idempotency-key");
        assert_eq!(key, again);
        assert_eq!(pair[0].body, pair[1].body);
    }
    assert_eq!(world.proxy.tokens_given(), 5);
    world.proxy.ask(Identity::Anyone);
    assert_eq!(world.ids().await?, [0, 1, 2, 3]);
    Ok(())
}

async fn identity_that_stays_refused_is_rejected_without_effect() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    let mut writer = Writer::new(catalog).await?;
    let before = world.truth().await?;
    // With a fresh token it is sent once more; a 403 is not taken for the fault of a young one.
    for (status, later, times) in [(401, 0, 2), (403, 59, 1), (403, 2, 2), (419, 0, 2)] {
        clock.advance(TimeDelta::seconds(later));
        world.proxy.always(Call::Commit, Trouble::Answer(status));
        let sent = commits(&world);
        let mut changes = writer.row(1).await?;
        let error = writer.attempt(&mut changes).await.expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
        assert!(!error.report().contains("t0ken-"), "{}", error.report());
        assert_eq!(commits(&world), sent + times, "{status} after {later} s");
        world.proxy.clear();
    }
    assert_eq!(world.truth().await?, before);
    Ok(())
}

async fn wrong_credential_is_rejected_and_never_shown() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(None));
    for credential in ["landfast:wr0ng", "wr0ng"] {
        let config = oauth2(&world, credential);
        let error = world
            .open(&config, Patience::default())
            .await
            .expect_err("it is wrong");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        let report = error.report();
        assert!(
            report.contains("invalid_client") && report.contains("/v1/oauth/tokens"),
            "{report}"
        );
        assert!(!report.contains("wr0ng"), "{report}");
    }
    assert_eq!(
        world.proxy.seen(Call::Token).len(),
        2,
        "what is refused is not asked again"
    );
    world.proxy.ask(Identity::OAuth2 {
        id: None,
        secret: "alone",
        expires_in: None,
    });
    world.open(&oauth2(&world, "alone"), Patience::default()).await?;
    Ok(())
}

async fn token_endpoint_that_fails_leaves_a_commit_unsent() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    let mut writer = Writer::new(catalog.clone()).await?;
    clock.advance(TimeDelta::hours(2));
    world.proxy.always(Call::Token, Trouble::Answer(503));
    let sent = commits(&world);
    let mut changes = writer.row(1).await?;
    let error = writer.attempt(&mut changes).await.expect_err("there is no token");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert!(error.report().contains("was not sent"), "{}", error.report());
    assert_eq!(commits(&world), sent);
    // What only reads waits for the endpoint to come back.
    world.proxy.clear();
    world.proxy.once(Call::Token, Trouble::Answer(503));
    catalog.load_table(&orders()).await?;
    writer.append(1).await?;
    Ok(())
}

async fn refused_commit_for_which_no_other_token_is_had_tells_both() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let mut writer = Writer::new(with_clock(&world, &clock).await?).await?;
    for (id, status) in [(0, 401), (1, 403)] {
        let mut changes = writer.row(id).await?;
        clock.advance(TimeDelta::seconds(61));
        world.proxy.once(Call::Commit, Trouble::Answer(status));
        world.proxy.always(Call::Token, Trouble::Answer(503));
        let sent = commits(&world);
        let error = writer.attempt(&mut changes).await.expect_err("it is refused");
        // It is tried again, since the token may come.
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        assert_eq!(commits(&world), sent + 1);
        let report = error.report();
        for told in [format!("status: {status}"), "status: 503".to_owned()] {
            assert!(report.contains(&told), "{report}");
        }
        assert!(!report.contains("was not sent"), "{report}");
        world.proxy.clear();
        writer.attempt(&mut changes).await?;
    }
    Ok(())
}

async fn failed_renewal_leaves_the_token_that_still_lasts() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    create(catalog.as_ref(), &orders()).await?;
    world.proxy.always(Call::Token, Trouble::Reset);
    clock.advance(TimeDelta::seconds(3560));
    catalog.load_table(&orders()).await?;
    assert_eq!(world.proxy.seen(Call::Token).len(), 2, "it was tried");
    assert_eq!(world.proxy.tokens_given(), 1);
    Ok(())
}

async fn many_requests_fetch_one_token() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(clients(Some(3600)));
    let clock = TestClock::at(Utc::now());
    let catalog = with_clock(&world, &clock).await?;
    create(catalog.as_ref(), &orders()).await?;
    clock.advance(TimeDelta::hours(2));
    let ident = orders();
    // The second fetch fails for all that waited for it, and is not made again by each of them.
    for (fetches, secret, is_had) in [(2, "s3cret:x", true), (3, "another", false)] {
        let gate = Gate::new();
        world.proxy.once(Call::Token, Trouble::Hold(gate.clone()));
        let loads = join_all((0..8).map(|_| catalog.load_table(&ident)));
        let release = async {
            gate.reached().await;
            world.proxy.ask(Identity::OAuth2 {
                id: Some("landfast"),
                secret,
                expires_in: Some(3600),
            });
            gate.release();
        };
        let (loads, ()) = tokio::join!(loads, release);
        assert!(loads.iter().all(|load| load.is_ok() == is_had), "{loads:?}");
        assert_eq!(world.proxy.seen(Call::Token).len(), fetches);
        clock.advance(TimeDelta::hours(2));
    }
    Ok(())
}
