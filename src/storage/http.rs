//! The clients' way to the network, which lets no secret come back in an error.
//!
//! A server that refuses a request may repeat it: S3 answers a wrong signature with all that was signed, a session's token
//! included. The clients put such an answer into their errors, and those are logged; so it is cut to its code and message.

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use crate::telemetry;

/// What is kept of what an answer says.
const MAX_CHARS: usize = 300;

/// Connects as the clients do by themselves, with answers that keep quiet.
#[derive(Debug)]
pub(super) struct Reticent;

impl HttpConnector for Reticent {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Quiet(client)))
    }
}

#[derive(Debug)]
struct Quiet(HttpClient);

#[async_trait]
impl HttpService for Quiet {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = self.0.execute(request).await;
        let response = answered.inspect_err(|_broken| not_this_time("no_answer".to_owned()))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            not_this_time(status.as_u16().to_string());
        }
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let told = told(&body.bytes().await?);
        Ok(HttpResponse::from_parts(parts, Bytes::from(told).into()))
    }
}

fn not_this_time(status: String) {
    metrics::counter!(telemetry::STORE_FAILURES, "status" => status).increment(1);
}

/// What an answer says of the error, in one line.
fn told(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if let Ok(json) = serde_json::from_str::<serde_json::Value>(&text) {
        let told = ["error", "error_description"].map(|name| json.get(name).and_then(|value| value.as_str()));
        return line(&told);
    }
    let told = ["Code", "Message", "Details"].map(|name| element(&text, name));
    line(&told)
}

fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside)
}

fn line(parts: &[Option<&str>]) -> String {
    let told: Vec<&str> = parts.iter().copied().flatten().collect();
    let told = told.join(": ");
    told.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_to_its_code_and_message() {
        for (body, expected) in [
            (
                "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>No\nmatch.</Message>\
                 <AWSAccessKeyId>s3cret</AWSAccessKeyId><CanonicalRequest>x-amz-security-token:s3cret</CanonicalRequest></Error>",
                "SignatureDoesNotMatch: No match.",
            ),
            (
                "{\"error\":\"invalid_grant\",\"error_description\":\"Bad assertion.\",\"assertion\":\"s3cret\"}",
                "invalid_grant: Bad assertion.",
            ),
            ("<html>s3cret</html>", ""),
            ("", ""),
        ] {
            assert_eq!(told(body.as_bytes()), expected);
        }
        let long = format!("<Message>{}</Message>", "é".repeat(10_000));
        assert_eq!(told(long.as_bytes()).chars().count(), MAX_CHARS);
    }
}
