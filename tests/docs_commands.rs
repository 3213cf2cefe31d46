//! What the documentation tells people to type: the commands of README.md, docs and terraform's pages are run, in the order of their page.
//! What wants more than this machine is in [`NOT_RUN`] with its reason, or is at least read by the real command line; a
//! command that none of the lists knows fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::support::lake::Lake;
use crate::support::readers::Reader;
use crate::support::server::{Server, landfast, run};
use crate::support::{Component, TestResult, gzip, needs, test, trials, wait_for};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Where `dev` listens in the documentation.
const DEV: &str = "http://127.0.0.1:8080";

/// Commands that begin so are run.
const RUN: &[&str] = &[
    "curl ",
    "gzip -c orders.ndjson | curl ",
    "url=",
    "export API_TOKEN=",
    "mkdir -p landfast-data/landing/",
    "echo ",
    "landfast config validate ",
    "API_TOKEN=x landfast config validate ",
    "landfast check --config landfast.yaml",
    "landfast load ",
    "zcat old/*.gz | landfast load ",
    "landfast replay ",
    "landfast maintain ",
    "landfast verify ",
    "landfast show ",
];

/// Commands that begin so are read by the command line, with a configuration that is not there; and why not more.
const READ: &[(&str, &str)] = &[
    (
        "landfast check --config landfast.yaml --project ",
        "asks Pub/Sub; tests/check does",
    ),
    ("landfast pull ", "pulls from Pub/Sub; tests/pull does"),
];

/// Commands that begin so are not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    (
        "cargo run --release -- dev --demo",
        "builds for a quarter of an hour; surface::demo_… runs the same",
    ),
    ("cargo install ", "builds for a quarter of an hour"),
    ("tests/run", "is what runs this"),
    ("tests/terraform/", "is run by tests/run"),
    ("examples/local/run", "local_example runs it"),
    (
        "just ",
        "names commands that are tested themselves, or run for minutes",
    ),
    (
        "spark-sql ",
        "fetches its packages; the readers have Spark read the same warehouse by the same catalog",
    ),
    ("gcloud ", "wants Google Cloud"),
    ("bq ", "wants Google Cloud"),
    (
        "terraform ",
        "wants Google Cloud; tests/terraform plans and applies with mocks",
    ),
    ("export PROJECT=", "is for what wants Google Cloud"),
    ("export IMAGE=", "is for what wants Google Cloud"),
    ("cd terraform/examples/", "is for what wants Google Cloud"),
    ("cat >terraform.tfvars ", "is for what wants Google Cloud"),
    ("openssl rand ", "wants Google Cloud"),
    ("for s in pubsub ", "wants Google Cloud"),
    (
        "sh landfast.sh ",
        "wants Google Cloud; tests/terraform/commands runs the script",
    ),
    ("docker ", "wants a Docker engine; the image has tests of its own"),
    ("cosign ", "wants a release"),
    ("gh ", "wants a release"),
    ("sha256sum --check ", "wants a release"),
    ("identity=", "wants a release"),
    ("issuer=", "wants a release"),
];

/// Runs until it is told to stop.
const SERVE: &str = "landfast serve --config landfast.yaml";

pub fn tests() -> Vec<Trial> {
    let mut tests = trials![
        every_command_is_known,
        commands_are_told_apart,
        python_and_sql_of_the_readme_read_the_rows,
        whole_configurations_are_valid,
    ];
    for page in pages().expect("the documentation is there") {
        let fences = fences(&page, "sh").expect("the page is there");
        let mut commands = fences.iter().flat_map(|fence| commands(fence));
        if commands.any(|command| plan(&command) != Some(Plan::NotRun)) {
            let name = format!("{}::commands_of_{page}", module_path!());
            tests.push(test(&name, async move || commands_of(&page).await));
        }
    }
    tests
}

#[derive(Debug, PartialEq)]
enum Plan {
    Run,
    Serve,
    Read,
    NotRun,
}

fn plan(command: &str) -> Option<Plan> {
    let begins = |list: &[(&str, &str)]| list.iter().any(|(prefix, _)| command.starts_with(prefix));
    if begins(NOT_RUN) {
        Some(Plan::NotRun)
    } else if begins(READ) {
        Some(Plan::Read)
    } else if command == SERVE {
        Some(Plan::Serve)
    } else {
        RUN.iter()
            .any(|prefix| command.starts_with(prefix))
            .then_some(Plan::Run)
    }
}

