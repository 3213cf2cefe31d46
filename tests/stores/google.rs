//! Who the process is to Google, whatever says so: one rule for the warehouse and for landed objects.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::json;
use tokio::time::sleep;

use super::identity::{NOT_THERE, show};
use super::serve::Site;
use crate::objects::site::{Site as LandingSite, rows};
use crate::support::bucket::{Bucket, Cloud};
use crate::support::front::Front;
use crate::support::google::{Google, Mood};
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::signing::SigningKey;
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        every_kind_of_credentials_opens_the_bucket,
        key_that_is_no_key_stops_a_command_before_anything_is_asked,
        login_that_was_revoked_is_told_without_what_was_sent,
        metadata_server_that_fails_for_a_moment_is_ridden_out,
        metadata_server_that_is_absent_or_silent_costs_a_bounded_wait,
        token_that_soon_ends_is_had_anew,
        landed_objects_are_read_as_whom_the_warehouse_is_written,
    ]
}

/// A bucket behind a front that keeps who asked.
struct Place {
    site: Site,
    front: Front,
}

impl Place {
    async fn new() -> TestResult<Self> {
        let bucket = Bucket::of(Cloud::Gcs).await?;
        let front = Front::before(bucket.endpoint()).await?;
        Ok(Self {
            site: Site::new(bucket, "")?,
            front,
        })
    }

    fn file(&self, name: &str, text: &str) -> TestResult<String> {
        let path: PathBuf = self.site.folder().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Asks for a table that is not there, with only these variables; what it said, its exit status, and as whom it asked.
    fn show(&self, variables: &[(&str, &str)]) -> TestResult<(String, Option<i32>, Vec<String>)> {
        let before = self.front.bearers("").len();
        let mut environment = vec![("GOOGLE_BASE_URL", self.front.url())];
        environment.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let (stderr, output) = show(&self.site, &environment)?;
        let asked = self.front.bearers("").split_off(before);
        Ok((stderr, output.status.code(), asked))
    }
}

fn service_account(key: &SigningKey) -> TestResult<String> {
    let key = json!({
        "type": "service_account", "project_id": "p-test", "private_key_id": "k1", "private_key": key.private_pem()?,
        "client_email": "lake@p-test.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1/token",
    });
    Ok(key.to_string())
}

async fn every_kind_of_credentials_opens_the_bucket() -> TestResult {
    let google = Google::start(&[Mood::Gives(3600)]).await?;
    let place = Place::new().await?;
    let subject = place.file("subject", "subject-s3cret")?;
    for (name, json, token) in [
        ("login", google.login(), "user-s3cret"),
        ("impersonated", google.impersonated(), "impersonated-s3cret"),
        ("federated", google.federated(&subject), "federated-s3cret"),
    ] {
        let file = place.file(name, &json.to_string())?;
        let (stderr, _, asked) = place.show(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)])?;
        assert!(stderr.contains(NOT_THERE), "{name}: {stderr}");
        assert_eq!(asked, [token]);
    }
    let (_, _, asked) = place.show(&[("GCE_METADATA_HOST", google.host())])?;
    assert_eq!(asked, ["machine-s3cret"]);
    // What `gcloud auth application-default login` leaves, in the folder of the user: it is `HOME` here.
    fs::create_dir_all(place.site.folder().join(".config/gcloud"))?;
    place.file(
        ".config/gcloud/application_default_credentials.json",
        &google.impersonated().to_string(),
    )?;
    place.show(&[])?;
    assert_eq!(
        place.front.last_headers()["authorization"],
        "Bearer impersonated-s3cret"
    );
    assert_eq!(
        google.asked(),
        1,
        "the metadata server is asked where nothing else is named"
    );

    // A key signs its tokens itself, and goes before the login.
    let key = SigningKey::new("k1")?;
    let text = service_account(&key)?;
    let file = place.file("key.json", &text)?;
    for (name, value) in [
        ("GOOGLE_SERVICE_ACCOUNT_PATH", &file),
        ("GOOGLE_SERVICE_ACCOUNT_KEY", &text),
        ("GOOGLE_APPLICATION_CREDENTIALS", &file),
    ] {
        let (stderr, _, _) = place.show(&[(name, value)])?;
        assert!(stderr.contains(NOT_THERE), "{name}: {stderr}");
        let bearer = place.front.last_headers()["authorization"].clone();
        let claims = key.read(bearer.to_str()?.trim_start_matches("Bearer "))?;
        assert_eq!(claims["iss"], "lake@p-test.iam.gserviceaccount.com");
        assert_eq!(claims["scope"], "https://www.googleapis.com/auth/cloud-platform");
    }
    Ok(())
}

async fn key_that_is_no_key_stops_a_command_before_anything_is_asked() -> TestResult {
    let place = Place::new().await?;
    let key = service_account(&SigningKey::new("k1")?)?;
    let file = place.file("key.json", &key)?;
    let other = place.file(
        "other.json",
        "{\"type\":\"gdch_service_account\",\"private_key\":\"s3cret\"}",
    )?;
    let half = place.file(
        "half.json",
        "{\"type\":\"service_account\",\"client_email\":\"s3cret@x\"}",
    )?;
    for (variables, told) in [
        (
            vec![
                ("GOOGLE_SERVICE_ACCOUNT_PATH", &*file),
                ("GOOGLE_SERVICE_ACCOUNT_KEY", &*key),
            ],
            "they are both set",
        ),
        (
            vec![("GOOGLE_APPLICATION_CREDENTIALS", &*other)],
            "a user's login, or an impersonated or federated identity",
        ),
        (
            vec![("GOOGLE_SERVICE_ACCOUNT_PATH", &*half)],
            "a service account's key as Google gives it",
        ),
        (
            vec![("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")],
            "entity not found",
        ),
    ] {
        let (stderr, code, asked) = place.show(&variables)?;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(
            stderr.contains(told) && stderr.contains(variables[0].0),
            "{stderr}"
        );
        assert!(!stderr.contains("BEGIN"), "{stderr}");
        assert_eq!(asked, Vec::<String>::new());
    }
    Ok(())
}

