//! Stores in the cloud: how a bucket of `s3://` or `gs://` is reached, and how patiently.
//!
//! Who we are comes from the environment, as each cloud's own tools take it, and from properties in Iceberg's words
//! (`s3.endpoint`, `gcs.oauth2.token`), which go first. Both are read here and nowhere else.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as S3Key};
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder, GoogleConfigKey as GcsKey};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::Store;
use super::http::Reticent;
use super::own::GcsOwn;
use super::vended::{GcsVended, S3Vended, Vended, Vendor, identify};
use crate::config::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::google::Google;

/// What describes a store besides its location, in Iceberg's words.
pub type Properties = BTreeMap<String, String>;

/// After the first attempt of a request, others begin for this long.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// One attempt of a request, its body included. With [`RETRY_FOR`] a request takes at most 30 s: a batch has 50 s at
/// Pub/Sub's deadline of a minute, so a second commit attempt still fits.
const ATTEMPT: Duration = Duration::from_secs(20);

/// A host that does not answer is found out sooner than one that is slow.
const CONNECT: Duration = Duration::from_secs(3);

/// The variables of S3's tools that are taken, in order: later names go first. Nothing here turns conditional writes
/// off, and plain HTTP is what an endpoint of that scheme asks for.
const S3_VARIABLES: [(&str, S3Key); 21] = [
    ("AWS_ACCESS_KEY_ID", S3Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", S3Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", S3Key::Token),
    ("AWS_DEFAULT_REGION", S3Key::Region),
    ("AWS_REGION", S3Key::Region),
    ("AWS_ENDPOINT", S3Key::Endpoint),
    ("AWS_ENDPOINT_URL", S3Key::Endpoint),
    ("AWS_ENDPOINT_URL_S3", S3Key::Endpoint),
    (
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        S3Key::VirtualHostedStyleRequest,
    ),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", S3Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", S3Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", S3Key::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", S3Key::StsEndpoint),
    (
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        S3Key::ContainerCredentialsRelativeUri,
    ),
    (
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        S3Key::ContainerCredentialsFullUri,
    ),
    (
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        S3Key::ContainerAuthorizationTokenFile,
    ),
    ("AWS_METADATA_ENDPOINT", S3Key::MetadataEndpoint),
    ("AWS_IMDSV1_FALLBACK", S3Key::ImdsV1Fallback),
    ("AWS_REQUEST_PAYER", S3Key::RequestPayer),
    ("AWS_UNSIGNED_PAYLOAD", S3Key::UnsignedPayload),
    ("AWS_SKIP_SIGNATURE", S3Key::SkipSignature),
];

/// The variables of Google's tools that are taken here; those that say who we are, [`Google`] takes.
const GCS_VARIABLES: [(&str, GcsKey); 1] = [("GOOGLE_BASE_URL", GcsKey::BaseUrl)];

/// An emulator of Cloud Storage, as Google's clients know it: nobody has to be anyone there.
const GCS_EMULATOR: &str = "STORAGE_EMULATOR_HOST";

/// Opens `SCHEME://BUCKET/PREFIX` of a cloud; none for another scheme. With a vendor it alone says who we are, and it is
/// none where the properties do not. Nothing is sent yet.
///
/// # Errors
/// [`ErrorKind::Config`] naming the location, for settings that cannot be used.
pub(super) fn open(
    location: &str,
    properties: &Properties,
    vendor: Option<Arc<dyn Vendor>>,
    env: Env<'_>,
) -> Result<Option<Store>> {
    let Some((scheme, rest)) = location.split_once("://") else {
        return Ok(None);
    };
    if vendor.is_some() && !identify(scheme, properties) {
        return Ok(None);
    }
    let vended = vendor.map(Vended);
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let refused = |error: Refusal| {
        let source = match error {
            Refusal::Rule(rule) => return Error::new(ErrorKind::Config, rule).with("location", location),
            Refusal::Identity(error) => return error.with("location", location),
            Refusal::Client(source) => source,
        };
        let message = "The store cannot be opened: its credentials or settings cannot be used.";
        Error::new(ErrorKind::Config, message)
            .with("location", location)
            .with_source(source)
    };
    let objects = match scheme {
        "s3" => s3(bucket, properties, vended, env).map_err(refused)?,
        "gs" => gcs(bucket, properties, vended, env).map_err(refused)?,
        _ => return Ok(None),
    };
    let prefix = Path::parse(prefix).map_err(|error| refused(Refusal::Client(error.into())))?;
    let objects: Arc<dyn ObjectStore> = if prefix.is_root() {
        objects
    } else {
        Arc::new(PrefixStore::new(objects, prefix))
    };
    Ok(Some(Store::new(location, objects)))
}

