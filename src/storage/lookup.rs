//! What Cloud Storage says of an object of a landing bucket besides its bytes: whether it is a copy that we made, and whether
//! it is really gone.
//!
//! By the JSON API ([get](https://cloud.google.com/storage/docs/json_api/v1/objects/get),
//! [list](https://cloud.google.com/storage/docs/json_api/v1/objects/list)): a media download's answer has no metadata of
//! ours, and its 404 is a line of text that any proxy may write.

use std::collections::BTreeMap;

use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::disposal::{Client, path_of};
use super::generation::unreadable;
use crate::error::{Error, ErrorKind, Result};

/// The member of a copy's metadata that holds the generation that it was made of. What is at a name alone proves nothing:
/// anybody may write there.
pub(super) const MARK: &str = "landfast-moved-generation";

/// Asks about objects. Its client is made with the first question.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    client: OnceCell<Client>,
}

/// An object's resource, as far as it is asked for.
#[derive(Debug, Deserialize)]
struct Resource {
    /// Left out where there is none.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Listing {
    kind: String,
    /// Left out where there are none.
    #[serde(default)]
    items: Vec<Item>,
    #[serde(rename = "nextPageToken")]
    next_page: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Item {
    name: String,
    generation: String,
}

impl Lookup {
    /// Whether the object was made by us, of the generation that its name tells; `None` when it is not there any more.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the object, also where it may not be read.
    pub(super) async fn is_copy(
        &self,
        (bucket, name, generation): (&str, &str, i64),
        of: &str,
    ) -> Result<Option<bool>> {
        let parameters = [
            ("generation", generation.to_string()),
            ("fields", "metadata".to_owned()),
        ];
        let answer = self.get(&path_of(bucket, name), &parameters).await?;
        let url = || format!("gs://{bucket}/{name}");
        match answer.status() {
            StatusCode::NOT_FOUND => {
                self.prove_gone((bucket, name, generation)).await?;
                Ok(None)
            }
            status if status.is_success() => {
                let resource: Resource = answer
                    .json()
                    .await
                    .map_err(|error| unreadable(&url(), None).with_source(error.without_url()))?;
                Ok(Some(resource.metadata.get(MARK).is_some_and(|mark| mark == of)))
            }
            status => Err(unreadable(&url(), Some(status.as_u16())).with("status", status.as_u16())),
        }
    }

    /// Proves that a generation is gone of which a 404 says so: the bucket is listed by the same address, and it is not
    /// in it. Cloud Storage says 404 to those alone who may list; to others it says 403.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] naming the object when that is not proven.
    pub(super) async fn prove_gone(&self, (bucket, name, generation): (&str, &str, i64)) -> Result<()> {
        let parameters = [
            ("prefix", name.to_owned()),
            ("versions", "true".to_owned()),
            ("fields", "kind,nextPageToken,items(name,generation)".to_owned()),
        ];
        let answer = self.get(&format!("/b/{bucket}/o"), &parameters).await?;
        let status = answer.status();
        // The name itself comes before all that begin with it, so the first page has it.
        let listing: Option<Listing> = match status.is_success() {
            true => answer.json().await.ok(),
            false => None,
        };
        let is_there = |item: &Item| item.name == name && item.generation == generation.to_string();
        let message = match listing {
            // A page without it may come before the one that has it, if it is empty.
            Some(listing) if listing.items.is_empty() && listing.next_page.is_some() => {
                "What answers for Cloud Storage has not listed the bucket to the object; its event comes again."
            }
            Some(listing) if listing.kind == "storage#objects" => match listing.items.iter().any(is_there) {
                false => return Ok(()),
                true => {
                    "What answers for Cloud Storage lists the object and says that it is not there; its event comes again."
                }
            },
            _ => {
                "What answers for Cloud Storage says that the object is not there, and does not list its bucket: that \
                 proves nothing, and its event comes again. See that there is this bucket, and that what \
                 STORAGE_EMULATOR_HOST or GOOGLE_BASE_URL names, and what is on the way to it, speaks the JSON API."
            }
        };
        Err(Error::new(ErrorKind::Unavailable, message)
            .with("object", format_args!("gs://{bucket}/{name}"))
            .with("status", status.as_u16()))
    }

    async fn get(&self, path: &str, parameters: &[(&str, String)]) -> Result<Response> {
        let client = self.client.get_or_try_init(async || Client::new()).await?;
        client.send_once(Method::GET, path, parameters, None).await
    }
}
