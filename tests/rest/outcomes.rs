//! Every way a commit can end, each checked against what the server then holds.

use std::sync::Arc;
use std::time::Duration;

use iceberg::TableUpdate;
use landfast::catalog::{Catalog, Outcome, TableCommit};
use landfast::commit::ChangeSet;
use landfast::error::{Action, ErrorKind};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use super::{World, Writer, commits};
use crate::support::faults::Gate;
use crate::support::proxy::{Call, Trouble};
use crate::support::tables::{create, orders};
use crate::support::{TestResult, trials, wait_for};

pub fn tests() -> Vec<Trial> {
    trials![
        commit_that_was_not_sent_on_is_unknown_and_sent_once,
        commit_whose_answer_is_lost_is_unknown_and_found_landed,
        silent_server_is_unknown_after_the_time_for_a_request,
        late_commit_loses_to_its_retry,
        retry_loses_to_the_late_commit,
        repeated_commit_lands_once,
        answer_that_does_not_show_the_commit_is_unknown,
        answer_with_a_later_state_is_unknown_and_found_landed,
        used_up_sequence_number_is_a_conflict,
        changes_that_fit_no_table_are_rejected_without_effect,
        dropped_table_is_not_found_by_a_commit,
        page_of_a_proxy_is_no_missing_table,
        redirect_is_rejected_and_not_followed,
        refused_connection_is_known_not_to_be_sent,
        rejection_names_the_servers_words,
    ]
}

async fn commit_that_was_not_sent_on_is_unknown_and_sent_once() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    let before = world.truth().await?;
    for trouble in [
        Trouble::Answer(503),
        Trouble::RetryAfter(429, 1),
        Trouble::Answer(500),
        Trouble::Page(502),
        Trouble::Reset,
    ] {
        let sent = commits(&world);
        world.proxy.once(Call::Commit, trouble);
        let mut changes = writer.row(1).await?;
        let error = writer.attempt(&mut changes).await.expect_err("it is troubled");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        assert_eq!(error.kind().action(), Action::Retry);
        assert_eq!(commits(&world), sent + 1, "a commit is not sent again inside");
        assert_eq!(world.truth().await?, before);
        assert_eq!(writer.reload(&changes).await?, (false, false));
    }
    writer.append(1).await?;
    assert_eq!(world.ids().await?, [0, 1]);
    Ok(())
}

async fn commit_whose_answer_is_lost_is_unknown_and_found_landed() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    let mut expected = vec![0];
    for (id, trouble) in (1..).zip([
        Trouble::AnswerAfter(504),
        Trouble::AnswerAfter(500),
        Trouble::AnswerAfter(429),
        Trouble::ResetAfter,
    ]) {
        world.proxy.once(Call::Commit, trouble);
        let mut changes = writer.row(id).await?;
        let error = writer
            .attempt(&mut changes)
            .await
            .expect_err("its answer is lost");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        expected.push(id);
        assert_eq!(world.ids().await?, expected, "it landed, unheard");
        // The same fence again: the first attempt is in the way, not doubled.
        let again = writer.attempt(&mut changes).await.expect_err("the fence moved");
        assert_eq!(again.kind(), ErrorKind::Conflict, "{}", again.report());
        assert_eq!(writer.reload(&changes).await?, (true, true));
        assert_eq!(world.ids().await?, expected);
    }
    Ok(())
}

async fn silent_server_is_unknown_after_the_time_for_a_request() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    let mut hasty = Writer::of_existing(world.hasty().await?).await?;
    world.proxy.once(Call::Commit, Trouble::StallAfter);
    let mut changes = hasty.row(1).await?;
    let error = hasty.attempt(&mut changes).await.expect_err("it is silent");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert_eq!(world.ids().await?, [0, 1]);
    Ok(())
}

/// Sends row 1 behind row 0 so that it arrives when the gate opens, and its sender has given up.
async fn sent_late(world: &World) -> TestResult<(Writer, ChangeSet, Gate)> {
    Writer::new(Arc::new(world.catalog().await?))
        .await?
        .append(0)
        .await?;
    let mut writer = Writer::of_existing(world.hasty().await?).await?;
    let gate = Gate::new();
    world.proxy.once(Call::Commit, Trouble::Late(gate.clone()));
    let mut changes = writer.row(1).await?;
    let error = writer.attempt(&mut changes).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    Ok((writer, changes, gate))
}