/// Why a store cannot be opened: a rule of ours, or what the client says.
pub(super) enum Refusal {
    Rule(String),
    Identity(Error),
    Client(object_store::Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Identity(error)
    }
}

impl From<object_store::Error> for Refusal {
    fn from(error: object_store::Error) -> Self {
        Self::Client(error)
    }
}

fn s3(
    bucket: &str,
    properties: &Properties,
    vended: Option<Vended>,
    env: Env<'_>,
) -> std::result::Result<Arc<dyn ObjectStore>, Refusal> {
    let mut settings = s3_settings(bucket, properties, env)?;
    if vended.is_some() {
        settings.remove(&S3Key::SkipSignature);
    }
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(patience())
        .with_client_options(client(settings.get(&S3Key::Endpoint)))
        .with_http_connector(Reticent)
        // We delete one object at a time, and this is how every server takes that.
        .with_disable_bulk_delete(true);
    let mut builder = settings
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    if let Some(vended) = vended {
        builder = builder.with_credentials(Arc::new(S3Vended(vended)));
    }
    Ok(Arc::new(builder.build()?))
}

fn s3_settings(
    bucket: &str,
    properties: &Properties,
    env: Env<'_>,
) -> std::result::Result<HashMap<S3Key, String>, Refusal> {
    let mut settings = from_environment(&S3_VARIABLES, env);
    if properties.contains_key("s3.access-key-id") {
        // A key and the token of another make no identity.
        settings.remove(&S3Key::Token);
    }
    for (name, key) in [
        ("s3.access-key-id", S3Key::AccessKeyId),
        ("s3.secret-access-key", S3Key::SecretAccessKey),
        ("s3.session-token", S3Key::Token),
        ("client.region", S3Key::Region),
        ("s3.region", S3Key::Region),
        ("s3.endpoint", S3Key::Endpoint),
    ] {
        settings.extend(properties.get(name).map(|value| (key, value.clone())));
    }
    if let Some(path_style) = properties.get("s3.path-style-access") {
        let in_host = !path_style.eq_ignore_ascii_case("true");
        settings.insert(S3Key::VirtualHostedStyleRequest, in_host.to_string());
    }
    if let Some(endpoint) = settings.get(&S3Key::Endpoint) {
        let in_host = settings
            .get(&S3Key::VirtualHostedStyleRequest)
            .is_some_and(|value| is_yes(value));
        let endpoint = address("s3.endpoint (AWS_ENDPOINT_URL)", endpoint)?;
        // Of the environment's addresses some name the bucket already, as the client itself wants it; Iceberg's never do,
        // though a server may be called as the bucket is.
        let names_bucket =
            |host: &str| !properties.contains_key("s3.endpoint") && host.starts_with(&format!("{bucket}."));
        let endpoint = match endpoint.split_once("://") {
            Some((scheme, host)) if in_host && !names_bucket(host) => {
                format!("{scheme}://{bucket}.{host}")
            }
            _ => endpoint,
        };
        settings.insert(S3Key::Endpoint, endpoint);
    }
    Ok(settings)
}

