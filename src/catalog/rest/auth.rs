//! Who we are to the server: what a request carries to prove it.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::oauth2::OAuth2;
use crate::clock::Clock;
use crate::config::{RestAuth, RestCatalogConfig, Secret, process_env};
use crate::error::{Error, ErrorKind, Result};
use crate::google::Google;

/// The headers that prove who we are. Their values never show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) headers: HeaderMap,
    /// What no message may quote.
    pub(super) secrets: Vec<Secret>,
}

impl Grant {
    /// A bearer token.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a token that a header cannot hold.
    pub(super) fn bearer(token: &str) -> Result<Self> {
        let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_not_shown| {
            let message = "The token holds characters that a header cannot.";
            Error::new(ErrorKind::Rejected, message)
        })?;
        value.set_sensitive(true);
        Ok(Self {
            headers: HeaderMap::from_iter([(AUTHORIZATION, value)]),
            secrets: vec![token.into()],
        })
    }

    /// A token of Google's.
    async fn google(google: &Google) -> Result<Self> {
        let headers = google.headers().await?;
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.map(|value| value.trim_start_matches("Bearer "));
        Ok(Self {
            secrets: token.into_iter().map(Into::into).collect(),
            headers,
        })
    }
}

/// Where grants come from.
#[derive(Debug)]
pub(super) enum Auth {
    /// The same for ever.
    Fixed(Grant),
    /// From a token endpoint, for a while.
    OAuth2(Box<OAuth2>),
    /// From Google's client, which renews them.
    Google(Google),
}

impl Auth {
    pub(super) fn new(
        config: &RestCatalogConfig,
        http: &reqwest::Client,
        patience: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(match &config.auth {
            RestAuth::None => Self::Fixed(Grant::default()),
            RestAuth::Bearer { token } => Self::Fixed(Grant::bearer(token.expose())?),
            RestAuth::OAuth2(oauth2) => {
                Self::OAuth2(Box::new(OAuth2::new(oauth2, &config.uri, http.clone(), clock)))
            }
            RestAuth::Google { user_project } => {
                let user_project = user_project.as_deref();
                Self::Google(Google::from_env(&process_env, user_project, patience)?)
            }
        })
    }

    /// What a request carries now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when no token is had this time, [`ErrorKind::Rejected`] when none will be.
    pub(super) async fn grant(&self) -> Result<Grant> {
        match self {
            Self::Fixed(grant) => Ok(grant.clone()),
            Self::OAuth2(oauth2) => oauth2.grant(None).await,
            Self::Google(google) => Grant::google(google).await,
        }
    }

    /// What a request carries after one that carried `refused` was told that this is no good; `None` when there is
    /// nothing else. Whoever is known but `forbidden` something is so with every token: a young one is not renewed then.
    ///
    /// # Errors
    /// As [`Auth::grant`].
    pub(super) async fn renew(&self, refused: &Grant, forbidden: bool) -> Result<Option<Grant>> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::OAuth2(oauth2) if forbidden && oauth2.is_young(refused).await => Ok(None),
            Self::OAuth2(oauth2) => oauth2.grant(Some(refused)).await.map(Some),
            // It cannot be told that a token is no good, but may have another by now.
            Self::Google(google) => Ok(Some(Grant::google(google).await?).filter(|grant| grant != refused)),
        }
    }
}
