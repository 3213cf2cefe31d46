//! The files of a `storage` warehouse go wrong under the real binary. What a full or unwritable disk does is told by
//! `storage_faults`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::json;

use crate::support::lake::{Lake, files, newest_metadata};
use crate::support::push::Push;
use crate::support::server::{Server, run};
use crate::support::{Component, TestResult, needs, trials, wait_for};

const TABLES: &str = "tables:\n  shop.orders: { from: [{ subscription: orders }], batch: { commit_interval: 0s }, \
                      schema: [{ name: id, type: long }] }\n  shop.others: { from: [{ subscription: others }], \
                      batch: { commit_interval: 0s }, schema: [{ name: id, type: long }] }\n";

pub fn tests() -> Vec<Trial> {
    trials![
        damaged_metadata_stops_the_table_until_the_file_is_back,
        damaged_ledger_stops_the_table_until_it_is_repaired,
        warehouse_that_is_moved_away_takes_nothing,
        dead_letters_that_are_gone_keep_their_delivery_unacknowledged,
    ]
}

/// A server on a folder, to which three orders were sent.
struct Shop {
    lake: Lake,
    config: PathBuf,
    server: Server,
}

fn order(subscription: &str, id: i64) -> Push {
    // A message has one publish time, however often it is sent.
    let published = chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap_or_default();
    Push::json(subscription, id, &json!({ "id": id })).published_at(published)
}

impl Shop {
    async fn open() -> TestResult<Self> {
        needs(Component::Python)?;
        let lake = Lake::new()?;
        let config = lake.config("ack_deadline: 16s", TABLES)?;
        let server = Server::serve(&config).await?;
        let shop = Self { lake, config, server };
        for id in 0..3 {
            assert_eq!(shop.push("orders", id).await, 204);
        }
        assert_eq!(shop.push("others", 0).await, 204);
        Ok(shop)
    }

    async fn push(&self, subscription: &str, id: i64) -> u16 {
        self.server.pusher().push(&order(subscription, id)).await
    }

    async fn restart(&mut self) -> TestResult {
        self.server.terminate()?;
        self.server.exited().await?;
        self.server = Server::serve(&self.config).await?;
        Ok(())
    }

    /// Everything up to an order is there once, though sent again.
    async fn holds(&self, last: i64) -> TestResult {
        for id in 0..=last {
            assert_eq!(self.push("orders", id).await, 204);
        }
        let (ids, count) = self.lake.ids("shop.orders", "id")?;
        assert_eq!(
            ids.into_iter().collect::<Vec<_>>(),
            (0..=last).collect::<Vec<_>>()
        );
        assert_eq!(i64::try_from(count)?, last + 1);
        Ok(())
    }

    fn command(&self, words: &str) -> TestResult<(Option<i32>, String, String)> {
        let config = self.config.display().to_string();
        let words = words.split(' ');
        run(words.chain(["--config", &config, "--table", "shop.orders"]))
    }
}

async fn damaged_metadata_stops_the_table_until_the_file_is_back() -> TestResult {
    let mut shop = Shop::open().await?;
    let file = newest_metadata(&shop.lake.table("shop.orders"))?;
    let whole = fs::read(&file)?;
    let location = file.display().to_string();
    for damage in [&whole[..100], b"", b"{}"] {
        fs::write(&file, damage)?;
        shop.restart().await?;
        assert_eq!(shop.push("orders", 3).await, 503);
        shop.server
            .logged(&["metadata", &location, "shop.orders"])
            .await?;
        assert_eq!(shop.push("others", 1).await, 204);
        let (code, _, err) = shop.command("maintain")?;
        assert!(code == Some(1) && err.contains(&location), "{err}");
    }
    fs::write(&file, &whole)?;
    shop.restart().await?;
    shop.holds(4).await
}

