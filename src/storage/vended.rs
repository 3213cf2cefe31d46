//! Credentials that somebody else gives, and gives anew before they end: asked for at each request.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use object_store::gcp::GcpCredential;

use super::Properties;
use crate::error::{Error, ErrorKind, Result};

const S3_KEY: &str = "s3.access-key-id";
const S3_SECRET: &str = "s3.secret-access-key";
const S3_TOKEN: &str = "s3.session-token";
const GCS_TOKEN: &str = "gcs.oauth2.token";

/// Gives a store's credentials, in Iceberg's words, as they are now.
#[async_trait]
pub trait Vendor: Debug + Send + Sync {
    /// Called at each request, so it keeps what it has, and renews it before it ends.
    ///
    /// # Errors
    /// Any: the request fails with it, and nothing was sent.
    async fn properties(&self) -> Result<Properties>;
}

/// Whether properties say who we are to the stores of a scheme.
pub(super) fn identify(scheme: &str, properties: &Properties) -> bool {
    match scheme {
        "s3" => properties.contains_key(S3_KEY) && properties.contains_key(S3_SECRET),
        "gs" => properties.contains_key(GCS_TOKEN),
        _ => false,
    }
}

/// The current credential of a vendor, as a store's client asks for it.
#[derive(Debug)]
pub(super) struct Vended(pub(super) Arc<dyn Vendor>);

/// Provides S3's credentials. Two types, because one cannot have both kinds.
#[derive(Debug)]
pub(super) struct S3Vended(pub(super) Vended);

/// Provides Cloud Storage's credentials.
#[derive(Debug)]
pub(super) struct GcsVended(pub(super) Vended);

impl Vended {
    async fn ask(&self, store: &'static str, scheme: &str) -> object_store::Result<Properties> {
        let asked = self.0.properties().await.and_then(|properties| {
            if identify(scheme, &properties) {
                Ok(properties)
            } else {
                let message = "The credentials that were vended are of another store.";
                Err(Error::new(ErrorKind::Rejected, message))
            }
        });
        asked.map_err(|error| object_store::Error::Generic {
            store,
            source: error.into(),
        })
    }
}

#[async_trait]
impl CredentialProvider for S3Vended {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut properties = self.0.ask("S3", "s3").await?;
        Ok(Arc::new(AwsCredential {
            key_id: properties.remove(S3_KEY).unwrap_or_default(),
            secret_key: properties.remove(S3_SECRET).unwrap_or_default(),
            token: properties.remove(S3_TOKEN),
        }))
    }
}

#[async_trait]
impl CredentialProvider for GcsVended {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let mut properties = self.0.ask("GCS", "gs").await?;
        Ok(Arc::new(GcpCredential {
            bearer: properties.remove(GCS_TOKEN).unwrap_or_default(),
        }))
    }
}
