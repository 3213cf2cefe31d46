//! Google's keys: asked for when they are needed, never by all at once, and kept over Google's absence for a while.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::Instant;

use super::{bearing, noon, pushers, refusal};
use crate::support::clock::TestClock;
use crate::support::signing::{KeyServer, Reply, SigningKey, claims, published, with};
use crate::support::{TestResult, paused_trials, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    let mut tests = trials![
        keys_are_kept_for_as_long_as_google_says,
        new_key_is_asked_for_and_the_old_one_goes,
        fifty_first_pushes_ask_once,
        caller_that_goes_away_breaks_nothing_off,
        forged_key_ids_make_no_flood,
        answer_that_holds_no_keys_lets_nobody_in,
        known_keys_outlive_googles_absence_for_six_hours,
    ];
    tests.extend(paused_trials![answer_that_never_comes_is_waited_for_in_bounds]);
    tests
}

async fn keys_are_kept_for_as_long_as_google_says() -> TestResult {
    let key = SigningKey::new("k1")?;
    for (cache_control, age, kept) in [
        (Some("public, max-age=20000, must-revalidate"), None, 20_000),
        (Some("Max-Age=20000"), Some("5000"), 15_000),
        (Some("no-cache, max-age=0"), None, 60),
        (Some("max-age=100"), Some("7200"), 60),
        (Some("max-age=999999999"), None, 24 * 3600),
        (Some("max-age=soon"), None, 3600),
        (Some("no-store"), None, 3600),
        (None, None, 3600),
    ] {
        let server = KeyServer::start(&[]).await?;
        let mut reply = published(&[&key], "");
        reply.headers.clear();
        reply
            .headers
            .extend(cache_control.map(|value| ("cache-control", value.to_owned())));
        reply.headers.extend(age.map(|value| ("age", value.to_owned())));
        server.reply(reply);
        let clock = TestClock::at(noon());
        let pushers = pushers(server.url(), clock.clone())?;
        for (seconds, asked) in [
            (0, 1),
            (kept - 30, 1),
            (kept + 10, 2),
            (2 * kept - 30, 2),
            (2 * kept + 20, 3),
        ] {
            let now = noon() + TimeDelta::seconds(seconds);
            clock.advance(now - landfast::clock::Clock::now(&*clock));
            assert_eq!(refusal(&pushers, &key.token(&claims(now))).await, None);
            assert_eq!(
                server.asked(),
                asked,
                "{cache_control:?} {age:?} after {seconds} s"
            );
        }
    }
    Ok(())
}

async fn new_key_is_asked_for_and_the_old_one_goes() -> TestResult {
    let (old, new) = (SigningKey::new("old")?, SigningKey::new("new")?);
    let server = KeyServer::start(&[&old]).await?;
    let clock = TestClock::at(noon());
    let pushers = pushers(server.url(), clock.clone())?;
    let (by_old, by_new) = (old.token(&claims(noon())), new.token(&claims(noon())));
    assert_eq!(refusal(&pushers, &by_old).await, None);
    assert_eq!(refusal(&pushers, &by_new).await, Some(ErrorKind::Unauthenticated));
    assert_eq!(server.asked(), 1);
    server.publish(&[&old, &new], "max-age=3600");
    clock.advance(TimeDelta::seconds(10));
    for _ in 0..3 {
        assert_eq!(refusal(&pushers, &by_new).await, None);
        assert_eq!(refusal(&pushers, &by_old).await, None);
    }
    assert_eq!(server.asked(), 2);
    server.publish(&[&new], "max-age=3600");
    clock.advance(TimeDelta::minutes(59));
    assert_eq!(refusal(&pushers, &by_old).await, None);
    clock.advance(TimeDelta::minutes(2));
    let (by_old, by_new) = {
        let claims = claims(landfast::clock::Clock::now(&*clock));
        (old.token(&claims), new.token(&claims))
    };
    assert_eq!(refusal(&pushers, &by_old).await, Some(ErrorKind::Unauthenticated));
    assert_eq!(refusal(&pushers, &by_new).await, None);
    assert_eq!(server.asked(), 3);
    Ok(())
}

async fn fifty_first_pushes_ask_once() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    server.hold(true);
    let pushers = pushers(server.url(), TestClock::at(noon()))?;
    let token = key.token(&claims(noon()));
    let all = join_all((0..50).map(|_| refusal(&pushers, &token)));
    let release = async {
        // All of them wait by now: the other half of the join was polled first.
        wait_for("the request", Duration::from_secs(10), async || {
            (server.asked() > 0).then_some(())
        })
        .await?;
        server.hold(false);
        TestResult::Ok(())
    };
    let (refusals, released) = tokio::join!(biased; all, release);
    released?;
    assert_eq!(refusals, [None; 50]);
    assert_eq!(server.asked(), 1);
    Ok(())
}