async fn damaged_ledger_stops_the_table_until_it_is_repaired() -> TestResult {
    let mut shop = Shop::open().await?;
    let (_, out, _) = shop.command("ledger show --output json")?;
    let page: serde_json::Value = serde_json::from_str(&out)?;
    let head = page["pointer"]
        .as_str()
        .ok_or("a pointer")?
        .trim_start_matches("file://");
    let whole = fs::read(head)?;
    fs::write(head, &whole[..whole.len() / 2])?;
    shop.restart().await?;
    assert_eq!(shop.push("orders", 3).await, 503);
    shop.server
        .logged(&["landfast ledger repair", head, "shop.orders"])
        .await?;
    assert_eq!(shop.push("others", 1).await, 204);
    let (code, out, _) = shop.command("ledger repair")?;
    assert!(
        code == Some(1) && out.contains("1 kept snapshots with 1 deliveries"),
        "{out}"
    );
    let (code, out, err) = shop.command("ledger repair --yes")?;
    assert_eq!(code, Some(0), "{out}{err}");
    // What the newest commit landed is forgotten, as was said; all before it is not.
    for id in [0, 1, 3] {
        assert_eq!(shop.push("orders", id).await, 204);
    }
    let (ids, count) = shop.lake.ids("shop.orders", "id")?;
    assert_eq!((ids.len(), count), (4, 4));
    Ok(())
}

async fn warehouse_that_is_moved_away_takes_nothing() -> TestResult {
    let shop = Shop::open().await?;
    let warehouse = shop.lake.path().join("warehouse");
    let away = shop.lake.path().join("away");
    fs::rename(&warehouse, &away)?;
    // As a volume leaves it that is not mounted any more.
    fs::create_dir(&warehouse)?;
    for _ in 0..2 {
        assert_eq!(shop.push("orders", 3).await, 503);
    }
    assert_eq!(files(&warehouse)?, Vec::<PathBuf>::new());
    let words = [
        "is not the one that was opened",
        "shop.orders",
        &warehouse.display().to_string(),
    ];
    shop.server.logged(&words).await?;
    fs::remove_dir(&warehouse)?;
    fs::rename(&away, &warehouse)?;
    wait_for("the order to land", Duration::from_secs(60), async || {
        (shop.push("orders", 3).await == 204).then_some(())
    })
    .await?;
    shop.holds(4).await
}

async fn dead_letters_that_are_gone_keep_their_delivery_unacknowledged() -> TestResult {
    let shop = Shop::open().await?;
    let poison = Push::new("orders", 9, "{\"id\":\"x\"}\n{\"id\":9}");
    let push = async || shop.server.pusher().push(&poison).await;
    assert_eq!((push().await, push().await), (204, 204));
    let letters = shop.lake.path().join("dead-letters");
    let [confirmed] = files(&letters.join("confirmed"))?
        .try_into()
        .map_err(|_| "one object")?;
    let replayed = letters
        .join("replayed")
        .join(confirmed.strip_prefix(letters.join("confirmed"))?);
    fs::create_dir_all(replayed.parent().ok_or("a folder")?)?;
    fs::rename(&confirmed, &replayed)?;
    assert_eq!(push().await, 204, "as after a replay");

    let aside = shop.lake.path().join("aside");
    fs::rename(&replayed, &aside)?;
    assert_eq!((push().await, push().await), (503, 503));
    let name = replayed.display().to_string();
    shop.server
        .logged(&["dead letters of a delivery that the table has are nowhere", &name])
        .await?;
    let nacked = "landfast_deliveries_total{outcome=\"nacked\"}";
    assert!((shop.server.metric(nacked).await? - 2.0).abs() < 0.1);
    fs::rename(&aside, &confirmed)?;
    assert_eq!(push().await, 204);
    fs::remove_file(&confirmed)?;
    assert_eq!(push().await, 503);
    fs::write(&replayed, "")?;
    assert_eq!(push().await, 204);
    assert_eq!(shop.lake.ids("shop.orders", "id")?, ([0, 1, 2, 9].into(), 4));
    Ok(())
}
