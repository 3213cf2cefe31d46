//! Landing buckets and folders: what the service may do there. Nothing is ever put into a bucket, where it would be an event.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use tokio::time::Instant;

use super::own::Own;
use super::remedy::folder_remedy;
use super::report::{Found, Gathered, Line};
use super::{PROBE, bounded, line};
use crate::config::{After, Config, FileMatch, Location, landed_beside};
use crate::error::{Error, ErrorKind, Result};
use crate::storage::{Generations, Grants};

const READ: [&str; 2] = ["storage.objects.get", "storage.objects.list"];

/// Probes each of them.
pub(super) async fn probe(config: &Config, own: &Own) -> Gathered {
    let buckets = config
        .landing_buckets()
        .into_iter()
        .map(|location| async move { line("landing bucket", location, bucket(config, location, own)).await });
    let mut lines: Vec<Line> = join_all(buckets).await;
    let mut left = Vec::new();
    for location in config.landing_folders() {
        let mut stay = Vec::new();
        let probing = async {
            let (found, not_removed) = folder(location, own).await;
            stay = not_removed;
            found
        };
        lines.push(line("landing folder", location, probing).await);
        left.extend(stay.iter().map(|file| format!("file://{}", file.display())));
    }
    Gathered {
        lines,
        left,
        ..Gathered::default()
    }
}

/// Asks for an object that nobody has, and for the permissions where the server tells.
async fn bucket(config: &Config, location: &Location, own: &Own) -> Found {
    let name = location.bucket();
    let wanted = wanted(config, location);
    match bounded(ask(name, &own.folder(), &wanted)).await {
        Ok(Some(permitted)) => judge(name, wanted, &permitted),
        Ok(None) if wanted.len() > READ.len() => Found::warned(
            "an object that is not there is told to be so; whether `after` may be done is not known there",
            format!("Mind that `after` needs roles/storage.objectUser on the bucket {name}."),
        ),
        Ok(None) => Found::passed("an object that is not there is told to be so"),
        Err(error) if error.kind() == ErrorKind::NotFound => Found::failed(
            error.report(),
            format!("Make the bucket {name}, or name another."),
        ),
        Err(error) => Found::failed(error.report(), format!("{}.", role(name, &READ))),
    }
}

/// Which of the wanted permissions there are; none where that is not told.
async fn ask(bucket: &str, object: &str, wanted: &[&str]) -> Result<Option<BTreeSet<String>>> {
    let grants = Grants::new()?;
    if !grants.bucket_exists(bucket).await? {
        let message = "There is no such bucket.";
        return Err(Error::new(ErrorKind::NotFound, message).with("bucket", bucket));
    }
    let until = Instant::now() + PROBE;
    Generations::default().open(bucket, object, 1, until).await?;
    let permitted = grants.permitted(bucket, wanted).await;
    Ok(permitted.unwrap_or_else(|error| {
        let error = error.report();
        tracing::warn!(bucket, error, "What may be done in a landing bucket is not told.");
        None
    }))
}

fn judge(bucket: &str, wanted: Vec<&str>, permitted: &BTreeSet<String>) -> Found {
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|permission| !permitted.contains(*permission))
        .collect();
    match missing.as_slice() {
        [] => Found::passed("may be read, and objects put away as `after` says"),
        missing => Found::failed(
            "some permissions are missing",
            format!("{} ({} is missing).", role(bucket, missing), missing.join(", ")),
        ),
    }
}

/// What the service does in a bucket, by what its tables and routes want of their objects afterwards.
fn wanted(config: &Config, location: &Location) -> Vec<&'static str> {
    let is_it = |files: &Option<FileMatch>| files.as_ref().is_some_and(|files| files.bucket == *location);
    let tables = config.tables.values();
    let tables = tables.filter(|table| table.from.iter().any(|from| is_it(&from.files)));
    let routed = config.routes.iter().any(|route| is_it(&route.files));
    let mut afters: Vec<After> = tables.map(|table| table.after).collect();
    afters.extend(routed.then_some(config.defaults.after));
    let mut wanted = READ.to_vec();
    if afters.iter().any(|after| *after != After::Keep) {
        wanted.push("storage.objects.delete");
    }
    if afters.contains(&After::Move) {
        wanted.push("storage.objects.create");
    }
    wanted
}

fn role(bucket: &str, missing: &[&str]) -> String {
    let role = match missing.iter().all(|permission| READ.contains(permission)) {
        true => "roles/storage.objectViewer",
        false => "roles/storage.objectUser",
    };
    format!("Give the service's account {role} on the bucket {bucket}")
}

/// The file of a check, which the service passes over: a leading dot, and an ending of unfinished files.
fn file_of(check: &str) -> String {
    format!(".{check}.tmp")
}

/// The files of checks in the landing folders and beside them, each with its check's name.
pub(super) fn files(config: &Config) -> Vec<(String, PathBuf)> {
    let folders = config.landing_folders().into_iter();
    let folders = folders.flat_map(|folder| [folder.clone(), landed_beside(folder)]);
    // Where listing is refused, the probe of the folder says so.
    let files = folders
        .filter_map(|folder| fs::read_dir(folder.path()).ok())
        .flatten()
        .flatten();
    let of_check = |file: fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        let check = name.strip_prefix('.')?.strip_suffix(".tmp")?;
        Some((check.to_owned(), file.path()))
    };
    files.filter_map(of_check).collect()
}

/// Makes a file, moves it beside, and removes it. Gives what could not be removed.
async fn folder(location: &Location, own: &Own) -> (Found, Vec<PathBuf>) {
    let name = file_of(own.name());
    let from = Path::new(location.path()).join(&name);
    let to = PathBuf::from(landed_beside(location).path()).join(&name);
    let (made, moved) = (from.clone(), to.clone());
    let moving = async move {
        let work = tokio::task::spawn_blocking(move || make_and_move(&made, &moved));
        work.await
            .map_err(io::Error::other)
            .and_then(|done| done)
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable,
                    "A file cannot be made, moved beside and removed.",
                )
                .with_source(error)
            })
    };
    let done: Result<()> = bounded(moving).await;
    let there = [from, to].into_iter().filter(|file| file.exists());
    let left = there.filter(|file| fs::remove_file(file).is_err()).collect();
    let found = match done {
        Ok(()) => Found::passed("a file was made, moved to `landed` beside it, and removed"),
        Err(error) => Found::failed(
            error.report(),
            folder_remedy(&[location, &landed_beside(location)]),
        ),
    };
    (found, left)
}

fn make_and_move(from: &Path, to: &Path) -> io::Result<()> {
    for file in [from, to] {
        fs::create_dir_all(file.parent().unwrap_or(file))?;
    }
    fs::File::create_new(from)?;
    // Between file systems a copy does.
    if fs::rename(from, to).is_err() {
        fs::copy(from, to)?;
        fs::remove_file(from)?;
    }
    fs::remove_file(to)
}
