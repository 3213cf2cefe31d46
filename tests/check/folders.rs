//! On a disk: nothing is left, nothing of others is touched, and what a killed check left is found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use iceberg::{NamespaceIdent, TableIdent};
use landfast::catalog::StorageCatalog;
use landfast::clock::SystemClock;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;

use super::check;
use crate::support::lake::Lake;
use crate::support::mount::Mount;
use crate::support::server::{landfast, run};
use crate::support::tables::create;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        folders_pass_and_nothing_is_left,
        missing_folders_are_missing_afterwards,
        text_names_what_is_to_be_done,
        read_only_folder_is_named,
        landing_folder_that_is_a_file_is_named,
        table_of_another_schema_is_named,
        killed_check_leaves_what_is_its_own,
        what_an_earlier_check_left_is_removed,
        wrong_configuration_exits_2,
    ]
}

const ROWS: &str = "tables: { shop.orders: { from: [{ bucket: \"file://DIR/landing\" }], \
                    schema: [{ name: id, type: long, required: true }] } }\n";

fn configured(lake: &Lake) -> TestResult<PathBuf> {
    lake.config("", &ROWS.replace("DIR", &lake.path().display().to_string()))
}

/// Everything under a folder: nothing for a folder, its bytes for a file.
fn tree(folder: &Path) -> TestResult<BTreeMap<PathBuf, Option<Vec<u8>>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let content = match path.is_dir() {
                true => None,
                false => Some(fs::read(&path)?),
            };
            if content.is_none() {
                folders.push(path.clone());
            }
            found.insert(path, content);
        }
    }
    Ok(found)
}

/// Loads a row into the table of the configuration.
fn load(lake: &Lake, config: &Path) -> TestResult {
    let file = lake.path().join("rows.ndjson");
    fs::write(&file, "{\"id\":1}\n{\"id\":2}\n")?;
    let [config, file] = [config, &file].map(|path| path.display().to_string());
    let (code, _, err) = run(["load", "--config", &config, "--table", "shop.orders", &file])?;
    assert_eq!(code, Some(0), "{err}");
    Ok(())
}

async fn folders_pass_and_nothing_is_left() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake)?;
    load(&lake, &config)?;
    let before = tree(lake.path())?;
    let checked = check(&config, &[], &[]).await?;
    checked.passed();
    assert_eq!(tree(lake.path())?, before);
    let (_, told, _) = checked.line("table")?;
    assert!(told.starts_with("2 rows, last commit 20"), "{told}");
    let names: Vec<&str> = checked.lines().filter_map(|line| line["what"].as_str()).collect();
    assert_eq!(
        names,
        ["warehouse", "dead letters", "table", "landing folder", "catalog"]
    );
    let timings = checked.report["timings"].as_array().ok_or("timings")?;
    assert!(timings.iter().all(|timing| timing["count"] == 20), "{timings:?}");
    // 80 % of the default of 1,000 held requests, over the median.
    let median = timings[1]["median_ms"].as_f64().ok_or("a median")?;
    let ceiling = checked.report["ceiling"]["messages_per_second"].as_f64();
    let expected = (800.0 / median * 1000.0).floor();
    assert!(
        (ceiling.unwrap_or_default() - expected).abs() <= 1.0,
        "{ceiling:?} {expected}"
    );
    Ok(())
}

async fn missing_folders_are_missing_afterwards() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake)?;
    let before = tree(lake.path())?;
    check(&config, &[], &[]).await?.passed();
    assert_eq!(tree(lake.path())?, before);
    Ok(())
}

async fn text_names_what_is_to_be_done() -> TestResult {
    let lake = Lake::new()?;
    fs::write(lake.path().join("dead-letters"), "")?;
    let config = configured(&lake)?.display().to_string();
    let (code, out, err) = run(["check", "--config", &config])?;
    assert_eq!(code, Some(1), "{err}");
    let wanted = format!("-> See that {}/dead-letters is a folder", lake.path().display());
    for said in [
        "FAILED",
        &wanted,
        "one table takes at most",
        "4 passed, 0 warned, 1 failed",
    ] {
        assert!(out.contains(said), "{said}: {out}");
    }
    Ok(())
}

async fn read_only_folder_is_named() -> TestResult {
    let lake = Lake::new()?;
    let mount = Mount::new(lake.path().join("warehouse"), "16m")?;
    mount.remount("ro")?;
    let checked = check(&configured(&lake)?, &[], &[]).await?;
    assert_eq!(checked.failed(), ["warehouse", "catalog"]);
    for what in ["warehouse", "catalog"] {
        let (_, _, remedy) = checked.line(what)?;
        let wanted = format!("Let the process's user write to {}", mount.path().display());
        assert!(remedy.starts_with(&wanted), "{remedy}");
    }
    assert_eq!(checked.left(), [""; 0]);
    Ok(())
}

