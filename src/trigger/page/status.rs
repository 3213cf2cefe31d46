//! What this process knows, at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use iceberg::TableIdent;
use serde::{Serialize, Serializer};
use tokio::sync::Semaphore;

use crate::batch::Shared;
use crate::config::{CatalogConfig, Config, Platform, StatusPage};
use crate::error::ErrorKind;
use crate::publish::{NO_TABLE, PublishStatus};
use crate::telemetry::{self, Landed, Tables, read_tables};
use crate::trigger::Access;
use crate::version::VERSION;

/// Answers that are made or sent at one time. One of a full page of tables takes about a megabyte, which nothing else counts.
const MOST_ANSWERS: usize = 8;

/// Tables on one page.
const MOST_TABLES: usize = 100;

/// Reasons of dead letters that are shown of a table.
const MOST_REASONS: usize = 5;

/// From here on a table that BigQuery shows old rows of wants somebody to look at it, as the documented alert does.
const BEHIND: Duration = Duration::from_secs(60);

/// What a status page is made of.
#[derive(Debug)]
pub struct Page {
    pub(super) access: Access,
    /// Room for answers.
    pub(super) answers: Arc<Semaphore>,
    instance: Instance,
    /// The configured tables, by name.
    tables: BTreeMap<String, TableIdent>,
    /// Whether the catalog itself shows its tables in BigQuery.
    is_seen_by_catalog: bool,
    shared: Arc<Shared>,
}

/// Who answers: one process, of those that there may be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Instance {
    pub(super) version: &'static str,
    /// The service and its revision, on Cloud Run.
    pub(super) service: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) host: Option<String>,
    pub(super) pid: u32,
    /// Drawn at the start: on Cloud Run the instances of a revision have no other name of their own.
    pub(super) id: String,
    #[serde(serialize_with = "time")]
    pub(super) started_at: DateTime<Utc>,
}

/// All of it, but for the tables of other pages.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    pub(super) instance: Instance,
    #[serde(serialize_with = "time")]
    pub(super) at: DateTime<Utc>,
    pub(super) is_stopping: bool,
    pub(super) in_flight: InFlight,
    pub(super) totals: Totals,
    /// Dead letters that no table wanted.
    pub(super) unrouted: Letters,
    /// The page of tables, from 1, and how many there are.
    pub(super) page: usize,
    pub(super) pages: usize,
    pub(super) tables: Vec<TableStatus>,
}

/// One table, and who tells of it.
#[derive(Debug, Serialize)]
pub(super) struct One {
    instance: Instance,
    #[serde(serialize_with = "time")]
    at: DateTime<Utc>,
    table: TableStatus,
}

/// What is held between request and answer, and may be.
#[derive(Debug, Serialize)]
pub(super) struct InFlight {
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    pub(super) requests: u64,
    pub(super) max_requests: u64,
}

/// Over all tables, since the process started.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    /// Tables that are configured or were met.
    pub(super) tables: usize,
    pub(super) opened: usize,
    pub(super) failing: usize,
    /// Those of which BigQuery shows old rows for a minute or more.
    pub(super) behind: usize,
    #[serde(flatten)]
    pub(super) sums: Sums,
    /// Whether there are tables that are in these sums alone.
    pub(super) are_tables_left_out: bool,
}

/// What came of work.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sums {
    pub(super) commits: u64,
    pub(super) rows_landed: u64,
    pub(super) bytes_landed: u64,
    pub(super) conflicts: u64,
    pub(super) unknown_outcomes: u64,
    pub(super) duplicates: u64,
    pub(super) abandoned_batches: u64,
    pub(super) dead_letters: Letters,
}

