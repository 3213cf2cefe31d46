//! What every store promises, run on each of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::try_join_all;
use landfast::error::ErrorKind;
use landfast::storage::{Creation, Object, PART_BYTES, Store};
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::support::bucket::{Bucket, Cloud, S3Server};
use crate::support::gcs::GcsFront;
use crate::support::{TestResult, test, trials, wait_for};

#[derive(Debug, Clone, Copy)]
enum Backend {
    Memory,
    Disk,
    S3,
    Gcs,
}

/// A store, and what it lies in.
type Place = (Store, Option<TempDir>, Option<Bucket>);

impl Backend {
    const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::S3, Self::Gcs];

    async fn open(self) -> TestResult<Place> {
        Ok(match self {
            Self::Memory => (Store::open("memory:///w")?, None, None),
            Self::Disk => {
                let folder = tempfile::tempdir()?;
                let location = format!("file://{}", folder.path().display());
                (Store::open(&location)?, Some(folder), None)
            }
            Self::S3 => Self::in_cloud(Cloud::S3).await?,
            Self::Gcs => Self::in_cloud(Cloud::Gcs).await?,
        })
    }

    async fn in_cloud(cloud: Cloud) -> TestResult<Place> {
        let bucket = Bucket::of(cloud).await?;
        Ok((bucket.store("a prefix/é")?, None, Some(bucket)))
    }
}

/// Every case on every store.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {{
        let mut trials = Vec::new();
        for backend in Backend::ALL {
            $(trials.push(test(
                &format!("{}::{}::{backend:?}", module_path!(), stringify!($case)),
                move || async move {
                    let (store, _folder, _bucket) = backend.open().await?;
                    $case(&store).await
                },
            ));)*
        }
        trials
    }};
}

