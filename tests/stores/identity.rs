//! Who we are to a bucket: a machine's role, a user's key that is wrong, and whether the server is who it says.

use std::process::Output;

use axum::Router;
use axum::routing::{get, put};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpListener;

use super::serve::Site;
use crate::rest::tls::behind_tls;
use crate::support::bucket::{Bucket, Cloud};
use crate::support::front::Front;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        machines_role_comes_from_amazons_metadata_server,
        machines_account_comes_from_googles_metadata_server,
        wrong_key_stops_a_command_without_showing_it,
        server_is_verified_by_the_systems_authorities,
    ]
}

/// Both clouds' metadata servers, as far as they are asked. Gives the address without a scheme.
async fn metadata_server() -> TestResult<String> {
    let key = json!({ "AccessKeyId": "test", "SecretAccessKey": "testtest", "Token": "s3cret-token",
                      "Expiration": "2100-01-01T00:00:00Z" });
    let token = json!({ "access_token": "s3cret-token", "expires_in": 3600, "token_type": "Bearer" });
    let role = "/latest/meta-data/iam/security-credentials/";
    let app = Router::new()
        .route("/latest/api/token", put(async || "session"))
        .route(role, get(async || "landfast"))
        .route(&format!("{role}landfast"), get(async move || key.to_string()))
        .route(
            "/computeMetadata/v1/instance/service-accounts/default/token",
            get(async move || token.to_string()),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(axum::serve(listener, app).into_future());
    Ok(address)
}

/// Asks for a table that is not there, with this environment and none of ours.
pub fn show(site: &Site, environment: &[(&str, String)]) -> TestResult<(String, Output)> {
    let mut command = site.command(&["show", "shop.orders"]);
    for (name, _) in site.bucket().environment() {
        command.env_remove(name);
    }
    command
        .env("HOME", site.folder())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env("RUST_LOG", "debug")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    let output = tokio::task::block_in_place(|| command.output())?;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !stderr.contains("s3cret") && !stderr.contains("panicked"),
        "{stderr}"
    );
    Ok((stderr, output))
}

pub const NOT_THERE: &str = "There is no such table";

async fn machines_role_comes_from_amazons_metadata_server() -> TestResult {
    let bucket = Bucket::s3()?;
    let front = Front::before(bucket.endpoint()).await?;
    let metadata = format!("http://{}", metadata_server().await?);
    let site = Site::new(bucket, "")?;
    let environment = [
        ("AWS_METADATA_ENDPOINT", metadata),
        ("AWS_ENDPOINT_URL", front.url()),
    ];
    let (stderr, _) = show(&site, &environment)?;
    // This server gives no tokens, so it refuses any; it is the request that counts.
    assert!(stderr.contains("InvalidToken"), "{stderr}");
    let headers = front.last_headers();
    assert_eq!(headers["x-amz-security-token"], "s3cret-token");
    assert!(headers["authorization"].to_str()?.contains("/us-east-1/s3/"));
    Ok(())
}

async fn machines_account_comes_from_googles_metadata_server() -> TestResult {
    let bucket = Bucket::of(Cloud::Gcs).await?;
    let front = Front::before(bucket.endpoint()).await?;
    let site = Site::new(bucket, "")?;
    let environment = [
        ("GCE_METADATA_HOST", metadata_server().await?),
        ("GOOGLE_BASE_URL", front.url()),
    ];
    let (stderr, _) = show(&site, &environment)?;
    assert!(stderr.contains(NOT_THERE), "{stderr}");
    assert_eq!(front.last_headers()["authorization"], "Bearer s3cret-token");
    Ok(())
}

async fn wrong_key_stops_a_command_without_showing_it() -> TestResult {
    let site = Site::new(Bucket::s3()?, "")?;
    let endpoint = ("AWS_ENDPOINT_URL", site.bucket().endpoint().to_owned());
    let key = |name: &'static str, value: &str| (name, value.to_owned());
    for (environment, code, word) in [
        (
            vec![
                endpoint.clone(),
                key("AWS_ACCESS_KEY_ID", "test"),
                key("AWS_SECRET_ACCESS_KEY", "wr0ng-s3cret"),
            ],
            1,
            "SignatureDoesNotMatch",
        ),
        (
            vec![endpoint.clone(), key("AWS_SECRET_ACCESS_KEY", "half-s3cret")],
            2,
            "credentials or settings cannot be used",
        ),
    ] {
        let (stderr, output) = show(&site, &environment)?;
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(word), "{stderr}");
    }
    Ok(())
}

async fn server_is_verified_by_the_systems_authorities() -> TestResult {
    let bucket = Bucket::s3()?;
    let folder = tempfile::tempdir()?;
    let url = behind_tls(bucket.endpoint(), folder.path()).await?;
    let certificate = folder.path().join("server.crt");
    let site = Site::new(bucket, "")?;
    for (authorities, word) in [
        (certificate, NOT_THERE),
        (folder.path().join("none"), "The store cannot be opened"),
    ] {
        let mut environment = site.bucket().environment();
        environment.retain(|(name, _)| *name != "AWS_ENDPOINT_URL");
        environment.extend([
            ("AWS_ENDPOINT_URL_S3", url.clone()),
            // Where the system keeps them, as OpenSSL is told.
            ("SSL_CERT_FILE", authorities.display().to_string()),
            ("SSL_CERT_DIR", folder.path().join("none").display().to_string()),
        ]);
        let (stderr, _) = show(&site, &environment)?;
        assert!(stderr.contains(word), "{stderr}");
    }
    Ok(())
}
