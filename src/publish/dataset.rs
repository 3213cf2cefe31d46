//! The dataset, made where it is missing, by the client that people know.
//!
//! `gcp-bigquery-client` knows datasets well. It finds credentials by itself in fewer ways than Google does, so the token
//! is ours: what [`Authenticator`] asks for is one that was fetched a moment ago.

use std::sync::Arc;

use async_trait::async_trait;
use gcp_bigquery_client::auth::Authenticator;
use gcp_bigquery_client::client_builder::ClientBuilder;
use gcp_bigquery_client::error::BQError;
use gcp_bigquery_client::model::dataset::Dataset;
use reqwest::StatusCode;

use super::failure::{Doing, refused, unanswered};
use crate::config::BigQueryConfig;
use crate::error::{Error, ErrorKind, Result};

/// A token that is good for a while. Empty where nobody has to be anyone.
#[derive(Clone)]
struct Token(String);

#[async_trait]
impl Authenticator for Token {
    async fn access_token(&self) -> Result<String, BQError> {
        Ok(self.0.clone())
    }
}

/// Makes the dataset. One that is there stays as it is.
///
/// # Errors
/// As [`refused`] says.
pub(super) async fn ensure(to: &BigQueryConfig, http: &reqwest::Client, token: String) -> Result<()> {
    let client = ClientBuilder::new()
        .with_v2_base_url(format!("{}/bigquery/v2", to.endpoint))
        .with_client(http.clone())
        .build_from_authenticator(Arc::new(Token(token)))
        .await
        .map_err(|error| failed(to, error))?;
    let dataset = Dataset::new(&to.project, &to.dataset).location(&to.location);
    match client.dataset().create(dataset).await {
        Ok(_made) => {
            tracing::info!(
                dataset = format!("{}.{}", to.project, to.dataset),
                location = to.location,
                "Made the dataset."
            );
            Ok(())
        }
        Err(error) => match failed(to, error) {
            there if there.kind() == ErrorKind::Conflict => Ok(()),
            error => Err(error),
        },
    }
}

fn failed(to: &BigQueryConfig, error: BQError) -> Error {
    match error {
        BQError::ResponseError { error } => {
            let status = u16::try_from(error.error.code).ok();
            let status = status.and_then(|code| StatusCode::from_u16(code).ok());
            let reason = error.error.errors.first().and_then(|first| first.get("reason"));
            refused(
                to,
                Doing::Dataset,
                status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                reason.map_or("", String::as_str),
                &error.error.message,
            )
        }
        BQError::RequestError(error) => unanswered(to, error),
        other => Error::new(ErrorKind::Unavailable, "BigQuery's client failed.")
            .with("external_table", to)
            .with_source(other),
    }
}
