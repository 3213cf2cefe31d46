//! Others in a schedule: who interferes with the tables, and what the ledgers held before.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use iceberg::TableIdent;
use landfast::clock::{Clock, Moment};
use landfast::commit::{ChangeSet, Engine, Group};
use landfast::ledger::{Entry, Forgetting, Ledger};
use landfast::maintenance::forget;
use landfast::random::Random;
use landfast::trigger::DeliveryId;
use tokio::time::sleep;

use super::clock::{EPOCH, SimClock};
use super::foreign::FOREIGN_ROWS;
use super::parcel::{config, envelope, ident};
use super::plan::{DAY, Deed};
use super::world::World;
use crate::support::TestResult;
use crate::support::tables::{files_of, order_creation};

impl World {
    /// Does what someone else would.
    pub(super) async fn interfere(&mut self, number: usize, deed: Deed) -> TestResult {
        let ident = ident(number);
        let Some(table) = self.lake.table(&ident).await? else {
            return Ok(());
        };
        self.fates().told.deeds += 1;
        let now = SimClock::new(self.started, 0).now().timestamp_millis();
        let rows = self.oracle.rows(&self.lake, table.metadata()).await?;
        match deed {
            Deed::Append => self.foreign.append(&table, now).await,
            Deed::Compact if rows.is_empty() => Ok(()),
            Deed::Compact => self.foreign.compact(&table, &rows, now).await,
            Deed::Expire => self.foreign.expire(&table).await,
            Deed::Rollback => {
                if self.foreign.roll_back(&table, now).await? {
                    self.note_rollback(number, &rows).await?;
                }
                Ok(())
            }
            Deed::Replace => {
                if self.foreign.replace(&table, now).await? {
                    self.note_rollback(number, &rows).await?;
                }
                Ok(())
            }
            Deed::Unset | Deed::Copied if self.foreign.own_commits(&ident).await? < 2 => {
                self.lose_first(number, deed).await
            }
            Deed::Property => self.foreign.set(&ident, "comment", Some(now.to_string())).await,
            Deed::Unset => self.foreign.unset(&ident).await,
            Deed::Copied => self.copy_pointer(number).await,
            Deed::Clean => {
                // A request lands within minutes of its life check, or its files may be gone (protocol §5, rule 6).
                self.wire.land_strays(1);
                sleep(Duration::from_secs(1)).await;
                self.clean(&ident).await
            }
            Deed::Forget => self.forget(number).await,
            Deed::Drop => self.drop_table(number).await,
        }
    }

    /// An operator lets what a rollback took land again. What has rejected records stays, since their letters are there.
    async fn forget(&mut self, number: usize) -> TestResult {
        let parcels = self.plan.parcels.iter().enumerate();
        let again: Vec<(usize, Entry)> = parcels
            .filter(|(parcel, one)| {
                one.rejected == 0 && self.fates().rolled_back.contains(&(*parcel, number))
            })
            .map(|(parcel, one)| (parcel, Entry::from(&envelope(parcel, one).id)))
            .collect();
        let clock: Arc<dyn Clock> = SimClock::new(self.started, 0);
        let (catalog, ledger) = (self.lake.clean(&clock), Ledger::new(self.lake.store.clone()));
        let engine = Engine::new(catalog, ledger, clock, self.foreign.random.clone());
        let forgetting = Forgetting {
            ids: again.iter().map(|(_, entry)| entry.id).collect(),
            ..Forgetting::default()
        };
        forget(&engine, &ident(number), &forgetting, false).await?;
        for (parcel, _) in again {
            self.fates().begin_anew((parcel, number));
        }
        Ok(())
    }

    async fn drop_table(&mut self, number: usize) -> TestResult {
        let clock: Arc<dyn Clock> = SimClock::new(self.started, 0);
        self.lake.clean(&clock).drop_table(&ident(number)).await?;
        for parcel in 0..self.plan.parcels.len() {
            self.fates().begin_anew((parcel, number));
        }
        // The table that comes next has not had them.
        self.plan.preloads[number] = 0;
        Ok(())
    }

    /// Takes all that names the only commit of ours: its snapshot, and the pointer to its head. What it landed is known once
    /// anybody was told of it; a commit that nobody was told of yet, and a table without one, are left alone.
    async fn lose_first(&mut self, number: usize, deed: Deed) -> TestResult {
        let was_acked = |(_, table): &(usize, usize)| *table == number;
        let is_told = self.plan.preloads[number] > 0 || self.fates().acked.iter().any(was_acked);
        let ident = ident(number);
        if !is_told || self.foreign.own_commits(&ident).await? == 0 {
            return Ok(());
        }
        let now = SimClock::new(self.started, 0).now().timestamp_millis();
        for appends in [true, false] {
            let Some(table) = self.lake.table(&ident).await? else {
                return Ok(());
            };
            match appends {
                true => self.foreign.append(&table, now).await?,
                false => self.foreign.expire(&table).await?,
            }
        }
        match deed {
            Deed::Copied => self.copy_pointer(number).await,
            _ => self.foreign.unset(&ident).await,
        }
    }