async fn late_commit_loses_to_its_retry() -> TestResult {
    let world = World::new().await?;
    let (mut writer, mut changes, gate) = sent_late(&world).await?;
    assert_eq!(world.ids().await?, [0]);
    assert_eq!(writer.reload(&changes).await?, (false, false));
    writer.attempt(&mut changes).await?;
    let landed = world.truth().await?;
    gate.release_and_settle().await;
    assert_eq!(world.truth().await?, landed, "the late one met the fence");
    assert_eq!(world.ids().await?, [0, 1]);
    Ok(())
}

async fn retry_loses_to_the_late_commit() -> TestResult {
    let world = World::new().await?;
    let (mut writer, mut changes, gate) = sent_late(&world).await?;
    gate.release_and_settle().await;
    let again = writer
        .attempt(&mut changes)
        .await
        .expect_err("the late one was first");
    assert_eq!(again.kind(), ErrorKind::Conflict, "{}", again.report());
    assert_eq!(writer.reload(&changes).await?, (true, true));
    assert_eq!(world.ids().await?, [0, 1]);
    Ok(())
}

async fn repeated_commit_lands_once() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    world.proxy.once(Call::Commit, Trouble::Repeat);
    let mut changes = writer.row(1).await?;
    let error = writer
        .attempt(&mut changes)
        .await
        .expect_err("its copy is answered");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
    assert_eq!(world.ids().await?, [0, 1]);
    assert_eq!(writer.reload(&changes).await?, (true, true));
    Ok(())
}

async fn answer_that_does_not_show_the_commit_is_unknown() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    let before = world.truth().await?;
    let stale = before.clone();
    for (id, trouble) in (1..).zip([
        // The table as it was, no table, and another one.
        Trouble::alter(move |answer| *answer = stale.clone()),
        Trouble::AnswerAfter(200),
        Trouble::alter(|answer| {
            answer["metadata"]["table-uuid"] = "00000000-0000-4000-8000-000000000000".into()
        }),
    ]) {
        world.proxy.once(Call::Commit, trouble);
        let mut changes = writer.row(id).await?;
        let error = writer.attempt(&mut changes).await.expect_err("nothing shows it");
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
        assert_eq!(writer.reload(&changes).await?, (true, true));
    }
    // A success that is none.
    world.proxy.once(Call::Commit, Trouble::Json(before));
    let mut changes = writer.row(4).await?;
    let error = writer
        .attempt(&mut changes)
        .await
        .expect_err("it was not sent on");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert_eq!(world.ids().await?, [0, 1, 2, 3]);
    Ok(())
}

/// A server may answer with what the table became since: it is not the state that the commit computed, so that nothing
/// may be built on it unread.
async fn answer_with_a_later_state_is_unknown_and_found_landed() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    let first = world.truth().await?["metadata"]["current-snapshot-id"].clone();
    world.proxy.once(
        Call::Commit,
        Trouble::alter(move |answer| {
            answer["metadata"]["current-snapshot-id"] = first.clone();
            answer["metadata"]["refs"]["main"]["snapshot-id"] = first.clone();
        }),
    );
    let mut changes = writer.row(1).await?;
    let error = writer
        .attempt(&mut changes)
        .await
        .expect_err("its ref is elsewhere");
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
    assert_eq!(writer.reload(&changes).await?, (true, true));
    writer.append(2).await?;
    assert_eq!(world.ids().await?, [0, 1, 2]);
    Ok(())
}