pub fn tests() -> Vec<Trial> {
    let mut tests = contract![
        concurrent_creators_have_one_winner,
        objects_are_written_read_and_deleted,
        names_of_other_worlds_are_kept,
        listings_tell_what_is_in_a_folder,
        listings_of_many_pages_are_whole,
        large_objects_come_whole_or_not_at_all,
        age_is_told_by_the_stores_clock,
    ];
    tests.extend(trials![
        dropped_upload_gives_up_its_parts,
        wrong_settings_are_refused_without_a_secret
    ]);
    tests
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn concurrent_creators_have_one_winner(store: &Store) -> TestResult {
    for round in 0..6 {
        let key = format!("t/metadata/v{round}.metadata.json");
        let create = async |creator: usize| {
            let content = format!("{creator}").repeat(1 + creator * 500);
            store.create(&key, bytes(&content)).await
        };
        let created = try_join_all((0..24).map(create)).await?;
        let winners: Vec<usize> = (0..24).filter(|at| created[*at] == Creation::Created).collect();
        let &[winner] = winners.as_slice() else {
            return Err(format!("round {round}: {winners:?} all created it").into());
        };
        let expected = bytes(&format!("{winner}").repeat(1 + winner * 500));
        assert_eq!(store.get(&key).await?, Some(expected));
        assert_eq!(store.create(&key, bytes("late")).await?, Creation::Exists);
    }
    Ok(())
}

async fn objects_are_written_read_and_deleted(store: &Store) -> TestResult {
    assert_eq!(store.get("a/x").await?, None);
    assert_eq!(store.stat("a/x").await?, None);
    assert_eq!(store.get_range("a/x", 0..1).await?, None);
    store.put("a/x", bytes("first")).await?;
    store.put("a/x", bytes("second")).await?;
    assert_eq!(store.get("a/x").await?, Some(bytes("second")));
    assert_eq!(store.get_range("a/x", 1..4).await?, Some(bytes("eco")));
    // A range may go past the end, not begin there.
    assert_eq!(store.get_range("a/x", 4..100).await?, Some(bytes("nd")));
    let beyond = store
        .get_range("a/x", 100..101)
        .await
        .map_err(|error| error.kind());
    assert_eq!(beyond, Err(ErrorKind::Unavailable));
    assert_eq!(store.stat("a/x").await?.map(|object| object.byte_count), Some(6));
    store.put("a/empty", Bytes::new()).await?;
    assert_eq!(store.get("a/empty").await?, Some(Bytes::new()));

    store.delete("a/x").await?;
    // Whether it was there a cloud does not know.
    store.delete("a/x").await?;
    assert_eq!(store.get("a/x").await?, None);
    assert_eq!(store.create("a/x", bytes("third")).await?, Creation::Created);
    Ok(())
}

async fn names_of_other_worlds_are_kept(store: &Store) -> TestResult {
    let keys = [
        "t/k=a%2Fb/x.parquet",
        "t/k=a b/+&'.parquet",
        "t/k=été/\u{1f9ca}.parquet",
        "t/k=a:b,c/~.parquet",
    ];
    for key in keys {
        store.put(key, bytes(key)).await?;
        assert_eq!(store.key(&store.url(key))?, key);
        assert_eq!(store.get(key).await?, Some(bytes(key)), "{key}");
        assert_eq!(
            store.stat(key).await?.map(|object| object.key),
            Some(key.to_owned())
        );
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(store.keys("t").await?, sorted);
    Ok(())
}

async fn listings_tell_what_is_in_a_folder(store: &Store) -> TestResult {
    for key in [
        "t/metadata/v1",
        "t/metadata/v2",
        "t/metadata/v3",
        "t/metadata/v2/deep",
        "t/data/x",
        "tt/y",
        "z",
    ] {
        store.put(key, bytes(key)).await.or_else(|error| match key {
            // A disk has no file and folder of one name.
            "t/metadata/v2/deep" => Ok(()),
            _ => Err(error),
        })?;
    }
    let mut after = store.names_after("t/metadata", "v1").await?;
    after.sort();
    assert_eq!(after, ["v2", "v3"]);
    assert_eq!(store.names_after("none", "v").await?, Vec::<String>::new());
    assert_eq!(store.folders("t").await?, ["data", "metadata"]);
    assert_eq!(store.folders("").await?, ["t", "tt"]);
    assert_eq!(store.folders("none").await?, Vec::<String>::new());
    assert_eq!(store.keys("t/data").await?, ["t/data/x"]);
    assert_eq!(store.keys("none").await?, Vec::<String>::new());
    assert!(store.keys("").await?.contains(&"z".to_owned()));
    Ok(())
}

async fn listings_of_many_pages_are_whole(store: &Store) -> TestResult {
    let keys: BTreeSet<String> = (0..1_050).map(|at| format!("t/metadata/v{at:05}")).collect();
    for some in keys.iter().collect::<Vec<_>>().chunks(50) {
        try_join_all(some.iter().map(|key| store.put(key, Bytes::from_static(b"x")))).await?;
    }
    let listed: BTreeSet<String> = store.keys("t").await?.into_iter().collect();
    assert_eq!(listed, keys);
    assert_eq!(store.names_after("t/metadata", "v00005").await?.len(), 1_050 - 6);
    let objects: Vec<Object> = store.objects("t/metadata")?.try_collect().await?;
    assert_eq!(objects.len(), 1_050);
    Ok(())
}

async fn large_objects_come_whole_or_not_at_all(store: &Store) -> TestResult {
    for (name, length) in [
        ("small", 100),
        ("exact", 2 * PART_BYTES),
        ("large", 2 * PART_BYTES + 7),
    ] {
        let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut upload = store.upload(name)?;
        for piece in content.chunks(PART_BYTES + 3) {
            upload.write(Bytes::copy_from_slice(piece)).await?;
        }
        assert_eq!(store.get(name).await?, None);
        upload.finish().await?;
        assert!(
            store.get(name).await?.is_some_and(|found| found == content),
            "{name}"
        );
        let end = length as u64;
        let range = end - 50..end;
        let tail = store.get_range(name, range.clone()).await?;
        assert_eq!(tail.as_deref(), Some(&content[range.start as usize..]));
    }
    Ok(())
}

async fn age_is_told_by_the_stores_clock(store: &Store) -> TestResult {
    // A header tells whole seconds.
    let before = chrono::Utc::now() - chrono::TimeDelta::seconds(2);
    store.put("t/a", bytes("1")).await?;
    let listed: Vec<Object> = store.objects("t")?.try_collect().await?;
    let asked = store.stat("t/a").await?.ok_or("it was just written")?;
    for object in [&listed[0], &asked] {
        assert_eq!((object.key.as_str(), object.byte_count), ("t/a", 1));
        assert!(
            (before..=chrono::Utc::now()).contains(&object.modified),
            "{object:?}"
        );
    }
    Ok(())
}

async fn dropped_upload_gives_up_its_parts() -> TestResult {
    let server = S3Server::start()?;
    let store = Bucket::s3_at(server.endpoint()).store("w")?;
    let parts = || -> TestResult<usize> {
        let files = crate::support::lake::files(&server.bucket_folder())?;
        Ok(files.len())
    };
    let before = parts()?;
    let mut upload = store.upload("a/b")?;
    upload.write(vec![0; 2 * PART_BYTES].into()).await?;
    assert!(parts()? > before);
    assert_eq!(store.get("a/b").await?, None);
    drop(upload);
    let within = Duration::from_secs(10);
    wait_for("S3's parts to go", within, async || {
        (parts().ok()? == before).then_some(())
    })
    .await?;

    let front = Arc::new(GcsFront::start().await?);
    let mut upload = Bucket::gcs(front.clone()).store("w")?.upload("a/b")?;
    upload.write(vec![0; 2 * PART_BYTES].into()).await?;
    assert_eq!(front.open_uploads(), 1);
    drop(upload);
    wait_for("Google's parts to go", within, async || {
        (front.open_uploads() == 0).then_some(())
    })
    .await
}

async fn wrong_settings_are_refused_without_a_secret() -> TestResult {
    for (location, name, value, word) in [
        (
            "s3://lake/w",
            "s3.endpoint",
            "http://key:s3cret@host",
            "AWS_ENDPOINT_URL",
        ),
        ("s3://lake/w", "s3.endpoint", "lake.example", "`https://HOST`"),
        (
            "s3://lake/w",
            "s3.endpoint",
            "http://host/?x=s3cret",
            "without a user",
        ),
        (
            "s3://lake/w",
            "s3.access-key-id",
            "s3cret",
            "credentials or settings",
        ),
        (
            "gs://lake/w",
            "gcs.service.host",
            "ftp://s3cret",
            "STORAGE_EMULATOR_HOST",
        ),
        ("az://lake/w", "s3.region", "x", "s3://, gs:// and file:///"),
    ] {
        let properties = [(name.to_owned(), value.to_owned())].into();
        let error = Store::open_with(location, &properties)
            .map(drop)
            .expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Config, "{location} {name}");
        assert!(
            error.report().contains(word) && !error.report().contains("s3cret"),
            "{}",
            error.report()
        );
    }
    // Whoever prints a store tells where it is, and nothing else.
    let properties = [
        ("s3.access-key-id", "s3cret-id"),
        ("s3.secret-access-key", "s3cret"),
        ("s3.session-token", "s3cret"),
    ];
    let properties = properties
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let store = Store::open_with("s3://lake/w/", &properties)?;
    assert_eq!(format!("{store:?}"), "Store { root: \"s3://lake/w\", .. }");
    let token = [("gcs.oauth2.token".to_owned(), "s3cret".to_owned())].into();
    let store = Store::open_with("gs://lake", &token)?;
    assert_eq!(format!("{store:?}"), "Store { root: \"gs://lake\", .. }");
    Ok(())
}
