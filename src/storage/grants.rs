//! What we may do in a bucket of Cloud Storage, asked without doing it.
//!
//! By the JSON API ([get](https://cloud.google.com/storage/docs/json_api/v1/buckets/get),
//! [testIamPermissions](https://cloud.google.com/storage/docs/json_api/v1/buckets/testIamPermissions)). The answers say
//! what IAM allows now; retention, holds and perimeters are not in them.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde::Deserialize;

use super::disposal::Client;
use crate::error::{Error, ErrorKind, Result};

/// Asks about buckets.
#[derive(Debug)]
pub struct Grants {
    client: Client,
}

#[derive(Debug, Deserialize)]
struct Permitted {
    /// Left out where there are none.
    #[serde(default)]
    permissions: BTreeSet<String>,
}

impl Grants {
    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot be used, [`ErrorKind::Rejected`] without usable credentials.
    pub fn new() -> Result<Self> {
        Client::new().map(|client| Self { client })
    }

    /// Whether there is such a bucket. It may be looked at by few, so a refusal says that there is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] for any other answer, or none; [`ErrorKind::Rejected`] when Google gives no token.
    pub async fn bucket_exists(&self, bucket: &str) -> Result<bool> {
        let parameters = [("fields", "name".to_owned())];
        let path = format!("/b/{bucket}");
        let answer = self
            .client
            .send_once(Method::GET, &path, &parameters, None)
            .await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() || status == StatusCode::FORBIDDEN => Ok(true),
            status => Err(unanswered(bucket, status)),
        }
    }

    /// Which of these permissions we have in a bucket; none where the server does not know the question.
    ///
    /// # Errors
    /// As [`Grants::bucket_exists`].
    pub async fn permitted(&self, bucket: &str, asked: &[&str]) -> Result<Option<BTreeSet<String>>> {
        let parameters: Vec<(&str, String)> = asked
            .iter()
            .map(|permission| ("permissions", (*permission).to_owned()))
            .collect();
        let path = format!("/b/{bucket}/iam/testPermissions");
        let answer = self
            .client
            .send_once(Method::GET, &path, &parameters, None)
            .await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(None),
            status if status.is_success() => {
                let permitted: Permitted = answer.json().await.map_err(|error| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "Cloud Storage's answer is not one about permissions.",
                    )
                    .with("bucket", bucket)
                    .with_source(error.without_url())
                })?;
                Ok(Some(permitted.permissions))
            }
            status => Err(unanswered(bucket, status)),
        }
    }
}

fn unanswered(bucket: &str, status: StatusCode) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "Cloud Storage does not say what we may do in the bucket.",
    )
    .with("bucket", bucket)
    .with("status", status.as_u16())
}
