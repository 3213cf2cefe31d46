//! The real server on a SQL catalog.

use std::fs;

use libtest_mimic::Trial;
use serde_json::json;

use super::{World, on_both};
use crate::support::TestResult;
use crate::support::push::Push;
use crate::support::server::Server;
use crate::support::tables::orders;

pub fn tests() -> Vec<Trial> {
    on_both![acknowledged_rows_are_in_the_shared_catalog]
}

async fn acknowledged_rows_are_in_the_shared_catalog(world: &World) -> TestResult {
    let config = world.folder.path().join("landfast.yaml");
    let text = format!(
        "warehouse: {}\ncatalog: {{ type: sql, uri: \"{}\" }}\ndead_letters: file://{}/dead-letters\n\
         server: {{ listen: 127.0.0.1:0, push_auth: off }}\ntables:\n  shop.orders:\n    \
         from: [{{ subscription: orders }}]\n    batch: {{ commit_interval: 0s }}\n    schema:\n      \
         - {{ name: id, type: long, required: true }}\n      - {{ name: name, type: string }}\n",
        world.warehouse(),
        world.uri,
        world.folder.path().display()
    );
    fs::write(&config, text)?;
    let server = Server::serve(&config).await?;
    for id in 0..5 {
        let push = Push::json("orders", id, &json!({ "id": id, "name": format!("n{id}") }));
        assert_eq!(server.pusher().push(&push).await, 204);
    }
    let catalog = world.catalog().await?;
    let ids = crate::support::tables::ids_now(&catalog, &orders()).await?;
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    Ok(())
}