async fn every_command_is_known() -> TestResult {
    let mut unknown = Vec::new();
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for page in pages()? {
        for command in fences(&page, "sh")?.iter().flat_map(|fence| commands(fence)) {
            if plan(&command).is_none() {
                unknown.push(format!("{page}: {command}"));
            }
            used.extend(RUN.iter().copied().filter(|prefix| command.starts_with(prefix)));
        }
    }
    assert_eq!(unknown, [""; 0], "neither run nor listed with a reason");
    for (page, output) in outputs_asked_for()? {
        let made = format!("output \"{output}\" {{");
        let example = page.strip_suffix("/README.md");
        let example = example.filter(|folder| folder.contains("/examples/"));
        let folder = example.unwrap_or("terraform/examples/pubsub-to-table");
        let outputs = fs::read_to_string(Path::new(ROOT).join(folder).join("outputs.tf"))?;
        assert!(outputs.contains(&made), "{page}: no output {output}");
    }
    let unused: Vec<_> = RUN.iter().filter(|prefix| !used.contains(**prefix)).collect();
    assert!(unused.is_empty(), "no page has {unused:?}");
    Ok(())
}

/// What `terraform output` is asked for, and by which page.
fn outputs_asked_for() -> TestResult<Vec<(String, String)>> {
    let mut asked = Vec::new();
    for page in pages()? {
        for command in fences(&page, "sh")?.iter().flat_map(|fence| commands(fence)) {
            let Some(rest) = command.strip_prefix("terraform output -") else {
                continue;
            };
            let name = rest.split(' ').nth(1).ok_or("a name")?;
            asked.push((page.clone(), name.to_owned()));
        }
    }
    assert!(asked.len() > 3, "{asked:?}");
    Ok(asked)
}

async fn commands_are_told_apart() -> TestResult {
    let fence = "a  b # why\n# nothing\nc 'd # e' \\\n  --f\n\ncurl -d '{\"x\":\n  1}' \"$y\"  # z\n\
                 cat >t <<EOF\nx = 1\nEOF\nd\n";
    assert_eq!(
        commands(fence),
        [
            "a b",
            "c 'd # e' --f",
            "curl -d '{\"x\":\n  1}' \"$y\"",
            "cat >t <<EOF\nx = 1\nEOF",
            "d"
        ]
    );
    assert_eq!(
        plan("landfast check --config landfast.yaml --project acme"),
        Some(Plan::Read)
    );
    assert_eq!(plan("landfast check --config landfast.yaml"), Some(Plan::Run));
    assert_eq!(plan("landfast frobnicate"), None);
    Ok(())
}

/// Runs a page's commands, fence by fence, in a folder that has what they name.
async fn commands_of(page: &str) -> TestResult {
    let place = Place::new().await?;
    let mut ran = 0;
    for fence in fences(page, "sh")? {
        let mut script = String::from(
            "set -euo pipefail\ncurl() { command curl --fail-with-body --silent --show-error --noproxy '*' \"$@\"; }\n",
        );
        for command in commands(&fence) {
            match plan(&command).ok_or_else(|| format!("{page}: {command}"))? {
                Plan::NotRun => {}
                Plan::Run => {
                    ran += 1;
                    script += &format!("{}\n", command.replace(DEV, place.server.url()));
                }
                Plan::Read => is_read(&command)?,
                Plan::Serve => place.serves().await?,
            }
        }
        let output = place.bash(&script)?.output()?;
        let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(
            output.status.success(),
            "{page}: {}\n{script}\n{}",
            output.status,
            told.concat()
        );
    }
    if page == "README.md" {
        assert!(ran > 8, "{ran}");
        place.has_what_the_readme_sends().await?;
    }
    Ok(())
}

/// A command line that is wrong would be told as that; this one is told that its configuration is not there.
fn is_read(command: &str) -> TestResult {
    let arguments = command.replace("landfast.yaml", "absent.yaml");
    let (code, _, told) = run(arguments.split(' ').skip(1))?;
    assert!(
        code == Some(2) && told.contains("absent.yaml") && !told.contains("Usage:"),
        "{command}: {code:?} {told}"
    );
    Ok(())
}

