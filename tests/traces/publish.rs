//! From a commit to its readers in BigQuery.

use hyper::Method;
use libtest_mimic::Trial;

use super::collector::{Collector, Manner};
use super::{OTHER_TRACE, SPAN, TRACE, only, push, traceparent};
use crate::publish::site::{SOON, Site, message};
use crate::support::bigquery::{Mishap, Sent};
use crate::support::server::Server;
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        publish_is_a_part_of_the_newest_commit_and_linked_to_the_others,
        publish_that_fails_is_a_span_that_failed,
    ]
}

async fn traced(site: &Site, collector: &Collector) -> TestResult<Server> {
    let mut command = site.command(&["serve"]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    Server::start(command).await
}

async fn publish_is_a_part_of_the_newest_commit_and_linked_to_the_others() -> TestResult {
    let (site, collector) = (Site::new().await?, Collector::start(Manner::Takes).await?);
    let server = traced(&site, &collector).await?;
    site.front.next(Method::POST, Mishap::Hold, 1);
    let parents = [
        traceparent(TRACE, SPAN, "01"),
        traceparent(&format!("{:032x}", 1), SPAN, "01"),
        traceparent(&format!("{:032x}", 2), SPAN, "00"),
        traceparent(OTHER_TRACE, SPAN, "01"),
    ];
    for (parent, id) in parents.iter().zip(0..) {
        assert_eq!(push(&server, parent, &message(id)).await?, 204);
        // The others come while the external table is being made of the first.
        wait_for("the creation", SOON, async || {
            let made = |sent: &Sent| sent.method == Method::POST;
            site.front.requests().iter().any(made).then_some(())
        })
        .await?;
    }
    site.front.release();
    let publishes = collector.named("publish", 2).await?;
    let commits = collector.named("commit", 3).await?;
    let commit = |trace: &str| {
        only(
            commits
                .iter()
                .filter(|span| span.trace == trace)
                .cloned()
                .collect(),
        )
    };
    let (first, second, last) = (commit(TRACE), commit(&format!("{:032x}", 1)), commit(OTHER_TRACE));
    let (made, moved) = (&publishes[0], &publishes[1]);
    assert_eq!((&made.trace, &made.parent), (&first.trace, &first.id));
    assert!(first.nanos.end <= made.nanos.start && made.links.is_empty() && !made.failed);
    assert_eq!((&moved.trace, &moved.parent), (&last.trace, &last.id));
    // The third is not kept.
    assert_eq!(moved.links, [(second.trace, second.id)]);
    let external = format!("p-test.{}.orders", site.front.dataset());
    for (span, outcome) in [(made, "created"), (moved, "moved")] {
        assert_eq!(span.attributes["outcome"], outcome);
        assert_eq!(span.attributes["table.ident"], "shop.orders");
        assert_eq!(span.attributes["external_table"], external);
    }
    let log = server.log();
    let told = log.lines().find(|line| line.contains("Made the external table."));
    assert!(told.is_some_and(|line| line.contains(TRACE)), "{log}");
    Ok(())
}

async fn publish_that_fails_is_a_span_that_failed() -> TestResult {
    let (site, collector) = (Site::new().await?, Collector::start(Manner::Takes).await?);
    let server = traced(&site, &collector).await?;
    site.front.next(None, Mishap::Refuse(403, "accessDenied"), 1_000);
    assert_eq!(
        push(&server, &traceparent(TRACE, SPAN, "01"), &message(0)).await?,
        204
    );
    let publish = only(collector.named("publish", 1).await?);
    assert!(publish.failed && publish.trace == TRACE, "{publish:?}");
    assert_eq!(publish.attributes["error.type"], "forbidden");
    assert_eq!(publish.attributes["outcome"], "refused");
    Ok(())
}
