//! `landfast check`: what passes leaves nothing behind, and what is refused names what is missing.

mod buckets;
mod catalogs;
mod folders;
mod publishing;
mod pubsub;

use std::path::Path;
use std::process::Stdio;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::TestResult;
use crate::support::server::landfast;

pub fn tests() -> Vec<Trial> {
    [
        folders::tests(),
        buckets::tests(),
        catalogs::tests(),
        pubsub::tests(),
        publishing::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A check that has ended.
struct Checked {
    code: Option<i32>,
    report: Value,
}

/// Checks a configuration with these further words and variables.
async fn check(config: &Path, words: &[&str], variables: &[(&str, String)]) -> TestResult<Checked> {
    let mut command = landfast(["check", "--output", "json", "--config"]);
    command.arg(config).args(words).stdin(Stdio::null());
    for name in [
        "GOOGLE_CLOUD_PROJECT",
        "PUBSUB_EMULATOR_HOST",
        "BIGQUERY_EMULATOR_HOST",
    ] {
        command.env_remove(name);
    }
    command.envs(variables.iter().map(|(name, value)| (*name, value)));
    // What stands before the servers answers on this runtime.
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    crate::support::note(&format!("{out}{err}"));
    Ok(Checked {
        code: output.status.code(),
        report: serde_json::from_str(&out).map_err(|_none| format!("no report: {out}{err}"))?,
    })
}

impl Checked {
    /// All of it passed, and nothing is left.
    fn passed(&self) {
        let bad = self.lines().find(|line| line["outcome"] != "passed");
        assert_eq!(bad, None);
        assert_eq!(
            (self.code, &self.report["passed"]),
            (Some(0), &true.into()),
            "{}",
            self.report
        );
        assert_eq!(self.report["left"].as_array().map(Vec::len), Some(0));
    }

    /// The probes that failed, by what they were of; nothing passed as a whole.
    fn failed(&self) -> Vec<&str> {
        assert_eq!((self.code, &self.report["passed"]), (Some(1), &false.into()));
        let failed = self.lines().filter(|line| line["outcome"] == "failed");
        failed.filter_map(|line| line["what"].as_str()).collect()
    }

    fn lines(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().into_iter().flatten()
    }

    /// The outcome of a probe, what it told and what is to be done about it.
    fn line(&self, what: &str) -> TestResult<(&str, &str, &str)> {
        let line = self.lines().find(|line| line["what"] == what);
        let line = line.ok_or_else(|| format!("no {what}: {}", self.report))?;
        let text = |member: &str| line[member].as_str().unwrap_or_default();
        Ok((text("outcome"), text("told"), text("remedy")))
    }

    /// The one that is named so.
    fn named(&self, name: &str) -> TestResult<(&str, &str, &str)> {
        let line = self
            .lines()
            .find(|line| line["name"].as_str().is_some_and(|found| found.ends_with(name)));
        let line = line.ok_or_else(|| format!("no {name}: {}", self.report))?;
        let text = |member: &str| line[member].as_str().unwrap_or_default();
        Ok((text("outcome"), text("told"), text("remedy")))
    }

    fn left(&self) -> Vec<&str> {
        let left = self.report["left"].as_array().into_iter().flatten();
        left.filter_map(Value::as_str).collect()
    }
}
