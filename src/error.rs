//! The one error of the crate: a kind that a caller acts on, a sentence, and the things it names.

use std::fmt;
use std::sync::Arc;

/// What went wrong, as an outcome that a caller acts on. [`ErrorKind::action`] says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The configuration breaks a rule.
    Config,
    /// The request is not an event we understand.
    NotAnEvent,
    /// The caller did not prove who it is.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// The body is larger than the limit.
    TooLarge,
    /// The media type or format is not one we read.
    UnsupportedFormat,
    /// Held bytes or requests are at their limit.
    Full,
    /// A namespace, table or object does not exist.
    NotFound,
    /// A namespace, table or object exists already.
    AlreadyExists,
    /// The table in the catalog is not the one that the configuration describes.
    TableMismatch,
    /// Another commit moved the table first: load again, check again.
    Conflict,
    /// A commit was sent and its outcome never came back: load again, check again.
    OutcomeUnknown,
    /// The commit, or the data in it, can never succeed as it is.
    Rejected,
    /// A store or catalog did not do its work this time.
    Unavailable,
    /// The process is stopping.
    ShuttingDown,
}

/// What to do about an [`ErrorKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Do the work again now, on fresh state, while its deadline lasts.
    Retry,
    /// Leave the delivery unacknowledged: its sender sends it again later. The number is the HTTP status.
    Nack(u16),
    /// Refuse the request: no repetition of the same bytes can succeed. The number is the HTTP status.
    Refuse(u16),
    /// Stop the process before it starts working.
    Stop,
}

impl ErrorKind {
    /// Says what to do with an error of this kind. The only place that maps kinds to retries, nacks and HTTP statuses.
    pub fn action(self) -> Action {
        match self {
            Self::Conflict | Self::OutcomeUnknown => Action::Retry,
            Self::NotAnEvent => Action::Refuse(400),
            Self::Unauthenticated => Action::Refuse(401),
            Self::Forbidden => Action::Refuse(403),
            Self::TooLarge => Action::Refuse(413),
            Self::UnsupportedFormat => Action::Refuse(415),
            Self::Full => Action::Nack(429),
            Self::NotFound
            | Self::AlreadyExists
            | Self::TableMismatch
            | Self::Rejected
            | Self::Unavailable
            | Self::ShuttingDown => Action::Nack(503),
            Self::Config => Action::Stop,
        }
    }

    /// The HTTP status for a caller of the API, which is no queue: it is told to come again (503, 429) only where that
    /// can help. For a push see [`ErrorKind::action`].
    pub fn api_status(self) -> u16 {
        match (self, self.action()) {
            // Pub/Sub holds its messages until someone has mended the table; a caller has to be told.
            (Self::TableMismatch | Self::Rejected | Self::Config, _) => 500,
            (Self::AlreadyExists, _) => 409,
            (_, Action::Refuse(status) | Action::Nack(status)) => status,
            (_, Action::Retry | Action::Stop) => 503,
        }
    }

    /// The stable name used in metrics labels, logs and problem documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::NotAnEvent => "not_an_event",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::TooLarge => "too_large",
            Self::UnsupportedFormat => "unsupported_format",
            Self::Full => "full",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::TableMismatch => "table_mismatch",
            Self::Conflict => "conflict",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The crate's error: kind, one sentence, the named things it concerns, and its cause.
///
/// The sentence names the rule and the way out; payloads, row values, tokens and headers never appear in it. Clones
/// share the cause, so that every delivery of a batch can be told the same.
#[derive(Clone)]
pub struct Error(Box<Inner>);

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a kind with its sentence.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            context: Vec::new(),
            source: None,
        }))
    }

    /// Adds the name of a thing that the error concerns, such as `("table", "shop.orders")`.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Sets the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// The kind, which decides what happens next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence, without context and causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether it names a thing of this key, such as `file`.
    pub fn names(&self, key: &str) -> bool {
        self.context(key).is_some()
    }

    /// The thing of this key that it names, such as the `file`.
    pub fn context(&self, key: &str) -> Option<&str> {
        let mut things = self.0.context.iter();
        let named = things.find(|(named, _)| *named == key);
        named.map(|(_, value)| value.as_str())
    }

    /// The sentence, the things it names and every cause, on one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            if !text.contains(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        for (place, (key, value)) in self.0.context.iter().enumerate() {
            let open = if place == 0 { " (" } else { ", " };
            write!(f, "{open}{key}: {value}")?;
        }
        if self.0.context.is_empty() {
            Ok(())
        } else {
            f.write_str(")")
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.report())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_the_things_and_the_causes() {
        let error = Error::new(ErrorKind::Unavailable, "The metadata file cannot be written.")
            .with("table", "shop.orders")
            .with_source(std::io::Error::other("no space left"));
        assert_eq!(
            error.report(),
            "The metadata file cannot be written. (table: shop.orders): no space left"
        );
        assert_eq!(error.kind().action(), Action::Nack(503));
    }

    #[test]
    fn the_api_is_told_to_come_again_only_where_that_can_help() {
        for (kind, push, api) in [
            (ErrorKind::Unavailable, Action::Nack(503), 503),
            (ErrorKind::OutcomeUnknown, Action::Retry, 503),
            (ErrorKind::Full, Action::Nack(429), 429),
            (ErrorKind::TableMismatch, Action::Nack(503), 500),
            (ErrorKind::Rejected, Action::Nack(503), 500),
            (ErrorKind::TooLarge, Action::Refuse(413), 413),
        ] {
            assert_eq!((kind.action(), kind.api_status()), (push, api), "{kind:?}");
        }
    }
}
