//! Many files as one commit: all of them or none.

use std::collections::HashMap;
use std::sync::Arc;

use iceberg::TableIdent;

use super::finish::{Terms, finish};
use super::prepare::Preparing;
use super::rejects::check_rejected;
use super::{Input, Loaded, Progress};
use crate::batch::Shared;
use crate::batch::opening::TableSettings;
use crate::clock::Moment;
use crate::config::TableConfig;
use crate::error::Error;

/// Why files that were to be loaded together were not.
#[derive(Debug)]
pub enum NotLoaded {
    /// These files, by their place among the inputs, cannot be loaded; the others were left out with them.
    Files(Vec<(usize, Error)>),
    /// All could be, and their commit failed.
    Commit(Error),
}

/// Loads files as one commit, in their order: all of them, or nothing of any. `begin` is told of each as its turn comes.
///
/// Before anything is read, every file is opened once, so that what is not there is told at once and costs nothing. A
/// file of the same name and bytes as an earlier one is loaded once, and one that is in the table already not at all,
/// unless `again`. One file is read at a time, so memory is that of
/// one, beside a manifest entry for each data file and the dead letters of all: together as many as one file may have.
///
/// `Ok` means committed and durable. A dropped future leaves orphan data files and nothing visible.
///
/// # Errors
/// Nothing of any file is visible then, unless the commit's outcome stayed unknown.
pub async fn load_together(
    shared: &Shared,
    ident: &TableIdent,
    config: &TableConfig,
    inputs: &[Input],
    again: bool,
    mut begin: impl FnMut(usize) -> Arc<Progress>,
) -> Result<Vec<Loaded>, NotLoaded> {
    let unreadable = inputs.iter().map(Input::check).enumerate();
    let unreadable: Vec<_> = unreadable
        .filter_map(|(place, checked)| Some((place, checked.err()?)))
        .collect();
    if !unreadable.is_empty() {
        return Err(NotLoaded::Files(unreadable));
    }
    let begun = Moment::now(shared.clock.as_ref());
    let settings = TableSettings::from(config);
    let mut preparing = Preparing {
        shared,
        ident,
        settings: &settings,
        again,
        found: None,
        table: None,
    };
    let (mut files, mut same, mut ids) = (Vec::new(), Vec::new(), HashMap::new());
    let (mut reject_count, mut reject_bytes) = (0, 0);
    for (place, input) in inputs.iter().enumerate() {
        let of_this = |error| NotLoaded::Files(vec![(place, error)]);
        let file = preparing.prepare(input, begin(place)).await.map_err(of_this)?;
        if let Some(name) = ids.get(&file.id) {
            same.push((place, file.id, String::clone(name)));
            continue;
        }
        reject_count += file.rejected.len();
        reject_bytes += file.rejected.iter().map(|record| record.raw.len()).sum::<usize>();
        check_rejected(reject_count, reject_bytes, ident).map_err(of_this)?;
        ids.insert(file.id.clone(), file.name.clone());
        files.push(file);
    }
    let Some(table) = preparing.table else {
        return Ok(Vec::new());
    };
    let terms = Terms {
        begun,
        retention: settings.retention,
        deadline: None,
        published_at: None,
    };
    let mut loaded = finish(shared, ident, table, terms, files)
        .await
        .map_err(NotLoaded::Commit)?;
    for (place, id, name) in same {
        loaded.insert(place, Loaded::same_as(id, name));
    }
    Ok(loaded)
}
