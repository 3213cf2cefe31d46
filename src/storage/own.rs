//! The service's own credentials at Google: the process's, asked for at each request.

use std::sync::Arc;

use async_trait::async_trait;
use object_store::CredentialProvider;
use object_store::gcp::GcpCredential;

use crate::google::Google;

/// Provides Cloud Storage's credentials. The store's own client knows neither impersonated nor federated identities.
#[derive(Debug)]
pub(super) struct GcsOwn(pub(super) Google);

#[async_trait]
impl CredentialProvider for GcsOwn {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        let bearer = self
            .0
            .token()
            .await
            .map_err(|error| object_store::Error::Generic {
                store: "GCS",
                source: error.into(),
            })?;
        Ok(Arc::new(GcpCredential { bearer }))
    }
}
