//! A project of Google Cloud for the length of a test: what is made in it, by the REST calls of Google's documents, and taken
//! away again, the last first, also when the test fails.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use google_cloud_auth::credentials::Builder;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::readers::Sent;
use crate::support::{Component, TestResult, needs, note, wait_for};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// Grants take a while to be seen everywhere, and so do new buckets.
const SEEN: Duration = Duration::from_secs(180);

/// An API: where it is, and its discovery document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Api {
    root: &'static str,
    pub document: Option<&'static str>,
}

pub const STORAGE: Api = Api {
    root: "https://storage.googleapis.com",
    document: Some("storage.v1"),
};
pub const PUBSUB: Api = Api {
    root: "https://pubsub.googleapis.com",
    document: Some("pubsub.v1"),
};
pub const BIGQUERY: Api = Api {
    root: "https://bigquery.googleapis.com",
    document: Some("bigquery.v2"),
};
pub const CONNECTION: Api = Api {
    root: "https://bigqueryconnection.googleapis.com",
    document: Some("bigqueryconnection.v1"),
};
/// The catalog's own extensions are in no document of the package.
pub const BIGLAKE: Api = Api {
    root: "https://biglake.googleapis.com",
    document: None,
};

/// The project, and what is to be taken away from it.
pub struct Project {
    pub id: String,
    /// What the names of all that is made begin with.
    pub name: String,
    token: String,
    /// Where every API is, instead of Google's addresses.
    base: Option<String>,
    http: reqwest::Client,
    made: Mutex<Vec<(Api, String)>>,
    sent: Mutex<Vec<(Api, Sent)>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Project {
    /// The project that the tests were given. Ends the test as ignored where it is none.
    pub async fn given() -> TestResult<Self> {
        let id = needs(Component::Live)?;
        let credentials = Builder::default()
            .with_scopes([SCOPE])
            .build_access_token_credentials()?;
        let token = credentials.access_token().await?.token;
        Self::new(id, token, None)
    }

    /// One whose APIs are all at this address.
    pub fn at(base: &str) -> TestResult<Self> {
        Self::new("p-test".to_owned(), "t".to_owned(), Some(base.to_owned()))
    }

    fn new(id: String, token: String, base: Option<String>) -> TestResult<Self> {
        Ok(Self {
            id,
            name: format!("landfast-live-{}", &Uuid::new_v4().simple().to_string()[..8]),
            token,
            base,
            http: reqwest::Client::builder().build()?,
            made: Mutex::default(),
            sent: Mutex::default(),
        })
    }

    /// What was sent so far.
    pub fn sent(&self) -> Vec<(Api, Sent)> {
        held(&self.sent).clone()
    }

    /// Sends a request, and gives the answer's JSON.
    pub async fn call(&self, api: Api, method: Method, path: &str, body: Option<Value>) -> TestResult<Value> {
        let base = self.base.as_deref().unwrap_or(api.root);
        let mut request = self.http.request(method.clone(), format!("{base}{path}"));
        request = request
            .bearer_auth(&self.token)
            .header("x-goog-user-project", &self.id);
        request = match &body {
            Some(body) => request.json(body),
            None => request.header(CONTENT_LENGTH, 0),
        };
        let sent = Sent {
            method: method.to_string(),
            path: path.to_owned(),
            body,
        };
        held(&self.sent).push((api, sent));
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        match status.is_success() {
            true => Ok(serde_json::from_str(&text).unwrap_or(Value::Null)),
            false => Err(format!("{method} {path}: {status} {text}").into()),
        }
    }

    /// Makes a thing, and takes it away by its path at the end.
    async fn make(
        &self,
        api: Api,
        (method, path): (Method, &str),
        body: Value,
        gone: String,
    ) -> TestResult<Value> {
        // Before it is made: an answer may be lost.
        held(&self.made).push((api, gone));
        self.call(api, method, path, Some(body)).await
    }

    /// A bucket of the region, named after the project's name.
    pub async fn bucket(&self, suffix: &str, region: &str) -> TestResult<String> {
        let name = format!("{}-{suffix}", self.name);
        let body = json!({
            "name": name, "location": region,
            "iamConfiguration": { "uniformBucketLevelAccess": { "enabled": true } },
        });
        let path = format!("/storage/v1/b?project={}", self.id);
        self.make(
            STORAGE,
            (Method::POST, &path),
            body,
            format!("/storage/v1/b/{name}"),
        )
        .await?;
        Ok(name)
    }

    /// A topic with a subscription to be pulled, both of this name; gives the subscription's short name.
    pub async fn queue(&self, suffix: &str) -> TestResult<String> {
        let name = format!("{}-{suffix}", self.name);
        let topic = format!("/v1/projects/{}/topics/{name}", self.id);
        self.make(PUBSUB, (Method::PUT, &topic), json!({}), topic.clone())
            .await?;
        let subscription = format!("/v1/projects/{}/subscriptions/{name}", self.id);
        let body = json!({ "topic": topic.trim_start_matches("/v1/"), "ackDeadlineSeconds": 60 });
        self.make(PUBSUB, (Method::PUT, &subscription), body, subscription.clone())
            .await?;
        Ok(name)
    }

    /// Has a topic told of the objects of a bucket.
    pub async fn notify(&self, bucket: &str, topic: &str) -> TestResult {
        let path = format!("/storage/v1/projects/{}/serviceAccount", self.id);
        let agent = self.call(STORAGE, Method::GET, &path, None).await?;
        let member = format!(
            "serviceAccount:{}",
            agent["email_address"].as_str().ok_or("no agent")?
        );
        let binding = json!({ "role": "roles/pubsub.publisher", "members": [member] });
        let body = json!({ "policy": { "bindings": [binding] } });
        let topic = format!("projects/{}/topics/{topic}", self.id);
        self.call(
            PUBSUB,
            Method::POST,
            &format!("/v1/{topic}:setIamPolicy"),
            Some(body),
        )
        .await?;
        let path = format!("/storage/v1/b/{bucket}/notificationConfigs");
        let body = json!({
            "topic": format!("//pubsub.googleapis.com/{topic}"), "payload_format": "JSON_API_V1",
            "event_types": ["OBJECT_FINALIZE"],
        });
        self.patiently(async || self.call(STORAGE, Method::POST, &path, Some(body.clone())).await)
            .await?;
        Ok(())
    }

    /// A dataset, and a connection whose account may read the bucket; gives the dataset's and the connection's name.
    pub async fn dataset(&self, region: &str, bucket: &str) -> TestResult<(String, String)> {
        let dataset = self.name.replace('-', "_");
        let path = format!("/bigquery/v2/projects/{}/datasets", self.id);
        let body =
            json!({ "datasetReference": { "projectId": self.id, "datasetId": dataset }, "location": region });
        self.make(
            BIGQUERY,
            (Method::POST, &path),
            body,
            format!("{path}/{dataset}?deleteContents=true"),
        )
        .await?;
        let connections = format!("/v1/projects/{}/locations/{region}/connections", self.id);
        let path = format!("{connections}?connectionId={}", self.name);
        let gone = format!("{connections}/{}", self.name);
        let made = self
            .make(
                CONNECTION,
                (Method::POST, &path),
                json!({ "cloudResource": {} }),
                gone,
            )
            .await?;
        let account = made["cloudResource"]["serviceAccountId"]
            .as_str()
            .ok_or("no account")?
            .to_owned();
        let path = format!("/storage/v1/b/{bucket}/iam");
        let mut policy = self.call(STORAGE, Method::GET, &path, None).await?;
        let binding =
            json!({ "role": "roles/storage.objectViewer", "members": [format!("serviceAccount:{account}")] });
        policy["bindings"]
            .as_array_mut()
            .ok_or("no bindings")?
            .push(binding);
        self.patiently(async || self.call(STORAGE, Method::PUT, &path, Some(policy.clone())).await)
            .await?;
        Ok((dataset, format!("{region}.{}", self.name)))
    }

    /// BigLake's catalog of a bucket.
    pub async fn catalog(&self, bucket: &str) -> TestResult {
        let path = format!("/iceberg/v1/restcatalog/extensions/projects/{}/catalogs", self.id);
        let made = format!("{path}?iceberg-catalog-id={bucket}");
        let body = json!({ "catalog-type": "CATALOG_TYPE_GCS_BUCKET" });
        self.make(BIGLAKE, (Method::POST, &made), body, format!("{path}/{bucket}"))
            .await?;
        Ok(())
    }

    /// Publishes texts.
    pub async fn publish(&self, topic: &str, texts: impl IntoIterator<Item = String>) -> TestResult {
        use base64::Engine;
        let encode = |text| base64::engine::general_purpose::STANDARD.encode(text);
        let messages = texts.into_iter().map(|text| json!({ "data": encode(text) }));
        let body = json!({ "messages": messages.collect::<Vec<Value>>() });
        let path = format!("/v1/projects/{}/topics/{topic}:publish", self.id);
        self.call(PUBSUB, Method::POST, &path, Some(body)).await.map(drop)
    }

    /// Puts an object.
    pub async fn put(&self, bucket: &str, name: &str, text: String) -> TestResult {
        let base = self.base.as_deref().unwrap_or(STORAGE.root);
        let url = format!("{base}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}");
        let put = self
            .http
            .post(url)
            .bearer_auth(&self.token)
            .header(CONTENT_TYPE, "application/x-ndjson");
        put.body(text).send().await?.error_for_status()?;
        Ok(())
    }

    /// The first row of a query's result, as BigQuery writes its values.
    pub async fn query(&self, statement: &str, region: &str) -> TestResult<Vec<String>> {
        let body =
            json!({ "query": statement, "useLegacySql": false, "location": region, "timeoutMs": 60_000 });
        let path = format!("/bigquery/v2/projects/{}/queries", self.id);
        let answer = self.call(BIGQUERY, Method::POST, &path, Some(body)).await?;
        let cells = answer["rows"][0]["f"].as_array().cloned().unwrap_or_default();
        Ok(cells
            .iter()
            .map(|cell| cell["v"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    async fn patiently(&self, mut call: impl AsyncFnMut() -> TestResult<Value>) -> TestResult<Value> {
        if self.base.is_some() {
            return call().await;
        }
        wait_for("a grant to be seen", SEEN, async || call().await.ok()).await
    }

    /// Takes away what was made, the last first; says what is left.
    pub async fn clear(&self) -> TestResult {
        let made: Vec<(Api, String)> = std::mem::take(&mut *held(&self.made));
        let mut left = Vec::new();
        for (api, path) in made.into_iter().rev() {
            if path.starts_with("/storage/v1/b/") {
                // What cannot be emptied cannot be deleted, and that says so.
                let _not_all = self.empty(&path).await;
            }
            if self.call(api, Method::DELETE, &path, None).await.is_err() {
                left.push(format!("{}{path}", api.root));
            }
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(format!("Delete by hand: {left:?}").into()),
        }
    }

    async fn empty(&self, bucket: &str) -> TestResult {
        loop {
            let listed = self
                .call(STORAGE, Method::GET, &format!("{bucket}/o?maxResults=500"), None)
                .await?;
            let items = listed["items"].as_array().cloned().unwrap_or_default();
            if items.is_empty() {
                return Ok(());
            }
            for item in items {
                let name = item["name"].as_str().unwrap_or_default();
                let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
                self.call(STORAGE, Method::DELETE, &format!("{bucket}/o/{name}"), None)
                    .await?;
            }
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        for (api, path) in held(&self.made).iter() {
            note(&format!("Perhaps still there: {}{path}", api.root));
        }
    }
}