#[derive(Debug, Serialize)]
pub(super) struct TableStatus {
    pub(super) name: String,
    /// `not_opened`, `open`, `behind` or `failing`.
    pub(super) state: &'static str,
    /// Rows of the newest snapshot that this process knows.
    pub(super) rows: Option<u64>,
    pub(super) last_commit: Option<Commit>,
    /// That of the newest commit which had rows.
    pub(super) freshness_seconds: Option<f64>,
    #[serde(flatten)]
    pub(super) sums: Sums,
    pub(super) failure: Option<Failure>,
    pub(super) publish: Publish,
    /// The oldest first.
    pub(super) recent_commits: Vec<Commit>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Commit {
    #[serde(serialize_with = "time")]
    pub(super) at: DateTime<Utc>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// From the hand-over of its batch, all attempts.
    pub(super) seconds: f64,
    /// From publish time to committed, of its oldest row.
    pub(super) freshness_seconds: Option<f64>,
    /// Text: it is beyond what JSON's readers hold exactly.
    pub(super) snapshot_id: String,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Letters {
    pub(super) count: u64,
    /// By the time of the last, the newest first.
    pub(super) latest: Vec<Reason>,
}

#[derive(Debug, Serialize)]
pub(super) struct Reason {
    pub(super) reason: String,
    pub(super) count: u64,
    #[serde(serialize_with = "time")]
    pub(super) last_at: DateTime<Utc>,
}

/// Why the last batch, file or object did not land, or the table could not be opened.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub(super) kind: &'static str,
    #[serde(serialize_with = "time")]
    pub(super) at: DateTime<Utc>,
    /// Whether nothing has landed since, and it is not long ago.
    pub(super) lasts: bool,
}

/// What BigQuery shows of a table.
#[derive(Debug, Default, Serialize)]
pub(super) struct Publish {
    /// `off`, `by_catalog`, `waiting` for a first commit of this process, `current`, `behind`, or `no_table` where the
    /// catalog had none when it was last asked.
    pub(super) state: &'static str,
    pub(super) external_table: Option<String>,
    /// For how long the oldest commit waits.
    pub(super) behind_seconds: Option<f64>,
    /// What the last step came to that moved the pointer, or found it where it belongs.
    pub(super) last: Option<&'static str>,
    /// Why the last step failed, while commits wait.
    pub(super) failed: Option<&'static str>,
}

impl Page {
    /// The page of a process whose other calls `access` protects; none where the configuration wants none.
    pub fn from_config(
        config: &Config,
        shared: Arc<Shared>,
        access: &Access,
        platform: Platform,
    ) -> Option<Self> {
        let access = match config.server.status_page {
            StatusPage::Protected => access.clone(),
            StatusPage::Open => Access::Open,
            StatusPage::Off => return None,
        };
        let tables = config.tables.keys();
        let id = shared.random.uuid().simple().to_string();
        Some(Self {
            access,
            answers: Arc::new(Semaphore::new(MOST_ANSWERS)),
            instance: Instance {
                version: VERSION,
                service: platform.service,
                revision: platform.revision,
                host: host(),
                pid: std::process::id(),
                id: id.chars().take(8).collect(),
                started_at: shared.clock.now(),
            },
            tables: tables.map(|ident| (ident.to_string(), ident.clone())).collect(),
            is_seen_by_catalog: matches!(config.catalog, CatalogConfig::BigLake(_)),
            shared,
        })
    }

