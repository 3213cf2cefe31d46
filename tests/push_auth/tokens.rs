//! Tokens: each rule alone decides.

use aws_lc_rs::hmac;
use chrono::{DateTime, TimeDelta, Utc};
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{bearing, noon, pushers, refusal};
use crate::support::clock::TestClock;
use crate::support::signing::{AUDIENCE, KeyServer, SigningKey, base64url, claims, token, with};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        every_rule_alone_refuses,
        token_is_good_from_its_issue_to_its_end_and_half_a_minute_around,
        one_bearer_token_is_wanted,
    ]
}

/// Tokens that prove nothing: what is wrong with each, and the token.
pub(super) fn unproven(key: &SigningKey, now: DateTime<Utc>) -> TestResult<Vec<(&'static str, String)>> {
    let mut tokens = forged(key, now)?;
    tokens.extend(not_said(key, now));
    Ok(tokens)
}

/// Those that Google has not signed.
fn forged(key: &SigningKey, now: DateTime<Utc>) -> TestResult<Vec<(&'static str, String)>> {
    let good = claims(now);
    let headed = |others: Value| key.token_of(&with(key.header(), others), &good);
    let stranger = SigningKey::new("k1")?;
    let its_own = with(stranger.header(), json!({ "jwk": stranger.published() }));
    let whole = key.token(&good);
    let (signed, signature) = whole.rsplit_once('.').ok_or("a signature")?;
    let (header, _) = signed.split_once('.').ok_or("a head")?;
    let swapped = base64url(with(good.clone(), json!({ "sub": "1" })).to_string());
    let symmetric = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let header = with(key.header(), json!({ "alg": "HS256" }));
        token(&header, &good, |signed| {
            hmac::sign(&secret, signed).as_ref().to_vec()
        })
    };
    let none = with(key.header(), json!({ "alg": "none" }));
    Ok(vec![
        ("a stranger's signature", stranger.token(&good)),
        (
            "a stranger's that brings its key",
            stranger.token_of(&its_own, &good),
        ),
        (
            "other claims than were signed",
            format!("{header}.{swapped}.{signature}"),
        ),
        ("no signature", format!("{signed}.")),
        ("no third part", signed.to_owned()),
        (
            "Cloud Run took the signature",
            format!("{signed}.SIGNATURE_REMOVED_BY_GOOGLE"),
        ),
        ("alg none", token(&none, &good, |_| Vec::new())),
        ("alg none, signed", headed(json!({ "alg": "none" }))),
        ("HS256 with the public key", symmetric(&key.public_der()?)),
        (
            "HS256 with its text",
            symmetric(key.published().to_string().as_bytes()),
        ),
        ("RS512", headed(json!({ "alg": "RS512" }))),
        ("a word for an algorithm", headed(json!({ "alg": "PS256" }))),
        ("no algorithm", headed(json!({ "alg": null }))),
        ("no key id", headed(json!({ "kid": null }))),
        ("an unknown key id", headed(json!({ "kid": "k7" }))),
        ("garbage", "garbage".to_owned()),
        ("garbage in three parts", "a.b.c".to_owned()),
    ])
}

/// Those that do not say what a token of a push says.
fn not_said(key: &SigningKey, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let said = |others: Value| key.token(&with(claims(now), others));
    vec![
        ("too long", said(json!({ "more": "x".repeat(8 << 10) }))),
        ("expired", key.token(&claims(now - TimeDelta::hours(2)))),
        (
            "issued in the future",
            key.token(&claims(now + TimeDelta::minutes(5))),
        ),
        ("no end", said(json!({ "exp": null }))),
        ("an end in words", said(json!({ "exp": "2999-01-01" }))),
        ("no issue", said(json!({ "iat": null }))),
        (
            "another issuer",
            said(json!({ "iss": "https://accounts.example.com" })),
        ),
        ("no issuer", said(json!({ "iss": null }))),
        ("no audience", said(json!({ "aud": null }))),
        (
            "several audiences",
            said(json!({ "aud": [AUDIENCE, "https://x.example"] })),
        ),
        ("no address", said(json!({ "email": null }))),
        (
            "an address not verified",
            said(json!({ "email_verified": false })),
        ),
        (
            "an address verified in words",
            said(json!({ "email_verified": "true" })),
        ),
        ("nothing of the address", said(json!({ "email_verified": null }))),
    ]
}

