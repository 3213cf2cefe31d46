//! Google's access tokens, for every client of the process: of whom the environment names ([`Identity`]). The client behind
//! it asks for one at a time and renews it ahead of its end.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use google_cloud_auth::credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::identity::Identity;
use super::prepare_client;
use crate::config::Env;
use crate::error::{Error, ErrorKind, Result};

/// Credentials that were refused are made anew no sooner than this after they were made.
const ANEW_AFTER: Duration = Duration::from_secs(10);

/// The same where the failure may pass, and for how long a request rides that out.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const RIDE_OUT: Duration = Duration::from_secs(10);

/// Where the client's errors begin to quote an answer.
const ANSWERS: [&str; 4] = [", body=<", " :b\"", "<", "{"];

/// How many errors are told, and how much of them.
const NEAREST: usize = 3;
const MAX_CHARS: usize = 400;

type Make = Box<dyn Fn() -> Result<Credentials> + Send + Sync>;

/// Who the process is to Google. Nothing is asked of anybody before the first token is needed.
pub(crate) struct Google {
    make: Make,
    made: Mutex<Option<Made>>,
    /// How long a token is waited for.
    patience: Duration,
}

#[derive(Debug, Clone)]
struct Made {
    credentials: Credentials,
    at: Instant,
}

impl Google {
    /// Takes whom the environment names; `user_project` is charged for the requests, as `x-goog-user-project` says. A token
    /// is waited for as long as `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when those that are named cannot be used.
    pub(crate) fn from_env(env: Env<'_>, user_project: Option<&str>, patience: Duration) -> Result<Self> {
        let identity = Identity::from_env(env)?;
        let user_project = user_project.map(str::to_owned);
        Ok(Self::made_by(
            Box::new(move || {
                prepare_client()?;
                identity.credentials(user_project.as_deref())
            }),
            patience,
        ))
    }

    fn made_by(make: Make, patience: Duration) -> Self {
        Self {
            make,
            made: Mutex::default(),
            patience,
        }
    }

    /// The same as credentials of Google's own clients.
    pub(crate) fn into_credentials(self) -> Credentials {
        Credentials::from(Shared(Arc::new(self)))
    }

    /// The token that a request carries now. No message may quote it.
    ///
    /// # Errors
    /// Those of [`Google::headers`].
    pub(crate) async fn token(&self) -> Result<String> {
        let headers = self.headers().await?;
        let value = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = value.and_then(|value| value.strip_prefix("Bearer "));
        token.map(str::to_owned).ok_or_else(|| {
            Error::new(
                ErrorKind::Rejected,
                "What Google's client gives is no bearer token.",
            )
        })
    }

    /// What a request carries now. No message may quote it.
    ///
    /// A failure that may pass is ridden out for ten seconds, with a request each second.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when no token comes in time, [`ErrorKind::Rejected`] when Google gives none, and
    /// [`ErrorKind::Config`] when what the environment names cannot be used any more.
    pub(crate) async fn headers(&self) -> Result<HeaderMap> {
        let begun = Instant::now();
        let until = begun + self.patience;
        loop {
            let used = self.current()?;
            let error = match timeout_at(until, headers(&used.credentials)).await {
                Ok(Ok(headers)) => return Ok(headers),
                Ok(Err(error)) => error,
                Err(_elapsed) => {
                    // What the client waits for may never come; it sends nothing else meanwhile.
                    self.anew(&used, ANEW_AFTER)?;
                    return Err(no_answer());
                }
            };
            let again = Instant::now().max(used.at + AGAIN_AFTER);
            if error.kind() != ErrorKind::Unavailable {
                if !self.anew(&used, ANEW_AFTER)? {
                    return Err(error);
                }
            } else if again < until.min(begun + RIDE_OUT) {
                sleep_until(again).await;
                self.anew(&used, AGAIN_AFTER)?;
            } else {
                return Err(error);
            }
        }
    }

