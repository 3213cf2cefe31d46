//! What the environment says of telemetry: the platform's own variables, and OpenTelemetry's standard ones.
//!
//! None of it is in the configuration file: platforms and collectors set these variables themselves.

use std::fmt;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Env;
use crate::error::{Error, ErrorKind, Result};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TIMEOUT";
const TRACES_TIMEOUT: &str = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARG: &str = "OTEL_TRACES_SAMPLER_ARG";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";

const METADATA_HOST: &str = "metadata.google.internal";

/// How long the collector has for a batch of spans, unless the environment says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where this process runs, as far as the platform tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Platform {
    /// The project, from `GOOGLE_CLOUD_PROJECT`. Cloud Run does not set it by itself.
    pub project: Option<String>,
    /// The host that knows the project, on Cloud Run: Google's, or that of `GCE_METADATA_HOST`.
    pub metadata_host: Option<String>,
    /// The service, job or worker pool of Cloud Run, which says its name in a variable of its own kind.
    pub service: Option<String>,
    /// Its revision; of a job, the execution.
    pub revision: Option<String>,
}

/// Where each kind of Cloud Run says what runs, and which of its revisions.
const CLOUD_RUN: [[&str; 2]; 3] = [
    ["K_SERVICE", "K_REVISION"],
    ["CLOUD_RUN_JOB", "CLOUD_RUN_EXECUTION"],
    // Seen so by others, who looked: GoogleCloudPlatform/opentelemetry-operations-go, pull request 1112.
    ["CLOUD_RUN_WORKER_POOL", "CLOUD_RUN_REVISION"],
];

impl Platform {
    /// Reads an environment.
    pub fn from_env(env: Env<'_>) -> Self {
        let mut kinds = CLOUD_RUN.into_iter();
        let run = kinds.find_map(|[service, revision]| Some((set(env, service)?, set(env, revision))));
        let (service, revision) = run.unzip();
        // As Google documents it for worker pools.
        let revision = revision.map(|seen| seen.or_else(|| set(env, "CLOUD_RUN_WORKER_POOL_REVISION")));
        let host = || set(env, "GCE_METADATA_HOST").unwrap_or_else(|| METADATA_HOST.to_owned());
        Self {
            project: set(env, "GOOGLE_CLOUD_PROJECT"),
            metadata_host: service.is_some().then(host),
            service,
            // Knative has the revision where nothing names the service.
            revision: revision.unwrap_or_else(|| set(env, "K_REVISION")),
        }
    }

    /// Whether Cloud Run started this process.
    pub fn is_cloud_run(&self) -> bool {
        self.service.is_some()
    }
}

/// Which traces are kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Whether the sender's choice is followed, where it made one.
    pub parent_based: bool,
    /// The share of the others; from 0 to 1.
    pub ratio: f64,
}

/// Where spans are sent, and which.
#[derive(Clone)]
pub struct TraceExport {
    /// The full address that batches are posted to.
    pub endpoint: Url,
    /// Headers of these posts. They may hold secrets, and are marked as such.
    pub headers: HeaderMap,
    /// How long one post may take.
    pub timeout: Duration,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// What the process is: `service.name` and further attributes.
    pub resource: Vec<(String, String)>,
}

/// Without the address, which may hold a password.
impl fmt::Debug for TraceExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceExport")
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

impl TraceExport {
    /// Reads an environment; `None` where it names no collector, or turns traces off.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the variable, never its value.
    pub fn from_env(env: Env<'_>) -> Result<Option<Self>> {
        let is_off = set(env, DISABLED).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        match set(env, EXPORTER).as_deref() {
            _ if is_off => return Ok(None),
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(_) => return Err(wrong(EXPORTER, "landfast sends traces by `otlp`, or `none`")),
        }
        let Some(endpoint) = endpoint(env)? else {
            return Ok(None);
        };
        match first(env, [TRACES_PROTOCOL, PROTOCOL]) {
            None => {}
            Some((_, protocol)) if protocol == "http/protobuf" => {}
            Some((name, _)) => {
                let rule = "landfast speaks `http/protobuf`, which collectors take on port 4318";
                return Err(wrong(name, rule));
            }
        }
        Ok(Some(Self {
            endpoint,
            headers: headers(env)?,
            timeout: timeout(env)?,
            sampling: sampling(env)?,
            resource: resource(env)?,
        }))
    }
}

