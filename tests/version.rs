//! Which landfast it is, and what it is made of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::support::lake::{Lake, files};
use crate::support::readers::bill_problems;
use crate::support::server::{Server, landfast, run};
use crate::support::{Stop, TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        version_is_told_to_people_and_to_scripts,
        build_knows_its_commit_or_says_nothing,
        build_script_runs_again_after_each_commit,
        jobs_and_worker_pools_log_as_services_do,
        start_tells_what_may_be_held,
        bill_and_licences_name_the_same_packages,
        bill_is_as_its_schema_says,
    ]
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

async fn version_is_told_to_people_and_to_scripts() -> TestResult {
    let (code, out, err) = run(["version", "--output", "json"])?;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&out)?;
    assert_eq!(told["version"], VERSION);
    assert!(told["target"].as_str().is_some_and(|target| target.contains('-')));
    let part = |name: &str| told[name].as_str().unwrap_or("unknown").to_owned();
    let (commit, date) = (part("commit"), part("date"));
    let (code, out, _) = run(["version"])?;
    let lines = format!(
        "landfast {VERSION}\ncommit   {commit}\ndate     {date}\ntarget   {}\n",
        part("target")
    );
    assert_eq!((code, out), (Some(0), lines));
    let (code, out, _) = run(["--version"])?;
    let (commit, day) = (
        commit.get(..12).unwrap_or(&commit),
        date.get(..10).unwrap_or(&date),
    );
    assert_eq!(
        (code, out),
        (Some(0), format!("landfast {VERSION} (commit {commit}, {day})\n"))
    );
    Ok(())
}

/// The build script, compiled by itself.
struct Script {
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl Script {
    fn new() -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("build-script");
        let compiled = Command::new("rustc")
            .args(["--edition", "2024", "--cap-lints", "allow", "-o"])
            .arg(&program)
            .arg(Path::new(ROOT).join("build.rs"))
            .output()
            .map_err(|error| Stop::Ignored(format!("no rustc: {error}")))?;
        assert!(compiled.status.success(), "{compiled:?}");
        Ok(Self { folder, program })
    }

    fn make(&self, name: &str) -> TestResult<PathBuf> {
        let place = self.folder.path().join(name);
        std::fs::create_dir_all(&place)?;
        Ok(place)
    }

    /// What Cargo is told where these sources lie, in a build of this profile.
    fn told(&self, sources: &Path, profile: &str, variables: &[(&str, &str)]) -> TestResult<Vec<String>> {
        let output = Command::new(&self.program)
            .current_dir(sources)
            .env_remove("LANDFAST_COMMIT")
            .env_remove("LANDFAST_COMMIT_EPOCH")
            .env_remove("SOURCE_DATE_EPOCH")
            .env("TARGET", "the-target")
            .env("PROFILE", profile)
            .envs(variables.iter().copied())
            .output()?;
        assert!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?
            .lines()
            .map(str::to_owned)
            .collect())
    }
}