async fn caller_that_goes_away_breaks_nothing_off() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    server.hold(true);
    let pushers = Arc::new(pushers(server.url(), TestClock::at(noon()))?);
    let token = key.token(&claims(noon()));
    let first = {
        let (pushers, headers) = (pushers.clone(), bearing(&token));
        tokio::spawn(async move { pushers.check(&headers).await })
    };
    wait_for("the request", Duration::from_secs(10), async || {
        (server.asked() > 0).then_some(())
    })
    .await?;
    first.abort();
    assert!(first.await.is_err_and(|ended| ended.is_cancelled()));
    server.hold(false);
    assert_eq!(refusal(&pushers, &token).await, None);
    assert_eq!(server.asked(), 1);
    Ok(())
}

async fn forged_key_ids_make_no_flood() -> TestResult {
    let (key, forger) = (SigningKey::new("k1")?, SigningKey::new("forger")?);
    let server = KeyServer::start(&[&key]).await?;
    let clock = TestClock::at(noon());
    let pushers = pushers(server.url(), clock.clone())?;
    let good = key.token(&claims(noon()));
    // Four in each second of a minute.
    for second in 0..60 {
        let forged: Vec<String> = (0..4)
            .map(|which| {
                let header = with(forger.header(), json!({ "kid": format!("{second}-{which}") }));
                forger.token_of(&header, &claims(noon()))
            })
            .collect();
        for refused in join_all(forged.iter().map(|token| refusal(&pushers, token))).await {
            assert_eq!(refused, Some(ErrorKind::Unauthenticated));
        }
        assert_eq!(refusal(&pushers, &good).await, None);
        clock.advance(TimeDelta::seconds(1));
    }
    let asked = server.asked();
    assert!((2..=12).contains(&asked), "{asked}");
    Ok(())
}

async fn answer_that_holds_no_keys_lets_nobody_in() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    let clock = TestClock::at(noon());
    let good = published(&[&key], "max-age=3600");
    let other = |status: u16, body: String| Reply {
        status,
        headers: vec![("location", server.url())],
        body,
    };
    let mut wrong = key.published();
    wrong["n"] = json!("not base64!");
    let mut symmetric = key.published();
    symmetric["kty"] = json!("oct");
    let token = key.token(&claims(noon()));
    for (what, reply) in [
        ("an error", other(500, good.body.clone())),
        ("a redirect", other(302, good.body.clone())),
        ("no content", other(204, String::new())),
        ("a closed connection", other(0, String::new())),
        ("a page", other(200, "<html>".to_owned())),
        ("no key", other(200, json!({ "keys": [] }).to_string())),
        (
            "a key that is none",
            other(200, json!({ "keys": [wrong] }).to_string()),
        ),
        ("a secret", other(200, json!({ "keys": [symmetric] }).to_string())),
        ("too much", other(200, good.body.clone() + &" ".repeat(64 << 10))),
    ] {
        let pushers = pushers(server.url(), clock.clone())?;
        server.reply(reply);
        let asked = server.asked();
        for _ in 0..3 {
            let error = pushers.check(&bearing(&token)).await.err().ok_or(what)?;
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {}", error.report());
            assert!(error.names("keys"), "{what}");
        }
        assert_eq!(server.asked(), asked + 1, "{what}");
        server.reply(good.clone());
        clock.advance(TimeDelta::seconds(6));
        assert_eq!(refusal(&pushers, &token).await, None, "after {what}");
    }
    Ok(())
}

async fn known_keys_outlive_googles_absence_for_six_hours() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    let clock = TestClock::at(noon());
    let pushers = pushers(server.url(), clock.clone())?;
    let pushed = async |hours: i64| {
        let now = noon() + TimeDelta::hours(hours);
        clock.advance(now - landfast::clock::Clock::now(&*clock));
        refusal(&pushers, &key.token(&claims(now))).await
    };
    assert_eq!(pushed(0).await, None);
    server.fail();
    for hours in [2, 5, 6] {
        assert_eq!(pushed(hours).await, None, "after {hours} hours");
    }
    // A key that is not known may be a new one.
    let stranger = SigningKey::new("k2")?.token(&claims(noon() + TimeDelta::hours(6)));
    assert_eq!(refusal(&pushers, &stranger).await, Some(ErrorKind::Unavailable));
    assert_eq!(pushed(8).await, Some(ErrorKind::Unavailable));
    server.publish(&[&key], "max-age=3600");
    assert_eq!(pushed(9).await, None);
    Ok(())
}

async fn answer_that_never_comes_is_waited_for_in_bounds() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    server.hold(true);
    let pushers = pushers(server.url(), TestClock::at(noon()))?;
    let token = key.token(&claims(noon()));
    let started = Instant::now();
    let all = join_all((0..50).map(|_| refusal(&pushers, &token))).await;
    assert_eq!(all, [Some(ErrorKind::Unavailable); 50]);
    let waited = started.elapsed();
    assert!(waited <= Duration::from_secs(6), "{waited:?}");
    assert!(server.asked() <= 1, "{}", server.asked());
    Ok(())
}
