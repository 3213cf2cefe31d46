//! Signed pushes: who is let in and who is not, and how Google's keys are come by.

mod keys;
mod serve;
mod tokens;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use landfast::clock::Clock;
use landfast::config::{PushAuth, SignedPushes};
use landfast::error::ErrorKind;
use landfast::trigger::Pushers;
use libtest_mimic::Trial;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use crate::support::TestResult;
use crate::support::signing::{ACCOUNT, AUDIENCE};

pub fn tests() -> Vec<Trial> {
    [tokens::tests(), keys::tests(), serve::tests()]
        .into_iter()
        .flatten()
        .collect()
}

/// Noon of a day.
fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_000_000, 0).expect("a time")
}

/// Those who are let in with keys of this address, by this clock.
fn pushers(keys_url: String, clock: Arc<dyn Clock>) -> TestResult<Pushers> {
    let auth = PushAuth::Signed(SignedPushes {
        audience: AUDIENCE.to_owned(),
        service_accounts: vec![
            "other@p-test.iam.gserviceaccount.com".to_owned(),
            ACCOUNT.to_owned(),
        ],
        keys_url,
    });
    Ok(Pushers::from_config(&auth, clock)?)
}

/// The headers of a push with this token.
fn bearing(token: &str) -> HeaderMap {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    HeaderMap::from_iter([(AUTHORIZATION, value)])
}

/// Why a push with this token is refused, none if it is let in.
async fn refusal(pushers: &Pushers, token: &str) -> Option<ErrorKind> {
    let checked = pushers.check(&bearing(token)).await;
    checked.err().map(|error| error.kind())
}
