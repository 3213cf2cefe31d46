//! The JSON Schema of configurations, judged by check-jsonschema: it takes what the reader takes, refuses most of what
//! the reader refuses, and the rest is known.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::server::{landfast, run};
use crate::support::{Component, TestResult, needs, trials};

#[path = "../src/config/tests/cases.rs"]
mod cases;
#[path = "../src/config/tests/catalog_cases.rs"]
mod catalog_cases;

use cases::{DEEPER_MISTAKES, HEAD, LATER_VALUES, MISTAKES, VALID};
use catalog_cases::{DEEPER_WRONG_CATALOGS, WRONG_CATALOGS};

pub fn tests() -> Vec<Trial> {
    trials![
        config_schema_prints_the_schema_of_the_repository,
        schema_is_one,
        examples_begin_with_the_path_of_the_schema,
        examples_are_checked_by_the_line_that_they_tell,
        configurations_that_terraform_renders_are_valid,
        valid_configurations_fit_the_schema,
        mistakes_are_refused_by_the_schema_too,
        mistakes_that_no_schema_tells_are_known,
    ]
}

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.schema.json");
const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

async fn config_schema_prints_the_schema_of_the_repository() -> TestResult {
    let (code, printed, err) = run(["config", "schema"])?;
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(printed == fs::read_to_string(SCHEMA)?, "`just docs` renews it");
    Ok(())
}

async fn schema_is_one() -> TestResult {
    let (code, told) = judge(&["--check-metaschema", SCHEMA])?;
    assert_eq!(code, Some(0), "{told}");
    Ok(())
}

async fn examples_begin_with_the_path_of_the_schema() -> TestResult {
    for path in examples()? {
        let text = fs::read_to_string(&path)?;
        let schema = text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# yaml-language-server: $schema="))
            .ok_or_else(|| format!("{} has no such line", path.display()))?;
        assert_eq!(
            Path::new(EXAMPLES).join(schema).canonicalize()?,
            Path::new(SCHEMA).canonicalize()?
        );
    }
    Ok(())
}

async fn examples_are_checked_by_the_line_that_they_tell() -> TestResult {
    let binary = Path::new(env!("CARGO_BIN_EXE_landfast"));
    for path in examples()? {
        let text = fs::read_to_string(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("# Check it:"));
        let line = line.ok_or_else(|| format!("{} tells none", path.display()))?;
        let output = Command::new("sh")
            .args(["-c", &line.replace("landfast config", "\"$LANDFAST\" config")])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_clear()
            .env("LANDFAST", binary)
            .output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{line}: {told}");
    }
    Ok(())
}

/// `tests/terraform/run check` holds these files against what the modules render.
async fn configurations_that_terraform_renders_are_valid() -> TestResult {
    let pattern = concat!(env!("CARGO_MANIFEST_DIR"), "/terraform/**/rendered/**/*.yaml");
    let rendered: Vec<PathBuf> = glob::glob(pattern)?.collect::<Result<_, _>>()?;
    assert!(!rendered.is_empty(), "terraform/ has rendered configurations");
    for path in rendered {
        let mut command = landfast(["config", "validate", "--config"]);
        let output = command.arg(&path).env("API_TOKEN", "x").output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{}: {told}", path.display());
    }
    Ok(())
}

async fn valid_configurations_fit_the_schema() -> TestResult {
    let mut texts: Vec<String> = VALID
        .iter()
        .map(|(catalog, rest)| with_catalog(catalog, rest))
        .collect();
    for path in examples()? {
        texts.push(fs::read_to_string(path)?);
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md"))?;
    let (_, example) = page.split_once("```yaml\n").ok_or("an example")?;
    texts.extend(example.split("```").next().map(str::to_owned));
    assert_eq!(refused(&texts)?, [""; 0]);
    Ok(())
}

async fn mistakes_are_refused_by_the_schema_too() -> TestResult {
    let mistakes = MISTAKES.iter().map(|(rest, _)| format!("{HEAD}{rest}"));
    let later = LATER_VALUES
        .iter()
        .map(|(value, _)| format!("{HEAD}tables: {{a.b: {{{value}}}}}\n"));
    let catalogs = WRONG_CATALOGS
        .iter()
        .map(|(catalog, ..)| with_catalog(catalog, "tables: {a.b: {}}\n"))
        // What a variable holds is not known to a schema.
        .filter(|text| !text.contains("${BAD}"));
    let texts: Vec<String> = mistakes.chain(later).chain(catalogs).collect();
    assert_eq!(refused(&texts)?, texts);
    Ok(())
}

/// When a schema learns one of them, the case moves to the others.
async fn mistakes_that_no_schema_tells_are_known() -> TestResult {
    let mistakes = DEEPER_MISTAKES.iter().map(|(rest, _)| format!("{HEAD}{rest}"));
    let catalogs = DEEPER_WRONG_CATALOGS
        .iter()
        .map(|(catalog, ..)| with_catalog(catalog, "tables: {a.b: {}}\n"));
    let texts: Vec<String> = mistakes.chain(catalogs).collect();
    assert_eq!(refused(&texts)?, [""; 0]);
    Ok(())
}

fn with_catalog(catalog: &str, rest: &str) -> String {
    format!("{HEAD}{rest}").replace("type: storage", catalog)
}

fn examples() -> TestResult<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(EXAMPLES)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(!paths.is_empty(), "examples/ has configurations");
    Ok(paths)
}

/// The texts that do not fit the schema.
fn refused(texts: &[String]) -> TestResult<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let mut arguments = vec![
        "--output-format".to_owned(),
        "json".to_owned(),
        "--schemafile".to_owned(),
        SCHEMA.to_owned(),
    ];
    let mut files = Vec::new();
    for (place, text) in texts.iter().enumerate() {
        let file = folder.path().join(format!("{place}.yaml"));
        fs::write(&file, text)?;
        arguments.push(file.display().to_string());
        files.push(file.display().to_string());
    }
    let (_, told) = judge(&arguments)?;
    let answer: Value = serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
    // A file that is no YAML to the judge has no place among the cases.
    let unread = answer["parse_errors"].as_array();
    assert!(unread.is_none_or(Vec::is_empty), "{answer:#}");
    let errors = answer["errors"].as_array().ok_or("a list of errors")?;
    let is_refused = |file: &str| errors.iter().any(|error| error["filename"] == file);
    Ok(files
        .iter()
        .zip(texts)
        .filter(|(file, _)| is_refused(file))
        .map(|(_, text)| text.clone())
        .collect())
}

/// Runs check-jsonschema; its exit status and what it wrote.
fn judge(arguments: &[impl AsRef<std::ffi::OsStr>]) -> TestResult<(Option<i32>, String)> {
    let output = Command::new(needs(Component::Python)?)
        .args(["-B", "-m", "check_jsonschema"])
        .args(arguments)
        .output()?;
    let mut told = String::from_utf8_lossy(&output.stdout).into_owned();
    told.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok((output.status.code(), told))
}
