//! Pub/Sub push as Google sends it, and a client that sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// The status of a push that got none: the connection was refused or broke, or the deadline passed. A nack.
pub const NO_ANSWER: u16 = 0;

/// One message of one subscription, wrapped.
#[derive(Debug, Clone)]
pub struct Push {
    subscription: String,
    message_id: String,
    published_at: DateTime<Utc>,
    data: Option<Vec<u8>>,
    attributes: BTreeMap<String, String>,
    ordering_key: Option<String>,
    delivery_attempt: Option<u32>,
}

impl Push {
    /// A message published now. A short subscription name gets the project `p-test`.
    pub fn new(subscription: &str, message_id: impl ToString, data: impl AsRef<[u8]>) -> Self {
        let full = format!("projects/p-test/subscriptions/{subscription}");
        Self {
            subscription: if subscription.contains('/') {
                subscription.to_owned()
            } else {
                full
            },
            message_id: message_id.to_string(),
            published_at: Utc::now(),
            data: Some(data.as_ref().to_vec()),
            attributes: BTreeMap::new(),
            ordering_key: None,
            delivery_attempt: None,
        }
    }

    /// A message of JSON.
    pub fn json(subscription: &str, message_id: impl ToString, data: &Value) -> Self {
        Self::new(subscription, message_id, data.to_string())
    }

    /// Sets the publish time.
    pub fn published_at(mut self, at: DateTime<Utc>) -> Self {
        self.published_at = at;
        self
    }

    /// Adds an attribute. A message without any carries no `attributes`.
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the ordering key.
    pub fn ordering_key(mut self, key: &str) -> Self {
        self.ordering_key = Some(key.to_owned());
        self
    }

    /// Sets the delivery attempt, which Pub/Sub sends where the subscription has a dead-letter policy.
    pub fn delivery_attempt(mut self, attempt: u32) -> Self {
        self.delivery_attempt = Some(attempt);
        self
    }

    /// Leaves `data` out, as for a message of attributes only.
    pub fn without_data(mut self) -> Self {
        self.data = None;
        self
    }

    /// The request's body: ids and times in both spellings, `data` in padded standard base64.
    pub fn body(&self) -> Value {
        let published_at = self.published_at.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let mut message = json!({
            "messageId": self.message_id, "message_id": self.message_id,
            "publishTime": published_at, "publish_time": published_at,
        });
        if let Some(data) = &self.data {
            message["data"] = STANDARD.encode(data).into();
        }
        if !self.attributes.is_empty() {
            message["attributes"] = json!(self.attributes);
        }
        if let Some(key) = &self.ordering_key {
            message["orderingKey"] = key.as_str().into();
        }
        let mut body = json!({ "message": message, "subscription": self.subscription });
        if let Some(attempt) = self.delivery_attempt {
            body["deliveryAttempt"] = attempt.into();
        }
        body
    }
}

/// Sends pushes to one server. Clones share connections.
#[derive(Debug, Clone)]
pub struct Pusher {
    client: reqwest::Client,
    base_url: String,
    token: Option<String>,
}

impl Pusher {
    /// Where it pushes to.
    pub fn url(&self) -> &str {
        &self.base_url
    }

    /// A pusher to `base_url` (`http://127.0.0.1:8080`) that waits 60 s for an answer.
    pub fn new(base_url: &str) -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build();
        Self {
            client: client.expect("a client without TLS"),
            base_url: base_url.trim_end_matches('/').to_owned(),
            token: None,
        }
    }

    /// The same with a token in each request, as Pub/Sub sends it for a subscription with a service account.
    pub fn bearing(&self, token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// Sends one push; gives the status, or [`NO_ANSWER`].
    pub async fn push(&self, push: &Push) -> u16 {
        let answer = self.post("/", "application/json", push.body().to_string()).await;
        answer.map_or(NO_ANSWER, |answer| answer.status().as_u16())
    }

    /// Sends pushes, `concurrency` open at a time; gives the statuses in the order of the pushes.
    pub async fn push_all(&self, pushes: &[Push], concurrency: usize) -> Vec<u16> {
        let answers = futures::stream::iter(pushes).map(|push| self.push(push));
        answers.buffered(concurrency).collect().await
    }

    /// Posts any body to a path: what is not a push, or not a good one.
    pub async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<reqwest::Response> {
        let mut request = self.client.post(format!("{}{path}", self.base_url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request.header(CONTENT_TYPE, content_type).body(body).send().await
    }

    /// Gets a path: the status and the text.
    pub async fn get(&self, path: &str) -> reqwest::Result<(u16, String)> {
        let answer = self.client.get(format!("{}{path}", self.base_url)).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }
}