/// A rollback brings the required snapshot back; the sequence number, which only grows, stops the stale commit.
async fn used_up_sequence_number_is_a_conflict() -> TestResult {
    let world = World::new().await?;
    let catalog = Arc::new(world.catalog().await?);
    let mut writer = Writer::new(catalog.clone()).await?;
    writer.append(0).await?;
    let mut stale = Writer::of_existing(catalog).await?;
    let first = world.truth().await?["metadata"]["current-snapshot-id"].clone();
    writer.append(1).await?;
    let rollback =
        json!([{ "action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": first }]);
    world.proxy.commit("shop", "orders", rollback).await?;
    let before = world.truth().await?;
    assert_eq!(before["metadata"]["current-snapshot-id"], first);

    let mut changes = stale.row(2).await?;
    let error = stale
        .attempt(&mut changes)
        .await
        .expect_err("its number is used up");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.report());
    assert!(error.report().contains("status: 400"), "{}", error.report());
    assert_eq!(world.truth().await?, before);
    stale.reload(&changes).await?;
    stale.attempt(&mut changes).await?;
    assert_eq!(world.ids().await?, [0, 2]);
    Ok(())
}

fn misfit() -> TableCommit {
    TableCommit {
        requirements: Vec::new(),
        updates: vec![TableUpdate::SetCurrentSchema { schema_id: 99 }],
    }
}

async fn changes_that_fit_no_table_are_rejected_without_effect() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let before = world.truth().await?;
    let outcome = catalog.commit_table(&base, misfit()).await;
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    // Whether the table moved meanwhile cannot be told: then nothing is.
    world.proxy.always(Call::Load, Trouble::Answer(501));
    let outcome = catalog.commit_table(&base, misfit()).await;
    assert!(matches!(outcome, Outcome::OutcomeUnknown(_)), "{outcome:?}");
    assert_eq!(world.truth().await?, before);
    Ok(())
}

async fn dropped_table_is_not_found_by_a_commit() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    writer.append(0).await?;
    writer.catalog.drop_table(&orders()).await?;
    let mut changes = writer.row(1).await?;
    let error = writer.attempt(&mut changes).await.expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{}", error.report());
    assert_eq!(world.proxy.truth("shop", "orders").await?, None);
    Ok(())
}

async fn page_of_a_proxy_is_no_missing_table() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    world.proxy.once(Call::Load, Trouble::Page(404));
    let error = catalog.load_table(&orders()).await.expect_err("a page answers");
    assert_eq!(error.kind(), ErrorKind::Rejected);
    assert!(error.report().contains("catalog.uri"), "{}", error.report());
    world.proxy.once(Call::Commit, Trouble::Page(404));
    let Outcome::Rejected(error) = catalog.commit_table(&base, misfit()).await else {
        return Err("a page proves no commit".into());
    };
    assert_eq!(error.kind(), ErrorKind::Rejected);
    Ok(())
}

async fn redirect_is_rejected_and_not_followed() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    for status in [301, 307, 308] {
        world.proxy.once(Call::Commit, Trouble::Answer(status));
        let mut changes = writer.row(1).await?;
        let error = writer.attempt(&mut changes).await.expect_err("it is redirected");
        assert_eq!(error.kind(), ErrorKind::Rejected, "{}", error.report());
        assert!(error.report().contains("redirects"), "{}", error.report());
    }
    assert_eq!(
        world.truth().await?["metadata"]["current-snapshot-id"]
            .as_i64()
            .unwrap_or(-1),
        -1
    );
    Ok(())
}

async fn refused_connection_is_known_not_to_be_sent() -> TestResult {
    let world = World::new().await?;
    let mut writer = Writer::new(Arc::new(world.catalog().await?)).await?;
    let before: Value = world.truth().await?;
    world.proxy.close();
    let mut changes = writer.row(1).await?;
    // The first may still find the connection that was open.
    wait_for(
        "a connection to be refused",
        Duration::from_secs(60),
        async || {
            let error = writer.attempt(&mut changes).await.err()?;
            assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{}", error.report());
            error.message().contains("was not sent").then_some(())
        },
    )
    .await?;
    assert_eq!(world.truth().await?, before);
    Ok(())
}

async fn rejection_names_the_servers_words() -> TestResult {
    let world = World::new().await?;
    let catalog = world.catalog().await?;
    let base = create(&catalog, &orders()).await?;
    let Outcome::Rejected(error) = catalog.commit_table(&base, misfit()).await else {
        return Err("nothing has that schema".into());
    };
    let report = error.report();
    for named in ["shop.orders", "status: 400", "99"] {
        assert!(report.contains(named), "{report}");
    }
    Ok(())
}
