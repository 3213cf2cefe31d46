//! Log lines: for a person, as JSON, or as Cloud Logging reads them, each with the trace that it belongs to.
//!
//! `tracing-stackdriver` writes Cloud Logging's `time`, `severity`, `message` and `sourceLocation`. The rest is added to
//! its finished line here. Its own trace fields come by its feature `opentelemetry`, which is bound to releases of
//! OpenTelemetry (0.22) and of its bridge that are ten behind what Google's clients bring in, knows a trace by spans of
//! `tracing` alone, and never calls a root span sampled. Its labels are fields of one event, so the instance's would have
//! to stand in every call; an object such as `serviceContext` it cannot write at all. Error Reporting wants that, and a
//! type, of every error. A line that has fields `labels.*` of its own would have labels twice: no line of ours has.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::project::Project;
use super::trace::Trace;
use crate::config::Platform;
use crate::error::{Error, ErrorKind, Result};

/// What makes Error Reporting take a line for an error, whatever its message looks like.
const REPORTED_ERROR: &str =
    "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent";

/// The service of a process that no platform names.
const SERVICE: &str = "landfast";

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for a person.
    Text,
    /// One JSON object a line.
    Json,
    /// Cloud Logging's JSON: severity, message, time.
    Stackdriver,
}

/// Starts logging to standard error. `filter` is a `tracing` filter such as `info` or `landfast=debug`.
///
/// # Errors
/// [`ErrorKind::Config`] when the filter is not one.
pub fn start_logs(format: LogFormat, filter: &str, platform: &Platform) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Error::new(
            ErrorKind::Config,
            "The log filter is not one, such as `info` or `landfast=debug`.",
        )
        .with_source(error)
    })?;
    let lines = Lines::new(format, platform, io::stderr);
    let colours = io::stderr().is_terminal();
    let layer = match format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_writer(lines)
            .with_ansi(colours)
            .with_target(false)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer().with_writer(lines).json().boxed(),
        LogFormat::Stackdriver => tracing_stackdriver::layer().with_writer(lines).boxed(),
    };
    // A second start (tests) keeps the first one's logs.
    let _already_started = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(())
}

/// Writes lines to where `out` says, each with what is to be added to it.
struct Lines<O> {
    format: LogFormat,
    project: Project,
    /// The members that every line has.
    always: String,
    /// Those of errors.
    of_errors: String,
    out: O,
}

impl<O> Lines<O> {
    fn new(format: LogFormat, platform: &Platform, out: O) -> Self {
        let is_cloud = format == LogFormat::Stackdriver;
        Self {
            format,
            project: Project::of(platform),
            always: if is_cloud { labels(platform) } else { String::new() },
            of_errors: if is_cloud {
                error_report(platform)
            } else {
                String::new()
            },
            out,
        }
    }

    /// The members of a trace, or for a person the words.
    fn of_trace(&self, trace: Trace) -> String {
        if !trace.is_some() {
            return String::new();
        }
        let (id, sampled) = (trace.id(), trace.is_sampled());
        let span = |name: &str, quote: &str| {
            let span = trace.span();
            span.map_or_else(String::new, |span| format!("{name}{span}{quote}"))
        };
        match self.format {
            LogFormat::Text => {
                let span = span(" span_id=", "");
                format!(" trace_id={id}{span} trace_sampled={sampled}")
            }
            LogFormat::Json => {
                let span = span(r#","span_id":""#, "\"");
                format!(r#","trace_id":"{id}"{span},"trace_sampled":{sampled}"#)
            }
            LogFormat::Stackdriver => {
                let id = Value::from(format!("{}{id}", self.project.traces()));
                let span = span(r#","logging.googleapis.com/spanId":""#, "\"");
                format!(
                    r#","logging.googleapis.com/trace":{id}{span},"logging.googleapis.com/trace_sampled":{sampled}"#
                )
            }
        }
    }
}

fn labels(platform: &Platform) -> String {
    let named = [("service", &platform.service), ("revision", &platform.revision)];
    let labels: serde_json::Map<String, Value> = named
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.clone()?))))
        .collect();
    match labels.is_empty() {
        true => String::new(),
        false => format!(r#","logging.googleapis.com/labels":{}"#, Value::from(labels)),
    }
}

