//! The topic of Pub/Sub that dead letters are published to.

use std::time::Duration;

use futures::future::join_all;
use google_cloud_gax::retry_policy::RetryPolicyExt;
use google_cloud_pubsub::client::Publisher;
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::retry_policy::RetryableErrors;
use tokio::time::timeout;

use super::message::CHECK;
use crate::config::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::google::{EMULATOR, PROJECT, PubSub, not_made};

/// How long Google's client tries by itself. What it has is held in memory until then, so a long outage must not leave it
/// the letters of many attempts: their deliveries come again.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where even that does not end.
const LAST: Duration = Duration::from_secs(15);
/// How long a token is waited for.
const TOKEN: Duration = Duration::from_secs(10);
/// Messages that the client has at one time.
pub(super) const AT_ONCE: usize = 1000;

/// A topic, and the client that publishes to it.
#[derive(Debug, Clone)]
pub struct Topic {
    name: String,
    publisher: Publisher,
}

impl Topic {
    /// Makes the client of a topic by its short or full name. `env` says the project of a short one, and names an emulator if
    /// there is one; else the process's credentials are used. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a short name without a project; [`ErrorKind::Rejected`] when there are no usable
    /// credentials, or the system trusts no authority.
    pub async fn connect(name: &str, env: Env<'_>) -> Result<Self> {
        let set = |name| env(name).filter(|value| !value.is_empty());
        let name = match (name.contains('/'), set(PROJECT)) {
            (true, _) => name.to_owned(),
            (false, Some(project)) => format!("projects/{project}/topics/{name}"),
            (false, None) => {
                let message = "A short name of a topic needs its project: write projects/P/topics/NAME at \
                               `dead_letters.topic`, or set GOOGLE_CLOUD_PROJECT.";
                return Err(Error::new(ErrorKind::Config, message).with("topic", name));
            }
        };
        let retries = RetryableErrors.with_time_limit(PATIENCE);
        let publisher = Publisher::builder(name.as_str()).with_retry_policy(retries);
        let pubsub = PubSub::at(set(EMULATOR).as_deref(), env, TOKEN)?;
        let mut publisher = publisher.with_credentials(pubsub.credentials);
        if let Some(endpoint) = pubsub.endpoint {
            publisher = publisher.with_endpoint(endpoint);
        }
        let publisher = publisher.build().await.map_err(not_made)?;
        Ok(Self { name, publisher })
    }

    /// The full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Publishes messages. `Ok` means that the topic has taken every one.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], also for a topic that is not there: some may have been taken, and none must count.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Result<()> {
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let taken = messages.by_ref().take(AT_ONCE);
            let taken = join_all(taken.map(|message| self.publisher.publish(message)));
            let answers = timeout(LAST, taken).await.map_err(|_elapsed| {
                let message = "The topic of the dead letters did not answer in time.";
                Error::new(ErrorKind::Unavailable, message).with("topic", &self.name)
            })?;
            for answer in answers {
                answer.map_err(|error| self.failure(error))?;
            }
        }
        Ok(())
    }

    /// Publishes a message without data, which says that a check of this name was here. Nobody takes it for a letter.
    ///
    /// # Errors
    /// As those of letters; `code` is Pub/Sub's, where it answered.
    pub async fn probe(&self, check: &str) -> Result<()> {
        let message = Message::new().set_attributes([(CHECK, check)]);
        self.publish(vec![message]).await
    }

    /// None of these is for good: the topic may be made, or the role given, and the delivery comes again.
    fn failure(&self, error: PublishError) -> Error {
        let code = match &error {
            PublishError::Rpc(error) => error.status().map(|status| status.code.name()),
            _ => None,
        };
        let message = match code {
            Some("NOT_FOUND") => {
                "There is no such topic for the dead letters; create it, or name another one at `dead_letters.topic`."
            }
            Some("PERMISSION_DENIED") => {
                "The process may not publish dead letters: grant its service account roles/pubsub.publisher on the topic \
                 (permission pubsub.topics.publish)."
            }
            _ => "The topic does not take dead letters now.",
        };
        let failure = Error::new(ErrorKind::Unavailable, message).with("topic", &self.name);
        let failure = match code {
            Some(code) => failure.with("code", code),
            None => failure,
        };
        failure.with_source(error)
    }
}
