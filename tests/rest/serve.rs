//! The real binary on the reference server: pushes, a bulk load, and what `show` tells of them.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;

use super::World;
use crate::support::proxy::{Call, Identity, Trouble};
use crate::support::push::Push;
use crate::support::server::{Server, landfast, run};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        acknowledged_and_loaded_rows_are_on_the_server,
        secrets_of_the_configuration_never_show,
        googles_tokens_come_from_the_metadata_server,
    ]
}

/// Writes a configuration of `shop.orders` with these further keys of the catalog. Gives its path.
pub fn configuration(world: &World, folder: &TempDir, catalog: &str) -> TestResult<String> {
    configuration_of(&world.proxy.url(), &world.warehouse, folder, catalog)
}

/// The same for any server.
pub fn configuration_of(uri: &str, warehouse: &str, folder: &TempDir, catalog: &str) -> TestResult<String> {
    let config = folder.path().join("landfast.yaml");
    let text = format!(
        "warehouse: {warehouse}\ncatalog: {{ type: rest, uri: \"{uri}/\", {catalog} }}\n\
         dead_letters: file://{}/dead-letters\n\
         server: {{ listen: 127.0.0.1:0, push_auth: off }}\ntables:\n  shop.orders:\n    \
         from: [{{ subscription: orders }}]\n    batch: {{ commit_interval: 0s }}\n    schema:\n      \
         - {{ name: id, type: long, required: true }}\n      - {{ name: name, type: string }}\n",
        folder.path().display()
    );
    fs::write(&config, text)?;
    Ok(config.display().to_string())
}

async fn acknowledged_and_loaded_rows_are_on_the_server() -> TestResult {
    let world = World::new().await?;
    let folder = tempfile::tempdir()?;
    let config = configuration(&world, &folder, "headers: { X-Team: lake }")?;
    let server = Server::serve(config.as_ref()).await?;
    for id in 0..5 {
        let push = Push::json("orders", id, &json!({ "id": id, "name": format!("n{id}") }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    assert_eq!(world.ids().await?, [0, 1, 2, 3, 4]);
    server.terminate()?;

    let file = folder.path().join("more.ndjson");
    fs::write(&file, "{\"id\":5}\n{\"id\":6,\"name\":\"n6\"}\n")?;
    let file = file.display().to_string();
    // The proxy answers on this runtime's threads, and the commands are waited for.
    let call = |arguments: Vec<String>| async {
        tokio::task::spawn_blocking(move || run(arguments))
            .await
            .map_err(crate::support::Stop::from)?
    };
    let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
    let mut load = words("load --table shop.orders --config");
    load.extend([config.clone(), file]);
    let (code, _, stderr) = call(load).await?;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(world.ids().await?, [0, 1, 2, 3, 4, 5, 6]);

    let mut show = words("show --config");
    show.extend([config, "shop.orders".to_owned()]);
    let (code, stdout, stderr) = call(show).await?;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains('7'), "{stdout}");
    let commits = world.proxy.seen(Call::Commit);
    assert!(commits.iter().all(|commit| commit.headers["x-team"] == "lake"));
    Ok(())
}

async fn secrets_of_the_configuration_never_show() -> TestResult {
    let world = World::new().await?;
    world.proxy.ask(Identity::Bearer("t0ps3cret"));
    let folder = tempfile::tempdir()?;
    for (catalog, code) in [
        ("auth: { type: bearer, token: wr0ng-s3cret }", 1),
        ("auth: { type: oauth2, credential: \"id:wr0ng-s3cret\" }", 1),
    ] {
        let config = configuration(&world, &folder, catalog)?;
        let show = ["show", "--config", &config, "shop.orders"].map(str::to_owned);
        let ended = tokio::task::spawn_blocking(move || run(show)).await?;
        let (status, stdout, stderr) = ended?;
        assert_eq!(status, Some(code), "{stderr}");
        assert!(stderr.contains("catalog.auth"), "{stderr}");
        assert!(!format!("{stdout}{stderr}").contains("s3cret"), "{stderr}");
    }
    Ok(())
}

async fn googles_tokens_come_from_the_metadata_server() -> TestResult {
    let world = World::new().await?;
    create(&world.catalog().await?, &orders()).await?;
    world.proxy.ask(Identity::Google("g00gle-s3cret"));
    let folder = tempfile::tempdir()?;
    let config = configuration(&world, &folder, "auth: { type: google, user_project: p-test }")?;
    let mut show = landfast(["show", "--config", &config, "shop.orders"]);
    show.env("GCE_METADATA_HOST", world.proxy.url().replace("http://", ""))
        .env("HOME", folder.path())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env_remove("GOOGLE_CLOUD_QUOTA_PROJECT");
    let mut show = || -> TestResult<_> {
        let output = tokio::task::block_in_place(|| show.output())?;
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    };
    let loads = world.proxy.seen(Call::Load).len();
    let (code, stderr) = show()?;
    assert_eq!(code, Some(0), "{stderr}");
    let load = &world.proxy.seen(Call::Load)[loads];
    assert_eq!(load.headers["authorization"], "Bearer g00gle-s3cret");
    assert_eq!(load.headers["x-goog-user-project"], "p-test");

    // The catalog may not like who we are.
    world.proxy.always(Call::Config, Trouble::Answer(403));
    let (code, stderr) = show()?;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("catalog.auth") && stderr.contains("Not so, Bearer ***"),
        "{stderr}"
    );
    Ok(())
}
