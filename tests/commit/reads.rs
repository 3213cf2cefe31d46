//! What a commit asks of the store and of the catalog: as much at the three hundredth as at the twentieth.

use landfast::commit::Head;
use libtest_mimic::Trial;

use super::world::World;
use crate::support::faults::Op;
use crate::support::{TestResult, paused_test, test};

/// What is done beside the commits: each manifest is read once as it is merged, and each merged one once more.
const BESIDE: [&str; 2] = ["-m0.avro", "-m1.avro"];

/// Written every two seconds at most, for other engines.
const HINT: &str = "version-hint.text";

pub fn tests() -> Vec<Trial> {
    let name = concat!(module_path!(), "::late_commit_asks_for_no_more_than_an_early_one");
    vec![
        // The hint looks for the newest state as time passes: here none does.
        paused_test(&format!("{name}::Storage"), async || {
            let (world, head) = World::new().await?;
            late_commit_asks_for_no_more_than_an_early_one(world, head).await
        }),
        test(&format!("{name}::Sqlite"), async || {
            let folder = tempfile::tempdir()?;
            let (world, head) = World::on_sqlite(folder.path()).await?;
            late_commit_asks_for_no_more_than_an_early_one(world, head).await
        }),
    ]
}

/// Lists, reads, writes and loads so far, without the merges beside, which go on while this counts.
fn calls(world: &World) -> [usize; 4] {
    let is_beside = |path: &str| BESIDE.iter().any(|name| path.ends_with(name));
    world.faults.counts(|op, path| {
        [
            op == Op::List,
            op == Op::Get && !is_beside(path),
            op == Op::Put && !path.ends_with(BESIDE[1]) && !path.ends_with(HINT),
            op == Op::LoadTable,
        ]
    })
}

async fn late_commit_asks_for_no_more_than_an_early_one(world: World, mut head: Head) -> TestResult {
    let mut early = [0; 4];
    for commit in 1..=300 {
        let mut changes = world.changes(&head, &[commit]).await?;
        let before = calls(&world);
        world.engine.attempt(&mut head, &mut changes).await?;
        let after = calls(&world);
        let asked: Vec<usize> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        let asked: [usize; 4] = asked.try_into().map_err(|_| "four numbers")?;
        if commit == 20 {
            early = asked;
        } else if commit > 20 {
            let more = asked.iter().zip(early).any(|(late, early)| *late > early);
            assert!(!more, "commit {commit}: {asked:?}, the twentieth: {early:?}");
        }
    }
    assert_eq!(early[0], 0, "nothing is listed");
    assert_eq!((early[1], early[3]), (0, 0), "nothing is read");
    assert_eq!(
        early[2], 4,
        "manifest, list, head, metadata: docs/cost.md counts them, and the data file"
    );
    // However many there were, each was read about once, beside.
    let merged: usize = BESIDE.iter().map(|name| world.faults.calls(Op::Get, name)).sum();
    assert!(merged <= 2 * 300, "{merged} manifests were read");
    world.is_whole().await
}