    /// All of it, with one page of tables; the last, where there are not so many.
    pub(super) fn status(&self, is_stopping: bool, page: usize) -> Status {
        let now = Now::of(self);
        let published = self.published();
        let (totals, unrouted, page, pages, mut tables) = read_tables(|known| {
            let names: BTreeSet<&str> = self
                .tables
                .keys()
                .map(String::as_str)
                .chain(known.iter().map(|(name, _)| name))
                .collect();
            let pages = names.len().div_ceil(MOST_TABLES).max(1);
            let page = page.clamp(1, pages);
            let of_page = names.iter().skip((page - 1).saturating_mul(MOST_TABLES));
            let of_page = of_page.take(MOST_TABLES);
            let tables: Vec<TableStatus> = of_page.map(|name| table(name, known, &now)).collect();
            let behind = published.values().filter(|status| is_behind(status)).count();
            let totals = totals(names.len(), known, behind, &now);
            let unrouted = letters(&known.unrouted, &now);
            (totals, unrouted, page, pages, tables)
        });
        for table in &mut tables {
            let published = published.get(table.name.as_str());
            publish(table, published, self.is_seen_by_catalog);
        }
        let limits = &self.shared.limits;
        Status {
            instance: self.instance.clone(),
            at: now.wall,
            is_stopping,
            in_flight: InFlight {
                bytes: limits.held_bytes() as u64,
                max_bytes: limits.max_bytes() as u64,
                requests: limits.held_requests() as u64,
                max_requests: limits.max_requests() as u64,
            },
            totals,
            unrouted,
            page,
            pages,
            tables,
        }
    }

    /// One table; none where it is not configured, and nothing happened to it.
    pub(super) fn table(&self, name: &str) -> Option<One> {
        let now = Now::of(self);
        let is_configured = self.tables.contains_key(name);
        let mut table = read_tables(|known| {
            let is_known = is_configured || known.of(name).is_some();
            is_known.then(|| table(name, known, &now))
        })?;
        let published = self.published();
        publish(&mut table, published.get(name), self.is_seen_by_catalog);
        Some(One {
            instance: self.instance.clone(),
            at: now.wall,
            table,
        })
    }

    fn published(&self) -> BTreeMap<&str, PublishStatus> {
        let publishers = &self.shared.publishers;
        let tables = self.tables.iter();
        tables
            .filter_map(|(name, ident)| Some((name.as_str(), publishers.status(ident)?)))
            .collect()
    }
}

/// Says what BigQuery shows of a table.
fn publish(table: &mut TableStatus, published: Option<&PublishStatus>, is_seen_by_catalog: bool) {
    let Some(status) = published else {
        table.publish.state = if is_seen_by_catalog { "by_catalog" } else { "off" };
        return;
    };
    table.publish = Publish {
        state: match status.behind {
            Some(_) => "behind",
            // Nothing waits since there is nothing to show, not since it is shown.
            None if status.last == Some(NO_TABLE) => NO_TABLE,
            None if status.was_noted => "current",
            None => "waiting",
        },
        external_table: Some(status.to.clone()),
        behind_seconds: status.behind.map(|behind| behind.as_secs_f64()),
        last: status.last,
        failed: status.failed.map(ErrorKind::name),
    };
    if table.state == "open" && is_behind(status) {
        table.state = "behind";
    }
}

/// This moment on both clocks, to tell when something was that the steady one timed.
struct Now {
    wall: DateTime<Utc>,
    steady: Instant,
}

impl Now {
    fn of(page: &Page) -> Self {
        Self {
            wall: page.shared.clock.now(),
            steady: Instant::now(),
        }
    }

