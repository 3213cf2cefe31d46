//! A catalog of each kind that others may write too, a real server on it, and what was sent so far.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::postgres::fresh_database;
use crate::support::proxy::Proxy;
use crate::support::push::Push;
use crate::support::readers::{Reader, SqlEngine};
use crate::support::server::{Server, run};
use crate::support::{Component, TestResult, needs, wait_for};

pub const TABLE: &str = "shop.orders";

/// What names the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    Rest,
}

/// A catalog of a test's own.
pub struct World {
    pub folder: TempDir,
    /// What stands in the configuration.
    pub catalog: String,
    pub warehouse: String,
    /// The catalog as other engines are told of it.
    pub described: Value,
    /// Before the server of a REST catalog.
    pub proxy: Option<Proxy>,
    /// Whether Spark reads it, too.
    pub has_spark: bool,
    /// In seconds; commits have half of it, or ten less.
    ack_deadline: u32,
}

impl World {
    /// One that Spark may write. Ends the test as ignored where there is none.
    pub async fn of_spark(kind: Kind) -> TestResult<Self> {
        needs(Component::Spark)?;
        needs(Component::Python)?;
        let mut world = Self::new(kind).await?;
        world.has_spark = true;
        // A commit waits for what Spark does meanwhile.
        world.ack_deadline = 60;
        if kind == Kind::Sqlite {
            // In a database that it did not make itself, Java's catalog leaves a statement open, which locks SQLite for
            // everybody else as long as Spark lives.
            SqlEngine::Spark.create(&world.described, "made.first")?;
        }
        Ok(world)
    }

    /// One that Spark reads, too, where there is one.
    pub async fn of_readers(kind: Kind) -> TestResult<Self> {
        needs(Component::Python)?;
        match needs(Component::Spark) {
            Ok(_) => Self::of_spark(kind).await,
            Err(_) => Self::new(kind).await,
        }
    }

    /// Makes an empty one. Ends the test as ignored where what it needs is missing.
    pub async fn new(kind: Kind) -> TestResult<Self> {
        match kind {
            Kind::Sqlite => Self::on(kind, ""),
            Kind::Postgres => Self::on(kind, &fresh_database().await?),
            Kind::Rest => {
                let place = needs(Component::Rest)?;
                let (uri, warehouse) = place.split_once(' ').ok_or("an address and a warehouse")?;
                let proxy = Proxy::before(uri).await?;
                let mut world = Self::on(kind, &proxy.url())?;
                world.warehouse = warehouse.to_owned();
                world.proxy = Some(proxy);
                Ok(world)
            }
        }
    }

    /// One at an address; that of SQLite is its folder's.
    pub fn on(kind: Kind, uri: &str) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let here = folder.path().display().to_string();
        let warehouse = format!("file://{here}/warehouse");
        let uri = match kind {
            Kind::Sqlite => format!("sqlite://{here}/catalog.db"),
            Kind::Postgres | Kind::Rest => uri.to_owned(),
        };
        let (catalog, described) = match kind {
            Kind::Rest => ("rest", json!({ "type": "rest", "uri": uri, "name": "rest" })),
            Kind::Sqlite | Kind::Postgres => {
                let described = json!({ "uri": uri, "name": "landfast", "warehouse": warehouse });
                ("sql", described)
            }
        };
        Ok(Self {
            catalog: format!("{{ type: {catalog}, uri: \"{uri}\" }}"),
            folder,
            warehouse,
            described,
            proxy: None,
            has_spark: false,
            ack_deadline: 16,
        })
    }

    /// Writes the configuration of a server with `shop.orders` and `shop.others`.
    pub fn config(&self) -> TestResult<PathBuf> {
        self.config_of(&self.warehouse, &self.catalog)
    }

    /// The same of another warehouse or catalog.
    pub fn config_of(&self, warehouse: &str, catalog: &str) -> TestResult<PathBuf> {
        let table = |name: &str| {
            format!(
                "  shop.{name}:\n    from: [{{ subscription: {name} }}]\n    batch: {{ commit_interval: 0s }}\n    \
                 schema:\n      - {{ name: id, type: long, required: true }}\n      - {{ name: name, type: string }}\n"
            )
        };
        let text = format!(
            "warehouse: \"{warehouse}\"\ncatalog: {catalog}\ndead_letters: \"file://{}/dead-letters\"\n\
             server: {{ listen: 127.0.0.1:0, push_auth: off, ack_deadline: {}s }}\ntables:\n{}{}",
            self.folder.path().display(),
            self.ack_deadline,
            table("orders"),
            table("others"),
        );
        let file = self.folder.path().join("landfast.yaml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// The ids of a table's rows, in order, on which every reader there is must agree.
    pub fn ids(&self, table: &str) -> TestResult<Vec<i64>> {
        let ids = SqlEngine::PyIceberg.ids(&self.described, table)?;
        let location = SqlEngine::PyIceberg.state(&self.described, table)?.location;
        let rows = Reader::duckdb()?.rows(Path::new(&location))?;
        let mut others: Vec<i64> = rows.iter().filter_map(|row| row["id"].as_i64()).collect();
        others.sort_unstable();
        assert_eq!(ids, others, "PyIceberg and DuckDB read other rows");
        Ok(ids)
    }

    /// Runs a command of ours on `shop.orders`; gives the exit code, stdout and stderr.
    pub fn command(&self, words: &str, rest: &[&str]) -> TestResult<(Option<i32>, String, String)> {
        let config = self.folder.path().join("landfast.yaml").display().to_string();
        let mut arguments: Vec<&str> = words.split(' ').collect();
        arguments.extend(["--config", &config, "--table", TABLE]);
        arguments.extend(rest);
        run(arguments)
    }
}

/// The server, and what a table should hold.
pub struct Shop<'w> {
    pub world: &'w World,
    pub server: Server,
    sent: Vec<(i64, Push)>,
    last_id: i64,
    /// The ids of the rows that should be there.
    pub ids: BTreeSet<i64>,
}

