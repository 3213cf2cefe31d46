//! Google's access tokens, by Application Default Credentials: a key file, a user's login, or the metadata server of the
//! machine. The client behind it renews them ahead of their end.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use tokio::time::{Instant, timeout_at};

use super::prepare_client;
use crate::error::{Error, ErrorKind, Result};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Credentials that failed are made anew no sooner than this after they were made.
const ANEW_AFTER: Duration = Duration::from_secs(10);

type Make = Box<dyn Fn() -> Result<Credentials> + Send + Sync>;

/// Who this machine is to Google.
pub(crate) struct Google {
    make: Make,
    made: Mutex<Made>,
    /// How long a token is waited for.
    patience: Duration,
}

#[derive(Debug, Clone)]
struct Made {
    credentials: Credentials,
    at: Instant,
}

impl Google {
    /// Finds the credentials; `user_project` is charged for the requests, as `x-goog-user-project` says. A token is waited
    /// for as long as `patience`.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when those that are found cannot be used, or the system trusts nobody.
    pub(crate) fn new(user_project: Option<&str>, patience: Duration) -> Result<Self> {
        prepare_client()?;
        let user_project = user_project.map(str::to_owned);
        Self::made_by(Box::new(move || find(user_project.as_deref())), patience)
    }

    fn made_by(make: Make, patience: Duration) -> Result<Self> {
        let made = Mutex::new(Made::now(&make)?);
        Ok(Self { make, made, patience })
    }

    /// What a request carries now. No message may quote it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when no token comes in time, [`ErrorKind::Rejected`] when Google gives none.
    pub(crate) async fn headers(&self) -> Result<HeaderMap> {
        let used = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let until = Instant::now() + self.patience;
        match timeout_at(until, headers(&used.credentials)).await {
            Ok(Ok(headers)) => Ok(headers),
            Ok(Err(error)) if error.kind() == ErrorKind::Unavailable => Err(error),
            Ok(Err(error)) => match self.anew(&used)? {
                Some(credentials) => (timeout_at(until, headers(&credentials)).await)
                    .unwrap_or_else(|_elapsed| Err(no_answer())),
                None => Err(error),
            },
            Err(_elapsed) => {
                // What the client waits for may never come; it sends nothing else meanwhile.
                self.anew(&used)?;
                Err(no_answer())
            }
        }
    }

    /// Makes the credentials anew after a failure, since the client asks for no token any more after one that it takes
    /// for lasting: for it, a role that was withdrawn for a minute is. `None` where that was done a moment ago.
    fn anew(&self, used: &Made) -> Result<Option<Credentials>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.at == used.at {
            if used.at.elapsed() < ANEW_AFTER {
                return Ok(None);
            }
            *made = Made::now(&self.make)?;
        }
        Ok(Some(made.credentials.clone()))
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

fn find(user_project: Option<&str>) -> Result<Credentials> {
    let mut builder = Builder::default().with_scopes([SCOPE]);
    if let Some(project) = user_project {
        builder = builder.with_quota_project_id(project);
    }
    builder.build().map_err(|error| {
        let message = "Google's Application Default Credentials cannot be used: give the process a service account, or \
                       mend what GOOGLE_APPLICATION_CREDENTIALS names.";
        Error::new(ErrorKind::Rejected, message).with_source(error)
    })
}

async fn headers(credentials: &Credentials) -> Result<HeaderMap> {
    match credentials.headers(Extensions::new()).await {
        Ok(CacheableResource::New { data, .. }) => Ok(data),
        Ok(CacheableResource::NotModified) => {
            let message = "Google's client gives no token, and says that the last one is good.";
            Err(Error::new(ErrorKind::Unavailable, message))
        }
        Err(error) => Err(no_token(error)),
    }
}

fn no_answer() -> Error {
    let message = "Google gave no token in time: is the metadata server there, or what GOOGLE_APPLICATION_CREDENTIALS names right?";
    Error::new(ErrorKind::Unavailable, message)
}

fn no_token(error: CredentialsError) -> Error {
    let kind = if error.is_transient() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Rejected
    };
    Error::new(kind, "Google gives no token: is the metadata server there, or what GOOGLE_APPLICATION_CREDENTIALS names right?").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use google_cloud_auth::credentials::{CredentialsProvider, EntityTag};
    use http::HeaderValue;
    use http::header::AUTHORIZATION;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Google's client after one kind of answer: it gives the same for ever.
    #[derive(Debug, Clone, Copy)]
    enum Client {
        Refused,
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
        (Google::made_by(Box::new(make), PATIENCE).unwrap(), count)
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
}