/// As the client reads its settings: what it takes for a yes, it expects the bucket in the address for.
fn is_yes(value: &str) -> bool {
    let yes = ["1", "true", "on", "yes", "y"];
    yes.iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn gcs(
    bucket: &str,
    properties: &Properties,
    vended: Option<Vended>,
    env: Env<'_>,
) -> std::result::Result<Arc<dyn ObjectStore>, Refusal> {
    let mut settings = gcs_settings(properties, env)?;
    if vended.is_some() {
        settings.remove(&GcsKey::BearerToken);
    }
    let credentials: Option<GcpCredentialProvider> = match vended {
        Some(vended) => Some(Arc::new(GcsVended(vended))),
        None if settings.contains_key(&GcsKey::BearerToken) => None,
        None => Some(Arc::new(GcsOwn(Google::from_env(env, None, ATTEMPT)?))),
    };
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(patience())
        .with_client_options(client(settings.get(&GcsKey::BaseUrl)))
        .with_http_connector(Reticent);
    let mut builder = settings
        .into_iter()
        .fold(builder, |builder, (key, value)| builder.with_config(key, value));
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    Ok(Arc::new(builder.build()?))
}

/// How Cloud Storage is reached.
pub(super) fn gcs_settings(
    properties: &Properties,
    env: Env<'_>,
) -> std::result::Result<HashMap<GcsKey, String>, Refusal> {
    let mut settings = from_environment(&GCS_VARIABLES, env);
    let nobody = (GcsKey::BearerToken, String::new());
    if let Some(host) = env(GCS_EMULATOR).filter(|value| !value.is_empty()) {
        // Google's clients take a host with and without a scheme.
        let base = if host.contains("://") {
            host
        } else {
            format!("http://{host}")
        };
        settings.extend([(GcsKey::BaseUrl, base), nobody.clone()]);
    }
    if properties.get("gcs.no-auth").is_some_and(|value| value == "true") {
        settings.extend([nobody]);
    }
    for (name, key) in [
        ("gcs.service.host", GcsKey::BaseUrl),
        ("gcs.oauth2.token", GcsKey::BearerToken),
    ] {
        settings.extend(properties.get(name).map(|value| (key, value.clone())));
    }
    if let Some(base) = settings.get(&GcsKey::BaseUrl) {
        let base = address("gcs.service.host (GOOGLE_BASE_URL, STORAGE_EMULATOR_HOST)", base)?;
        settings.insert(GcsKey::BaseUrl, base);
    }
    Ok(settings)
}

fn from_environment<K: Copy + Eq + Hash>(variables: &[(&str, K)], env: Env<'_>) -> HashMap<K, String> {
    let set = |(name, key): &(&str, K)| Some((*key, env(name).filter(|value| !value.is_empty())?));
    variables.iter().filter_map(set).collect()
}

/// How often a request is repeated: also after 429 and 503, which a name that is written too often gets. A create may so
/// meet its own success; it then reports [`Creation::Exists`](super::Creation::Exists), which the protocol allows (§4).
fn patience() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.,
        },
        // The time is the bound.
        max_retries: 1_000,
        retry_timeout: RETRY_FOR,
    }
}

/// Speaks without TLS only to a server whose address says so.
fn client(server: Option<&String>) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(server.is_some_and(|address| address.starts_with("http://")))
        .with_timeout(ATTEMPT)
        .with_connect_timeout(CONNECT)
}

