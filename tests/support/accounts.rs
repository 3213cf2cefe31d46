//! Accounts of the S3 server: each owns one bucket, and reaches no other.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Component, TestResult, needs};

/// An account with a bucket of its own.
#[derive(Debug)]
pub struct Account {
    program: String,
    endpoint: String,
    name: String,
    secret: String,
}

impl Account {
    /// Makes one on the S3 server of the test run. Ends the test as ignored where there is none.
    pub fn new() -> TestResult<Self> {
        let place = needs(Component::S3)?;
        let (endpoint, programs) = place.split_once(' ').ok_or("an address and a folder")?;
        let account = Self {
            program: format!("{programs}/versitygw"),
            endpoint: endpoint.to_owned(),
            name: format!("t{}", Uuid::new_v4().simple()),
            secret: secret(),
        };
        let (name, secret) = (account.name.as_str(), account.secret.as_str());
        account.admin(&[
            "create-user",
            "--access",
            name,
            "--secret",
            secret,
            "--role",
            "user",
        ])?;
        account.admin(&["create-bucket", "--owner", name, "--bucket", name])?;
        Ok(account)
    }

    /// Gives it another secret; the one before is good for nothing.
    pub fn change_secret(&mut self) -> TestResult {
        self.secret = secret();
        let (name, secret) = (self.name.as_str(), self.secret.as_str());
        self.admin(&["update-user", "--access", name, "--secret", secret])
    }

    /// The location of a folder in its bucket.
    pub fn location(&self, folder: &str) -> String {
        format!("s3://{}/{folder}", self.name)
    }

    /// What no text may hold.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A location as independent readers are told it, who are the server's root.
    pub fn told(&self, location: &str) -> String {
        format!("{location}?endpoint={}", self.endpoint)
    }

    /// What a catalog vends of it for a prefix.
    pub fn credential(&self, prefix: &str) -> Value {
        json!({ "prefix": prefix, "config": {
            "s3.endpoint": self.endpoint,
            "s3.path-style-access": "true",
            "client.region": "us-east-1",
            "s3.access-key-id": self.name,
            "s3.secret-access-key": self.secret,
        } })
    }

    /// What the environment tells a process of it.
    pub fn environment(&self) -> [(&'static str, &str); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint.as_str()),
            ("AWS_ACCESS_KEY_ID", self.name.as_str()),
            ("AWS_SECRET_ACCESS_KEY", self.secret.as_str()),
            ("AWS_REGION", "us-east-1"),
        ]
    }

    fn admin(&self, arguments: &[&str]) -> TestResult {
        let root = [
            "admin",
            "--access",
            "test",
            "--secret",
            "testtest",
            "--endpoint-url",
        ];
        let output = Command::new(Path::new(&self.program))
            .args(root)
            .arg(&self.endpoint)
            .args(arguments)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(format!("versitygw admin {arguments:?}: {stderr}").into())
    }
}

fn secret() -> String {
    format!("s3cret{}", Uuid::new_v4().simple())
}
