//! What a failed statement says of what it did.

use crate::error::{Error, ErrorKind};

/// Why a statement gave no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no connection to send it on: it was not sent.
    NotSent(sqlx::Error),
    /// It was sent, and this came back, or nothing did.
    Sent(sqlx::Error),
    /// It was sent, and not answered in time.
    TimedOut,
}

/// What a failure proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not applied: another transaction was in the way.
    Conflict,
    /// Not applied: the row exists already.
    Duplicate,
    /// Not applied, and it cannot be: a constraint, a permission, a table that is not there.
    Rejected,
    /// Nothing.
    Unknown,
}

impl Failure {
    /// Judges the failure. What is not listed is unknown, so that an error that a later version of a database brings is
    /// never taken for a proof.
    pub(super) fn verdict(&self) -> Verdict {
        let Self::Sent(sqlx::Error::Database(error)) = self else {
            return Verdict::Unknown;
        };
        if error.is_unique_violation() {
            return Verdict::Duplicate;
        }
        let code = error.code().unwrap_or_default();
        match error.try_downcast_ref::<sqlx::sqlite::SqliteError>() {
            Some(_) => sqlite(&code),
            None => postgres(&code),
        }
    }

    /// The error that a caller sees. A failure that proves nothing is a reason to try again.
    pub(super) fn into_error(self, message: &str) -> Error {
        let kind = match self.verdict() {
            Verdict::Conflict => ErrorKind::Conflict,
            Verdict::Duplicate => ErrorKind::AlreadyExists,
            Verdict::Rejected => ErrorKind::Rejected,
            Verdict::Unknown => ErrorKind::Unavailable,
        };
        let error = Error::new(kind, message);
        match self {
            // The driver tries again meanwhile, and keeps to itself why that failed.
            Self::NotSent(sqlx::Error::PoolTimedOut) => {
                error.with("cause", "the database gave no connection in time")
            }
            Self::NotSent(cause) | Self::Sent(cause) => error.with_source(cause),
            Self::TimedOut => error.with("cause", "the database did not answer in time"),
        }
    }
}

/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn postgres(code: &str) -> Verdict {
    match code {
        // serialization_failure, deadlock_detected.
        "40001" | "40P01" => Verdict::Conflict,
        // read_only_sql_transaction.
        "25006" => Verdict::Rejected,
        // Data exceptions (a text is too long), integrity constraints, missing tables and permissions.
        _ if ["22", "23", "42"].iter().any(|class| code.starts_with(class)) => Verdict::Rejected,
        _ => Verdict::Unknown,
    }
}

/// <https://www.sqlite.org/rescode.html>: the low byte is the primary code.
fn sqlite(code: &str) -> Verdict {
    match code.parse::<i32>().unwrap_or_default() & 0xff {
        // SQLITE_BUSY and SQLITE_LOCKED: the lock was not had within the busy timeout, and a statement of its own
        // transaction is rolled back then, also when only its commit had to wait.
        5 | 6 => Verdict::Conflict,
        // SQLITE_ERROR (such as a missing table), _PERM, _READONLY, _TOOBIG,
        // _CONSTRAINT, _MISMATCH, _AUTH, _NOTADB.
        1 | 3 | 8 | 18 | 19 | 20 | 23 | 26 => Verdict::Rejected,
        _ => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_codes_prove_anything() {
        for code in ["40001", "40P01"] {
            assert_eq!(postgres(code), Verdict::Conflict);
        }
        for code in ["22001", "23502", "23514", "25006", "42501", "42P01"] {
            assert_eq!(postgres(code), Verdict::Rejected);
        }
        // Statement timeout, shutdown, crash, connection failure, disk full, internal error, in failed transaction.
        for code in [
            "57014", "57P01", "57P02", "08006", "53100", "XX000", "25P02", "", "4000",
        ] {
            assert_eq!(postgres(code), Verdict::Unknown, "{code}");
        }
        // Plain and extended (SQLITE_BUSY_SNAPSHOT, SQLITE_CONSTRAINT_NOTNULL, SQLITE_READONLY_DBMOVED).
        for code in ["5", "6", "517"] {
            assert_eq!(sqlite(code), Verdict::Conflict);
        }
        for code in ["1", "8", "1032", "1299"] {
            assert_eq!(sqlite(code), Verdict::Rejected, "{code}");
        }
        // SQLITE_IOERR_FSYNC, SQLITE_FULL, SQLITE_CORRUPT, no code.
        for code in ["1034", "13", "11", ""] {
            assert_eq!(sqlite(code), Verdict::Unknown, "{code}");
        }
    }

    #[test]
    fn silence_proves_nothing() {
        assert_eq!(Failure::TimedOut.verdict(), Verdict::Unknown);
        assert_eq!(
            Failure::Sent(sqlx::Error::Io(std::io::Error::other("reset"))).verdict(),
            Verdict::Unknown
        );
        assert_eq!(
            Failure::NotSent(sqlx::Error::PoolTimedOut).verdict(),
            Verdict::Unknown
        );
    }
}
