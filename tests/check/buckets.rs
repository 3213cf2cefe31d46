//! On buckets, with a front before them that refuses: each refusal names the permission and the role.

use std::fs;
use std::path::PathBuf;

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;
use uuid::Uuid;

use super::{Checked, check};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::front::{Front, Mishap};
use crate::support::lake::Lake;
use crate::support::readers::{Sent, undocumented};
use crate::support::{Component, TestResult, needs, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        gcs_passes_and_nothing_is_left,
        s3_passes_and_nothing_is_left,
        permissions_that_are_missing_are_named_with_their_role,
        server_that_ignores_the_precondition_is_found_out,
        dead_letters_that_may_not_be_written_are_named,
        bucket_that_is_not_there_is_named,
        landing_bucket_is_asked_and_never_written_to,
        landing_bucket_that_may_not_be_read_is_named,
    ]
}

const FORBIDDEN: Mishap = Mishap::Answer(403, "<Error><Code>AccessDenied</Code></Error>");
const ALWAYS: usize = 100_000;

/// A configuration whose warehouse and dead letters are in a bucket.
struct Site {
    bucket: Bucket,
    folder: TempDir,
}

impl Site {
    fn new(bucket: Bucket) -> TestResult<Self> {
        let folder = tempfile::tempdir()?;
        let text = format!(
            "warehouse: {}\ncatalog: {{ type: storage }}\ndead_letters: {}\nserver: {{ push_auth: off }}\n\
             tables: {{ t.rows: {{ schema: [{{ name: id, type: long }}] }} }}\n",
            bucket.location("warehouse"),
            bucket.location("dead-letters"),
        );
        fs::write(folder.path().join("landfast.yaml"), text)?;
        Ok(Self { bucket, folder })
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("landfast.yaml")
    }

    async fn check(&self) -> TestResult<Checked> {
        check(&self.config(), &[], &self.bucket.environment()).await
    }

    /// Checks through a front that refuses these requests.
    async fn check_refused(&self, refused: &[(Method, &str)]) -> TestResult<Checked> {
        let front = Front::before(self.bucket.endpoint()).await?;
        for (method, part) in refused {
            front.next(method.clone(), part, FORBIDDEN, ALWAYS);
        }
        let through = self.bucket.through(&front.url());
        check(&self.config(), &[], &through.environment()).await
    }

    async fn is_empty(&self) -> TestResult {
        let mut keys = self.bucket.store("warehouse")?.keys("").await?;
        keys.extend(self.bucket.store("dead-letters")?.keys("").await?);
        assert_eq!(keys, [""; 0]);
        Ok(())
    }
}

async fn gcs_passes_and_nothing_is_left() -> TestResult {
    passes_and_leaves_nothing(Cloud::Gcs).await
}

async fn s3_passes_and_nothing_is_left() -> TestResult {
    passes_and_leaves_nothing(Cloud::S3).await
}

async fn passes_and_leaves_nothing(cloud: Cloud) -> TestResult {
    let site = Site::new(Bucket::of(cloud).await?)?;
    let checked = site.check().await?;
    checked.passed();
    assert!(checked.report["ceiling"]["messages_per_second"].as_u64() > Some(0));
    site.is_empty().await
}

async fn permissions_that_are_missing_are_named_with_their_role() -> TestResult {
    let site = Site::new(Bucket::of(Cloud::Gcs).await?)?;
    for (method, part, permission) in [
        (Method::PUT, "/landfast-check/", "storage.objects.create"),
        (Method::GET, "warehouse/object", "storage.objects.get"),
        (Method::GET, "prefix=", "storage.objects.list"),
        (Method::DELETE, "/landfast-check/", "storage.objects.delete"),
    ] {
        let checked = site.check_refused(&[(method, part)]).await?;
        assert!(checked.failed().contains(&"warehouse"), "{permission}");
        let (_, _, remedy) = checked.line("warehouse")?;
        let wanted = format!(
            "Give the service's account roles/storage.objectUser on the bucket lake ({permission} is missing)."
        );
        assert_eq!(remedy, wanted);
        let left = checked.left();
        if permission == "storage.objects.delete" {
            assert!(
                left.iter().any(|left| left.ends_with("/warehouse/object")),
                "{left:?}"
            );
        }
        for folder in ["warehouse", "dead-letters"] {
            site.bucket.store(folder)?.clear("landfast-check").await?;
        }
    }
    // What a commit writes is refused, and nothing else.
    let checked = site.check_refused(&[(Method::PUT, "/metadata/")]).await?;
    assert_eq!(checked.failed(), ["catalog"]);
    let (_, _, remedy) = checked.line("catalog")?;
    assert!(
        remedy.contains("roles/storage.objectUser on the bucket lake"),
        "{remedy}"
    );
    site.is_empty().await
}

async fn server_that_ignores_the_precondition_is_found_out() -> TestResult {
    let site = Site::new(Bucket::of(Cloud::Gcs).await?)?;
    let front = Front::before(site.bucket.endpoint()).await?;
    front.next(Method::PUT, "warehouse/object", Mishap::AnswerAfter(200), 2);
    let through = site.bucket.through(&front.url());
    let checked = check(&site.config(), &[], &through.environment()).await?;
    assert!(checked.failed().contains(&"warehouse"));
    site.is_empty().await
}

