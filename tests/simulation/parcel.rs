//! Parcels as deliveries: their names, their bytes and the tables that they go to.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use iceberg::TableIdent;
use landfast::config::{BatchConfig, SchemaConfig, TableConfig, TableDefaults};
use landfast::trigger::{DeliveryId, Envelope};

use super::clock::EPOCH;
use super::plan::{Parcel, Plan};
use crate::support::tables::order_schema;

const SOURCE: &str = "projects/p/subscriptions/s";

/// `shop.orders0`, `shop.orders1`.
pub fn ident(table: usize) -> TableIdent {
    TableIdent::from_strs(["shop", &format!("orders{table}")]).expect("two levels make a name")
}

pub fn config(plan: &Plan) -> TableConfig {
    let upkeep = [
        ("commit.manifest.min-count-to-merge", "2"),
        ("history.expire.min-snapshots-to-keep", "1"),
        ("history.expire.max-snapshot-age-ms", "1"),
    ];
    let upkeep = upkeep.map(|(key, value)| (key.to_owned(), value.to_owned()));
    TableConfig {
        schema: SchemaConfig::Declared(order_schema().into()),
        batch: BatchConfig {
            commit_interval: Duration::from_secs(2),
            ..BatchConfig::default()
        },
        properties: upkeep.into_iter().filter(|_| plan.busy_upkeep).collect(),
        ..TableDefaults::default().to_table()
    }
}

pub fn row_ids(number: usize, parcel: &Parcel) -> impl Iterator<Item = i64> {
    let first = i64::try_from(number).unwrap_or_default() * 10;
    first..first + parcel.rows
}

pub fn payload(number: usize, parcel: &Parcel) -> Bytes {
    let good = row_ids(number, parcel).map(|id| format!("{{\"id\":{id},\"name\":\"n{id}\"}}\n"));
    let bad = (0..parcel.rejected).map(|place| format!("{{\"id\":\"none {place}\"}}\n"));
    good.chain(bad).collect::<String>().into()
}

pub fn envelope(number: usize, parcel: &Parcel) -> Envelope {
    let at =
        DateTime::from_timestamp(EPOCH - parcel.age, 0).unwrap_or_default() + TimeDelta::milliseconds(700);
    let name = format!("m{number}");
    let mut hash = [0; 32];
    hash[0] = u8::try_from(number).unwrap_or_default();
    Envelope {
        id: match parcel.is_message {
            true => DeliveryId::message(SOURCE, name, at),
            false => DeliveryId::file(name, &hash),
        },
        source: SOURCE.to_owned(),
        published_at: at,
        received_at: at,
        fingerprint: None,
        division: None,
        attributes: BTreeMap::new(),
    }
}