impl<'w> Shop<'w> {
    /// Starts the server.
    pub async fn open(world: &'w World) -> TestResult<Self> {
        Ok(Self {
            world,
            server: Server::serve(&world.config()?).await?,
            sent: Vec::new(),
            last_id: 0,
            ids: BTreeSet::new(),
        })
    }

    /// The next delivery, not yet sent.
    pub fn next(&mut self) -> (i64, Push) {
        self.last_id += 1;
        let id = self.last_id;
        let push = Push::json("orders", id, &json!({ "id": id, "name": format!("n{id}") }));
        self.sent.push((id, push.clone()));
        (id, push)
    }

    /// Lands new deliveries, a commit each.
    pub async fn land(&mut self, count: usize) -> TestResult {
        for _ in 0..count {
            let (id, push) = self.next();
            assert_eq!(self.server.pusher().push(&push).await, 204, "delivery {id}");
            self.ids.insert(id);
        }
        Ok(())
    }

    /// Lands new deliveries, many a commit.
    pub async fn land_together(&mut self, count: usize) -> TestResult {
        let (ids, pushes): (Vec<i64>, Vec<Push>) = (0..count).map(|_| self.next()).unzip();
        let answers = self.server.pusher().push_all(&pushes, 64).await;
        assert!(answers.iter().all(|status| *status == 204), "{answers:?}");
        self.ids.extend(ids);
        Ok(())
    }

    /// Sends everything again that was ever sent: it is acknowledged, and adds nothing.
    pub async fn send_again(&self) -> TestResult {
        let duplicates = self.server.metric("landfast_duplicates_total").await?;
        let pushes: Vec<Push> = self.sent.iter().map(|(_, push)| push.clone()).collect();
        let answers = self.server.pusher().push_all(&pushes, 8).await;
        assert!(answers.iter().all(|status| *status == 204), "{answers:?}");
        let more = self.server.metric("landfast_duplicates_total").await? - duplicates;
        assert_eq!(more, pushes.len() as f64, "not all were known");
        Ok(())
    }

    /// Sends the first delivery again; gives the status.
    pub async fn send_first_again(&self) -> u16 {
        let (_, first) = self.sent.first().expect("something was sent");
        self.server.pusher().push(first).await
    }

    /// Stops the server kindly, lets something happen, and starts it again.
    pub async fn restarted(&mut self, meanwhile: impl FnOnce() -> TestResult) -> TestResult {
        self.server.terminate()?;
        assert!(self.server.exited().await?.success());
        meanwhile()?;
        self.server = Server::serve(&self.world.config()?).await?;
        Ok(())
    }

    /// Sends one new delivery that is refused for now, and one to another table, which lands: nobody else is stopped.
    /// The log says all of `words`.
    pub async fn is_refused(&mut self, words: &[&str]) -> TestResult {
        let (id, push) = self.next();
        assert_eq!(self.server.pusher().push(&push).await, 503, "delivery {id}");
        self.server.logged(words).await?;
        self.others_land().await
    }

    /// Another table of the process lands.
    pub async fn others_land(&self) -> TestResult {
        let other = Push::json("others", Uuid::new_v4(), &json!({ "id": 1 }));
        assert_eq!(self.server.pusher().push(&other).await, 204, "shop.others");
        Ok(())
    }

    /// What was refused is delivered again until it lands, and everything is there once.
    pub async fn recovers(&mut self) -> TestResult {
        let pusher = self.server.pusher();
        for (id, push) in &self.sent {
            if !self.ids.contains(id) {
                wait_for("the delivery to land", Duration::from_secs(60), async || {
                    (pusher.push(push).await == 204).then_some(())
                })
                .await?;
                self.ids.insert(*id);
            }
        }
        self.land(1).await?;
        self.send_again().await?;
        assert_eq!(self.world.ids(TABLE)?, self.expected());
        Ok(())
    }

    /// The table went, and with it its rows and its memory of them: they are not sent again.
    pub fn dropped(&mut self) {
        self.sent.retain(|(id, _)| !self.ids.contains(id));
        self.ids.clear();
    }

    /// The table's memory of the newest commit went; its rows stay.
    pub fn newest_is_forgotten(&mut self) {
        let newest = self.sent.iter().rposition(|(id, _)| self.ids.contains(id));
        newest.map(|place| self.sent.remove(place));
    }

    /// The table's memory of all that landed went; the rows stay.
    pub fn all_is_forgotten(&mut self) {
        self.sent.retain(|(id, _)| !self.ids.contains(id));
    }

    /// Posts a row directly: the status and the text of the answer.
    pub async fn row(&self, id: i64) -> TestResult<(u16, String)> {
        let path = format!("/v1/tables/{TABLE}/records");
        let row = json!({ "id": id }).to_string();
        let answer = self.server.pusher().post(&path, "application/json", row).await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The ids as they should be, in order.
    pub fn expected(&self) -> Vec<i64> {
        self.ids.iter().copied().collect()
    }
}