/// Tokens of Google's that prove somebody else.
pub(super) fn others(key: &SigningKey, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let said = |others: Value| key.token(&with(claims(now), others));
    vec![
        (
            "another audience",
            said(json!({ "aud": "https://ingest.example" })),
        ),
        (
            "another account",
            said(json!({ "email": "push@q-test.iam.gserviceaccount.com" })),
        ),
        (
            "a longer account",
            said(json!({ "email": "xpush@p-test.iam.gserviceaccount.com" })),
        ),
    ]
}

async fn every_rule_alone_refuses() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    let pushers = pushers(server.url(), TestClock::at(noon()))?;
    let good = [
        key.token(&claims(noon())),
        key.token(&with(claims(noon()), json!({ "iss": "accounts.google.com" }))),
    ];
    for token in &good {
        assert_eq!(refusal(&pushers, token).await, None);
    }
    let refused = |kind: ErrorKind| move |(wrong, token)| (wrong, token, kind);
    let unproven = unproven(&key, noon())?
        .into_iter()
        .map(refused(ErrorKind::Unauthenticated));
    let others = others(&key, noon())
        .into_iter()
        .map(refused(ErrorKind::Forbidden));
    for (wrong, token, kind) in unproven.chain(others) {
        let error = pushers.check(&bearing(&token)).await.err().ok_or(wrong)?;
        assert_eq!(error.kind(), kind, "{wrong}: {}", error.report());
        // Whoever has Cloud Run's IAM in front as well is told the way out.
        let is_removed = token.ends_with(".SIGNATURE_REMOVED_BY_GOOGLE");
        assert_eq!(error.message().contains("push_auth: off"), is_removed, "{wrong}");
        let parts = token.split('.').filter(|part| part.len() > 8);
        for part in parts.filter(|part| !part.starts_with("SIGNATURE")) {
            assert!(!error.report().contains(part), "{wrong}: {}", error.report());
        }
    }
    // Of all that was wrong only an unknown key is a reason to ask again.
    assert!(server.asked() <= 2, "{}", server.asked());
    Ok(())
}

async fn token_is_good_from_its_issue_to_its_end_and_half_a_minute_around() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    let token = key.token(&claims(noon()));
    for (seconds, expected) in [
        (-31, Some(ErrorKind::Unauthenticated)),
        (-30, None),
        (0, None),
        (3600, None),
        (3629, None),
        (3630, Some(ErrorKind::Unauthenticated)),
    ] {
        let clock = TestClock::at(noon() + TimeDelta::seconds(seconds));
        let pushers = pushers(server.url(), clock)?;
        assert_eq!(refusal(&pushers, &token).await, expected, "at {seconds} s");
    }
    Ok(())
}

async fn one_bearer_token_is_wanted() -> TestResult {
    let key = SigningKey::new("k1")?;
    let server = KeyServer::start(&[&key]).await?;
    let pushers = pushers(server.url(), TestClock::at(noon()))?;
    let token = key.token(&claims(noon()));
    let check = async |values: &[&str]| -> TestResult<Option<ErrorKind>> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value)?);
        }
        Ok(pushers.check(&headers).await.err().map(|error| error.kind()))
    };
    let (right, small) = (format!("Bearer {token}"), format!("bearer {token}"));
    assert_eq!(check(&[&right]).await?, None);
    assert_eq!(check(&[&small]).await?, None);
    let basic = format!("Basic {token}");
    for wrong in [
        &[][..],
        &[""],
        &["Bearer"],
        &["Bearer "],
        &[&token],
        &[&basic],
        &[&right, &right],
    ] {
        assert_eq!(
            check(wrong).await?,
            Some(ErrorKind::Unauthenticated),
            "{}",
            wrong.len()
        );
    }
    Ok(())
}
