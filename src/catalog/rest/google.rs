//! Google's access tokens, by Application Default Credentials: a key file, a user's login, or the metadata server of the
//! machine. The client behind it renews them ahead of their end.

use google_cloud_auth::credentials::{Builder, CacheableResource, Credentials};
use google_cloud_auth::errors::CredentialsError;
use http::Extensions;
use reqwest::header::AUTHORIZATION;
use rustls::crypto::ring;

use super::auth::Grant;
use crate::error::{Error, ErrorKind, Result};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Who this machine is to Google.
#[derive(Debug)]
pub(super) struct Google {
    credentials: Credentials,
}

impl Google {
    /// Finds the credentials; `user_project` is charged for the requests, as `x-goog-user-project` says.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when those that are found cannot be used, or the system trusts nobody.
    pub(super) fn new(user_project: Option<&str>) -> Result<Self> {
        // Google's client panics where the system has no authorities, as in an image of the binary alone.
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            let message = "The system has no certificate authorities, and Google's client needs them: install \
                           ca-certificates, or set SSL_CERT_FILE.";
            return Err(Error::new(ErrorKind::Rejected, message));
        }
        // It leaves the cryptography to the process, and panics without any. An error says that it is chosen already.
        let _chosen_before = ring::default_provider().install_default();
        let mut builder = Builder::default().with_scopes([SCOPE]);
        if let Some(project) = user_project {
            builder = builder.with_quota_project_id(project);
        }
        let credentials = builder.build().map_err(|error| {
            let message = "Google's Application Default Credentials cannot be used; see `catalog.auth`.";
            Error::new(ErrorKind::Rejected, message).with_source(error)
        })?;
        Ok(Self { credentials })
    }

    /// What a request carries now.
    pub(super) async fn grant(&self) -> Result<Grant> {
        let headers = match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => data,
            Ok(CacheableResource::NotModified) => {
                let message = "Google's client gives no token, and says that the last one is good.";
                return Err(Error::new(ErrorKind::Unavailable, message));
            }
            Err(error) => return Err(no_token(error)),
        };
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = token.map(|value| value.trim_start_matches("Bearer "));
        Ok(Grant {
            secrets: token.into_iter().map(Into::into).collect(),
            headers,
        })
    }
}

fn no_token(error: CredentialsError) -> Error {
    let kind = if error.is_transient() {
        ErrorKind::Unavailable
    } else {
        ErrorKind::Rejected
    };
    Error::new(kind, "Google gives no token; see `catalog.auth`.").with_source(error)
}
