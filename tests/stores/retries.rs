//! Servers that are slow to agree: what is tried again, for how long, and what a repeated request may meet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Method;
use landfast::catalog::{Catalog, Outcome, StorageCatalog, TableCommit};
use landfast::clock::SystemClock;
use landfast::error::ErrorKind;
use landfast::storage::{Creation, PART_BYTES, Store};
use libtest_mimic::Trial;

use crate::support::bucket::{Bucket, Cloud, S3Server};
use crate::support::front::{Front, Mishap};
use crate::support::gcs::GcsFront;
use crate::support::tables::{create, orders};
use crate::support::{TestResult, test, trials, wait_for};

/// Every case on every cloud.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {{
        let mut trials = Vec::new();
        for cloud in [Cloud::S3, Cloud::Gcs] {
            $(trials.push(test(
                &format!("{}::{}::{cloud:?}", module_path!(), stringify!($case)),
                move || async move { $case(&Fronted::new(cloud).await?).await },
            ));)*
        }
        trials
    }};
}

pub fn tests() -> Vec<Trial> {
    let mut tests = on_both![
        refusals_that_pass_are_ridden_out,
        repeated_create_may_meet_its_own_success,
        commit_that_meets_its_own_success_is_a_conflict,
        conflict_at_the_same_moment_is_no_proof,
        refusals_are_told_without_what_was_signed,
        parts_of_a_file_that_is_not_made_are_given_up,
    ];
    tests.extend(trials![
        wrong_key_is_told_without_what_was_signed,
        server_that_is_gone_costs_a_bounded_wait,
        name_that_is_written_too_often_waits,
    ]);
    tests
}

/// A store behind a front on the server of the test run, and the same without it.
struct Fronted {
    front: Front,
    store: Store,
    truth: Store,
    _bucket: Bucket,
}

impl Fronted {
    async fn new(cloud: Cloud) -> TestResult<Self> {
        let bucket = Bucket::of(cloud).await?;
        let front = Front::before(bucket.endpoint()).await?;
        Ok(Self {
            store: bucket.through(&front.url()).store("warehouse")?,
            truth: bucket.store("warehouse")?,
            front,
            _bucket: bucket,
        })
    }
}

async fn refusals_that_pass_are_ridden_out(at: &Fronted) -> TestResult {
    let Fronted {
        front, store, truth, ..
    } = at;
    let body = Bytes::from_static(b"x");
    for status in [429, 500, 503] {
        let key = format!("version-hint.{status}");
        front.next(Method::PUT, &key, Mishap::Answer(status, ""), 3);
        store.put(&key, body.clone()).await?;
        assert_eq!(front.count(&Method::PUT, &key), 4);
        front.next(Method::GET, &key, Mishap::Answer(status, ""), 2);
        assert_eq!(store.get(&key).await?, Some(body.clone()));
        front.next(Method::HEAD, &key, Mishap::Answer(status, ""), 2);
        assert!(store.stat(&key).await?.is_some());
        front.next(Method::DELETE, &key, Mishap::Answer(status, ""), 2);
        store.delete(&key).await?;
        assert_eq!(truth.get(&key).await?, None);
    }
    front.next(Method::GET, "list-type", Mishap::Answer(503, ""), 2);
    assert_eq!(store.keys("").await?, Vec::<String>::new());
    front.next(Method::POST, "uploads", Mishap::Answer(503, ""), 1);
    front.next(Method::PUT, "partNumber=2", Mishap::ResetAfter, 1);
    front.next(Method::POST, "uploadId", Mishap::Answer(503, ""), 1);
    let mut upload = store.upload("large")?;
    upload.write(vec![7; 2 * PART_BYTES + 1].into()).await?;
    upload.finish().await?;
    let large = truth.get("large").await?.ok_or("it was written")?;
    assert!(large == vec![7; 2 * PART_BYTES + 1]);
    Ok(())
}

async fn parts_of_a_file_that_is_not_made_are_given_up(at: &Fronted) -> TestResult {
    let Fronted {
        front, store, truth, ..
    } = at;
    front.next(Method::POST, "uploadId", Mishap::Answer(403, ""), 1);
    let mut upload = store.upload("refused")?;
    upload.write(vec![7; PART_BYTES].into()).await?;
    upload.finish().await.expect_err("it is refused");
    wait_for("the parts to be given up", Duration::from_secs(60), async || {
        (front.count(&Method::DELETE, "uploadId") == 1).then_some(())
    })
    .await?;
    assert_eq!(truth.get("refused").await?, None);
    Ok(())
}

