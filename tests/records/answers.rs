//! What a caller is told of what the stages behind the trigger did: the router itself over an intake that does as told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iceberg::TableIdent;
use landfast::clock::SystemClock;
use landfast::config::table_ident;
use landfast::error::{Error, ErrorKind};
use landfast::random::Random;
use landfast::telemetry::Seldom;
use landfast::trigger::{
    Access, Delivery, DeliveryId, Intake, Limits, ObjectEvent, Push, Pushers, Receipt, Server, router,
};
use libtest_mimic::Trial;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::push::Pusher;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        outcomes_become_answers,
        rows_that_are_not_through_by_the_deadline_may_yet_land,
        slow_body_leaves_half_of_the_time_for_the_commit,
    ]
}

type Outcome = Option<Result<Receipt, Error>>;

/// Does with every delivery what it is told: acknowledges, refuses, or (`None`) keeps it.
#[derive(Default)]
struct Told {
    outcome: Mutex<Option<Outcome>>,
    kept: Mutex<Vec<Delivery>>,
    taken: AtomicUsize,
}

impl Told {
    fn tell(&self, outcome: Outcome) {
        *self.outcome.lock().expect("not poisoned") = Some(outcome);
    }
}

impl Intake for Told {
    fn has_bucket(&self, _bucket: &str) -> bool {
        false
    }

    fn accept_object(&self, _object: ObjectEvent, delivery: Delivery) {
        drop(delivery);
    }

    fn identify(&self, push: &Push) -> DeliveryId {
        DeliveryId::message(&push.subscription, &push.message_id, push.publish_time)
    }

    fn accept(&self, delivery: Delivery) {
        drop(delivery);
    }

    fn accept_undecodable(&self, delivery: Delivery, _raw: Bytes) {
        drop(delivery);
    }

    fn named_table(&self, name: &str) -> Result<TableIdent, Error> {
        table_ident(name)
    }

    fn accept_rows(&self, table: TableIdent, delivery: Delivery) {
        assert_eq!(table.to_string(), "t.rows");
        self.taken.fetch_add(1, Ordering::Relaxed);
        match self.outcome.lock().expect("not poisoned").take() {
            Some(Some(Ok(receipt))) => delivery.ack.ack(receipt),
            Some(Some(Err(error))) => delivery.ack.nack(error),
            Some(None) => self.kept.lock().expect("not poisoned").push(delivery),
            None => drop(delivery),
        }
    }
}

/// Serves until the test's runtime ends; gives a client and the limits.
async fn serve(intake: Arc<Told>, ack_deadline: Duration) -> TestResult<(Pusher, Arc<Limits>)> {
    let limits = Limits::new(1 << 20, 10);
    let server = Server {
        intake,
        limits: limits.clone(),
        clock: Arc::new(SystemClock),
        random: Arc::new(Random::seeded(1)),
        metrics: PrometheusBuilder::new().build_recorder().handle(),
        pushers: Pushers::Anyone,
        access: Access::Loopback,
        page: None,
        max_body_bytes: 1000,
        ack_deadline,
        refusals: Seldom::default(),
        draining: AtomicBool::new(false),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, router(Arc::new(server))).into_future());
    Ok((Pusher::new(&url), limits))
}

async fn post(pusher: &Pusher) -> TestResult<(u16, bool, Value)> {
    let answer = pusher
        .post("/v1/tables/t.rows/records", "application/json", "{}")
        .await?;
    let (status, again) = (
        answer.status().as_u16(),
        answer.headers().contains_key("retry-after"),
    );
    Ok((status, again, serde_json::from_str(&answer.text().await?)?))
}

async fn outcomes_become_answers() -> TestResult {
    let intake = Arc::new(Told::default());
    let (pusher, limits) = serve(intake.clone(), Duration::from_secs(60)).await?;
    let receipt = Receipt {
        row_count: 7,
        dead_letter_count: 2,
        snapshot_id: Some(i64::MAX),
        duplicate: false,
    };
    intake.tell(Some(Ok(receipt)));
    let landed = json!({"rows": 7, "dead_letters": 2, "snapshot_id": "9223372036854775807"});
    assert_eq!(post(&pusher).await?, (200, false, landed));
    for (kind, status, again) in [
        (ErrorKind::Unavailable, 503, true),
        (ErrorKind::ShuttingDown, 503, true),
        (ErrorKind::OutcomeUnknown, 503, true),
        (ErrorKind::Conflict, 503, true),
        (ErrorKind::NotFound, 503, true),
        (ErrorKind::Full, 429, true),
        (ErrorKind::TableMismatch, 500, false),
        (ErrorKind::Rejected, 500, false),
    ] {
        intake.tell(Some(Err(Error::new(kind, "It went wrong so."))));
        let (told, comes_again, document) = post(&pusher).await?;
        assert_eq!((told, comes_again), (status, again), "{kind:?}");
        assert_eq!(
            (&document["kind"], &document["detail"]),
            (&json!(kind.name()), &json!("It went wrong so."))
        );
    }
    // An ack handle that is let go is no success.
    let (status, again, _) = post(&pusher).await?;
    assert_eq!((status, again), (503, true));
    assert_eq!(intake.taken.load(Ordering::Relaxed), 10);
    assert_eq!((limits.held_bytes(), limits.held_requests()), (0, 0));
    Ok(())
}

async fn rows_that_are_not_through_by_the_deadline_may_yet_land() -> TestResult {
    let intake = Arc::new(Told::default());
    let (pusher, limits) = serve(intake.clone(), Duration::from_millis(400)).await?;
    intake.tell(None);
    let started = Instant::now();
    let (status, again, document) = post(&pusher).await?;
    assert_eq!((status, again), (503, true));
    assert!(started.elapsed() >= Duration::from_millis(380));
    assert!(document.to_string().contains("may yet land"), "{document}");
    // Whoever keeps the delivery keeps its share of the limits.
    assert_eq!((limits.held_bytes(), limits.held_requests()), (2, 1));
    intake.kept.lock().expect("not poisoned").clear();
    assert_eq!((limits.held_bytes(), limits.held_requests()), (0, 0));
    Ok(())
}

/// Sends a byte of its body now and then; another one beside it lands.
async fn slow_body_leaves_half_of_the_time_for_the_commit() -> TestResult {
    let intake = Arc::new(Told::default());
    let (pusher, limits) = serve(intake.clone(), Duration::from_secs(12)).await?;
    let address = pusher.url().trim_start_matches("http://").to_owned();
    let started = Instant::now();
    let mut slow = TcpStream::connect(address).await?;
    let head = "POST /v1/tables/t.rows/records HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 500\r\n\r\n{";
    slow.write_all(head.as_bytes()).await?;
    wait_for("the slow request", Duration::from_secs(3), async || {
        (limits.held_requests() == 1).then_some(())
    })
    .await?;
    intake.tell(Some(Ok(Receipt::default())));
    assert_eq!(post(&pusher).await?.0, 200);
    let mut answer = vec![0; 1000];
    let count = slow.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    // Of 12 s, half is for the answer's way, and half of the rest for the commit.
    let took = started.elapsed();
    assert!((2_900..9_000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(intake.taken.load(Ordering::Relaxed), 1);
    assert_eq!((limits.held_bytes(), limits.held_requests()), (0, 0));
    Ok(())
}
