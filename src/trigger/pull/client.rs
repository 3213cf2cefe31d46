//! Google's client of the subscriptions, and the tasks that pull them.

use std::sync::Arc;
use std::time::Duration;

use google_cloud_pubsub::client::{Subscriber, SubscriptionAdmin};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::puller::Puller;
use crate::config::process_env;
use crate::error::{Error, ErrorKind, Result};
use crate::google::{PubSub, not_made};
use crate::trigger::Server;

/// Streams of one connection. A stream without messages takes one of the hundred requests that may be open on it.
const STREAMS_PER_CONNECTION: usize = 20;

/// How long a token is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The subscriptions that a process pulls.
#[derive(Debug)]
pub struct Pulls {
    client: Subscriber,
    subscriptions: Vec<String>,
    failure: watch::Sender<Option<Error>>,
}

impl Pulls {
    /// Makes the client of these subscriptions, by Application Default Credentials; at `emulator`, a host and port, without
    /// any. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when there are no usable credentials, or the system trusts no authority.
    pub async fn connect(emulator: Option<&str>, subscriptions: Vec<String>) -> Result<Self> {
        let connections = subscriptions.len().div_ceil(STREAMS_PER_CONNECTION);
        let client = Subscriber::builder().with_grpc_subchannel_count(connections);
        let pubsub = PubSub::at(emulator, &process_env, PATIENCE)?;
        let mut client = client.with_credentials(pubsub.credentials);
        if let Some(endpoint) = pubsub.endpoint {
            client = client.with_endpoint(endpoint);
        }
        let client = client.build().await.map_err(not_made)?;
        Ok(Self {
            client,
            subscriptions,
            failure: watch::Sender::new(None),
        })
    }

    /// Why one of the subscriptions cannot be pulled, once that is so. The process should stop then.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.failure.subscribe()
    }

    /// Pulls until it is `stopped`; returns when all that was taken is acknowledged or given back.
    pub(crate) async fn run(self, server: Arc<Server>, stopped: watch::Receiver<bool>) {
        let mut pullers = JoinSet::new();
        for subscription in self.subscriptions {
            let puller = Puller::new(
                self.client.clone(),
                subscription,
                server.clone(),
                self.failure.clone(),
                stopped.clone(),
            );
            pullers.spawn(puller.run());
        }
        while let Some(ended) = pullers.join_next().await {
            if let Err(error) = ended {
                let message = "A task that pulls ended badly; its messages come again.";
                let error = Error::new(ErrorKind::Unavailable, message).with_source(error);
                self.failure.send_replace(Some(error));
            }
        }
    }
}

/// The client that asks what subscriptions are set to, found as [`Pulls::connect`] finds its own. Nothing is sent yet.
///
/// # Errors
/// As [`Pulls::connect`].
pub(crate) async fn admin(emulator: Option<&str>) -> Result<SubscriptionAdmin> {
    let pubsub = PubSub::at(emulator, &process_env, PATIENCE)?;
    let mut client = SubscriptionAdmin::builder().with_credentials(pubsub.credentials);
    if let Some(endpoint) = pubsub.endpoint {
        client = client.with_endpoint(endpoint);
    }
    client.build().await.map_err(not_made)
}
