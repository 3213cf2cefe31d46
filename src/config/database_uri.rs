//! Addresses of databases, whose passwords never show.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::key::Text;
use super::reader::nearest;
use crate::error::{Error, ErrorKind};

/// The address of a database.
pub(super) const DATABASE_URI: Text = Text {
    accepted: "a database such as `postgresql://user:${PGPASSWORD}@host/database` or `sqlite:///folder/catalog.db`",
    pattern: Some(|| "^(?:sqlite:///[^%?#]*[^/%?#]|postgres(?:ql)?://.+)$".to_owned()),
    any_scalar: false,
};

/// The parameters that may follow `?` in a PostgreSQL address.
const PARAMETERS: [&str; 12] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

const SSL_MODES: [&str; 6] = [
    "disable",
    "allow",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
];

/// What is shown for a password.
const MASK: &str = "***";

/// The address of a database. [`Display`](fmt::Display) and [`Debug`] show a password as `***`.
#[derive(Debug, Clone)]
pub struct DatabaseUri {
    target: DatabaseTarget,
    shown: String,
}

/// What a [`DatabaseUri`] leads to.
#[derive(Debug, Clone)]
pub enum DatabaseTarget {
    /// A PostgreSQL server: the whole address, with its password.
    Postgres(SecretString),
    /// An SQLite database: its file, by its absolute path.
    Sqlite(PathBuf),
}

impl DatabaseUri {
    /// Reads an address; a refusal shows nothing of it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("sqlite", path)) => Self::sqlite(path),
            Some(("postgresql" | "postgres", _)) => Self::postgres(text),
            _ => Err("the value is not the address of a PostgreSQL or SQLite database".to_owned()),
        }
    }

    fn sqlite(path: &str) -> Result<Self, String> {
        // SQLAlchemy, hence PyIceberg, writes four slashes for what has three everywhere else.
        let path = match path.strip_prefix('/') {
            Some(rest) => format!("/{}", rest.trim_start_matches('/')),
            None => return Err("the path of an SQLite database must be absolute".to_owned()),
        };
        if path.ends_with('/') {
            return Err("the path of an SQLite database must name a file".to_owned());
        }
        if path.contains(['%', '?', '#']) || path.chars().any(char::is_control) {
            return Err(
                "the path of an SQLite database is taken literally, and `%`, `?` and `#` are refused"
                    .to_owned(),
            );
        }
        Ok(Self {
            shown: format!("sqlite://{path}"),
            target: DatabaseTarget::Sqlite(path.into()),
        })
    }

    fn postgres(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_shows_the_text| {
            "the address is not a URL (percent-encode what is special in a password)".to_owned()
        })?;
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        for (key, value) in &parameters {
            if !PARAMETERS.contains(&key.as_str()) {
                let meant = nearest(key, PARAMETERS.into_iter());
                let meant = meant
                    .map(|name| format!(" (did you mean `{name}`?)"))
                    .unwrap_or_default();
                return Err(format!("the address has a parameter that is not known{meant}"));
            }
            if key == "sslmode" && !SSL_MODES.contains(&value.as_str()) {
                return Err(format!("`sslmode` is one of `{}`", SSL_MODES.join("`, `")));
            }
        }
        let has = |names: &[&str]| parameters.iter().any(|(key, _)| names.contains(&key.as_str()));
        if url.host_str().is_none_or(str::is_empty) && !has(&["host", "hostaddr"]) {
            return Err("the address names no host".to_owned());
        }
        if url.username().is_empty() && !has(&["user"]) {
            return Err("the address names no user".to_owned());
        }
        if url.path().trim_matches('/').is_empty() && !has(&["dbname"]) {
            return Err("the address names no database".to_owned());
        }
        Ok(Self {
            shown: masked(url)?,
            target: DatabaseTarget::Postgres(SecretString::from(text)),
        })
    }

    /// What the address leads to.
    pub fn target(&self) -> &DatabaseTarget {
        &self.target
    }
}

