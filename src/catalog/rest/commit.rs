//! The commit: one request, and what its answer proves.

use iceberg::spec::MAIN_BRANCH;
use iceberg::table::Table;
use iceberg::{TableRequirement, TableUpdate};
use iceberg_catalog_rest::{CommitTableRequest, CommitTableResponse};

use super::super::{Catalog, Outcome, TableCommit, foreign_base};
use super::catalog::RestCatalog;
use super::client::{Request, parse};
use super::failure::{Failure, Verdict};
use super::visible::shows;
use crate::error::{Error, ErrorKind};

impl RestCatalog {
    /// As [`super::super::Catalog::commit_table`].
    pub(super) async fn commit(&self, base: &Table, commit: TableCommit) -> Outcome {
        let ident = base.identifier();
        if base.metadata_location().is_none() {
            return foreign_base(ident);
        }
        let body = CommitTableRequest {
            identifier: None,
            requirements: fenced(base, commit.requirements),
            updates: commit.updates,
        };
        let request = self.terms.commits(base).and_then(|url| Request::post(url, &body));
        let request = match request {
            Ok(request) => Request {
                idempotency_key: self.idempotency_key(),
                ..request
            },
            Err(error) => return Outcome::Rejected(error.with("table", ident)),
        };
        // Once: whether to try again is for whoever loads the table again.
        match self.client.send(&request).await {
            Ok(answer) => self.committed(base, &body.updates, &answer),
            Err(failure) => self.failed(base, failure).await,
        }
    }

    /// A key that stays with one request; ordered by time, as servers keep them.
    fn idempotency_key(&self) -> Option<String> {
        if !self.terms.has_idempotency {
            return None;
        }
        let millis = u64::try_from(self.clock.now().timestamp_millis()).unwrap_or_default();
        let [_, _, _, _, _, _, random @ ..] = self.random.uuid().into_bytes();
        let key = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        Some(key.to_string())
    }

    /// What an answered commit is, when the answer is a success.
    fn committed(&self, base: &Table, updates: &[TableUpdate], answer: &[u8]) -> Outcome {
        let ident = base.identifier();
        let doubtful = |message: &str| Error::new(ErrorKind::OutcomeUnknown, message).with("table", ident);
        let message = "The server's answer to the commit cannot be understood.";
        let response: CommitTableResponse = match parse(answer, "It is no table.") {
            Ok(response) => response,
            Err(error) => return Outcome::OutcomeUnknown(doubtful(message).with_source(error)),
        };
        let metadata = response.metadata;
        // Also when a later commit is in the answer already: this one landed, but it is not the state that was
        // computed, and only a load tells which it is.
        if metadata.uuid() != base.metadata().uuid() || !updates.iter().all(|update| shows(update, &metadata))
        {
            let message = "The server says that the commit is done, and shows a table without it.";
            return Outcome::OutcomeUnknown(doubtful(message));
        }
        match self.table(ident, metadata, response.metadata_location) {
            Ok(table) => Outcome::Committed(Box::new(table)),
            Err(error) => {
                Outcome::OutcomeUnknown(doubtful("The commit landed, and the table left.").with_source(error))
            }
        }
    }

    /// What a commit's failure proves (protocol §4).
    async fn failed(&self, base: &Table, failure: Failure) -> Outcome {
        let ident = base.identifier();
        let verdict = match failure.verdict() {
            Verdict::Invalid => self.invalid(base).await,
            verdict => verdict,
        };
        let (kind, message) = match (verdict, &failure) {
            (Verdict::Conflict, _) => (ErrorKind::Conflict, "Another commit moved the table first."),
            (Verdict::Gone, _) => (ErrorKind::NotFound, "There is no such table any more."),
            (Verdict::Rejected | Verdict::Invalid, _) => {
                (ErrorKind::Rejected, "The catalog's server refuses the commit.")
            }
            // Not sent, so not committed; but to load again and try again is what it takes, as for the unknown.
            (Verdict::Unknown, Failure::NotReady(_) | Failure::NotSent(_)) => {
                (ErrorKind::OutcomeUnknown, "The commit was not sent.")
            }
            // Not applied either.
            (Verdict::Unknown, Failure::Refused(refusal)) if refusal.may_have_a_token() => (
                ErrorKind::OutcomeUnknown,
                "The catalog's server refuses the commit with this token, and no other is had.",
            ),
            (Verdict::Unknown, _) => (
                ErrorKind::OutcomeUnknown,
                "The catalog's server did not say what became of the commit.",
            ),
        };
        let error = Error::new(kind, message)
            .with("table", ident)
            .with_source(failure.into_error("The request failed."));
        match kind {
            ErrorKind::Conflict => Outcome::Conflict(error),
            ErrorKind::OutcomeUnknown => Outcome::OutcomeUnknown(error),
            _ => Outcome::Rejected(error),
        }
    }

    /// A server also finds changes wrong that were made for an older state, such as a sequence number that is used up:
    /// whether the table moved decides.
    async fn invalid(&self, base: &Table) -> Verdict {
        match self.load_table(base.identifier()).await {
            Ok(now) if now.metadata().uuid() != base.metadata().uuid() => Verdict::Conflict,
            Ok(now) if has_moved(base, &now) => Verdict::Conflict,
            Ok(_) => Verdict::Rejected,
            Err(error) if error.kind() == ErrorKind::NotFound => Verdict::Gone,
            Err(_) => Verdict::Unknown,
        }
    }
}

/// Whether a load shows another state. Nessie names one state in two ways, in the answer to a commit and in loads.
fn has_moved(base: &Table, now: &Table) -> bool {
    let state = |table: &Table| {
        let metadata = table.metadata();
        (
            metadata.current_snapshot_id(),
            metadata.last_sequence_number(),
            metadata.last_updated_ms(),
        )
    };
    now.metadata_location() != base.metadata_location() && state(now) != state(base)
}

/// Adds what makes `base` the fence where the commit does not say it: the table's uuid, and where its ref is.
fn fenced(base: &Table, mut requirements: Vec<TableRequirement>) -> Vec<TableRequirement> {
    let has = |wanted: fn(&TableRequirement) -> bool| requirements.iter().any(wanted);
    let has_uuid = has(|requirement| matches!(requirement, TableRequirement::UuidMatch { .. }));
    let has_ref = has(|requirement| matches!(requirement, TableRequirement::RefSnapshotIdMatch { .. }));
    if !has_uuid {
        let uuid = base.metadata().uuid();
        requirements.push(TableRequirement::UuidMatch { uuid });
    }
    if !has_ref {
        requirements.push(TableRequirement::RefSnapshotIdMatch {
            r#ref: MAIN_BRANCH.to_owned(),
            snapshot_id: base.metadata().current_snapshot_id(),
        });
    }
    requirements
}
