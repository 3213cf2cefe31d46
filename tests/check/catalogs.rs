//! On catalogs that are servers and databases: nothing is left in them, and what is refused is named.

use std::fs;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor, Row};
use tempfile::TempDir;
use uuid::Uuid;

use super::{Checked, check};
use crate::rest::World;
use crate::support::lake::{Lake, files};
use crate::support::postgres::{connect, fresh_database};
use crate::support::proxy::{Call, Identity, Trouble};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        rest_catalog_passes_and_nothing_is_left,
        refusals_of_a_rest_catalog_are_named,
        google_is_asked_for_a_role,
        server_that_is_gone_fails_the_catalog_alone,
        sqlite_passes_and_nothing_is_left,
        postgres_role_that_may_not_write_is_told_its_grants,
    ]
}

const TABLES: &str = "tables: { shop.orders: { schema: [{ name: id, type: long }] } }\n";

fn rest(world: &World, folder: &TempDir, auth: &str) -> TestResult<PathBuf> {
    let config = folder.path().join("landfast.yaml");
    let text = format!(
        "warehouse: {}\ncatalog: {{ type: rest, uri: \"{}\"{auth} }}\ndead_letters: file://{}/dead-letters\n\
         server: {{ push_auth: off }}\n{TABLES}",
        world.warehouse,
        world.proxy.url(),
        folder.path().display()
    );
    fs::write(&config, text)?;
    Ok(config)
}

/// The namespaces that were made and dropped, as requests.
fn namespaces(world: &World) -> Vec<String> {
    let seen = world.proxy.seen(Call::Namespace).into_iter();
    seen.map(|seen| seen.path).collect()
}

async fn rest_catalog_passes_and_nothing_is_left() -> TestResult {
    let (world, folder) = (World::new().await?, tempfile::tempdir()?);
    let checked = check(&rest(&world, &folder, "")?, &[], &[]).await?;
    checked.passed();
    let (_, told, _) = checked.line("catalog")?;
    let name = told.split(['.', ',']).nth(1).ok_or("a table's name")?;
    assert!(name.starts_with("probe_"), "{told}");
    assert_eq!(world.proxy.truth("landfast_check", name).await?, None);
    let warehouse = world.warehouse.trim_start_matches("file://");
    let left = files(Path::new(warehouse))?;
    let left = left.iter().find(|file| file.display().to_string().contains(name));
    assert_eq!(left, None);
    let namespaces = namespaces(&world);
    assert!(
        namespaces
            .last()
            .is_some_and(|path| path.ends_with("landfast_check")),
        "{namespaces:?}"
    );
    Ok(())
}

async fn refusals_of_a_rest_catalog_are_named() -> TestResult {
    let (world, folder) = (World::new().await?, tempfile::tempdir()?);
    let config = rest(&world, &folder, "")?;
    for call in [Call::Namespace, Call::CreateTable, Call::Commit, Call::Drop] {
        world.proxy.clear();
        world.proxy.always(call, Trouble::Answer(403));
        let checked = check(&config, &[], &[]).await?;
        assert_eq!(checked.failed(), ["catalog"], "{call:?}");
        let (_, _, remedy) = checked.line("catalog")?;
        let wanted = "Let whom `catalog.auth` names make and drop namespaces and tables";
        assert!(remedy.starts_with(wanted), "{call:?}: {remedy}");
        let left = checked.left();
        match call {
            Call::Drop => assert!(
                left.iter()
                    .any(|left| left.starts_with("the table landfast_check.probe_"))
            ),
            _ => assert_eq!(left, [""; 0], "{call:?}"),
        }
    }
    world.proxy.clear();
    Ok(())
}

async fn google_is_asked_for_a_role() -> TestResult {
    let (world, folder) = (World::new().await?, tempfile::tempdir()?);
    world.proxy.ask(Identity::Google("g00gle-s3cret"));
    world.proxy.always(Call::CreateTable, Trouble::Answer(403));
    let config = rest(&world, &folder, ", auth: { type: google, user_project: p-test }")?;
    let variables = [
        ("GCE_METADATA_HOST", world.proxy.url().replace("http://", "")),
        ("HOME", folder.path().display().to_string()),
    ];
    let checked = check(&config, &[], &variables).await?;
    assert_eq!(checked.failed(), ["catalog"]);
    let (_, _, remedy) = checked.line("catalog")?;
    assert_eq!(
        remedy,
        "Give the service's account roles/biglake.editor on the catalog's project, and \
         roles/serviceusage.serviceUsageConsumer on the project p-test."
    );
    assert!(!checked.report.to_string().contains("s3cret"));
    Ok(())
}

async fn server_that_is_gone_fails_the_catalog_alone() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let text = fs::read_to_string(&config)?;
    let nobody = "catalog: { type: rest, uri: \"http://127.0.0.1:1\" }";
    let checked: Checked = check(
        &lake.write_config(&text.replace("catalog: { type: storage }", nobody))?,
        &[],
        &[],
    )
    .await?;
    assert_eq!(checked.failed(), ["catalog"]);
    assert_eq!(checked.line("warehouse")?.0, "passed");
    Ok(())
}

async fn sqlite_passes_and_nothing_is_left() -> TestResult {
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let database = lake.path().join("catalog.db");
    let sql = format!(
        "catalog: {{ type: sql, uri: \"sqlite://{}\" }}",
        database.display()
    );
    let text = fs::read_to_string(&config)?.replace("catalog: { type: storage }", &sql);
    check(&lake.write_config(&text)?, &[], &[]).await?.passed();
    let options = SqliteConnectOptions::new().filename(&database);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    for table in ["iceberg_tables", "iceberg_namespace_properties"] {
        let count = format!("SELECT COUNT(*) FROM {table}");
        let row = connection.fetch_one(count.as_str()).await?;
        assert_eq!(row.try_get::<i64, _>(0)?, 0, "{table}");
    }
    assert!(!lake.path().join("warehouse").exists());
    Ok(())
}

async fn postgres_role_that_may_not_write_is_told_its_grants() -> TestResult {
    let uri = fresh_database().await?;
    let lake = Lake::new()?;
    let config = lake.config("", TABLES)?;
    let text = fs::read_to_string(&config)?;
    let of = |uri: &str| {
        let sql = format!("catalog: {{ type: sql, uri: \"{uri}\" }}");
        lake.write_config(&text.replace("catalog: { type: storage }", &sql))
    };
    check(&of(&uri)?, &[], &[]).await?.passed();
    let role = format!("r{}", Uuid::new_v4().simple());
    let mut connection = connect(&uri).await?;
    for statement in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT SELECT ON iceberg_tables, iceberg_namespace_properties TO {role}"),
    ] {
        connection.execute(statement.as_str()).await?;
    }
    let checked = check(&of(&uri.replace("//postgres@", &format!("//{role}@")))?, &[], &[]).await?;
    assert_eq!(checked.failed(), ["catalog"]);
    let (_, _, remedy) = checked.line("catalog")?;
    assert!(
        remedy.starts_with("Grant the user of `catalog.uri` SELECT, INSERT"),
        "{remedy}"
    );
    Ok(())
}