fn masked(mut url: Url) -> Result<String, String> {
    if url.password().is_some() {
        url.set_password(Some(MASK))
            .map_err(|()| "the address has a password but no host".to_owned())?;
    }
    if url.query().is_some() {
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let shown = pairs.iter().map(|(key, value)| match key.as_str() {
            "password" => (key.as_str(), MASK),
            _ => (key.as_str(), value.as_str()),
        });
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    Ok(url.to_string())
}

/// Reads an address; the error is of kind [`ErrorKind::Config`] and shows nothing of it.
impl FromStr for DatabaseUri {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|reason| {
            Error::new(
                ErrorKind::Config,
                format!("{reason}; write {}", DATABASE_URI.accepted),
            )
        })
    }
}

impl fmt::Display for DatabaseUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Compares passwords in time that depends on them: for configurations, not for callers.
impl PartialEq for DatabaseUri {
    fn eq(&self, other: &Self) -> bool {
        match (&self.target, &other.target) {
            (DatabaseTarget::Postgres(left), DatabaseTarget::Postgres(right)) => {
                left.expose_secret() == right.expose_secret()
            }
            (DatabaseTarget::Sqlite(left), DatabaseTarget::Sqlite(right)) => left == right,
            _ => false,
        }
    }
}

impl Eq for DatabaseUri {}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn passwords_never_show() {
        for (text, shown) in [
            ("postgresql://u:s3cret@h/db", "postgresql://u:***@h/db"),
            (
                "postgres://u:s3cret%40@h:5433/db?sslmode=verify-full",
                "postgres://u:***@h:5433/db?sslmode=verify-full",
            ),
            ("postgresql://u@h/db", "postgresql://u@h/db"),
            (
                "postgresql:///db?host=%2Fcloudsql%2Fp%3Ar%3Ai&user=u&password=s3cret",
                "postgresql:///db?host=%2Fcloudsql%2Fp%3Ar%3Ai&user=u&password=***",
            ),
        ] {
            let uri: DatabaseUri = text.parse().unwrap();
            assert_eq!(uri.to_string(), shown);
            assert!(!format!("{uri:?}").contains("s3cret"));
            let DatabaseTarget::Postgres(whole) = uri.target() else {
                panic!("{uri}")
            };
            assert_eq!(whole.expose_secret(), text);
        }
    }

    #[test]
    fn sqlite_has_three_slashes_or_four() {
        for text in ["sqlite:///d/c.db", "sqlite:////d/c.db"] {
            let uri: DatabaseUri = text.parse().unwrap();
            let DatabaseTarget::Sqlite(path) = uri.target() else {
                panic!("{uri}")
            };
            assert_eq!(path, Path::new("/d/c.db"));
            assert_eq!(uri.to_string(), "sqlite:///d/c.db");
        }
    }

    #[test]
    fn refusals_name_the_rule_and_not_the_value() {
        for (text, word) in [
            ("s3cret", "not the address"),
            ("mysql://u:s3cret@h/db", "not the address"),
            ("jdbc:postgresql://h/s3cret", "not the address"),
            ("postgresql+psycopg2://u:s3cret@h/db", "not the address"),
            ("postgresql://u:s3cret/x@h/db", "not a URL"),
            ("postgresql://h/s3cret", "no user"),
            ("postgresql://u:s3cret@h", "no database"),
            ("postgresql:///s3cret?user=u", "no host"),
            (
                "postgresql://u:s3cret@h/db?sslmod=require",
                "did you mean `sslmode`",
            ),
            ("postgresql://u:s3cret@h/db?passphrase=s3cret", "not known"),
            ("postgresql://u:s3cret@h/db?sslmode=s3cret", "`verify-full`"),
            ("sqlite://s3cret.db", "absolute"),
            ("sqlite::memory:", "not the address"),
            ("sqlite:///s3cret/", "name a file"),
            ("sqlite:///s3cret?mode=rwc", "literally"),
        ] {
            let error = text.parse::<DatabaseUri>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(word), "{text}: {error}");
            assert!(!error.report().contains("s3cret"), "{error}");
        }
    }
}