fn git(folder: &Path, arguments: &[&str]) -> TestResult<String> {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.com"])
        .args(arguments)
        .env("GIT_COMMITTER_DATE", "@1700000000 +0000")
        .current_dir(folder)
        .output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

async fn build_knows_its_commit_or_says_nothing() -> TestResult {
    let script = Script::new()?;
    let is_told = |lines: &[String], name: &str, value: Option<&str>| {
        let found = lines
            .iter()
            .find_map(|line| line.strip_prefix(&format!("cargo::rustc-env={name}=")));
        assert_eq!(found, value, "{name}: {lines:?}");
    };
    let said = [("LANDFAST_COMMIT", "abc"), ("SOURCE_DATE_EPOCH", "1")];
    let repository = script.make("repository")?;
    git(&repository, &["init", "-q"])?;
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "one"])?;
    let head = git(&repository, &["rev-parse", "HEAD"])?;

    let lines = script.told(&repository, "release", &[])?;
    is_told(&lines, "LANDFAST_BUILD_COMMIT", Some(&head));
    is_told(&lines, "LANDFAST_BUILD_EPOCH", Some("1700000000"));
    is_told(&lines, "LANDFAST_BUILD_TARGET", Some("the-target"));
    git(&repository, &["commit", "-q", "--allow-empty", "-m", "two"])?;

    // What the environment says comes first; what it leaves empty it does not say.
    let lines = script.told(&repository, "release", &said)?;
    is_told(&lines, "LANDFAST_BUILD_COMMIT", Some("abc"));
    is_told(&lines, "LANDFAST_BUILD_EPOCH", Some("1"));
    let both = [said[1], ("LANDFAST_COMMIT_EPOCH", "2")];
    is_told(
        &script.told(&repository, "release", &both)?,
        "LANDFAST_BUILD_EPOCH",
        Some("2"),
    );
    let empty = [("LANDFAST_COMMIT", ""), ("SOURCE_DATE_EPOCH", "")];
    let head = git(&repository, &["rev-parse", "HEAD"])?;
    let lines = script.told(&repository, "release", &empty)?;
    is_told(&lines, "LANDFAST_BUILD_COMMIT", Some(&head));

    // Neither a debug build, nor sources without a repository, nor sources within another's know a commit.
    let plain = script.make("plain")?;
    let within = script.make("repository/within")?;
    for (sources, profile) in [(&repository, "debug"), (&plain, "release"), (&within, "release")] {
        let lines = script.told(sources, profile, &[])?;
        is_told(&lines, "LANDFAST_BUILD_COMMIT", None);
        is_told(&lines, "LANDFAST_BUILD_EPOCH", None);
        assert!(!lines.iter().any(|line| line.contains("HEAD")), "{lines:?}");
        is_told(
            &script.told(sources, profile, &said)?,
            "LANDFAST_BUILD_COMMIT",
            Some("abc"),
        );
    }
    Ok(())
}

/// Whatever git keeps of what was checked out, and wherever. A path that is not there would have the script run each time.
async fn build_script_runs_again_after_each_commit() -> TestResult {
    const COMMIT: [&str; 5] = ["commit", "-q", "--allow-empty", "-m", "more"];
    let script = Script::new()?;
    for (number, keeps_log) in ["true", "false"].into_iter().enumerate() {
        let repository = script.make(&format!("repository{number}"))?;
        git(&repository, &["init", "-q"])?;
        git(&repository, &["config", "core.logAllRefUpdates", keeps_log])?;
        git(&repository, &COMMIT)?;
        let beside = script.folder.path().join(format!("beside{number}"));
        let place = beside.to_str().ok_or("UTF-8")?;
        git(&repository, &["worktree", "add", "-q", "-b", "far/away", place])?;
        for sources in [&repository, &beside] {
            for before in [
                &["status"][..],
                &["pack-refs", "--all"],
                &["checkout", "-q", "--detach"],
            ] {
                git(sources, before)?;
                let lines = script.told(sources, "release", &[])?;
                let watched = lines
                    .iter()
                    .filter_map(|line| line.strip_prefix("cargo::rerun-if-changed="));
                let watched: Vec<PathBuf> = watched
                    .filter(|path| *path != "build.rs")
                    .map(|path| sources.join(path))
                    .collect();
                assert!(watched.iter().all(|path| path.exists()), "{watched:?}");
                let read = || -> TestResult<Vec<_>> {
                    let files = watched.iter().map(|path| match path.is_dir() {
                        true => files(path),
                        false => Ok(vec![path.clone()]),
                    });
                    let files = files.collect::<TestResult<Vec<_>>>()?.concat();
                    let read = |path: PathBuf| Ok((std::fs::read(&path)?, path));
                    files.into_iter().map(read).collect()
                };
                let was = read()?;
                git(sources, &COMMIT)?;
                assert_ne!(read()?, was, "{keeps_log} {before:?} {watched:?}");
            }
        }
    }
    Ok(())
}

async fn jobs_and_worker_pools_log_as_services_do() -> TestResult {
    for [service, revision] in [
        ["K_SERVICE", "K_REVISION"],
        ["CLOUD_RUN_JOB", "CLOUD_RUN_EXECUTION"],
        ["CLOUD_RUN_WORKER_POOL", "CLOUD_RUN_REVISION"],
    ] {
        let output = landfast(["maintain", "--config", "/nowhere.yaml"])
            .env(service, "upkeep")
            .env(revision, "upkeep-7")
            .output()?;
        let log = String::from_utf8(output.stderr)?;
        let line: Value = serde_json::from_str(log.trim())?;
        assert_eq!(line["severity"], "ERROR", "{log}");
        assert_eq!(
            line["logging.googleapis.com/labels"],
            json!({"service": "upkeep", "revision": "upkeep-7"})
        );
    }
    Ok(())
}