    async fn note_rollback(&mut self, number: usize, before: &[i64]) -> TestResult {
        let Some(table) = self.lake.table(&ident(number)).await? else {
            return Ok(());
        };
        let now: BTreeSet<i64> = self
            .oracle
            .rows(&self.lake, table.metadata())
            .await?
            .into_iter()
            .collect();
        let taken: BTreeSet<usize> = before
            .iter()
            .filter(|row| !now.contains(row) && **row < FOREIGN_ROWS)
            .filter_map(|row| usize::try_from(row / 10).ok())
            .collect();
        let taken = taken.into_iter().map(|parcel| (parcel, number));
        self.fates().rolled_back.extend(taken);
        Ok(())
    }

    /// Another table's properties, or a pointer to a table that never was.
    async fn copy_pointer(&mut self, number: usize) -> TestResult {
        let other = self.lake.table(&ident(1 - number.min(1))).await?;
        let pointer = other.and_then(|table| {
            table
                .metadata()
                .properties()
                .get(landfast::ledger::POINTER)
                .cloned()
        });
        let nowhere =
            "memory:///w/_landfast/ledger/00000000-0000-4000-8000-000000000000/head-000000000007-x.json";
        let pointer = pointer.unwrap_or_else(|| nowhere.to_owned());
        self.foreign
            .set(&ident(number), landfast::ledger::POINTER, Some(pointer))
            .await
    }

    async fn clean(&mut self, ident: &TableIdent) -> TestResult {
        self.note_ages().await?;
        let Some(table) = self.lake.table(ident).await? else {
            return Ok(());
        };
        let needed = self.oracle.needed(&self.lake, table.metadata()).await?;
        let cutoff = self
            .started
            .elapsed()
            .as_secs()
            .saturating_sub(3 * DAY.unsigned_abs());
        let old = self.ages.iter().filter(|(_, at)| **at < cutoff);
        let old = old.map(|(key, _)| key.clone()).collect();
        self.checked.clear();
        self.foreign.clean(ident, &needed, &old).await
    }

    /// Objects in memory are dated by the machine's clock; this dates them by the schedule's.
    pub(super) async fn note_ages(&mut self) -> TestResult {
        let now = self.started.elapsed().as_secs();
        for key in self.lake.store.keys("").await? {
            self.ages.entry(key).or_insert(now);
        }
        Ok(())
    }

    /// Gives the tables that start with a full ledger their deliveries: enough to spill into segments, and to merge.
    pub(super) async fn preload(&mut self) -> TestResult {
        for (number, count) in self.plan.preloads.clone().into_iter().enumerate() {
            if count == 0 {
                continue;
            }
            let clock: Arc<dyn Clock> = SimClock::new(self.started, 0);
            let catalog = self.lake.clean(&clock);
            let random = Arc::new(Random::seeded(self.plan.seed ^ 0x9e));
            let ledger = Ledger::new(self.lake.store.clone());
            let engine = Engine::new(catalog.clone(), ledger, clock.clone(), random.clone());
            catalog.create_namespace(ident(number).namespace()).await?;
            let mut creation = order_creation(ident(number).name());
            creation.properties = config(&self.plan).properties.into_iter().collect();
            let table = catalog.create_table(ident(number).namespace(), creation).await?;
            let mut head = engine.head(table).await?;
            for chunk in 0..count.div_ceil(1001) {
                let row = FOREIGN_ROWS * 2 + i64::try_from(chunk)?;
                let files = files_of(head.table(), &[row], &random).await?;
                let size = count.min(1001);
                let entries = (0..size).map(|place| {
                    let name = format!("bulk-{chunk}-{place}");
                    let at = DateTime::from_timestamp(EPOCH - 60, 0).unwrap_or_default();
                    Entry::from(&DeliveryId::message("bulk", name, at))
                });
                let mut changes = ChangeSet::append(random.uuid(), Moment::now(clock.as_ref()));
                changes.add(Group::durable(files, entries.collect()));
                engine.attempt(&mut head, &mut changes).await?;
            }
        }
        Ok(())
    }
}
