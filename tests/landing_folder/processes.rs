//! Processes that share a folder, are killed, stopped, or may not read a file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::time::{Instant, sleep};

use super::{PATIENCE, emptied, lines, names, put};
use crate::support::lake::Lake;
use crate::support::readers::Reader;
use crate::support::server::Server;
use crate::support::{Stop, TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        file_that_cannot_be_moved_is_loaded_once_over_a_kill,
        killed_processes_land_every_file,
        two_processes_share_a_folder,
        stop_during_a_big_file_leaves_nothing_half,
        unreadable_file_stays_and_stops_no_other,
    ]
}

fn count(lake: &Lake) -> TestResult<u64> {
    match lake.metadata("landfast.rows") {
        Ok(metadata) => Reader::pyiceberg()?.count(metadata),
        Err(_none) => Ok(0),
    }
}

async fn retried(server: &Server, at_least: f64) -> TestResult {
    wait_for("it to be tried again", PATIENCE, async || {
        (server.metric("landfast_file_retries_total").await.ok()? >= at_least).then_some(())
    })
    .await
}

async fn file_that_cannot_be_moved_is_loaded_once_over_a_kill() -> TestResult {
    let lake = Lake::new()?;
    fs::create_dir(lake.path().join("landed"))?;
    // Where the folder of the landed files would be made.
    let obstacle = lake.path().join("landed/rows");
    fs::write(&obstacle, "")?;
    let mut server = Server::dev(lake.path()).await?;
    put(&lake.path().join("landing"), "rows/a.json", lines(0..10))?;
    retried(&server, 3.0).await?;
    server.logged(&["A file landed and cannot be moved."]).await?;
    assert_eq!(
        (count(&lake)?, server.metric("landfast_landed_files_total").await?),
        (10, 1.0)
    );

    // Killed between commit and move.
    server.kill()?;
    let server = Server::dev(lake.path()).await?;
    retried(&server, 1.0).await?;
    fs::remove_file(obstacle)?;
    emptied(&lake).await?;
    let (ids, rows) = lake.ids("landfast.rows", "id")?;
    assert_eq!((ids, rows), ((0..10).collect(), 10));
    assert_eq!(names(&lake.path().join("landed"))?, ["rows/a.json"]);
    Ok(())
}

async fn killed_processes_land_every_file() -> TestResult {
    const FILES: i64 = 40;
    let lake = Lake::new()?;
    let landing = lake.path().join("landing");
    for file in 0..FILES {
        put(
            &landing,
            &format!("rows/{file:02}.json"),
            lines(file * 10..file * 10 + 10),
        )?;
    }
    let mut kills = 0;
    for round in 0..6 {
        let mut server = Server::dev(lake.path()).await?;
        let before = names(&landing)?.len();
        // Until it works: then at some instruction of some file.
        wait_for("a file to land", PATIENCE, async || {
            (names(&landing).ok()?.len() < before).then_some(())
        })
        .await?;
        sleep(Duration::from_millis(round * 7)).await;
        server.kill()?;
        kills += 1;
        if let Ok(metadata) = lake.metadata("landfast.rows") {
            Reader::pyiceberg()?.count(metadata)?;
        }
        if names(&landing)?.is_empty() {
            break;
        }
    }
    let _server = Server::dev(lake.path()).await?;
    emptied(&lake).await?;
    let (ids, rows) = lake.ids("landfast.rows", "id")?;
    assert_eq!(ids, (0..FILES * 10).collect());
    let landed = names(&lake.path().join("landed"))?;
    assert_eq!(
        landed.iter().filter(|name| !name.contains('Z')).count() as i64,
        FILES,
        "{landed:?}"
    );
    writeln!(std::io::stderr(), "landing: {kills} kills, {FILES} files")?;
    assert_eq!(rows, ids.len(), "rows doubled by {kills} kills");
    Ok(())
}

async fn two_processes_share_a_folder() -> TestResult {
    let lake = Lake::new()?;
    let (first, second) = (Server::dev(lake.path()).await?, Server::dev(lake.path()).await?);
    for file in 0..40 {
        put(
            &lake.path().join("landing"),
            &format!("rows/{file:02}.json"),
            lines(file * 10..file * 10 + 10),
        )?;
    }
    emptied(&lake).await?;
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..400).collect(), 400));
    assert_eq!(names(&lake.path().join("landed"))?.len(), 40);
    let landed = [
        first.metric("landfast_landed_files_total").await?,
        second.metric("landfast_landed_files_total").await?,
    ];
    assert_eq!(landed[0] + landed[1], 40.0);
    Ok(())
}

async fn stop_during_a_big_file_leaves_nothing_half() -> TestResult {
    const ROWS: u64 = 400_000;
    let lake = Lake::new()?;
    let content = lines(0..ROWS as i64);
    let file = put(&lake.path().join("landing"), "rows/big.json", content)?;
    let mut server = Server::dev(lake.path()).await?;
    // The table is made of the first records; the rest is still to be read.
    wait_for("the load to begin", PATIENCE, async || {
        lake.metadata("landfast.rows").ok()
    })
    .await?;
    let stopping = Instant::now();
    server.terminate()?;
    assert!(server.exited().await?.success());
    let stopped = stopping.elapsed();
    let landed = count(&lake)?;
    assert!(landed == 0 || landed == ROWS, "{landed} rows");
    assert_eq!(file.exists(), landed == 0, "{landed} rows");
    let _server = Server::dev(lake.path()).await?;
    emptied(&lake).await?;
    assert_eq!(count(&lake)?, ROWS);
    writeln!(
        std::io::stderr(),
        "landing: {landed} rows at the stop, which took {stopped:?}"
    )?;
    Ok(())
}

/// The server without the right to read what its user may not: the superuser may read everything else.
async fn limited_server(dir: &Path) -> TestResult<Server> {
    let mut command = Command::new("setpriv");
    command
        .args(["--bounding-set", "-dac_override,-dac_read_search"])
        .arg(env!("CARGO_BIN_EXE_landfast"))
        .args(["dev", "--listen", "127.0.0.1:0", "--dir"])
        .arg(dir)
        .env_remove("PORT")
        .env_remove("RUST_LOG");
    Server::start(command).await
}

async fn unreadable_file_stays_and_stops_no_other() -> TestResult {
    let lake = Lake::new()?;
    let landing = lake.path().join("landing");
    let file = put(&landing, "rows/a.json", lines(0..10))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000))?;
    put(&landing, "rows/b.json", lines(10..20))?;
    let server = match fs::File::open(&file) {
        Err(_) => Server::dev(lake.path()).await?,
        Ok(_superuser) if Command::new("setpriv").arg("--version").output().is_err() => {
            return Err(Stop::Ignored(
                "the superuser reads every file, and there is no setpriv".to_owned(),
            ));
        }
        Ok(_superuser) => limited_server(lake.path()).await?,
    };
    retried(&server, 2.0).await?;
    server
        .logged(&["A file cannot be read; it stays", &file.display().to_string()])
        .await?;
    assert_eq!(
        (count(&lake)?, names(&landing)?),
        (10, vec!["rows/a.json".to_owned()])
    );
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    emptied(&lake).await?;
    assert_eq!(lake.ids("landfast.rows", "id")?, ((0..20).collect(), 20));
    Ok(())
}
