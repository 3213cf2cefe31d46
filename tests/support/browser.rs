//! A real browser, without a window.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::{Component, TestResult, needs};

const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/browser.mjs");

/// A running browser with one page at a time. Dropping it ends it.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    calls: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts one; ends the test as ignored where there is none.
    pub fn start() -> TestResult<Self> {
        let place = needs(Component::Browser)?;
        let (dir, program) = place
            .split_once(' ')
            .ok_or("LANDFAST_TEST_BROWSER names no program")?;
        let mut driver = Command::new("node")
            .args([DRIVER, dir, program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = driver.stdout.take().ok_or("the output is piped")?;
        Ok(Self {
            calls: driver.stdin.take(),
            answers: BufReader::new(answers),
            driver,
        })
    }

    /// Opens a page in a fresh profile; `options` as browser.mjs has them. Gives the status.
    pub fn open(&mut self, url: &str, mut options: Value) -> TestResult<u64> {
        options["url"] = url.into();
        let status = self.call("open", options)?;
        status
            .as_u64()
            .ok_or_else(|| format!("no status: {status}").into())
    }

    /// The texts of what a selector finds, as they are shown.
    pub fn text(&mut self, selector: &str) -> TestResult<Vec<String>> {
        let texts = self.call("text", json!({ "selector": selector }))?;
        Ok(serde_json::from_value(texts)?)
    }

    /// How much a selector finds.
    pub fn count(&mut self, selector: &str) -> TestResult<u64> {
        let count = self.call("count", json!({ "selector": selector }))?;
        Ok(count.as_u64().unwrap_or_default())
    }

    /// Whether it is shown.
    pub fn is_visible(&mut self, selector: &str) -> TestResult<bool> {
        Ok(self.call("visible", json!({ "selector": selector }))? == json!(true))
    }

    /// Waits until something that the selector finds says this.
    pub fn wait(&mut self, selector: &str, text: &str) -> TestResult {
        self.call("wait", json!({ "selector": selector, "text": text }))
            .map(drop)
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, script: &str) -> TestResult<Value> {
        self.call("evaluate", json!({ "script": script }))
    }

    /// Writes a picture of all of the page.
    pub fn shot(&mut self, file: &str) -> TestResult {
        self.call("shot", json!({ "file": file })).map(drop)
    }

    /// What the page has said on its console, and the addresses that it has asked for.
    pub fn told(&mut self) -> TestResult<(Vec<String>, Vec<String>)> {
        let told = self.call("told", json!({}))?;
        let texts = |name: &str| serde_json::from_value(told[name].clone());
        Ok((texts("console")?, texts("requests")?))
    }

    fn call(&mut self, call: &str, mut options: Value) -> TestResult<Value> {
        options["call"] = call.into();
        let calls = self.calls.as_mut().ok_or("the driver is gone")?;
        writeln!(calls, "{options}")?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(format!("The browser's driver ended: {}", self.driver.wait()?).into());
        }
        let mut answer: Value = serde_json::from_str(&line)?;
        match answer["error"].take() {
            Value::Null => Ok(answer["value"].take()),
            error => Err(format!("{call}: {error}").into()),
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // At the end of its input it closes the browser.
        drop(self.calls.take());
        let _ended = self.driver.wait();
    }
}