    fn wall_of(&self, at: Instant) -> DateTime<Utc> {
        self.wall - self.steady.saturating_duration_since(at)
    }
}

fn is_behind(status: &PublishStatus) -> bool {
    status.behind.is_some_and(|behind| behind >= BEHIND)
}

fn totals(tables: usize, known: &Tables, behind: usize, now: &Now) -> Totals {
    let each = || known.iter().map(|(_, table)| table);
    Totals {
        tables,
        opened: each().filter(|table| table.was_open).count(),
        failing: each()
            .filter(|table| table.failure.is_some_and(|failure| failure.lasts(now.steady)))
            .count(),
        behind,
        sums: sums(&known.sums, now),
        are_tables_left_out: known.are_cut,
    }
}

fn table(name: &str, known: &Tables, now: &Now) -> TableStatus {
    let known = known.of(name);
    let failure = known.and_then(|known| known.failure);
    let recent: Vec<Commit> = known
        .iter()
        .flat_map(|known| &known.commits)
        .map(commit)
        .collect();
    TableStatus {
        name: name.to_owned(),
        state: match known {
            Some(_) if failure.is_some_and(|failure| failure.lasts(now.steady)) => "failing",
            Some(known) if known.was_open => "open",
            _ => "not_opened",
        },
        rows: known.and_then(telemetry::Table::total_rows),
        last_commit: recent.last().cloned(),
        freshness_seconds: recent.iter().rev().find_map(|commit| commit.freshness_seconds),
        sums: known.map(|known| sums(&known.sums, now)).unwrap_or_default(),
        failure: failure.map(|failure| Failure {
            kind: failure.kind.name(),
            at: now.wall_of(failure.at),
            lasts: failure.lasts(now.steady),
        }),
        publish: Publish::default(),
        recent_commits: recent,
    }
}

fn commit(landed: &Landed) -> Commit {
    Commit {
        at: landed.at,
        rows: landed.row_count,
        bytes: landed.byte_count,
        seconds: landed.elapsed.as_secs_f64(),
        freshness_seconds: landed.age.map(|age| age.as_secs_f64()),
        snapshot_id: landed.snapshot_id.to_string(),
    }
}

fn sums(sums: &telemetry::Sums, now: &Now) -> Sums {
    Sums {
        commits: sums.commit_count,
        rows_landed: sums.row_count,
        bytes_landed: sums.byte_count,
        conflicts: sums.conflict_count,
        unknown_outcomes: sums.unknown_outcome_count,
        duplicates: sums.duplicate_count,
        abandoned_batches: sums.abandoned_count,
        dead_letters: letters(&sums.letters, now),
    }
}

fn letters(letters: &telemetry::Letters, now: &Now) -> Letters {
    let latest = letters.latest(MOST_REASONS).into_iter();
    Letters {
        count: letters.count,
        latest: latest
            .map(|(reason, count, last)| Reason {
                reason: reason.to_owned(),
                count,
                last_at: now.wall_of(last),
            })
            .collect(),
    }
}

/// The name of the machine, where the system tells.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn time<S: Serializer>(at: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn table_of(name: &str, state: &'static str) -> TableStatus {
        TableStatus {
            name: name.to_owned(),
            state,
            rows: None,
            last_commit: None,
            freshness_seconds: None,
            sums: Sums::default(),
            failure: None,
            publish: Publish::default(),
            recent_commits: Vec::new(),
        }
    }

    #[test]
    fn table_is_behind_once_bigquery_has_shown_old_rows_for_a_minute() {
        let told = |seconds: Option<u64>, last: Option<&'static str>, state: &'static str| {
            let status = PublishStatus {
                to: "p.d.t".to_owned(),
                behind: seconds.map(Duration::from_secs),
                was_noted: last.is_some(),
                last,
                failed: seconds.map(|_| ErrorKind::Unavailable),
            };
            let mut table = table_of("t.rows", state);
            publish(&mut table, Some(&status), false);
            (table.publish.state, table.state)
        };
        let moved = Some("moved");
        assert_eq!(told(None, None, "not_opened"), ("waiting", "not_opened"));
        assert_eq!(told(None, moved, "open"), ("current", "open"));
        assert_eq!(told(Some(59), moved, "open"), ("behind", "open"));
        assert_eq!(told(Some(60), moved, "open"), ("behind", "behind"));
        assert_eq!(told(None, Some(NO_TABLE), "open"), ("no_table", "open"));
        assert_eq!(told(Some(1), Some(NO_TABLE), "open"), ("behind", "open"));
        assert_eq!(
            told(Some(60), moved, "failing"),
            ("behind", "failing"),
            "rows that land not at all come first"
        );
        let mut table = table_of("t.rows", "open");
        publish(&mut table, None, true);
        assert_eq!(table.publish.state, "by_catalog");
    }
}
