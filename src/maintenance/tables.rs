//! The tables that maintenance is for.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableIdent};

use crate::catalog::Catalog;
use crate::commit::COMMIT_ID;
use crate::config::{Config, TableTemplate, TemplatePart};
use crate::error::{Error, ErrorKind, Result};
use crate::ledger::POINTER;

/// The tables of a configuration that are in the catalog, by name: those of `tables`, and of the namespaces that routes
/// name those that landfast has written to. One that cannot be loaded is there with the reason, so that the others are
/// maintained all the same; whether landfast has written to it is not known then.
///
/// A route whose namespace is a placeholder names none: its tables are left out, which is told.
///
/// # Errors
/// Those of listing a namespace.
pub async fn tables(config: &Config, catalog: &dyn Catalog) -> Result<Vec<(TableIdent, Result<()>)>> {
    let mut tables = BTreeMap::new();
    for ident in config.tables.keys() {
        if let Some(loaded) = find(catalog, ident, |_| true).await {
            tables.insert(ident.clone(), loaded);
        }
    }
    let mut namespaces = BTreeSet::new();
    for route in &config.routes {
        match namespace_of(&route.table) {
            Some(namespace) => {
                namespaces.insert(namespace);
            }
            None => tracing::warn!(
                "A route's namespace is a placeholder, so its tables cannot be listed; name them with --table."
            ),
        }
    }
    for levels in namespaces {
        let namespace = NamespaceIdent::from_vec(levels).map_err(|error| {
            Error::new(ErrorKind::Config, "The route names no namespace.").with_source(error)
        })?;
        for ident in catalog.list_tables(&namespace).await? {
            if !tables.contains_key(&ident)
                && let Some(loaded) = find(catalog, &ident, is_ours).await
            {
                tables.insert(ident, loaded);
            }
        }
    }
    Ok(tables.into_iter().collect())
}

/// Whether landfast has written to a table: the pointer may be gone, which maintenance is to find.
fn is_ours(table: &Table) -> bool {
    let metadata = table.metadata();
    let mut snapshots = metadata.snapshots();
    metadata.properties().contains_key(POINTER)
        || snapshots.any(|snapshot| snapshot.summary().additional_properties.contains_key(COMMIT_ID))
}

/// Whether a table can be loaded; none when it is not there, or is not wanted.
async fn find(
    catalog: &dyn Catalog,
    ident: &TableIdent,
    wanted: impl Fn(&Table) -> bool,
) -> Option<Result<()>> {
    let found = catalog.find_table(ident).await;
    found.map(|table| table.filter(wanted).map(drop)).transpose()
}

/// The namespace of a template's tables; none when it has a placeholder in it. Values bring no levels of their own.
fn namespace_of(template: &TableTemplate) -> Option<Vec<String>> {
    let mut levels = vec![Some(String::new())];
    for part in template.parts() {
        let TemplatePart::Text(text) = part else {
            levels.pop();
            levels.push(None);
            continue;
        };
        let mut pieces = text.split('.');
        if let (Some(piece), Some(Some(level))) = (pieces.next(), levels.last_mut()) {
            level.push_str(piece);
        }
        levels.extend(pieces.map(|piece| Some(piece.to_owned())));
    }
    levels.pop();
    levels.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_templates_are_their_fixed_levels() {
        for (template, namespace) in [
            ("cdc.{attributes.table}", Some(vec!["cdc"])),
            ("lake.cdc.x_{attributes.table}_y", Some(vec!["lake", "cdc"])),
            ("{subscription}.events", None),
            ("cdc_{subscription}.events", None),
            ("cdc.events", Some(vec!["cdc"])),
        ] {
            let parsed: TableTemplate = template.parse().unwrap();
            let expected =
                namespace.map(|levels| levels.iter().map(|level| (*level).to_owned()).collect::<Vec<_>>());
            assert_eq!(namespace_of(&parsed), expected, "{template}");
        }
    }
}
