//! Alterations and overwrites on Apache's reference server, where only a moved snapshot fences.

use std::sync::Arc;

use iceberg::spec::{Literal, NestedField, PrimitiveType, Transform, Type};
use landfast::catalog::Catalog;
use landfast::clock::{Moment, SystemClock};
use landfast::commit::{Alteration, ChangeSet, Committed, Engine, Group, Head, Part};
use landfast::config::PartitionBy;
use landfast::error::ErrorKind;
use landfast::ledger::Ledger;
use landfast::random::Random;
use landfast::storage::Store;
use libtest_mimic::Trial;

use super::world::{entries, patience};
use crate::rest::World;
use crate::support::tables::{append, create, files_of, ids_now, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        alterations_from_one_load_exclude_each_other,
        overwrites_hold_the_part_against_their_base,
    ]
}

struct Lab {
    engine: Engine,
    random: Arc<Random>,
    _world: World,
}

impl Lab {
    async fn new() -> TestResult<Self> {
        let world = World::new().await?;
        let catalog = world.catalog().await?;
        create(&catalog, &orders()).await?;
        let random = Arc::new(Random::from_os());
        let engine = Engine::new(
            Arc::new(catalog),
            Ledger::new(Store::open("memory:///ledgers")?),
            Arc::new(SystemClock),
            random.clone(),
        );
        Ok(Self {
            engine,
            random,
            _world: world,
        })
    }

    async fn head(&self) -> TestResult<Head> {
        let table = self.engine.catalog().load_table(&orders()).await?;
        Ok(self.engine.head(table).await?)
    }

    async fn append(&self, id: i64) -> TestResult {
        append(&self.engine, &self.random, &[id], entries(&[id])).await
    }

    async fn group(&self, head: &Head, id: i64) -> TestResult<Group> {
        let files = files_of(head.table(), &[id], &self.random).await?;
        Ok(Group::durable(files, entries(&[id])))
    }

    async fn overwrite(&self, head: &mut Head, name: &str) -> TestResult<ChangeSet> {
        let part = Part::partitions(head.table(), &[vec![("name", Some(Literal::string(name)))]])?;
        let begun = Moment::now(&SystemClock);
        Ok(self.engine.overwrite(head, part, begun).await?)
    }

    async fn ids(&self) -> TestResult<Vec<i64>> {
        ids_now(self.engine.catalog().as_ref() as &dyn Catalog, &orders()).await
    }
}

fn add(name: &str) -> Alteration {
    let column = NestedField::optional(0, name, Type::Primitive(PrimitiveType::Long));
    Alteration::AddColumn {
        parent: None,
        column: Box::new(column),
    }
}

fn by_name() -> Alteration {
    Alteration::PartitionBy(vec![PartitionBy {
        transform: Transform::Identity,
        column: "name".to_owned(),
    }])
}

async fn alterations_from_one_load_exclude_each_other() -> TestResult {
    let lab = Lab::new().await?;
    lab.append(1).await?;
    let (mut first, mut second) = (lab.head().await?, lab.head().await?);
    // A snapshot that came since stands in the way of neither.
    lab.append(2).await?;
    let changes = [add("a"), by_name(), Alteration::SortBy(vec!["id".to_owned()])];
    assert!(lab.engine.alter(&mut first, &changes, patience()).await?);
    assert_eq!(
        first.table().metadata().current_snapshot(),
        lab.head().await?.table().metadata().current_snapshot()
    );
    assert!(lab.engine.alter(&mut second, &[add("b")], patience()).await?);
    let mut third = lab.head().await?;
    assert!(!lab.engine.alter(&mut third, &changes, patience()).await?);
    let metadata = third.table().metadata();
    assert_eq!(metadata.current_schema().field_id_by_name("a"), Some(3));
    assert_eq!(metadata.current_schema().field_id_by_name("b"), Some(4));
    assert_eq!(metadata.default_partition_spec().fields().len(), 1);
    assert_eq!(metadata.default_sort_order().fields.len(), 1);
    assert_eq!(lab.ids().await?, [1, 2]);
    Ok(())
}

async fn overwrites_hold_the_part_against_their_base() -> TestResult {
    let lab = Lab::new().await?;
    let mut head = lab.head().await?;
    lab.engine.alter(&mut head, &[by_name()], patience()).await?;
    for id in [1, 2, 3] {
        lab.append(id).await?;
    }
    let (mut first, mut second) = (lab.head().await?, lab.head().await?);
    let mut one = lab.overwrite(&mut first, "n1").await?;
    let mut another = lab.overwrite(&mut second, "n1").await?;
    lab.append(4).await?;
    let done = lab.engine.commit(&mut first, &mut one, patience()).await?;
    assert!(matches!(done, Committed::Now(_)));
    let refused = lab.engine.commit(&mut second, &mut another, patience()).await;
    assert_eq!(refused.expect_err("it is gone").kind(), ErrorKind::Rejected);
    let mut head = lab.head().await?;
    let mut more = lab.overwrite(&mut head, "n5").await?;
    more.add(lab.group(&head, 5).await?);
    lab.engine.commit(&mut head, &mut more, patience()).await?;
    assert_eq!(lab.ids().await?, [2, 3, 4, 5]);
    assert_eq!(lab.engine.commit(&mut head, &mut one, patience()).await?, done);
    Ok(())
}