    fn current(&self) -> Result<Made> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(made) => Ok(made.clone()),
            None => Ok(made.insert(Made::now(&self.make)?).clone()),
        }
    }

    /// Makes the credentials anew after a failure, since the client asks for no token any more after one that it takes
    /// for lasting: for it, a role that was withdrawn for a minute is. Whether there are others now: not where that was done
    /// a moment ago.
    fn anew(&self, used: &Made, after: Duration) -> Result<bool> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_some_and(|made| made.at == used.at) {
            if used.at.elapsed() < after {
                return Ok(false);
            }
            *made = Some(Made::now(&self.make)?);
        }
        Ok(true)
    }
}

impl fmt::Debug for Google {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Google").finish_non_exhaustive()
    }
}

impl Made {
    fn now(make: &Make) -> Result<Self> {
        Ok(Self {
            credentials: make()?,
            at: Instant::now(),
        })
    }
}

/// Ours, as Google's clients ask for it.
#[derive(Debug)]
struct Shared(Arc<Google>);

impl CredentialsProvider for Shared {
    async fn headers(
        &self,
        _: Extensions,
    ) -> std::result::Result<CacheableResource<HeaderMap>, CredentialsError> {
        let headers = self.0.headers().await;
        let data = headers.map_err(|error| {
            let may_pass = error.kind() == ErrorKind::Unavailable;
            CredentialsError::from_source(may_pass, error)
        })?;
        Ok(CacheableResource::New {
            entity_tag: EntityTag::new(),
            data,
        })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

async fn headers(credentials: &Credentials) -> Result<HeaderMap> {
    match credentials.headers(Extensions::new()).await {
        Ok(CacheableResource::New { data, .. }) => Ok(data),
        Ok(CacheableResource::NotModified) => {
            let message = "Google's client gives no token, and says that the last one is good.";
            Err(Error::new(ErrorKind::Unavailable, message))
        }
        Err(error) => Err(no_token(&error)),
    }
}

fn no_answer() -> Error {
    let message = "Google gave no token in time: is the metadata server there, or what GOOGLE_APPLICATION_CREDENTIALS names right?";
    Error::new(ErrorKind::Unavailable, message)
}

fn no_token(error: &CredentialsError) -> Error {
    let kind = if error.is_transient() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Rejected
    };
    let message = "Google gives no token: is the metadata server there, or what GOOGLE_APPLICATION_CREDENTIALS names right?";
    Error::new(kind, message).with("cause", told(error))
}

/// What an error says, without the answer that it quotes but for that one's own explanation: an answer may repeat what was
/// sent to it. What is nearest to the cause says most.
fn told(error: &CredentialsError) -> String {
    let mut told: Vec<String> = Vec::new();
    let mut next: Option<&dyn StdError> = Some(error);
    while let Some(error) = next {
        next = error.source();
        told.push(quiet(&error.to_string()));
    }
    let nearest = told.split_off(told.len().saturating_sub(NEAREST));
    let told = nearest.join(": ");
    told.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_CHARS)
        .collect()
}