async fn start_tells_what_may_be_held() -> TestResult {
    let lake = Lake::new()?;
    let table = "tables: { t.rows: { from: [{ subscription: rows }], schema: [{ name: id, type: long }] } }";
    let mut command = landfast(["serve", "--log", "json", "--config"]);
    command
        .arg(lake.config("max_in_flight_bytes: 48MiB", table)?)
        .env("K_SERVICE", "ingest")
        .env("K_REVISION", "ingest-7");
    let server = Server::start(command).await?;
    server.logged(&["\"max_in_flight_bytes\":50331648"]).await?;
    let (_, metrics) = server.pusher().get("/metrics").await?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("landfast_build_info{"));
    let line = line.ok_or("landfast_build_info")?;
    for label in [
        &format!("version=\"{VERSION}\""),
        "commit=\"",
        "service=\"ingest\"",
        "revision=\"ingest-7\"",
    ] {
        assert!(line.contains(label) && line.ends_with(" 1"), "{line}");
    }
    Ok(())
}

/// What a program of `packaging` prints.
fn packaged(program: &str) -> TestResult<String> {
    if !Command::new("python3")
        .args(["-c", "import tomllib"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        return Err(Stop::Ignored("no python3 of 3.11 or later".to_owned()));
    }
    let output = Command::new(Path::new(ROOT).join("packaging").join(program))
        .env("CARGO_NET_OFFLINE", "true")
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

async fn bill_is_as_its_schema_says() -> TestResult {
    let bill = packaged("sbom")?;
    assert_eq!(bill_problems(&bill)?, [""; 0]);
    let mut small: Value = serde_json::from_str(&bill)?;
    assert_eq!(small["specVersion"], "1.5");
    small["components"]
        .as_array_mut()
        .ok_or("components")?
        .truncate(1);
    // The judge is one: it knows members, words and forms of its own.
    for (at, wrong) in [
        ("/components/0/hashes/0/alg", "SHA256"),
        ("/components/0/externalReferences/0/url", "not a URL"),
        ("/metadata/timestamp", "yesterday"),
        ("/serialNumber", "1"),
    ] {
        let mut spoilt = small.clone();
        *spoilt.pointer_mut(at).ok_or(at)? = wrong.into();
        assert_eq!(bill_problems(&spoilt.to_string())?.len(), 1, "{at}");
    }
    small["components"][0]["colour"] = "red".into();
    assert_eq!(bill_problems(&small.to_string())?.len(), 1);
    Ok(())
}

/// Two ways to the same list: Cargo's metadata, and its tree.
async fn bill_and_licences_name_the_same_packages() -> TestResult {
    let bill: Value = serde_json::from_str(&packaged("sbom")?)?;
    assert_eq!(bill["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    assert_eq!(bill["metadata"]["component"]["name"], "landfast");
    let components = bill["components"].as_array().ok_or("components")?;
    let mut billed = BTreeSet::new();
    for component in components {
        let text = |at: &str| component.pointer(at).and_then(Value::as_str).unwrap_or_default();
        assert!(
            !text("/licenses/0/expression").is_empty() && text("/hashes/0/content").len() == 64,
            "{component}"
        );
        billed.insert(format!("{} {}", text("/name"), text("/version")));
    }

    let page = packaged("licences")?;
    let listed: BTreeSet<String> = page
        .lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| Ok(line.split_once(": ").ok_or("a licence")?.0.to_owned()))
        .collect::<TestResult<_>>()?;
    assert!(listed.len() > 200, "{}", listed.len());
    let apart: Vec<_> = listed.symmetric_difference(&billed).collect();
    assert!(apart.is_empty(), "{apart:?}");
    for text in ["Permission is hereby granted, free of charge", "Apache License"] {
        assert!(page.contains(text), "{text}");
    }
    Ok(())
}
