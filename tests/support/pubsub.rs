//! Google's emulator of Pub/Sub: topics, subscriptions and messages by its REST calls, in a project of each test's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::server::{Server, landfast};
use super::{Component, TestResult, needs};

/// How many messages a call publishes at most.
const BATCH: usize = 1000;

/// A project of the emulator.
#[derive(Debug)]
pub struct PubSub {
    host: String,
    project: String,
    http: reqwest::Client,
}

/// A message as it was published.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// When the topic took it.
    pub published_at: DateTime<Utc>,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Its attributes.
    pub attributes: BTreeMap<String, String>,
}

impl PubSub {
    /// A new project of the emulator of the test run. Ends the test as ignored where there is none.
    pub fn new() -> TestResult<Self> {
        let project = Uuid::new_v4().simple().to_string();
        Ok(Self {
            host: needs(Component::PubSub)?,
            project: format!("p-{}", &project[..12]),
            http: reqwest::Client::builder().no_proxy().build()?,
        })
    }

    /// The project in which the topic `landing` has the notifications of Cloud Storage's server.
    pub fn of_landing() -> TestResult<Self> {
        let own = Self::new()?;
        let project = "p-test".to_owned();
        Ok(Self { project, ..own })
    }

    /// The emulator's host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The full name of a topic.
    pub fn full_topic(&self, topic: &str) -> String {
        format!("projects/{}/topics/{topic}", self.project)
    }

    /// The full name of a subscription.
    pub fn full(&self, subscription: &str) -> String {
        format!("projects/{}/subscriptions/{subscription}", self.project)
    }

    /// Makes a topic with a subscription of the same name.
    pub async fn queue(&self, name: &str) -> TestResult {
        self.topic(name).await?;
        self.subscribe(name, name, json!({})).await
    }

    /// Makes a topic.
    pub async fn topic(&self, name: &str) -> TestResult {
        self.call(Method::PUT, &self.full_topic(name), json!({}))
            .await
            .map(drop)
    }

    /// Makes a subscription to a topic; `more` are further members of it.
    pub async fn subscribe(&self, name: &str, topic: &str, more: Value) -> TestResult {
        let mut body = json!({
            "topic": format!("projects/{}/topics/{topic}", self.project), "ackDeadlineSeconds": 10,
        });
        for (member, value) in more.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        self.call(Method::PUT, &self.full(name), body).await.map(drop)
    }

    /// Deletes a subscription.
    pub async fn delete(&self, subscription: &str) -> TestResult {
        let path = self.full(subscription);
        self.call(Method::DELETE, &path, json!({})).await.map(drop)
    }

    /// Publishes texts; gives their ids.
    pub async fn publish(
        &self,
        topic: &str,
        texts: impl IntoIterator<Item = String>,
    ) -> TestResult<Vec<String>> {
        let messages = texts
            .into_iter()
            .map(|text| json!({ "data": STANDARD.encode(text) }));
        self.send(topic, messages.collect()).await
    }

    /// Publishes messages as REST has them; gives their ids.
    pub async fn send(&self, topic: &str, messages: Vec<Value>) -> TestResult<Vec<String>> {
        let path = format!("projects/{}/topics/{topic}:publish", self.project);
        let mut ids = Vec::new();
        for batch in messages.chunks(BATCH) {
            let answer = self
                .call(Method::POST, &path, json!({ "messages": batch }))
                .await?;
            let new = answer["messageIds"].as_array().ok_or("no ids")?;
            ids.extend(new.iter().filter_map(|id| Some(id.as_str()?.to_owned())));
        }
        Ok(ids)
    }

    /// All that a subscription would deliver now. It is leased for a moment, and stays.
    pub async fn waiting(&self, subscription: &str) -> TestResult<Vec<Message>> {
        let path = self.full(subscription);
        let mut all = Vec::new();
        loop {
            let ask = json!({ "maxMessages": BATCH, "returnImmediately": true });
            let answer = self.call(Method::POST, &format!("{path}:pull"), ask).await?;
            match answer["receivedMessages"].as_array() {
                Some(received) if !received.is_empty() => all.extend_from_slice(received),
                _ => break,
            }
        }
        let leases: Vec<&Value> = all.iter().map(|received| &received["ackId"]).collect();
        for leases in leases.chunks(BATCH) {
            let back = json!({ "ackIds": leases, "ackDeadlineSeconds": 0 });
            self.call(Method::POST, &format!("{path}:modifyAckDeadline"), back)
                .await?;
        }
        all.iter().map(|received| message(&received["message"])).collect()
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> TestResult<Value> {
        let url = format!("http://{}/v1/{path}", self.host);
        let answer = self.http.request(method, url).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        match status.is_success() {
            true => Ok(serde_json::from_str(&text)?),
            false => Err(format!("{path}: {status} {text}").into()),
        }
    }

    /// `landfast pull` at the emulator.
    pub fn command(&self, config: &Path) -> Command {
        self.command_at(&self.host, config)
    }

    /// The same at another address that leads there.
    pub fn command_at(&self, host: &str, config: &Path) -> Command {
        let mut command = landfast(["pull", "--project", &self.project, "--config"]);
        command.arg(config).env("PUBSUB_EMULATOR_HOST", host);
        command
    }

    /// Starts a worker that pulls what the configuration names.
    pub async fn worker(&self, config: &Path) -> TestResult<Server> {
        Server::start(self.command(config)).await
    }
}

fn message(message: &Value) -> TestResult<Message> {
    let text = |member: &str| message[member].as_str().unwrap_or_default();
    Ok(Message {
        id: text("messageId").to_owned(),
        published_at: text("publishTime").parse()?,
        data: STANDARD.decode(text("data"))?,
        attributes: serde_json::from_value(message["attributes"].clone()).unwrap_or_default(),
    })
}
