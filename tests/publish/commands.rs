//! The commands: what they move, and what they leave alone where BigQuery is away.

use std::fs;
use std::process::Stdio;

use libtest_mimic::Trial;
use serde_json::Value;

use super::site::{Site, message, version};
use crate::support::bigquery::Mishap;
use crate::support::push::Push;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        maintain_moves_the_pointer_first,
        maintain_leaves_a_table_alone_whose_pointer_is_unknown,
        load_and_replay_publish_once_at_their_end,
        load_that_cannot_publish_has_loaded,
        load_whose_results_nobody_reads_is_published,
    ]
}

/// Lands a row, and has the external table read something older.
pub async fn behind(site: &Site) -> TestResult {
    let mut server = site.serve().await?;
    assert_eq!(server.pusher().push(&message(0)).await, 204);
    let older = site.caught_up().await?;
    site.front.next(None, Mishap::Refuse(503, "backendError"), 1_000);
    assert_eq!(server.pusher().push(&message(1)).await, 204);
    server.kill()?;
    site.front.heal();
    assert_eq!(site.uri().await?, older);
    Ok(())
}

async fn maintain_moves_the_pointer_first() -> TestResult {
    let site = Site::new().await?;
    behind(&site).await?;
    let older = site.uri().await?;
    let planned = site.run(&["maintain", "--dry-run"])?;
    let text = String::from_utf8(planned.stdout)?;
    let name = format!("p-test.{}.orders", site.front.dataset());
    assert!(
        text.contains(&format!("external table {name}: would move")),
        "{text}"
    );
    assert_eq!(site.uri().await?, older);

    let done = site.run(&["maintain", "--output", "json"])?;
    assert!(done.status.success());
    let done: Value = serde_json::from_slice(&done.stdout)?;
    assert_eq!(
        done[0]["publish"],
        serde_json::json!({ "external_table": name, "outcome": "moved" })
    );
    assert_eq!(site.uri().await?, site.newest().await?);
    assert_eq!(site.visible().await?, (0..2).collect());

    let again = site.run(&["maintain"])?;
    let text = String::from_utf8(again.stdout)?;
    assert!(
        text.contains(&format!("external table {name}: current")),
        "{text}"
    );
    site.front.documented()
}

async fn maintain_leaves_a_table_alone_whose_pointer_is_unknown() -> TestResult {
    let site = Site::new().await?;
    behind(&site).await?;
    site.front.next(None, Mishap::Refuse(403, "accessDenied"), 1_000);
    let before = site.bucket.store("warehouse")?.keys("").await?;
    for words in [&["maintain"][..], &["maintain", "--dry-run"]] {
        let refused = site.run(words)?;
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8(refused.stderr)?;
        assert!(
            told.contains("can be neither read nor moved") && told.contains("bigquery.tables.get"),
            "{told}"
        );
    }
    assert_eq!(site.bucket.store("warehouse")?.keys("").await?, before);
    Ok(())
}

async fn load_and_replay_publish_once_at_their_end() -> TestResult {
    let site = Site::new().await?;
    let file = site.config().with_file_name("rows.json");
    fs::write(&file, "{\"id\":1}\n{\"id\":2}\n")?;
    let file = file.display().to_string();
    let loaded = site.run(&["load", "--table", "shop.orders", &file])?;
    assert!(loaded.status.success());
    assert_eq!(site.uri().await?, site.newest().await?);
    assert_eq!(site.visible().await?, [1, 2].into());

    let mut server = site.serve().await?;
    let unrouted = Push::new("others", 7, "{\"id\":7}");
    assert_eq!(server.pusher().push(&unrouted).await, 204);
    server.terminate()?;
    assert!(server.exited().await?.success());
    let text = fs::read_to_string(site.config())?;
    let routed = text.replace(
        "{ subscription: orders }",
        "{ subscription: orders }, { subscription: others }",
    );
    fs::write(site.config(), routed)?;
    let replayed = site.run(&["replay"])?;
    assert!(replayed.status.success());
    assert_eq!(site.uri().await?, site.newest().await?);
    assert_eq!(site.visible().await?, [1, 2, 7].into());
    Ok(())
}

async fn load_that_cannot_publish_has_loaded() -> TestResult {
    let site = Site::new().await?;
    let file = site.config().with_file_name("rows.json");
    fs::write(&file, "{\"id\":1}\n")?;
    site.front.next(None, Mishap::Refuse(403, "accessDenied"), 1_000);
    let file = file.display().to_string();
    let loaded = site.run(&["load", "--table", "shop.orders", &file])?;
    let told = String::from_utf8(loaded.stderr)?;
    assert!(loaded.status.success(), "{told}");
    assert!(
        told.contains("BigQuery does not show the newest commits"),
        "{told}"
    );
    assert_eq!(site.uri().await?, "");
    assert!(site.newest().await?.ends_with(".metadata.json"));
    Ok(())
}

async fn load_whose_results_nobody_reads_is_published() -> TestResult {
    let site = Site::new().await?;
    let file = site.config().with_file_name("rows.json");
    fs::write(&file, "{\"id\":1}\n")?;
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = site.command(&["load", "--table", "shop.orders", &file.display().to_string()]);
    command.stdout(writer).stderr(Stdio::piped());
    let loaded = tokio::task::block_in_place(|| command.spawn()?.wait_with_output())?;
    let told = String::from_utf8(loaded.stderr)?;
    assert_eq!(loaded.status.code(), Some(1));
    assert!(told.contains("cannot be written to standard output"), "{told}");
    let newest = site.newest().await?;
    assert_eq!(site.uri().await?, newest);
    let hint = site
        .bucket
        .store("warehouse")?
        .get("shop/orders/metadata/version-hint.text")
        .await?;
    let hint = String::from_utf8(hint.ok_or("a hint")?.to_vec())?;
    assert_eq!(hint.trim().parse::<u64>()?, version(&newest));
    Ok(())
}
