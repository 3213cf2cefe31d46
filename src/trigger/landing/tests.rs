//! Looks, claims, waits and moves, on a real folder.

use std::path::{Path, PathBuf};
use std::{fs, io};

use chrono::DateTime;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::time::{Duration, Instant};

use super::folder::{Claim, Claiming, Folder, Found, MAX_FILES};
use super::place::{Leaving, Refusal, move_landed, move_refused};
use super::watched::{Watched, Work};
use crate::load::Stamp;
use crate::random::Random;
use crate::trigger::DeliveryId;

/// A landing folder, and the folder that everything is in.
fn folder() -> (TempDir, Folder) {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| format!("file://{}/{name}", dir.path().display()).parse().unwrap();
    let folder = Folder::open(&at("landing"), &at("dead-letters")).unwrap();
    (dir, folder)
}

fn put(folder: &Folder, name: &str, content: &str) -> PathBuf {
    let path = folder.path(Path::new(name));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path
}

fn look(folder: &Folder) -> Vec<Found> {
    let mut files = folder.look(Path::new("")).unwrap().files;
    files.sort_by(|left, right| left.name.cmp(&right.name));
    files
}

fn names(files: &[Found]) -> Vec<String> {
    files
        .iter()
        .map(|found| found.name.display().to_string())
        .collect()
}

fn claim(folder: &Folder, found: &Found) -> Claim {
    match folder.claim(found) {
        Claiming::Claimed(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// What a file with this content lands as.
fn landed_as(path: &Path, content: &str) -> DeliveryId {
    let name = path.file_name().unwrap().to_string_lossy();
    DeliveryId::file(name, &Sha256::digest(content).into())
}

fn landed(claim: Claim) -> Work {
    Work::MoveLanded {
        _claim: claim,
        landed_as: landed_as(Path::new("a"), ""),
    }
}

/// A file of a folder as it is now.
fn leaving(path: &Path) -> Leaving<'_> {
    Leaving {
        path,
        stamp: Stamp::from(&fs::symlink_metadata(path).unwrap()),
        landed_as: None,
        rename: |from, to| fs::rename(from, to),
    }
}

/// As on a network mount that loses an answer.
fn rename_and_fail(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    Err(io::ErrorKind::TimedOut.into())
}

/// Puts another file under a name by renaming it, as writers do.
fn swap(path: &Path, content: &str) {
    let other = path.with_extension("other.tmp");
    fs::write(&other, content).unwrap();
    fs::rename(other, path).unwrap();
}

fn everything(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path.strip_prefix(dir).unwrap().display().to_string()),
            }
        }
    }
    found.sort();
    found
}

#[test]
fn looks_pass_over_what_is_hidden_unfinished_or_no_file() {
    let (dir, folder) = folder();
    for name in [
        "a.json",
        "orders/b",
        "orders/2026/c.PART",
        "orders/2026/d.json.gz",
        ".hidden",
        ".git/e",
        "x.tmp",
        "x.crdownload",
        "x~",
        "y.tmp/f",
    ] {
        put(&folder, name, "1");
    }
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("g"), "1").unwrap();
    let found = look(&folder);
    assert_eq!(names(&found), ["a.json", "orders/2026/d.json.gz", "orders/b"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, folder.path(Path::new("folder"))).unwrap();
        std::os::unix::fs::symlink(outside.join("g"), folder.path(Path::new("file"))).unwrap();
        assert_eq!(look(&folder), found);
        assert!(folder.look(Path::new("")).unwrap().other.is_some());
    }
}

