//! What is told of files: counted always, logged once a minute, and never a byte of what is in them.

use std::path::Path;

use iceberg::TableIdent;
use tokio::time::Duration;

use super::folder::{Found, Look, MAX_FILES};
use super::place::Refusal;
use crate::load::Loaded;
use crate::telemetry;

/// Metrics and log of the landing folders.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: telemetry::Seldom,
}

impl Reports {
    /// Tells of a file whose rows are committed.
    pub(super) fn landed(
        &self,
        ident: &TableIdent,
        path: &Path,
        found: &Found,
        loaded: &Loaded,
        took: Duration,
    ) {
        let table = ident.to_string();
        metrics::counter!(telemetry::LANDED_FILES, "table" => table.clone()).increment(1);
        metrics::counter!(telemetry::LANDED_BYTES, "table" => table).increment(found.stamp.len());
        tracing::info!(
            table.ident = %ident,
            file = ?path,
            rows = loaded.row_count,
            dead_letters = loaded.dead_letter_count,
            duplicate = loaded.duplicate,
            bytes = found.stamp.len(),
            seconds = took.as_secs_f64(),
            "A file landed."
        );
    }

    /// Tells of a file that was moved to the dead letters.
    pub(super) fn refused(&self, path: &Path, to: &Path, refusal: &Refusal) {
        telemetry::count_refused_file(refusal.table.as_deref(), refusal.kind);
        if let Some(count) = self.told.tell(&format!("refused {}", refusal.kind)) {
            tracing::warn!(
                file = ?path,
                reason = refusal.kind,
                detail = refusal.message,
                moved_to = ?to,
                count,
                "A file is refused."
            );
        }
    }

    /// Counts what has to be done again, and tells of the first and then once a minute.
    pub(super) fn retry(&self, reason: &'static str, path: &Path, why: &str, sentence: &'static str) {
        metrics::counter!(telemetry::FILE_RETRIES, "reason" => reason).increment(1);
        self.failed(reason, &path.to_string_lossy(), why, sentence);
    }

    /// Tells of a load that was not done in time when the process stopped.
    pub(super) fn let_go(&self, path: &Path) {
        metrics::counter!(telemetry::FILE_RETRIES, "reason" => "shutting_down").increment(1);
        tracing::warn!(
            file = ?path,
            "A load was let go, as the process stops; its file is loaded at the next start."
        );
    }

    /// Tells of the first failure and then once a minute.
    pub(super) fn failed(&self, reason: &'static str, place: &str, why: &str, sentence: &'static str) {
        if let Some(count) = self.told.tell(reason) {
            tracing::error!(file = place, reason, error = why, count, "{sentence}");
        }
    }

    /// Tells of a folder with more files than a look takes note of.
    pub(super) fn crowded(&self, folder: &str) {
        if let Some(count) = self.told.tell(&format!("crowded {folder}")) {
            tracing::warn!(
                folder,
                max_files = MAX_FILES,
                count,
                "A landing folder holds more files than one look takes note of; they take turns. Are many of them stuck?"
            );
        }
    }

    /// Tells of what a look found and nobody takes.
    pub(super) fn left_alone(&self, look: &Look) {
        if let Some(other) = &look.other
            && let Some(count) = self.told.tell("other")
        {
            tracing::warn!(
                file = ?other,
                count,
                "A landing folder holds something that is no file, such as a symbolic link; it is left alone."
            );
        }
        if let Some((folder, error)) = &look.unreadable {
            let sentence = "A folder in a landing folder cannot be read; what is in it stays.";
            self.failed("folder", &folder.to_string_lossy(), &error.to_string(), sentence);
        }
    }
}