fn endpoint(env: Env<'_>) -> Result<Option<Url>> {
    let Some((name, text)) = first(env, [TRACES_ENDPOINT, ENDPOINT]) else {
        return Ok(None);
    };
    let text = match name {
        TRACES_ENDPOINT => text,
        _ => format!("{}/v1/traces", text.trim_end_matches('/')),
    };
    let url = Url::parse(&text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.map(Some)
        .ok_or_else(|| wrong(name, "it is an address such as http://localhost:4318"))
}

fn headers(env: Env<'_>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    let Some((variable, text)) = first(env, [TRACES_HEADERS, HEADERS]) else {
        return Ok(headers);
    };
    let rule = "it is a list such as `name=value,other=value`, its values percent-encoded";
    for (name, value) in pairs(&text).ok_or_else(|| wrong(variable, rule))? {
        let name = HeaderName::try_from(name).map_err(|_no_name| wrong(variable, rule))?;
        let mut value = HeaderValue::try_from(value).map_err(|_no_value| wrong(variable, rule))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn timeout(env: Env<'_>) -> Result<Duration> {
    let Some((name, text)) = first(env, [TRACES_TIMEOUT, TIMEOUT]) else {
        return Ok(DEFAULT_TIMEOUT);
    };
    let millis: Option<u64> = text.parse().ok().filter(|millis| *millis > 0);
    let millis = millis.ok_or_else(|| wrong(name, "it is a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

fn sampling(env: Env<'_>) -> Result<Sampling> {
    let ratio = || match set(env, SAMPLER_ARG) {
        None => Ok(1.0),
        Some(text) => {
            let ratio: Option<f64> = text.parse().ok();
            let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or_else(|| wrong(SAMPLER_ARG, "it is a share from 0 to 1"))
        }
    };
    let name = set(env, SAMPLER);
    let name = name.as_deref().unwrap_or("parentbased_always_on");
    let (parent_based, root) = match name.strip_prefix("parentbased_") {
        Some(root) => (true, root),
        None => (false, name),
    };
    let ratio = match root {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => ratio()?,
        _ => {
            let rule =
                "it is `always_on`, `always_off` or `traceidratio`, or one of them after `parentbased_`";
            return Err(wrong(SAMPLER, rule));
        }
    };
    Ok(Sampling { parent_based, ratio })
}

/// What the process is. The service's name is the variable's, the list's, the platform's, or ours.
fn resource(env: Env<'_>) -> Result<Vec<(String, String)>> {
    let rule = "it is a list such as `name=value,other=value`, its values percent-encoded";
    let listed = set(env, RESOURCE).unwrap_or_default();
    let mut resource = pairs(&listed).ok_or_else(|| wrong(RESOURCE, rule))?;
    let platform = Platform::from_env(env);
    let name = |text: &str| text.to_owned();
    if let Some(service) = set(env, SERVICE_NAME) {
        resource.retain(|(known, _)| known != "service.name");
        resource.push((name("service.name"), service));
    }
    let known = [
        (
            "service.name",
            Some(platform.service.unwrap_or_else(|| name("landfast"))),
        ),
        ("service.version", Some(name(env!("CARGO_PKG_VERSION")))),
        ("faas.version", platform.revision),
        ("gcp.project_id", platform.project),
    ];
    for (key, value) in known {
        if let Some(value) = value
            && resource.iter().all(|(known, _)| known != key)
        {
            resource.push((name(key), value));
        }
    }
    Ok(resource)
}

/// The pairs of `name=value,other=value`, the values decoded.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((name.trim().to_owned(), value.into_owned()))
    });
    pairs.collect()
}

/// The first of these variables that is set.
fn first<'a>(env: Env<'_>, names: [&'a str; 2]) -> Option<(&'a str, String)> {
    names.into_iter().find_map(|name| Some((name, set(env, name)?)))
}

/// A variable that is empty counts as not set, as in OpenTelemetry's rules.
fn set(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.trim().is_empty())
}

fn wrong(variable: &str, rule: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("The variable {variable} of the environment has no meaning: {rule}."),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<TraceExport>> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        TraceExport::from_env(&|name| variables.get(name).map(ToString::to_string))
    }

    fn read_one(variables: &[(&str, &str)]) -> TraceExport {
        let base = [(ENDPOINT, "http://localhost:4318")];
        read(&[&base, variables].concat()).unwrap().unwrap()
    }

    #[test]
    fn nothing_is_sent_unless_a_collector_is_named() {
        let base = (ENDPOINT, "http://localhost:4318");
        for variables in [
            &[][..],
            &[(ENDPOINT, " ")],
            &[(SERVICE_NAME, "x"), (HEADERS, "what=ever")],
            &[base, (DISABLED, "TRUE")],
            &[base, (EXPORTER, "none")],
        ] {
            assert!(read(variables).unwrap().is_none(), "{variables:?}");
        }
    }

    #[test]
    fn addresses_and_times_are_opentelemetrys() {
        let plain = read_one(&[]);
        assert_eq!(plain.endpoint.as_str(), "http://localhost:4318/v1/traces");
        assert_eq!(plain.timeout, Duration::from_secs(10));
        let sampling = Sampling {
            parent_based: true,
            ratio: 1.0,
        };
        assert_eq!(plain.sampling, sampling);
        let under = read_one(&[(ENDPOINT, "https://otel.example/in/")]);
        assert_eq!(under.endpoint.as_str(), "https://otel.example/in/v1/traces");
        let own = read_one(&[
            (TRACES_ENDPOINT, "http://here:1/as-it-is"),
            (TIMEOUT, "1"),
            (TRACES_TIMEOUT, "250"),
            (PROTOCOL, "grpc"),
            (TRACES_PROTOCOL, "http/protobuf"),
        ]);
        assert_eq!(own.endpoint.as_str(), "http://here:1/as-it-is");
        assert_eq!(own.timeout, Duration::from_millis(250));
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let export = read_one(&[(HEADERS, "authorization=Bearer%20s3cret , x-team = lake,")]);
        assert_eq!(export.headers["authorization"], "Bearer s3cret");
        assert_eq!(export.headers["x-team"], "lake");
        assert!(!format!("{export:?}").contains("s3cret"));
        let own = read_one(&[(HEADERS, "a=1"), (TRACES_HEADERS, "b=2")]);
        assert_eq!((own.headers.get("a"), own.headers.len()), (None, 1));
    }

    #[test]
    fn service_is_named_by_the_nearest_that_names_it() {
        let named = |variables: &[(&str, &str)]| {
            let resource: BTreeMap<_, _> = read_one(variables).resource.into_iter().collect();
            resource["service.name"].clone()
        };
        assert_eq!(named(&[]), "landfast");
        assert_eq!(named(&[("K_SERVICE", "ingest")]), "ingest");
        let listed = (RESOURCE, "service.name=listed,deployment.environment=a%2Cb");
        assert_eq!(named(&[("K_SERVICE", "ingest"), listed]), "listed");
        assert_eq!(named(&[(SERVICE_NAME, "own"), listed]), "own");
        let resource: BTreeMap<_, _> = read_one(&[listed]).resource.into_iter().collect();
        assert_eq!(resource["deployment.environment"], "a,b");
    }

    #[test]
    fn platform_is_named_by_each_kind_of_cloud_run() {
        let platform = |variables: &[(&str, &str)]| {
            let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
            Platform::from_env(&|name| variables.get(name).map(ToString::to_string))
        };
        for (service, revision) in [
            (("K_SERVICE", "ingest"), ("K_REVISION", "ingest-00007-abc")),
            (
                ("CLOUD_RUN_JOB", "upkeep"),
                ("CLOUD_RUN_EXECUTION", "upkeep-x7k2p"),
            ),
            (
                ("CLOUD_RUN_WORKER_POOL", "pull"),
                ("CLOUD_RUN_REVISION", "pull-00002-xyz"),
            ),
        ] {
            let named = platform(&[service, revision]);
            assert!(named.is_cloud_run());
            assert_eq!(named.service.as_deref(), Some(service.1));
            assert_eq!(named.revision.as_deref(), Some(revision.1));
            assert_eq!(named.metadata_host.as_deref(), Some(METADATA_HOST));
            assert_eq!(platform(&[service]).revision, None);
        }
        let elsewhere = platform(&[
            ("GOOGLE_CLOUD_PROJECT", "acme"),
            ("K_REVISION", "r"),
            ("K_SERVICE", ""),
        ]);
        assert!(!elsewhere.is_cloud_run());
        assert_eq!(
            (elsewhere.revision.as_deref(), elsewhere.metadata_host),
            (Some("r"), None)
        );
    }

    #[test]
    fn samplers_are_opentelemetrys() {
        for (name, arg, parent_based, ratio) in [
            ("always_on", "", false, 1.0),
            ("always_off", "", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("traceidratio", "", false, 1.0),
            ("parentbased_always_off", "", true, 0.0),
            ("parentbased_traceidratio", "0", true, 0.0),
            ("parentbased_always_on", "0.5", true, 1.0),
        ] {
            let sampling = read_one(&[(SAMPLER, name), (SAMPLER_ARG, arg)]).sampling;
            let expected = Sampling { parent_based, ratio };
            assert_eq!(sampling, expected, "{name} {arg}");
        }
    }

    #[test]
    fn mistakes_name_the_variable_and_no_value() {
        let secret = "s3cret";
        for (name, value) in [
            (ENDPOINT, "s3cret:4318"),
            (ENDPOINT, "ftp://s3cret/"),
            (TRACES_ENDPOINT, "s3cret"),
            (HEADERS, "authorization:s3cret"),
            (HEADERS, "a b=s3cret"),
            (HEADERS, "a=s3cret%0A"),
            (PROTOCOL, "grpc"),
            (TRACES_PROTOCOL, "http/json"),
            (TIMEOUT, "10s"),
            (TIMEOUT, "0"),
            (SAMPLER, "s3cret"),
            (SAMPLER, "xray"),
            (RESOURCE, "s3cret"),
            (EXPORTER, "zipkin"),
        ] {
            let base = [(ENDPOINT, "http://localhost:4318"), (name, value)];
            let error = read(&base).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(name), "{error}");
            assert!(!error.report().contains(secret), "{error}");
        }
        let ratio = [
            (SAMPLER, "traceidratio"),
            (SAMPLER_ARG, "2"),
            (ENDPOINT, "http://a"),
        ];
        assert!(read(&ratio).unwrap_err().to_string().contains(SAMPLER_ARG));
    }
}