#[test]
fn stuck_files_hide_no_others_for_ever() {
    let (_dir, folder) = folder();
    let place = |n: usize| format!("f/{n:05}");
    put(&folder, &place(0), "1");
    for n in 1..MAX_FILES + 3 {
        fs::write(folder.path(Path::new(&place(n))), "1").unwrap();
    }
    let (mut watched, mut now) = (Watched::default(), Instant::now());
    let mut pass = |begins: &str, first: usize| {
        assert_eq!(watched.begin(), Path::new(begins));
        let look = folder.look(watched.begin()).unwrap();
        assert_eq!(look.files.len(), MAX_FILES);
        assert_eq!(look.files[0].name, Path::new(&place(first)));
        watched.update(look.files, now);
        watched.turn(look.end, now);
        now += Duration::from_secs(60);
        watched.len()
    };
    pass("", 0);
    pass("", 0);
    pass("", 0);
    // Those that were left out come first, then the first of all.
    let last = place(MAX_FILES - 1);
    assert_eq!(pass(&last, MAX_FILES), MAX_FILES);
    fs::remove_file(folder.path(Path::new(&place(0)))).unwrap();
    fs::remove_file(folder.path(Path::new(&place(1)))).unwrap();
    fs::remove_file(folder.path(Path::new(&place(2)))).unwrap();
    let look = folder.look(watched.begin()).unwrap();
    assert_eq!((look.files.len(), look.end.is_none()), (MAX_FILES, true));
    watched.turn(look.end, now);
    assert_eq!(watched.begin(), Path::new(""));
}

#[test]
fn files_are_claimed_once_and_only_as_they_were_found() {
    let (_dir, folder) = folder();
    let path = put(&folder, "a", "12");
    let found = look(&folder).remove(0);
    let first = claim(&folder, &found);
    assert!(matches!(folder.claim(&found), Claiming::Busy) || cfg!(not(unix)));
    drop(first);
    drop(claim(&folder, &found));
    let changes: [&dyn Fn(); 3] = [
        &|| fs::write(&path, "123").unwrap(),
        &|| {
            let other = folder.path(Path::new("b"));
            fs::write(&other, "12").unwrap();
            fs::rename(other, &path).unwrap();
        },
        &|| fs::remove_file(&path).unwrap(),
    ];
    for change in changes {
        change();
        assert!(matches!(folder.claim(&found), Claiming::Changed));
    }
}

#[test]
fn files_are_due_when_two_looks_found_them_alike() {
    let (_dir, folder) = folder();
    let (mut watched, start) = (Watched::default(), Instant::now());
    let path = put(&folder, "a", "1");
    watched.update(look(&folder), start);
    assert!(watched.due(start).is_empty());
    for length in 2..5 {
        fs::write(&path, "1".repeat(length)).unwrap();
        watched.update(look(&folder), start);
        assert!(watched.due(start).is_empty(), "it grows");
    }
    watched.update(look(&folder), start);
    assert_eq!(watched.due(start), [Path::new("a")]);
    put(&folder, "empty", "");
    watched.update(look(&folder), start);
    watched.update(look(&folder), start);
    assert_eq!(watched.due(start + Duration::from_secs(59)).len(), 1);
    assert_eq!(watched.due(start + Duration::from_secs(60)).len(), 2);
    fs::remove_file(path).unwrap();
    watched.update(look(&folder), start);
    assert!(watched.due(start).is_empty());
    assert_eq!(watched.len(), 1);
}

#[test]
fn failures_wait_longer_each_time_up_to_a_minute() {
    let (_dir, folder) = folder();
    let (mut watched, random) = (Watched::default(), Random::seeded(1));
    put(&folder, "a", "1");
    let mut now = Instant::now();
    watched.update(look(&folder), now);
    watched.update(look(&folder), now);
    for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
        watched.get_mut(Path::new("a")).unwrap().put_off(now, &random);
        let longest = Duration::from_secs(longest);
        assert!(
            watched
                .due(now + longest / 2 - Duration::from_millis(1))
                .is_empty()
        );
        now += longest;
        assert_eq!(watched.due(now).len(), 1);
    }
}

#[test]
fn what_landed_is_not_loaded_again_though_a_look_misses_it() {
    let (_dir, folder) = folder();
    let (mut watched, now) = (Watched::default(), Instant::now());
    put(&folder, "a", "1");
    let found = look(&folder);
    watched.update(found.clone(), now);
    watched.update(found.clone(), now);
    let claim = claim(&folder, &found[0]);
    watched.get_mut(Path::new("a")).unwrap().begin(landed(claim));
    watched.update(Vec::new(), now);
    watched.update(found, now);
    let work = &watched.get_mut(Path::new("a")).unwrap().work;
    assert!(matches!(work, Work::MoveLanded { .. }), "{work:?}");
}