async fn repeated_create_may_meet_its_own_success(at: &Fronted) -> TestResult {
    let Fronted {
        front, store, truth, ..
    } = at;
    for (key, mishap) in [("v1", Mishap::AnswerAfter(503)), ("v2", Mishap::ResetAfter)] {
        front.next(Method::PUT, key, mishap.clone(), 1);
        let created = store.create(key, Bytes::from_static(b"mine")).await;
        match created {
            // The repetition found the name taken, by its first copy.
            Ok(created) => assert_eq!(created, Creation::Exists, "{mishap:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{mishap:?}"),
        }
        assert_eq!(truth.get(key).await?.as_deref(), Some(b"mine".as_slice()));
    }
    Ok(())
}

async fn commit_that_meets_its_own_success_is_a_conflict(at: &Fronted) -> TestResult {
    let Fronted {
        front, store, truth, ..
    } = at;
    let catalog = StorageCatalog::new(store.clone(), Arc::new(SystemClock));
    let base = create(&catalog, &orders()).await?;
    front.next(Method::PUT, "v2.metadata.json", Mishap::AnswerAfter(503), 1);
    let commit = TableCommit {
        requirements: Vec::new(),
        updates: vec![iceberg::TableUpdate::SetProperties {
            updates: [("a".to_owned(), "1".to_owned())].into(),
        }],
    };
    let outcome = catalog.commit_table(&base, commit).await;
    // It landed, and nobody here can know it: the next load tells, and a ledger in it which deliveries it has.
    assert!(matches!(outcome, Outcome::Conflict(_)), "{outcome:?}");
    let truth = StorageCatalog::new(truth.clone(), Arc::new(SystemClock));
    let now = truth.load_table(&orders()).await?;
    assert_eq!(now.metadata().properties()["a"], "1");
    Ok(())
}

async fn conflict_at_the_same_moment_is_no_proof(at: &Fronted) -> TestResult {
    let Fronted {
        front, store, truth, ..
    } = at;
    let conflict = "<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>";
    front.next(Method::PUT, "letter", Mishap::Answer(409, conflict), 1);
    // The name is free: whoever took it for taken would lose what was to be kept under it.
    let created = store.create("letter", Bytes::from_static(b"x")).await;
    assert_eq!(created.map_err(|error| error.kind()), Err(ErrorKind::Unavailable));
    truth.put("letter", Bytes::from_static(b"y")).await?;
    front.next(Method::PUT, "letter", Mishap::Answer(409, conflict), 1);
    let created = store.create("letter", Bytes::from_static(b"x")).await?;
    assert_eq!(created, Creation::Exists);
    Ok(())
}

async fn refusals_are_told_without_what_was_signed(at: &Fronted) -> TestResult {
    let Fronted { front, store, .. } = at;
    let answer = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>It does not match.</Message>\
                  <CanonicalRequest>x-amz-security-token:s3cret</CanonicalRequest></Error>";
    front.next(Method::PUT, "x", Mishap::Answer(403, answer), 1);
    let error = store.put("x", Bytes::new()).await.expect_err("it is refused");
    let report = error.report();
    assert!(
        report.contains("SignatureDoesNotMatch: It does not match."),
        "{report}"
    );
    assert!(report.contains("403") && !report.contains("s3cret"), "{report}");

    Ok(())
}

async fn wrong_key_is_told_without_what_was_signed() -> TestResult {
    let bucket = Bucket::s3()?;
    let mut properties = bucket.properties();
    properties.insert("s3.secret-access-key".to_owned(), "wr0ng-s3cret".to_owned());
    let store = Store::open_with(&bucket.location("w"), &properties)?;
    let error = store.get("x").await.expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let report = format!("{error:?}");
    assert!(report.contains("403") && report.contains("Signature"), "{report}");
    assert!(
        !report.contains("s3cret") && !report.contains("StringToSign"),
        "{report}"
    );
    Ok(())
}

async fn server_that_is_gone_costs_a_bounded_wait() -> TestResult {
    let server = S3Server::start()?;
    let store = Bucket::s3_at(server.endpoint()).store("w")?;
    store.put("x", Bytes::from_static(b"1")).await?;
    server.kill()?;
    let start = Instant::now();
    let error = store
        .put("x", Bytes::from_static(b"2"))
        .await
        .expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let waited = start.elapsed();
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(30)).contains(&waited),
        "{waited:?}"
    );
    // One that comes back within that time is not noticed.
    let (put, back) = tokio::join!(store.put("x", Bytes::from_static(b"3")), async {
        server.restart()
    });
    put?;
    back?;
    assert_eq!(store.get("x").await?.as_deref(), Some(b"3".as_slice()));
    Ok(())
}

async fn name_that_is_written_too_often_waits() -> TestResult {
    let front = Arc::new(GcsFront::start().await?);
    let store = Bucket::gcs(front.clone()).store("w")?;
    for hint in ["1", "2", "3"] {
        store.put("version-hint.text", hint.into()).await?;
    }
    assert!(front.slowed() >= 2, "{}", front.slowed());
    assert_eq!(
        store.get("version-hint.text").await?.as_deref(),
        Some(b"3".as_slice())
    );
    Ok(())
}
