//! Tokens by OAuth2's client credentials grant: taken ahead of their end, by one request at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::ACCEPT;
use tokio::sync::Mutex;

use super::auth::Grant;
use super::client::read_bounded;
use super::wire::{Explanation, TokenResponse};
use crate::clock::{Clock, Moment};
use crate::config::{OAuth2Config, Secret};
use crate::error::{Error, ErrorKind, Result};

/// A token is renewed this long before its end, or at three quarters of its life if that is later.
const AHEAD: Duration = Duration::from_secs(60);

/// A 403 is seldom about the token, and a younger one than this is not to blame.
const YOUNG: Duration = Duration::from_secs(60);

const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A token endpoint, and the newest token it gave.
#[derive(Debug)]
pub(super) struct OAuth2 {
    http: reqwest::Client,
    uri: String,
    id: Option<String>,
    secret: Secret,
    scope: String,
    clock: Arc<dyn Clock>,
    /// Held while a token is fetched, so that whoever needs one waits for the one request.
    state: Mutex<State>,
    /// How many fetches have ended.
    fetches: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// How the last fetch failed, if it did.
    failed: Option<Error>,
}

#[derive(Debug)]
struct Token {
    grant: Grant,
    taken: Moment,
    /// None when the server does not say: good until refused.
    lifetime: Option<Duration>,
}

impl Token {
    fn is_fresh(&self, clock: &dyn Clock) -> bool {
        self.lifetime.is_none_or(|lifetime| {
            let ahead = AHEAD.min(lifetime / 4);
            self.taken.elapsed(clock) < lifetime.saturating_sub(ahead)
        })
    }

    fn is_valid(&self, clock: &dyn Clock) -> bool {
        self.lifetime
            .is_none_or(|lifetime| self.taken.elapsed(clock) < lifetime)
    }
}

impl OAuth2 {
    pub(super) fn new(
        config: &OAuth2Config,
        catalog: &str,
        http: reqwest::Client,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (id, secret) = match config.credential.expose().split_once(':') {
            Some((id, secret)) => (Some(id.to_owned()), secret.into()),
            None => (None, config.credential.clone()),
        };
        Self {
            http,
            uri: (config.oauth2_server_uri.clone()).unwrap_or_else(|| format!("{catalog}/v1/oauth/tokens")),
            id,
            secret,
            scope: config.scope.clone(),
            clock,
            state: Mutex::default(),
            fetches: AtomicU64::new(0),
        }
    }

    /// The newest token; another one where it is nearly over, or is the one that was refused.
    ///
    /// While a token lasts, the endpoint's failure is no failure.
    pub(super) async fn grant(&self, refused: Option<&Grant>) -> Result<Grant> {
        let seen = self.fetches.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        let clock = self.clock.as_ref();
        let kept = (state.token.as_ref()).filter(|token| refused != Some(&token.grant));
        if let Some(token) = kept
            && token.is_fresh(clock)
        {
            return Ok(token.grant.clone());
        }
        let fallback = kept
            .filter(|token| token.is_valid(clock))
            .map(|token| token.grant.clone());
        // What failed for the one that was waited for is not asked again by each that waited.
        let failed = match &state.failed {
            Some(error) if self.fetches.load(Ordering::Acquire) != seen => error.clone(),
            _ => {
                let fetched = self.fetch().await;
                self.fetches.fetch_add(1, Ordering::AcqRel);
                match fetched {
                    Ok(token) => {
                        let grant = token.grant.clone();
                        *state = State {
                            token: Some(token),
                            failed: None,
                        };
                        return Ok(grant);
                    }
                    Err(error) => {
                        tracing::warn!(error = error.report(), "No new token for the catalog was had.");
                        state.failed = Some(error.clone());
                        error
                    }
                }
            }
        };
        fallback.ok_or(failed)
    }

    /// Whether this is the newest token, and a young one.
    pub(super) async fn is_young(&self, grant: &Grant) -> bool {
        let state = self.state.lock().await;
        let newest = state.token.as_ref().filter(|token| token.grant == *grant);
        newest.is_some_and(|token| token.taken.elapsed(self.clock.as_ref()) < YOUNG)
    }

    async fn fetch(&self) -> Result<Token> {
        let failed = |kind, message: &str| Error::new(kind, message).with("token_endpoint", &self.uri);
        let unavailable = |error: reqwest::Error| {
            failed(ErrorKind::Unavailable, "The token endpoint does not answer.").with_source(error)
        };
        let mut form = vec![
            ("grant_type", "client_credentials"),
            ("client_secret", self.secret.expose()),
            ("scope", &self.scope),
        ];
        form.extend(self.id.as_deref().map(|id| ("client_id", id)));
        // Before it is sent: a token is not younger than its answer.
        let taken = Moment::now(self.clock.as_ref());
        let request = self
            .http
            .post(&self.uri)
            .header(ACCEPT, "application/json")
            .form(&form);
        let response = request.send().await.map_err(unavailable)?;
        let status = response.status();
        let body = read_bounded(response, MAX_ANSWER_BYTES).await?;
        if !status.is_success() {
            let kind = match status.as_u16() {
                408 | 425 | 429 | 500.. => ErrorKind::Unavailable,
                _ => ErrorKind::Rejected,
            };
            let said = Explanation::parse(&body, &[self.secret.expose()]).unwrap_or_default();
            let said: Vec<String> = said.kind.into_iter().chain(said.message).collect();
            return Err(
                failed(kind, "The token endpoint gives no token; see `catalog.auth`.")
                    .with("status", status.as_u16())
                    .with("server", said.join(": ")),
            );
        }
        // The parser's error could show a part of the token.
        let answer: TokenResponse = serde_json::from_slice(&body).map_err(|_not_shown| {
            failed(
                ErrorKind::Rejected,
                "What the token endpoint answers is no token.",
            )
        })?;
        Ok(Token {
            grant: Grant::bearer(&answer.access_token)?,
            taken,
            lifetime: answer.lifetime(),
        })
    }
}