#[test]
fn too_many_that_cannot_be_moved_stop_the_loading() {
    let (_dir, folder) = folder();
    let (mut watched, now) = (Watched::default(), Instant::now());
    for number in 0..=100 {
        put(&folder, &format!("{number:03}"), "1");
    }
    let found = look(&folder);
    watched.update(found.clone(), now);
    watched.update(found.clone(), now);
    for (place, found) in found.iter().take(100).enumerate() {
        assert_eq!(watched.due(now).len(), 101, "after {place}");
        let claim = claim(&folder, found);
        let watch = watched.get_mut(&found.name).unwrap();
        watch.begin(landed(claim));
    }
    assert_eq!(watched.due(now).len(), 100);
    watched.forget(Path::new("050"));
    assert_eq!(watched.due(now).len(), 100);
}

#[test]
fn files_of_one_name_are_all_kept() {
    let (dir, folder) = folder();
    let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
    for content in ["1", "2", "3"] {
        let from = put(&folder, "orders/a.json.gz", content);
        let to = folder.landed(Path::new("orders/a.json.gz"));
        let place = move_landed(&leaving(&from), &to, now).unwrap().unwrap();
        assert_eq!(fs::read_to_string(place).unwrap(), content);
    }
    assert_eq!(
        everything(dir.path()),
        [
            "landed/orders/a-20261121T032203.004Z-2.json.gz",
            "landed/orders/a-20261121T032203.004Z.json.gz",
            "landed/orders/a.json.gz",
        ]
    );
}

#[test]
fn refused_files_have_their_reason_beside_them() {
    let (dir, folder) = folder();
    let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
    let refusal = Refusal {
        kind: "rejected",
        message: "The file is cut.".to_owned(),
        table: Some("a.b".to_owned()),
    };
    let to = folder.refused(Path::new("x/a.json"));
    let mut places = Vec::new();
    for content in ["1", "2"] {
        let from = put(&folder, "x/a.json", content);
        let place = move_refused(&leaving(&from), &to, &refusal, now).unwrap();
        places.push(place.unwrap());
    }
    assert_eq!(
        everything(dir.path()),
        [
            "dead-letters/files/x/a-20261121T032203.004Z.json",
            "dead-letters/files/x/a-20261121T032203.004Z.json.reason.json",
            "dead-letters/files/x/a.json",
            "dead-letters/files/x/a.json.reason.json",
        ]
    );
    let reason = fs::read_to_string(places[0].with_extension("json.reason.json")).unwrap();
    let reason: serde_json::Value = serde_json::from_str(&reason).unwrap();
    assert_eq!(
        reason,
        serde_json::json!({
            "file": folder.path(Path::new("x/a.json")).display().to_string(),
            "table": "a.b",
            "reason": {"kind": "rejected", "message": "The file is cut."},
            "refused_at": "2026-11-21T03:22:03.004Z",
            "landfast_version": env!("CARGO_PKG_VERSION"),
        })
    );
}

#[test]
fn moves_that_fail_leave_nothing_behind() {
    let (dir, folder) = folder();
    let now = DateTime::UNIX_EPOCH;
    let gone = put(&folder, "gone", "1");
    let leaving = leaving(&gone);
    fs::remove_file(&gone).unwrap();
    let refusal = Refusal {
        kind: "no_route",
        message: String::new(),
        table: None,
    };
    let (landed, refused) = (
        folder.landed(Path::new("gone")),
        folder.refused(Path::new("gone")),
    );
    assert!(move_landed(&leaving, &landed, now).is_err());
    assert!(move_refused(&leaving, &refused, &refusal, now).is_err());
    assert_eq!(everything(dir.path()), Vec::<String>::new());
}

fn cut() -> Refusal {
    Refusal {
        kind: "rejected",
        message: "The file is cut.".to_owned(),
        table: None,
    }
}