/// Checks the address of a server. It is quoted in errors, so it holds no secret.
fn address(name: &str, text: &str) -> std::result::Result<String, Refusal> {
    let plain = url::Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    });
    match plain {
        Some(_) => Ok(text.trim_end_matches('/').to_owned()),
        None => Err(Refusal::Rule(format!(
            "`{name}` is not the address of a server: write `https://HOST` or `http://HOST:PORT`, without a user."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            let found = set.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        }
    }

    fn properties(given: &[(&str, &str)]) -> Properties {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        given.iter().map(owned).collect()
    }

    fn s3_of(given: &[(&str, &str)], set: &[(&str, &str)]) -> HashMap<S3Key, String> {
        let settings = s3_settings("lake", &properties(given), &environment(set));
        settings.unwrap_or_else(|_refusal| panic!("{given:?} and {set:?} are refused"))
    }

    #[test]
    fn what_is_said_twice_of_s3_is_taken_from_the_nearer_place() {
        let near = [
            ("AWS_ENDPOINT", "https://a"),
            ("AWS_ENDPOINT_URL", "https://b"),
            ("AWS_ENDPOINT_URL_S3", "https://c/"),
            ("AWS_DEFAULT_REGION", "r1"),
            ("AWS_REGION", "r2"),
            ("AWS_ACCESS_KEY_ID", ""),
        ];
        let settings = s3_of(&[], &near);
        assert_eq!(settings[&S3Key::Endpoint], "https://c");
        assert_eq!(settings[&S3Key::Region], "r2");
        assert_eq!(settings.len(), 2, "an empty variable is not set");
        let settings = s3_of(&[("client.region", "r3"), ("s3.endpoint", "http://d:1")], &near);
        assert_eq!(settings[&S3Key::Endpoint], "http://d:1");
        assert_eq!(settings[&S3Key::Region], "r3");
    }

    #[test]
    fn vended_keys_take_nothing_from_the_environments() {
        let ours = [
            ("AWS_ACCESS_KEY_ID", "ours"),
            ("AWS_SECRET_ACCESS_KEY", "ours"),
            ("AWS_SESSION_TOKEN", "ours"),
        ];
        let vended = [("s3.access-key-id", "theirs"), ("s3.secret-access-key", "theirs")];
        let settings = s3_of(&vended, &ours);
        assert!(
            settings.values().all(|value| value == "theirs"),
            "{}",
            settings.len()
        );
        assert_eq!(s3_of(&[], &ours).len(), 3);
    }

    #[test]
    fn nothing_turns_conditional_writes_or_tls_off() {
        let set = [("AWS_CONDITIONAL_PUT", "disabled"), ("AWS_ALLOW_HTTP", "true")];
        assert_eq!(s3_of(&[], &set), HashMap::new());
    }

    #[test]
    fn bucket_goes_into_the_host_once() {
        for (endpoint, path_style, expected) in [
            ("https://s3.example", "true", "https://s3.example"),
            ("https://s3.example", "false", "https://lake.s3.example"),
            ("https://lake.example/", "false", "https://lake.lake.example"),
        ] {
            let given = [("s3.endpoint", endpoint), ("s3.path-style-access", path_style)];
            assert_eq!(s3_of(&given, &[])[&S3Key::Endpoint], expected);
        }
        for (endpoint, in_host, expected) in [
            ("https://s3.example", "false", "https://s3.example"),
            ("https://s3.example", "0", "https://s3.example"),
            ("https://s3.example", "true", "https://lake.s3.example"),
            ("https://s3.example", "1", "https://lake.s3.example"),
            ("https://s3.example", "True", "https://lake.s3.example"),
            ("https://s3.example", "yes", "https://lake.s3.example"),
            ("https://s3.example", "ON", "https://lake.s3.example"),
            ("https://s3.example", "y", "https://lake.s3.example"),
            ("https://lake.s3.example/", "true", "https://lake.s3.example"),
        ] {
            let set = [
                ("AWS_ENDPOINT_URL", endpoint),
                ("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", in_host),
            ];
            assert_eq!(s3_of(&[], &set)[&S3Key::Endpoint], expected, "{in_host}");
        }
    }

    #[test]
    fn googles_key_is_never_quoted() {
        let key =
            r#"{"private_key":"-----BEGIN s3cret","client_email":"s3cret@x","private_key_id":"s3cret"}"#;
        let twice = serde_json::to_string(key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, &twice).unwrap();
        let (file, gone) = (file.display().to_string(), folder.path().join("gone"));
        let gone = gone.display().to_string();
        for (variable, value, told) in [
            ("GOOGLE_SERVICE_ACCOUNT_KEY", &*twice, "quoted again"),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", key, "quoted again"),
            ("GOOGLE_SERVICE_ACCOUNT_PATH", &file, "quoted again"),
            ("GOOGLE_APPLICATION_CREDENTIALS", &file, "quoted again"),
            ("GOOGLE_SERVICE_ACCOUNT_PATH", &gone, "not found"),
        ] {
            let set = [(variable, value)];
            let error = open("gs://lake/x", &properties(&[]), None, &environment(&set)).unwrap_err();
            let all = format!("{error:?} {error:#?} {}", error.report());
            assert!(all.contains(variable) && all.contains(told), "{variable}");
            assert!(!all.contains("s3cret") && !all.contains("BEGIN"), "{variable}");
        }
    }

    #[test]
    fn an_emulator_knows_nobody_and_a_token_goes_first() {
        let of = |given: &[(&str, &str)], set: &[(&str, &str)]| {
            let settings = gcs_settings(&properties(given), &environment(set));
            settings.unwrap_or_else(|_refusal| panic!("{given:?} and {set:?} are refused"))
        };
        let emulator = [
            ("STORAGE_EMULATOR_HOST", "localhost:1"),
            ("GOOGLE_BASE_URL", "https://x"),
        ];
        let settings = of(&[], &emulator);
        assert_eq!(settings[&GcsKey::BaseUrl], "http://localhost:1");
        assert_eq!(settings[&GcsKey::BearerToken], "");
        assert_eq!(
            of(&[("gcs.oauth2.token", "t")], &emulator)[&GcsKey::BearerToken],
            "t"
        );
        assert_eq!(of(&[("gcs.no-auth", "true")], &[])[&GcsKey::BearerToken], "");
        assert!(!of(&[], &[]).contains_key(&GcsKey::BearerToken));
    }
}
