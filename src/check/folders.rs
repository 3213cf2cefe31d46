//! The configured folders of this machine that are not there: they are made to be probed, as the service makes them, and
//! removed again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::config::{Config, Location, Scheme, landed_beside};

/// The folders that are missing, and those above them.
pub(super) fn missing(config: &Config) -> BTreeSet<PathBuf> {
    let landing = config.landing_folders();
    let mut locations: Vec<Location> = landing.iter().map(|folder| landed_beside(folder)).collect();
    locations.extend(landing.into_iter().cloned());
    locations.extend([config.warehouse.clone(), config.dead_letters.clone()]);
    let folders = locations
        .iter()
        .filter(|location| location.scheme() == Scheme::File);
    folders
        .flat_map(|location| Path::new(location.path()).ancestors())
        .filter(|folder| !folder.exists())
        .map(Path::to_path_buf)
        .collect()
}

/// Removes those that hold nothing, the inner ones first.
pub(super) fn remove_empty(folders: BTreeSet<PathBuf>) {
    for folder in folders.iter().rev() {
        // What holds something by now is somebody's.
        let _stays = std::fs::remove_dir(folder);
    }
}