/// The text up to the answer that it quotes, and what that one explains.
fn quiet(text: &str) -> String {
    let Some(start) = ANSWERS.iter().filter_map(|mark| text.find(mark)).min() else {
        return text.to_owned();
    };
    let (before, answer) = text.split_at(start);
    let explained = answer
        .find('{')
        .zip(answer.rfind('}'))
        .and_then(|(from, to)| serde_json::from_str::<Value>(answer.get(from..=to)?).ok());
    let Some(explained) = explained else {
        return before.to_owned();
    };
    let at = |pointer: &str| explained.pointer(pointer).and_then(Value::as_str);
    let parts = ["/error", "/error_description", "/error/status", "/error/message"];
    let parts: Vec<&str> = parts.iter().filter_map(|pointer| at(pointer)).collect();
    format!("{before}: {}", parts.join(": "))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::HeaderValue;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Google's client after one kind of answer: it gives the same for ever.
    #[derive(Debug, Clone, Copy)]
    enum Client {
        Refused,
        Away,
        Hangs,
        Gives,
    }

    impl CredentialsProvider for Client {
        async fn headers(
            &self,
            _: Extensions,
        ) -> std::result::Result<CacheableResource<HeaderMap>, CredentialsError> {
            match self {
                Self::Refused => Err(CredentialsError::from_msg(false, "It is so.")),
                Self::Away => Err(CredentialsError::from_msg(true, "It is away.")),
                Self::Hangs => std::future::pending().await,
                Self::Gives => Ok(CacheableResource::New {
                    entity_tag: EntityTag::new(),
                    data: [(AUTHORIZATION, HeaderValue::from_static("Bearer t"))]
                        .into_iter()
                        .collect(),
                }),
            }
        }

        async fn universe_domain(&self) -> Option<String> {
            None
        }
    }

    /// Each of the clients in turn, the last for good; and how many were made.
    fn google(clients: &'static [Client]) -> (Google, Arc<AtomicUsize>) {
        let count = Arc::new(AtomicUsize::new(0));
        let made = count.clone();
        let make = move || {
            let place = made.fetch_add(1, Ordering::Relaxed).min(clients.len() - 1);
            Ok(Credentials::from(clients[place]))
        };
        (Google::made_by(Box::new(make), PATIENCE), count)
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_refusal_is_asked_about_again_but_seldom() {
        let (google, made) = google(&[Client::Refused, Client::Refused, Client::Gives]);
        for _ in 0..3 {
            assert_eq!(google.headers().await.unwrap_err().kind(), ErrorKind::Rejected);
        }
        assert_eq!(made.load(Ordering::Relaxed), 1);
        advance(ANEW_AFTER).await;
        for _ in 0..3 {
            assert_eq!(google.headers().await.unwrap_err().kind(), ErrorKind::Rejected);
        }
        assert_eq!(made.load(Ordering::Relaxed), 2);
        advance(ANEW_AFTER).await;
        assert!(google.headers().await.unwrap().contains_key(AUTHORIZATION));
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn token_that_never_comes_is_waited_for_in_bounds() {
        let (google, made) = google(&[Client::Hangs, Client::Gives]);
        let started = Instant::now();
        let (first, second) = tokio::join!(google.headers(), google.headers());
        for error in [first.unwrap_err(), second.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{}", error.report());
        }
        assert_eq!(started.elapsed().as_secs(), PATIENCE.as_secs());
        assert_eq!(made.load(Ordering::Relaxed), 2);
        assert!(google.headers().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn failure_that_passes_is_ridden_out_and_one_that_stays_is_told() {
        let (google, made) = google(&[Client::Away, Client::Away, Client::Away, Client::Gives]);
        let started = Instant::now();
        let (first, second) = tokio::join!(google.headers(), google.headers());
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(started.elapsed().as_secs(), 3);
        assert_eq!(made.load(Ordering::Relaxed), 4, "one request at a time");
        let (google, made) = self::google(&[Client::Away]);
        let started = Instant::now();
        let error = google.headers().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.report().contains("It is away."), "{}", error.report());
        assert_eq!((started.elapsed() + AGAIN_AFTER).as_secs(), RIDE_OUT.as_secs());
        assert_eq!(made.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn answers_are_told_by_their_explanation_alone() {
        for (text, expected) in [
            (
                "failed, body=<{\"error\":\"invalid_grant\",\"error_description\":\"Expired.\",\"assertion\":\"s3cret\"}>",
                "failed: invalid_grant: Expired.",
            ),
            ("failed :b\"{\\\"error\\\": \\\"s3cret\\\"}\"", "failed"),
            (
                "failed, body=<{\"error\":{\"status\":\"PERMISSION_DENIED\",\"message\":\"No.\",\"details\":\"s3cret\"}}>",
                "failed: PERMISSION_DENIED: No.",
            ),
            ("failed, body=<html>s3cret</html>", "failed"),
            ("no connection", "no connection"),
        ] {
            assert_eq!(quiet(text), expected);
        }
    }
}
