//! What servers send where the `iceberg-catalog-rest` crate has no type that takes it.

use std::collections::HashMap;
use std::time::Duration;

use iceberg::spec::TableMetadata;
use serde::Deserialize;
use serde_json::Value;

/// The most of a server's own words that a message quotes, in characters.
const MAX_QUOTED: usize = 300;

/// Secrets shorter than this are not looked for: what they would hide is everything.
const MIN_SECRET: usize = 4;

/// What `/v1/config` answers. The crate's type is private, and fails without `defaults`, which BigLake leaves out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct ConfigResponse {
    pub(super) defaults: Option<HashMap<String, String>>,
    pub(super) overrides: Option<HashMap<String, String>>,
    pub(super) endpoints: Option<Vec<String>>,
    pub(super) idempotency_key_lifetime: Option<String>,
}

/// A table as it is loaded. The crate's type fails where `config` is null.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct TableResponse {
    pub(super) metadata_location: Option<String>,
    pub(super) metadata: TableMetadata,
    pub(super) config: Option<HashMap<String, String>>,
    pub(super) storage_credentials: Option<Vec<iceberg_catalog_rest::StorageCredential>>,
}

/// What of a loaded table, or of what its credentials endpoint answers, is about credentials. The crate has no type for it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct CredentialsResponse {
    pub(super) storage_credentials: Option<Vec<iceberg_catalog_rest::StorageCredential>>,
    pub(super) config: Option<HashMap<String, String>>,
}

/// What a token endpoint answers. The crate's type is private.
#[derive(Deserialize)]
pub(super) struct TokenResponse {
    pub(super) access_token: String,
    #[serde(default)]
    expires_in: Value,
}

impl TokenResponse {
    /// How long the token lasts; none when the server does not say. Some write the seconds as text.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        let seconds = match &self.expires_in {
            Value::String(text) => text.parse().ok(),
            other => other.as_u64(),
        };
        seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs)
    }
}

/// A server's own words about a refusal, made fit for a message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Explanation {
    /// The error's type, such as `NoSuchTableException`; of a token endpoint the error's code.
    pub(super) kind: Option<String>,
    pub(super) message: Option<String>,
}

impl Explanation {
    /// Reads an error body of the catalog's protocol or of OAuth2's. `None` for anything else, such as a proxy's page.
    ///
    /// The crate's type hides its fields, and fails where one is missing.
    pub(super) fn parse(body: &[u8], secrets: &[&str]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let error = body.get("error")?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(|text| quote(text, secrets));
        match error {
            Value::Object(error) => Some(Self {
                kind: text(error.get("type")),
                message: text(error.get("message")),
            }),
            Value::String(_) => Some(Self {
                kind: text(Some(error)),
                message: text(body.get("error_description")),
            }),
            _ => None,
        }
    }
}

/// One bounded line of a server's text, without what we sent it in confidence.
pub(super) fn quote(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= MIN_SECRET) {
        text = text.replace(secret, "***");
    }
    let line: String = text
        .chars()
        .take(MAX_QUOTED)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() < text.len() {
        line + "…"
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_are_read_and_others_are_not() {
        let read = |body: &str| Explanation::parse(body.as_bytes(), &["s3cret"]);
        let said = |kind: Option<&str>, message: Option<&str>| {
            Some(Explanation {
                kind: kind.map(str::to_owned),
                message: message.map(str::to_owned),
            })
        };
        assert_eq!(
            read(
                r#"{"error":{"message":"token s3cret\nis stale","type":"NotAuthorizedException","code":401,"stack":["x"]}}"#
            ),
            said(Some("NotAuthorizedException"), Some("token *** is stale"))
        );
        assert_eq!(read(r#"{"error":{"message":"m"}}"#), said(None, Some("m")));
        assert_eq!(
            read(r#"{"error":"invalid_client","error_description":"no"}"#),
            said(Some("invalid_client"), Some("no"))
        );
        for other in [
            "",
            "<html>",
            "{}",
            "[]",
            r#"{"error":null}"#,
            r#"{"message":"m"}"#,
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn lifetimes_are_read_as_servers_write_them() {
        for (text, seconds) in [
            (r#"{"access_token":"t","expires_in":3600}"#, Some(3600)),
            (r#"{"access_token":"t","expires_in":"3600"}"#, Some(3600)),
            (r#"{"access_token":"t","expires_in":0}"#, None),
            (r#"{"access_token":"t","expires_in":-1}"#, None),
            (r#"{"access_token":"t","expires_in":null}"#, None),
            (r#"{"access_token":"t"}"#, None),
        ] {
            let answer: TokenResponse = serde_json::from_str(text).unwrap();
            assert_eq!(answer.lifetime(), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn quotes_are_bounded() {
        assert_eq!(quote(&"é".repeat(1000), &[]).chars().count(), MAX_QUOTED + 1);
    }

    #[test]
    fn configurations_of_all_shapes_are_read() {
        for text in [
            "{}",
            r#"{"overrides":{"prefix":"p"}}"#,
            r#"{"defaults":null,"overrides":null,"endpoints":null}"#,
            r#"{"defaults":{},"overrides":{},"endpoints":["GET /v1/config"],"idempotency-key-lifetime":"PT30M","x":1}"#,
        ] {
            serde_json::from_str::<ConfigResponse>(text).unwrap();
        }
    }
}