async fn dead_letters_that_may_not_be_written_are_named() -> TestResult {
    let site = Site::new(Bucket::of(Cloud::Gcs).await?)?;
    let checked = site
        .check_refused(&[(Method::PUT, "/dead-letters/landfast-check/")])
        .await?;
    assert_eq!(checked.failed(), ["dead letters"]);
    let (_, _, remedy) = checked.line("dead letters")?;
    assert!(remedy.contains("storage.objects.create is missing"), "{remedy}");
    site.is_empty().await
}

async fn bucket_that_is_not_there_is_named() -> TestResult {
    let site = Site::new(Bucket::of(Cloud::Gcs).await?)?;
    let text = fs::read_to_string(site.config())?.replace("gs://lake/", "gs://nobodys-lake/");
    fs::write(site.config(), text)?;
    let checked = site.check().await?;
    assert_eq!(
        checked.failed(),
        ["warehouse", "dead letters", "table", "catalog"]
    );
    let (_, _, remedy) = checked.line("warehouse")?;
    assert_eq!(
        remedy,
        "Make the bucket nobodys-lake, or name another: landfast makes none."
    );
    Ok(())
}

/// A configuration that lands a bucket of its own, a front before it, and what is asked there.
async fn landing(after: &str) -> TestResult<(Lake, Front, String)> {
    let server = needs(Component::Gcs)?;
    let name = format!("landing-{}", Uuid::new_v4().simple());
    let made = reqwest::Client::builder().no_proxy().build()?;
    let made = made.post(format!("{server}/storage/v1/b?project=p-test"));
    made.json(&json!({ "name": name }))
        .send()
        .await?
        .error_for_status()?;
    let lake = Lake::new()?;
    let table = format!(
        "tables: {{ t.rows: {{ from: [{{ bucket: {name} }}], after: {after}, schema: [{{ name: id, type: long }}] }} }}"
    );
    lake.config("", &table)?;
    Ok((lake, Front::before(&server).await?, name))
}

async fn asked(lake: &Lake, front: &Front) -> TestResult<Checked> {
    let config = lake.path().join("landfast.yaml");
    check(&config, &[], &[("STORAGE_EMULATOR_HOST", front.url())]).await
}

async fn landing_bucket_is_asked_and_never_written_to() -> TestResult {
    let (lake, front, name) = landing("move").await?;
    // The server does not know the question.
    let checked = asked(&lake, &front).await?;
    assert_eq!(checked.code, Some(0));
    let (outcome, told, remedy) = checked.line("landing bucket")?;
    assert_eq!(outcome, "warned");
    assert!(
        told.contains("is not known there") && remedy.contains(&name),
        "{told} {remedy}"
    );

    let may = |more: &'static str| Mishap::Answer(200, more);
    let all = "{\"kind\":\"storage#testIamPermissionsResponse\",\"permissions\":[\"storage.objects.get\",\
               \"storage.objects.list\",\"storage.objects.create\",\"storage.objects.delete\"]}";
    front.next(Method::GET, "testPermissions", may(all), 1);
    asked(&lake, &front).await?.passed();
    let some = "{\"permissions\":[\"storage.objects.get\",\"storage.objects.list\"]}";
    front.next(Method::GET, "testPermissions", may(some), 1);
    let checked = asked(&lake, &front).await?;
    assert_eq!(checked.failed(), ["landing bucket"]);
    let (_, _, remedy) = checked.line("landing bucket")?;
    let wanted = format!(
        "Give the service's account roles/storage.objectUser on the bucket {name} (storage.objects.delete, \
         storage.objects.create is missing)."
    );
    assert_eq!(remedy, wanted);

    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
        assert_eq!(front.count(&method, ""), 0, "{method}");
    }
    let about = front.seen().into_iter().filter(|(_, path)| !path.contains("/o/"));
    let sent: Vec<Sent> = about
        .map(|(method, path)| Sent {
            method: method.to_string(),
            path,
            body: None,
        })
        .collect();
    // The bucket itself, a listing of it, and the permissions, three times.
    assert_eq!(sent.len(), 9);
    assert_eq!(undocumented("storage.v1", &sent)?, [""; 0]);
    Ok(())
}

async fn landing_bucket_that_may_not_be_read_is_named() -> TestResult {
    let (lake, front, name) = landing("keep").await?;
    front.next(Method::GET, "/o/", Mishap::Answer(403, "{}"), ALWAYS);
    let checked = asked(&lake, &front).await?;
    assert_eq!(checked.failed(), ["landing bucket"]);
    let (_, _, remedy) = checked.line("landing bucket")?;
    assert_eq!(
        remedy,
        format!("Give the service's account roles/storage.objectViewer on the bucket {name}.")
    );
    let config = lake.path().join("landfast.yaml");
    let text = fs::read_to_string(&config)?.replace(&name, "nobodys-landing");
    fs::write(&config, text)?;
    let checked = asked(&lake, &front).await?;
    let (outcome, told, _) = checked.line("landing bucket")?;
    assert_eq!(outcome, "failed");
    assert!(told.contains("There is no such bucket."), "{told}");
    Ok(())
}