fn error_report(platform: &Platform) -> String {
    let context = json!({
        "service": platform.service.as_deref().unwrap_or(SERVICE),
        "version": platform.revision.as_deref().unwrap_or(env!("CARGO_PKG_VERSION")),
    });
    format!(r#","@type":"{REPORTED_ERROR}","serviceContext":{context}"#)
}

impl<'a, W: Write, O: Fn() -> W> MakeWriter<'a> for Lines<O> {
    type Writer = Line<W>;

    fn make_writer(&'a self) -> Line<W> {
        Line {
            format: self.format,
            added: self.of_trace(Trace::current()) + &self.always,
            out: (self.out)(),
        }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line<W> {
        let mut line = self.make_writer();
        if *event.level() == Level::ERROR {
            line.added += &self.of_errors;
        }
        line
    }
}

/// Writes one line, which comes in one piece.
struct Line<W> {
    format: LogFormat,
    added: String,
    out: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let end: &[u8] = match self.format {
            LogFormat::Text => b"\n",
            LogFormat::Json | LogFormat::Stackdriver => b"}\n",
        };
        match line.strip_suffix(end) {
            Some(start) if !self.added.is_empty() => {
                // In one piece again, so that lines of several threads do not mix.
                self.out
                    .write_all(&[start, self.added.as_bytes(), end].concat())?;
            }
            _ => self.out.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::http::HeaderMap;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn trace(header: &'static str, value: &str) -> Trace {
        let mut headers = HeaderMap::new();
        headers.insert(header, value.parse().unwrap());
        Trace::of_request(&headers)
    }

    fn cloud_run() -> Platform {
        Platform {
            project: Some("acme".to_owned()),
            metadata_host: None,
            service: Some("ingest".to_owned()),
            revision: Some("ingest-00007-abc".to_owned()),
        }
    }

    /// What `work` logs, in the format.
    fn logged(format: LogFormat, platform: &Platform, work: impl FnOnce()) -> String {
        let log = Log::default();
        let out = log.clone();
        let lines = Lines::new(format, platform, move || out.clone());
        let layer = match format {
            LogFormat::Text => tracing_subscriber::fmt::layer()
                .with_writer(lines)
                .with_ansi(false)
                .without_time()
                .with_target(false)
                .boxed(),
            LogFormat::Json => tracing_subscriber::fmt::layer().with_writer(lines).json().boxed(),
            LogFormat::Stackdriver => tracing_stackdriver::layer().with_writer(lines).boxed(),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let bytes = log.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn keys(line: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn cloud_logging_gets_trace_labels_and_error_type() {
        let text = logged(LogFormat::Stackdriver, &cloud_run(), || {
            trace("traceparent", PARENT).scope(|| {
                tracing::info!(rows = 3, "Within.");
                tracing::error!(table.ident = "t.rows", "Failed \"badly\"\n{{}}.");
            });
            tracing::warn!("Outside.");
        });
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let [within, failed, outside] = lines.as_slice() else {
            panic!("three lines: {text}")
        };
        let always = [
            "logging.googleapis.com/labels",
            "logging.googleapis.com/sourceLocation",
        ];
        let traced = [
            "logging.googleapis.com/spanId",
            "logging.googleapis.com/trace",
            "logging.googleapis.com/trace_sampled",
        ];
        let rest = ["message", "severity", "target", "time"];
        assert_eq!(
            keys(within),
            [
                &always[..],
                &traced,
                &["message", "rows", "severity", "target", "time"]
            ]
            .concat()
        );
        assert_eq!(keys(outside), [&always[..], &rest].concat());
        assert_eq!(
            keys(failed),
            [
                &["@type"][..],
                &always,
                &traced,
                &[
                    "message",
                    "serviceContext",
                    "severity",
                    "tableIdent",
                    "target",
                    "time"
                ]
            ]
            .concat()
        );
        assert_eq!(
            within["logging.googleapis.com/trace"],
            "projects/acme/traces/0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(within["logging.googleapis.com/spanId"], "b7ad6b7169203331");
        assert_eq!(within["logging.googleapis.com/trace_sampled"], true);
        assert_eq!(
            within["logging.googleapis.com/labels"],
            json!({"service": "ingest", "revision": "ingest-00007-abc"})
        );
        assert_eq!(
            (&within["severity"], &within["message"]),
            (&json!("INFO"), &json!("Within."))
        );
        assert_eq!(failed["severity"], "ERROR");
        assert_eq!(failed["message"], "Failed \"badly\"\n{}.");
        assert_eq!(failed["@type"], REPORTED_ERROR);
        assert_eq!(
            failed["serviceContext"],
            json!({"service": "ingest", "version": "ingest-00007-abc"})
        );
        assert!(chrono::DateTime::parse_from_rfc3339(within["time"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let text = logged(LogFormat::Stackdriver, &Platform::default(), || {
            let bare = "0af7651916cd43dd8448eb211c80319c/0;o=0";
            trace("x-cloud-trace-context", bare).scope(|| tracing::error!("Failed."));
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        let trace = &line["logging.googleapis.com/trace"];
        assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(line["logging.googleapis.com/trace_sampled"], false);
        assert_eq!(line.get("logging.googleapis.com/spanId"), None);
        assert_eq!(line.get("logging.googleapis.com/labels"), None);
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            line["serviceContext"],
            json!({"service": "landfast", "version": version})
        );
    }

    #[test]
    fn other_formats_have_the_trace_too() {
        let work = || {
            trace("traceparent", PARENT).scope(|| tracing::warn!("Within."));
            tracing::info!("Outside.");
        };
        assert_eq!(
            logged(LogFormat::Text, &cloud_run(), work),
            " WARN Within. trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331 trace_sampled=true\n \
             INFO Outside.\n"
        );
        let text = logged(LogFormat::Json, &cloud_run(), work);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(lines[0]["span_id"], "b7ad6b7169203331");
        assert_eq!(lines[0]["trace_sampled"], true);
        assert_eq!(keys(&lines[1]), ["fields", "level", "target", "timestamp"]);
    }
}