async fn login_that_was_revoked_is_told_without_what_was_sent() -> TestResult {
    let google = Google::distrustful().await?;
    let place = Place::new().await?;
    let subject = place.file("subject", "subject-s3cret")?;
    for json in [google.login(), google.impersonated(), google.federated(&subject)] {
        let file = place.file("adc.json", &json.to_string())?;
        let (stderr, code, asked) = place.show(&[("GOOGLE_APPLICATION_CREDENTIALS", &file)])?;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("invalid_grant: It was revoked."), "{stderr}");
        assert_eq!(asked, Vec::<String>::new());
    }
    Ok(())
}

async fn metadata_server_that_fails_for_a_moment_is_ridden_out() -> TestResult {
    let place = Place::new().await?;
    let slow = Mood::Slow(Duration::from_secs(3));
    for (moods, asked) in [
        (&[Mood::Answers(503), Mood::Closes, Mood::Gives(3600)][..], 3),
        (&[slow], 1),
    ] {
        let google = Google::start(moods).await?;
        let (stderr, _, bearers) = place.show(&[("GCE_METADATA_HOST", google.host())])?;
        assert!(stderr.contains(NOT_THERE), "{stderr}");
        assert!(bearers.is_empty() || bearers == ["machine-s3cret"], "{bearers:?}");
        assert_eq!(google.asked(), asked, "one request at a time");
    }
    Ok(())
}

async fn metadata_server_that_is_absent_or_silent_costs_a_bounded_wait() -> TestResult {
    let place = Place::new().await?;
    let silent = Google::start(&[Mood::Silent]).await?;
    // A machine without an account is told so at once.
    let refuses = Google::start(&[Mood::Answers(404)]).await?;
    for (host, within) in [
        ("127.0.0.1:1", 8..20),
        (silent.host(), 18..30),
        (refuses.host(), 0..5),
    ] {
        let start = Instant::now();
        let (stderr, code, asked) = place.show(&[("GCE_METADATA_HOST", host)])?;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("is the metadata server there"), "{stderr}");
        assert!(
            within.contains(&start.elapsed().as_secs()),
            "{host}: {:?}",
            start.elapsed()
        );
        assert_eq!(asked, Vec::<String>::new());
    }
    Ok(())
}

/// The library that has the tokens renews them; that it is asked each time is ours.
async fn token_that_soon_ends_is_had_anew() -> TestResult {
    let place = Place::new().await?;
    let lasts = Duration::from_secs(6);
    let google = Google::start(&[Mood::Named("first", lasts.as_secs()), Mood::Named("second", 3600)]).await?;
    let mut command = place.site.command(&["serve"]);
    for (name, _) in place.site.bucket().environment() {
        command.env_remove(name);
    }
    command
        .env("HOME", place.site.folder())
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .env("GOOGLE_BASE_URL", place.front.url())
        .env("GCE_METADATA_HOST", google.host());
    let server = Server::start(command).await?;
    let row = |id: i64| Push::json("orders", id, &json!({ "id": id }));
    assert_eq!(server.pusher().push(&row(1)).await, 204);
    assert_eq!(place.front.bearers("").first().map(String::as_str), Some("first"));
    sleep(lasts).await;
    let before = place.front.requests();
    assert_eq!(server.pusher().push(&row(2)).await, 204);
    let bearers = place.front.bearers_after(before);
    assert!(bearers.iter().all(|bearer| bearer == "second"), "{bearers:?}");
    assert_eq!((bearers.is_empty(), google.asked()), (false, 2));
    Ok(())
}

async fn landed_objects_are_read_as_whom_the_warehouse_is_written() -> TestResult {
    let site = LandingSite::new().await?;
    let front = Front::before(site.landing.server()).await?;
    let google = Google::start(&[Mood::Gives(3600)]).await?;
    let key = SigningKey::new("k1")?;
    for (id, (name, value)) in [
        ("GOOGLE_SERVICE_ACCOUNT_KEY", service_account(&key)?),
        ("GCE_METADATA_HOST", google.host().to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = landfast(["serve", "--config"]);
        command.arg(site.config()).env("HOME", site.lake.path());
        command.env_remove("GOOGLE_APPLICATION_CREDENTIALS");
        command.env("GOOGLE_BASE_URL", front.url()).env(name, value);
        let server = Server::start(command).await?;
        let id = i64::try_from(id)?;
        let put = site
            .landing
            .put(&format!("orders/{id}.json"), rows(id..id + 1))
            .await?;
        assert_eq!(
            server.pusher().push(&put.notification(&id.to_string())).await,
            204,
            "{name}"
        );
    }
    let bearers = front.bearers("orders/");
    assert_eq!(bearers.len(), 2, "{bearers:?}");
    assert_eq!(
        key.read(&bearers[0])?["iss"],
        "lake@p-test.iam.gserviceaccount.com"
    );
    assert_eq!(bearers[1], "machine-s3cret");
    assert_eq!(site.ids()?.1, 2);
    Ok(())
}