/// Another file took the name after the last look at it: the move takes that one along.
#[test]
fn file_that_took_the_name_of_a_moved_one_is_back_and_not_moved() {
    let (dir, folder) = folder();
    let elsewhere = TempDir::new_in("/dev/shm").ok();
    let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
    let refusal = cut();
    let name = Path::new("orders/a.json");
    let others = elsewhere.iter().map(|other| other.path().join("a.json"));
    for to in [folder.landed(name), folder.refused(name)]
        .into_iter()
        .chain(others)
    {
        let from = put(&folder, "orders/a.json", "1");
        let id = landed_as(&from, "1");
        let found = leaving(&from);
        swap(&from, "2");
        assert_eq!(move_refused(&found, &to, &refusal, now).unwrap(), None);
        let found = Leaving {
            landed_as: Some(&id),
            ..found
        };
        assert_eq!(move_landed(&found, &to, now).unwrap(), None);
        assert_eq!(everything(dir.path()), ["landing/orders/a.json"], "{to:?}");
        assert_eq!(fs::read_to_string(&from).unwrap(), "2");
        assert_eq!(everything(to.parent().unwrap()), Vec::<String>::new());

        // The same bytes again are what landed, whatever file they are in.
        swap(&from, "1");
        assert_eq!(move_landed(&found, &to, now).unwrap(), Some(to.clone()));
        assert_eq!(fs::read_to_string(&to).unwrap(), "1");
        fs::remove_file(to).unwrap();
        assert_eq!(everything(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn rename_that_was_done_and_failed_loses_no_file() {
    let (dir, folder) = folder();
    let elsewhere = TempDir::new_in("/dev/shm").ok();
    let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
    let refusal = cut();
    let name = Path::new("a.json");
    for content in ["1", ""] {
        let from = put(&folder, "a.json", content);
        let id = landed_as(&from, content);
        let moved = Leaving {
            landed_as: Some(&id),
            rename: rename_and_fail,
            ..leaving(&from)
        };
        let to = move_landed(&moved, &folder.landed(name), now).unwrap().unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), content);
        fs::rename(to, &from).unwrap();
        let moved = Leaving {
            rename: rename_and_fail,
            ..leaving(&from)
        };
        let to = folder.refused(name);
        assert_eq!(
            move_refused(&moved, &to, &refusal, now).unwrap(),
            Some(to.clone())
        );
        assert_eq!(
            everything(dir.path()),
            [
                "dead-letters/files/a.json",
                "dead-letters/files/a.json.reason.json"
            ]
        );
        assert_eq!(fs::read_to_string(&to).unwrap(), content);
        fs::remove_dir_all(dir.path().join("dead-letters")).unwrap();

        // Another file, that nothing tells from the one that was to go, is kept too.
        let from = put(&folder, "a.json", content);
        let moved = Leaving {
            rename: rename_and_fail,
            ..leaving(&from)
        };
        swap(&from, "other");
        move_refused(&moved, &to, &refusal, now).unwrap_err();
        assert_eq!(fs::read_to_string(&to).unwrap(), "other");
        fs::remove_dir_all(dir.path().join("dead-letters")).unwrap();

        // Between file systems the file is moved aside, once its copy is there.
        let from = put(&folder, "a.json", content);
        let moved = Leaving {
            rename: |from, to| match to.starts_with("/dev/shm") {
                true => fs::rename(from, to),
                false => rename_and_fail(from, to),
            },
            ..leaving(&from)
        };
        if let Some(elsewhere) = &elsewhere {
            let to = elsewhere.path().join("a.json");
            assert_eq!(move_landed(&moved, &to, now).unwrap(), Some(to.clone()));
            assert_eq!(fs::read_to_string(&to).unwrap(), content);
            assert_eq!(everything(dir.path()), Vec::<String>::new());
            fs::remove_file(to).unwrap();
        }
        let _moved = fs::remove_file(from);
    }
}

#[test]
fn file_that_is_put_back_replaces_none() {
    let (_dir, folder) = folder();
    let now = DateTime::from_timestamp_millis(1_795_231_323_004).unwrap();
    let from = put(&folder, "a.json", "1");
    let id = landed_as(&from, "1");
    let moved = Leaving {
        landed_as: Some(&id),
        ..leaving(&from)
    };
    swap(&from, "2");
    let place = folder.landed(Path::new("a.json"));
    fs::rename(&from, &place).unwrap();
    put(&folder, "a.json", "3");
    moved.put_back(&place, now).unwrap();
    let content = |name: &str| fs::read_to_string(folder.path(Path::new(name))).unwrap();
    let found = look(&folder);
    assert_eq!(names(&found), ["a-20261121T032203.004Z.json", "a.json"]);
    assert_eq!(
        (content("a-20261121T032203.004Z.json"), content("a.json")),
        ("2".to_owned(), "3".to_owned())
    );
}
