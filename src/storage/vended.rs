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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::storage::Store;

    /// Gives what it was last told to.
    #[derive(Debug, Default)]
    struct Told(Mutex<Properties>);

    impl Told {
        fn tell(&self, properties: &[(&str, &str)]) -> Properties {
            let all = properties.iter();
            let told: Properties = all
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            *self.0.lock().unwrap() = told.clone();
            told
        }
    }

    #[async_trait]
    impl Vendor for Told {
        async fn properties(&self) -> Result<Properties> {
            Ok(self.0.lock().unwrap().clone())
        }
    }

    #[tokio::test]
    async fn a_request_has_the_credential_of_its_moment() {
        let told = Arc::new(Told::default());
        let s3 = S3Vended(Vended(told.clone()));
        let gcs = GcsVended(Vended(told.clone()));
        for secret in ["one", "two"] {
            told.tell(&[(S3_KEY, "id"), (S3_SECRET, secret), (S3_TOKEN, "t")]);
            let credential = s3.get_credential().await.unwrap();
            assert_eq!(credential.secret_key, secret);
            assert_eq!(credential.token.as_deref(), Some("t"));
            told.tell(&[(GCS_TOKEN, secret)]);
            assert_eq!(gcs.get_credential().await.unwrap().bearer, secret);
        }
        let error = s3.get_credential().await.unwrap_err();
        assert!(!format!("{error:?}{error}").contains("two"), "{error:?}");
    }

    #[test]
    fn a_store_is_opened_where_the_properties_say_who_we_are() {
        let told = Arc::new(Told::default());
        let opened = |location: &str, properties: &[(&str, &str)]| {
            let store = Store::open_vended(location, &told.tell(properties), told.clone());
            store.unwrap().map(|store| store.root().to_owned())
        };
        let key = [(S3_KEY, "id"), (S3_SECRET, "s"), ("client.region", "here")];
        assert_eq!(opened("s3://b", &key).as_deref(), Some("s3://b"));
        assert_eq!(opened("gs://b", &[(GCS_TOKEN, "t")]).as_deref(), Some("gs://b"));
        for (location, properties) in [
            ("gs://b", key.as_slice()),
            ("s3://b", &[(GCS_TOKEN, "t")]),
            ("s3://b", &[("s3.endpoint", "http://h")]),
            ("file:///b", &key),
        ] {
            assert_eq!(opened(location, properties), None, "{location}");
        }
    }
}