async fn landing_folder_that_is_a_file_is_named() -> TestResult {
    let lake = Lake::new()?;
    fs::write(lake.path().join("landing"), "")?;
    let checked = check(&configured(&lake)?, &[], &[]).await?;
    assert_eq!(checked.failed(), ["landing folder"]);
    Ok(())
}

async fn table_of_another_schema_is_named() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake)?;
    load(&lake, &config)?;
    let text = fs::read_to_string(&config)?.replace("type: long", "type: string");
    let checked = check(&lake.write_config(&text)?, &[], &[]).await?;
    assert_eq!(checked.failed(), ["table"]);
    let (_, told, _) = checked.line("table")?;
    assert!(told.contains("schema is not the configured one"), "{told}");
    Ok(())
}

async fn killed_check_leaves_what_is_its_own() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake)?;
    load(&lake, &config)?;
    let before = tree(lake.path())?;
    let probes = lake.path().join("warehouse/landfast_check");
    let mut command = landfast(["check", "--config"]);
    command.arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
    let mut killed = command.spawn()?;
    wait_for("the probe's table", Duration::from_secs(60), async || {
        probes.exists().then_some(())
    })
    .await?;
    killed.kill()?;
    killed.wait()?;
    let left = tree(lake.path())?;
    for (path, content) in &before {
        assert_eq!(left.get(path), Some(content), "{}", path.display());
    }
    let is_its_own = |path: &Path| {
        let names = [
            "landfast_check",
            "landfast-check",
            "warehouse/_landfast/ledger",
            "landing",
            "landed",
        ];
        names.iter().any(|name| path.display().to_string().contains(name))
            || lake.path().join("dead-letters") == path
    };
    let foreign = left
        .keys()
        .find(|path| !before.contains_key(*path) && !is_its_own(path));
    assert_eq!(foreign, None);

    let checked = check(&config, &[], &[]).await?;
    checked.passed();
    let (_, told, _) = checked.line("earlier checks")?;
    assert!(told.contains("1 are younger than an hour"), "{told}");
    assert!(probes.exists());
    Ok(())
}

async fn what_an_earlier_check_left_is_removed() -> TestResult {
    let lake = Lake::new()?;
    let config = configured(&lake)?;
    load(&lake, &config)?;
    check(&config, &[], &[]).await?.passed();
    let before = tree(lake.path())?;
    let hours_ago = |hours| {
        let id = Random::from_os().timed_uuid(Utc::now() - TimeDelta::hours(hours));
        format!("probe_{}", id.simple())
    };
    let warehouse = Store::open(&format!("file://{}/warehouse", lake.path().display()))?;
    let catalog = StorageCatalog::new(warehouse.clone(), Arc::new(SystemClock));
    let namespace = NamespaceIdent::new("landfast_check".to_owned());
    let table = create(&catalog, &TableIdent::new(namespace, hours_ago(3))).await?;
    let ledger = format!("_landfast/ledger/{}/head-1", table.metadata().uuid());
    let object = format!("landfast-check/{}/warehouse/object", hours_ago(3));
    let dropped = format!("landfast_check/{}/metadata/v2.metadata.json", hours_ago(4));
    for key in [&ledger, &object, &dropped] {
        let tombstone = Bytes::from_static(b"{\"landfast-dropped\":true}");
        warehouse.put(key, tombstone).await?;
    }
    let mut hidden = Vec::new();
    for folder in ["landing", "landed"] {
        fs::create_dir_all(lake.path().join(folder))?;
        hidden.push(lake.path().join(folder).join(format!(".{}.tmp", hours_ago(2))));
    }
    let young = lake.path().join("landing").join(format!(".{}.tmp", hours_ago(0)));
    for file in hidden.iter().chain([&young]) {
        fs::write(file, "")?;
    }
    // Nobody's: neither random nor of a time.
    let kept = "landfast-check/probe_mine/object";
    warehouse.put(kept, Bytes::from_static(b"kept")).await?;
    let checked = check(&config, &[], &[]).await?;
    checked.passed();
    let (_, told, _) = checked.line("earlier checks")?;
    assert!(told.contains("removed what 5 checks left"), "{told}");
    assert!(warehouse.get(kept).await?.is_some());
    assert!(young.exists() && hidden.iter().all(|file| !file.exists()));
    fs::remove_file(young)?;
    for folder in ["landing", "landed"] {
        fs::remove_dir(lake.path().join(folder))?;
    }
    warehouse.clear("landfast-check/probe_mine").await?;
    assert_eq!(tree(lake.path())?, before);
    Ok(())
}

async fn wrong_configuration_exits_2() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", "tables: { t.rows: { form: [] } }")?;
    let (code, out, err) = run(["check", "--config", &config.display().to_string()])?;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
    Ok(())
}
