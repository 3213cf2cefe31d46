//! Random schedules: whatever was committed is read after every sweep, and the ledger answers as before.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures::TryStreamExt;
use iceberg::TableUpdate;
use landfast::error::ErrorKind;
use libtest_mimic::Trial;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{is_proven, upkeep};
use crate::commit::world::World;
use crate::support::faults::{Fault, Gate, Op};
use crate::support::tables::orders;
use crate::support::{TestResult, note, paused_trials};

pub fn tests() -> Vec<Trial> {
    paused_trials![sweep_never_deletes_what_can_be_read]
}

async fn sweep_never_deletes_what_can_be_read() -> TestResult {
    for _schedule in 0..4 {
        let seed: u64 = rand::random();
        note(&format!("seed {seed}"));
        run(StdRng::seed_from_u64(seed)).await?;
    }
    Ok(())
}

struct Schedule {
    world: World,
    landed: BTreeSet<i64>,
    abandoned: Vec<Vec<i64>>,
    late: Vec<Gate>,
    next: i64,
}

async fn run(mut random: StdRng) -> TestResult {
    let (world, _head) = World::aging().await?;
    let few = [
        ("history.expire.min-snapshots-to-keep".to_owned(), "5".to_owned()),
        ("commit.manifest.min-count-to-merge".to_owned(), "4".to_owned()),
    ];
    world
        .update_elsewhere(vec![TableUpdate::SetProperties { updates: few.into() }])
        .await?;
    let mut schedule = Schedule {
        world,
        landed: BTreeSet::new(),
        abandoned: Vec::new(),
        late: Vec::new(),
        next: 0,
    };
    for _step in 0..60 {
        match random.random_range(0..20) {
            0..9 => schedule.commit(random.random_range(1..300)).await?,
            9..12 => schedule.abandon().await?,
            12 => schedule.late_commit().await?,
            13 => schedule.land_late(&mut random).await,
            14..18 => schedule
                .world
                .clock
                .advance(TimeDelta::minutes(random.random_range(1..4000))),
            _ => schedule.sweep().await?,
        }
    }
    schedule.world.clock.advance(TimeDelta::days(10));
    schedule.sweep().await?;
    for gate in std::mem::take(&mut schedule.late) {
        gate.release_and_settle().await;
    }
    schedule.sweep().await
}

impl Schedule {
    fn ids(&mut self, count: i64) -> Vec<i64> {
        let first = self.next;
        self.next += count;
        (first..self.next).collect()
    }

    async fn commit(&mut self, count: i64) -> TestResult {
        let ids = self.ids(count);
        self.world.commit_elsewhere(&ids).await?;
        self.landed.extend(ids);
        Ok(())
    }

    /// Nothing of it was applied, ever.
    async fn abandon(&mut self) -> TestResult {
        let ids = self.ids(3);
        self.attempt(&ids, Fault::Refuse).await?;
        self.abandoned.push(ids);
        Ok(())
    }

    /// Applied some time later, if nothing else was by then.
    async fn late_commit(&mut self) -> TestResult {
        let gate = Gate::new();
        let ids = self.ids(3);
        self.attempt(&ids, Fault::Late(gate.clone())).await?;
        self.late.push(gate);
        Ok(())
    }

    async fn attempt(&mut self, ids: &[i64], fault: Fault) -> TestResult {
        let mut head = self.world.fresh_head().await?;
        let mut changes = self.world.changes(&head, ids).await?;
        self.world.faults.once(Op::CommitTable, "", fault);
        self.world
            .fails(&mut head, &mut changes, ErrorKind::OutcomeUnknown)
            .await;
        Ok(())
    }

    async fn land_late(&mut self, random: &mut StdRng) {
        if !self.late.is_empty() {
            let place = random.random_range(0..self.late.len());
            self.late.remove(place).release_and_settle().await;
        }
    }

    async fn sweep(&mut self) -> TestResult {
        let world = &self.world;
        // What landed late is in the table by now, and stays.
        let before = world.ids().await?;
        let is_set: BTreeSet<i64> = before.iter().copied().collect();
        assert_eq!(is_set.len(), before.len());
        assert!(self.landed.is_subset(&is_set));
        self.landed = is_set;
        upkeep(world).await?;
        assert_eq!(world.ids().await?, before);
        let landed: Vec<i64> = self.landed.iter().copied().collect();
        assert!(world.have_landed(&landed).await?);
        for ids in &self.abandoned {
            assert!(!world.have_landed(&ids[..1]).await?);
        }
        let table = world.catalog.load_table(&orders()).await?;
        let mut snapshots: Vec<_> = table.metadata().snapshots().collect();
        snapshots.sort_by_key(|snapshot| snapshot.sequence_number());
        // All their files are there, as `verify` says below; some are read.
        for snapshot in snapshots.iter().step_by(snapshots.len() / 3 + 1) {
            let scan = table.scan().snapshot_id(snapshot.snapshot_id()).build()?;
            let rows: Vec<_> = scan.to_arrow().await?.try_collect().await?;
            let rows: usize = rows.iter().map(arrow_array::RecordBatch::num_rows).sum();
            let total = snapshot.summary().additional_properties["total-records"].clone();
            assert_eq!(rows.to_string(), total);
        }
        is_proven(world).await
    }
}
