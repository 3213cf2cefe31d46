//! More than one process, and more than one part: a bucket under several servers, and files that go up piece by piece.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};

use hyper::Method;
use libtest_mimic::Trial;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::serve::{Site, is_poison, message};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::front::Front;
use crate::support::push::Push;
use crate::support::readers::Reader;
use crate::support::server::Server;
use crate::support::{TestResult, trials};

const ROWS: u64 = 15_000;

pub fn tests() -> Vec<Trial> {
    trials![
        servers_of_one_bucket_count_every_row_once,
        large_files_go_up_in_parts,
    ]
}

async fn servers_of_one_bucket_count_every_row_once() -> TestResult {
    for cloud in [Cloud::S3, Cloud::Gcs] {
        let site = Site::new(Bucket::of(cloud).await?, "")?;
        let servers = [site.serve().await?, site.serve().await?];
        // A third of the messages comes to both, at about the same time.
        let pushes = |server: i64| -> Vec<Push> {
            let its = (0..150).filter(|id| id % 3 != server);
            its.map(message).collect()
        };
        tokio::try_join!(
            push_until_answered(&servers[0], pushes(0)),
            push_until_answered(&servers[1], pushes(1)),
        )?;
        let good: BTreeSet<i64> = (0..150).filter(|id| !is_poison(*id)).collect();
        assert_eq!(site.ids().await?, (good, 135), "{cloud:?}");
        assert_eq!(site.letters().await?.len(), 15, "{cloud:?}");
        site.done(&["verify"])?;
    }
    Ok(())
}

/// As Pub/Sub does with what is refused for now.
async fn push_until_answered(server: &Server, pushes: Vec<Push>) -> TestResult {
    let mut left = pushes;
    for _ in 0..20 {
        let statuses = server.pusher().push_all(&left, 10).await;
        assert!(
            statuses.iter().all(|status| [204, 503].contains(status)),
            "{statuses:?}"
        );
        let refused = left.into_iter().zip(&statuses);
        left = refused
            .filter(|(_, status)| **status == 503)
            .map(|(push, _)| push)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
    }
    Err(format!("{} pushes were never taken.", left.len()).into())
}

async fn large_files_go_up_in_parts() -> TestResult {
    for cloud in [Cloud::S3, Cloud::Gcs] {
        let bucket = Bucket::of(cloud).await?;
        let front = Front::before(bucket.endpoint()).await?;
        let site = Site::new(bucket.through(&front.url()), "")?;
        let rows = site.folder().join("rows.ndjson");
        // Noise, so that no codec makes it small.
        let mut random = StdRng::seed_from_u64(7);
        let mut file = BufWriter::new(File::create(&rows)?);
        for id in 0..ROWS {
            let name: String = (&mut random)
                .sample_iter(Alphanumeric)
                .take(900)
                .map(char::from)
                .collect();
            writeln!(file, "{}", json!({ "id": id, "name": name }))?;
        }
        file.flush()?;
        site.done(&["load", "--table", "shop.orders", &rows.display().to_string()])?;
        let parts = front.count(&Method::PUT, "partNumber=");
        assert!(parts > 1, "{cloud:?}: {parts} parts");
        let metadata = site.bucket().metadata("shop.orders").await?;
        let sums = Reader::pyiceberg()?.sums(&metadata, &["id"])?;
        assert_eq!(sums, [(ROWS * (ROWS - 1) / 2).to_string()], "{cloud:?}");
        assert_eq!(Reader::pyiceberg()?.count(&metadata)?, ROWS, "{cloud:?}");
    }
    Ok(())
}