async fn python_and_sql_of_the_readme_read_the_rows() -> TestResult {
    let python = needs(Component::Python)?;
    let place = Place::new().await?;
    let rows = format!("{}/v1/tables/landfast.orders/records", place.server.url());
    let sent = place.bash(&format!(
        "curl -sS --fail --noproxy '*' '{rows}' -H 'content-type: application/json' -d '[{{\"id\":1,\"item\":\"rope\"}}]'"
    ))?;
    let answered = { sent }.output()?;
    assert!(answered.status.success(), "{answered:?}");
    let [script] = &fences("README.md", "python")?[..] else {
        return Err("README.md has one fence of Python".into());
    };
    let [query] = &fences("README.md", "sql")?[..] else {
        return Err("README.md has one fence of SQL".into());
    };
    // The packages have the extension already.
    let query = query.replace("install iceberg; load iceberg;", "");
    let last = script.trim_end().rsplit('\n').next().unwrap_or_default();
    let asked = script.replace(last, &format!("assert ({last}).num_rows == 1"));
    let duckdb = format!(
        "import sys; sys.path.insert(0, '{ROOT}/tests/readers')\n\
         from duckdb_reader import db\nassert db.execute('''{query}''').fetchall() == [('rope', 1)]\n"
    );
    for text in [asked, duckdb] {
        // What the reader prints when it is asked nothing does not matter.
        let ended = wait_for("the rows to be named", Duration::from_secs(60), async || {
            let mut command = Command::new(&python);
            command
                .arg("-c")
                .arg(&text)
                .current_dir(place.lake.path())
                .stdin(Stdio::null());
            command.output().ok().filter(|output| output.status.success())
        });
        if let Err(stop) = ended.await {
            let output = Command::new(&python)
                .arg("-c")
                .arg(&text)
                .current_dir(place.lake.path())
                .stdin(Stdio::null())
                .output()?;
            return Err(format!("{stop:?} {text} {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    Ok(())
}

async fn whole_configurations_are_valid() -> TestResult {
    let lake = Lake::new()?;
    let mut count = 0;
    for page in pages()? {
        for fence in fences(&page, "yaml")? {
            let has = |key: &str| fence.lines().any(|line| line.starts_with(key));
            if !["warehouse:", "catalog:", "dead_letters:"].into_iter().all(has)
                || !(has("tables:") || has("routes:"))
            {
                continue;
            }
            count += 1;
            let file = lake.write_config(&fence)?;
            let mut command = landfast(["config", "validate", "--config"]);
            command.arg(file);
            // Those that have no default.
            for variable in fence.split("${").skip(1) {
                match variable.split('}').next() {
                    Some(name) if !name.contains(":-") => command.env(name, "/x"),
                    _ => &mut command,
                };
            }
            let output = command.output()?;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{page}: {told}\n{fence}");
        }
    }
    assert!(count >= 2, "{count} configurations");
    Ok(())
}

/// A folder as the pages take for given: `landfast dev` on `landfast-data`, README.md's `landfast.yaml` with rows in its
/// table, and files to load.
struct Place {
    lake: Lake,
    server: Server,
}

impl Place {
    async fn new() -> TestResult<Self> {
        if Command::new("curl").arg("--version").output().is_err() {
            return Err(crate::support::Stop::Ignored("curl: not installed".to_owned()));
        }
        let lake = Lake::new()?;
        let dir = lake.path();
        let readme = fences("README.md", "yaml")?;
        let config = readme.iter().find(|fence| fence.starts_with("# landfast.yaml"));
        let config = config.ok_or("README.md has landfast.yaml")?;
        let config = config
            .replace("${HOME}", &dir.display().to_string())
            .replace("\nserver:\n", "\nserver:\n  listen: 127.0.0.1:0\n");
        assert!(
            config.contains("127.0.0.1:0") && !config.contains("${HOME}"),
            "{config}"
        );
        lake.write_config(&config)?;
        for folder in ["more", "old", "day"] {
            fs::create_dir(dir.join(folder))?;
        }
        let line = |id: i64| format!("{{\"id\": {id}}}\n");
        fs::write(dir.join("orders.ndjson"), line(10))?;
        fs::write(dir.join("first.ndjson"), line(1))?;
        fs::write(dir.join("orders.ndjson.gz"), gzip(line(11))?)?;
        fs::write(dir.join("more/a.json"), line(12))?;
        fs::write(dir.join("old/a.gz"), gzip(line(13))?)?;
        fs::write(dir.join("old/b.gz"), gzip(line(14))?)?;
        fs::write(dir.join("day/a.json"), line(15))?;
        fs::write(dir.join("day/b.json"), line(16))?;
        let server = Server::dev(&dir.join("landfast-data")).await?;
        let place = Self { lake, server };
        let first = "landfast load --config landfast.yaml --table shop.orders first.ndjson";
        let loaded = place.bash(first)?.output()?;
        assert!(
            loaded.status.success(),
            "{}",
            String::from_utf8_lossy(&loaded.stderr)
        );
        Ok(place)
    }

    /// bash with `landfast` on its path, in the folder.
    fn bash(&self, script: &str) -> TestResult<Command> {
        let program = Path::new(env!("CARGO_BIN_EXE_landfast"));
        let folder = program.parent().ok_or("a folder")?;
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("PATH={}:$PATH\n{script}", folder.display())])
            .env("API_TOKEN", "change-me")
            .env_remove("PORT")
            .env_remove("GOOGLE_CLOUD_PROJECT")
            .current_dir(self.lake.path())
            .stdin(Stdio::null());
        Ok(command)
    }

    async fn serves(&self) -> TestResult {
        let mut command = landfast(SERVE.split(' ').skip(1));
        command
            .env("API_TOKEN", "change-me")
            .current_dir(self.lake.path());
        let mut server = Server::start(command).await?;
        server.terminate()?;
        assert!(server.exited().await?.success());
        Ok(())
    }

    /// What the push, the request and the file brought, and the loads.
    async fn has_what_the_readme_sends(&self) -> TestResult {
        let landed = self.lake.path().join("landfast-data/landed/orders/new.json");
        wait_for("the file to land", Duration::from_secs(20), async || {
            landed.exists().then_some(())
        })
        .await?;
        for (table, rows) in [("landfast.orders", 4), ("shop.orders", 7)] {
            let place = match table {
                "shop.orders" => "--config landfast.yaml",
                _ => "--dir landfast-data",
            };
            let shown = self
                .bash(&format!("landfast show {place} {table} --output json"))?
                .output()?;
            let page: serde_json::Value = serde_json::from_slice(&shown.stdout)?;
            assert_eq!(page["rows"], rows, "{page}");
        }
        if let Ok(duckdb) = Reader::duckdb() {
            let table = self.lake.path().join("landfast-data/warehouse/landfast/orders");
            assert_eq!(duckdb.count(crate::support::lake::newest_metadata(&table)?)?, 4);
        }
        Ok(())
    }
}

/// README.md, the pages of docs, and those of terraform and its examples, by their paths.
fn pages() -> TestResult<Vec<String>> {
    let mut pages = vec!["README.md".to_owned()];
    for entry in fs::read_dir(Path::new(ROOT).join("docs"))? {
        let name = PathBuf::from("docs").join(entry?.file_name());
        if name.extension().is_some_and(|extension| extension == "md") {
            pages.push(name.to_string_lossy().into_owned());
        }
    }
    pages.push("terraform/README.md".to_owned());
    for entry in fs::read_dir(Path::new(ROOT).join("terraform/examples"))? {
        let name = PathBuf::from("terraform/examples").join(entry?.file_name());
        pages.push(name.join("README.md").to_string_lossy().into_owned());
    }
    pages.sort();
    Ok(pages)
}

/// The texts of a page's fences of a kind, also of those that are indented.
fn fences(page: &str, kind: &str) -> TestResult<Vec<String>> {
    let text = fs::read_to_string(Path::new(ROOT).join(page))?;
    let mut fences = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => {
                if let Some((true, fence)) = open.take() {
                    fences.push(fence);
                }
            }
            (Some(word), None) => open = Some((word == kind, String::new())),
            (None, Some((_, fence))) => *fence += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    Ok(fences)
}

/// The commands of a shell's text: lines, where neither a quote, a backslash nor `<<EOF` goes on; without comments.
fn commands(fence: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let (mut quote, mut is_comment) = (None, false);
    let mut letters = fence.chars().peekable();
    while let Some(letter) = letters.next() {
        let command = commands.last_mut().expect("there is one");
        match (letter, quote) {
            ('\n', None) if command.ends_with("<<EOF") || command.contains("<<EOF\n") => {
                // Ends with the line that is its word.
                command.push('\n');
                if command.ends_with("\nEOF\n") {
                    commands.push(String::new());
                }
            }
            ('\n', None) => {
                is_comment = false;
                commands.push(String::new());
            }
            _ if is_comment => {}
            ('\\', None) if letters.peek() == Some(&'\n') => {
                letters.next();
            }
            ('#', None) if command.is_empty() || command.ends_with(' ') => is_comment = true,
            (' ', None) if command.is_empty() || command.ends_with(' ') => {}
            ('\'' | '"', None) => {
                quote = Some(letter);
                command.push(letter);
            }
            _ => {
                quote = quote.filter(|open| *open != letter);
                command.push(letter);
            }
        }
    }
    let commands = commands.iter().map(|command| command.trim_end().to_owned());
    commands.filter(|command| !command.is_empty()).collect()
}
