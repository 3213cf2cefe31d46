//! Storage credentials that the server vends with a table: what they are, when they end, and which is for what.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

/// Credentials are renewed this long before their end, or at three quarters of their life if that is later.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// Keys for a session end, also where nobody says when: they are renewed as if they ended this long after they were had,
/// the shortest life that AWS gives any.
const UNTOLD: TimeDelta = TimeDelta::minutes(15);

/// What is good for a while only.
const SESSION_KEYS: [&str; 2] = ["s3.session-token", "gcs.oauth2.token"];

/// Where the stores' settings say when they end, in milliseconds since 1970.
const EXPIRY_KEYS: [&str; 3] = [
    "s3.session-token-expires-at-ms",
    "gcs.oauth2.token-expires-at",
    "expiration-time",
];
/// The same, with the account's name behind it.
const AZURE_EXPIRY_KEY: &str = "adls.sas-token-expires-at-ms.";

/// What a table's `config` may hold for its store.
const STORE_KEYS: [&str; 4] = ["s3.", "gcs.", "adls.", "client."];

/// What of it says who one is. Credentials are taken whole: nothing of these is added to them.
const IDENTITY_KEYS: [&str; 6] = [
    "s3.access-key-id",
    "s3.secret-access-key",
    "s3.session-token",
    "gcs.oauth2.token",
    "adls.sas-token",
    "expiration-time",
];

/// Access to the objects under a prefix, in the settings that Iceberg's stores share. Its values never show.
#[derive(Clone, PartialEq, Eq)]
pub struct StorageCredential {
    /// The beginning of the locations that it is for; empty for all.
    pub prefix: String,
    /// Settings such as `gcs.oauth2.token`.
    pub config: BTreeMap<String, String>,
}

impl fmt::Debug for StorageCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageCredential")
            .field("prefix", &self.prefix)
            .field("config", &self.config.keys())
            .finish()
    }
}

/// Chooses the credential for a location: of those whose prefix it begins with, the one with the longest.
pub fn credential_for<'a>(
    credentials: &'a [StorageCredential],
    location: &str,
) -> Option<&'a StorageCredential> {
    credentials
        .iter()
        .filter(|credential| location.starts_with(&credential.prefix))
        .max_by_key(|credential| credential.prefix.len())
}

/// What a table was loaded with: its `storage-credentials`, each with what the `config` says of reaching the store; else what
/// the `config` itself says, if it says who one is. A `config` that only tells where the store is vends nothing.
pub(super) fn vended(
    storage_credentials: Vec<iceberg_catalog_rest::StorageCredential>,
    config: HashMap<String, String>,
) -> Vec<StorageCredential> {
    let of_store = |key: &String| STORE_KEYS.iter().any(|start| key.starts_with(start));
    let config: BTreeMap<_, _> = config
        .into_iter()
        .filter(|(key, _)| of_store(key) || EXPIRY_KEYS.contains(&key.as_str()))
        .collect();
    if !storage_credentials.is_empty() {
        let of_way = config.into_iter().filter(|(key, _)| !is_of_identity(key));
        let way: BTreeMap<_, _> = of_way.collect();
        let ours = |credential: iceberg_catalog_rest::StorageCredential| StorageCredential {
            prefix: credential.prefix,
            config: way.clone().into_iter().chain(credential.config).collect(),
        };
        return storage_credentials.into_iter().map(ours).collect();
    }
    if !config.keys().any(|key| is_of_identity(key)) {
        return Vec::new();
    }
    vec![StorageCredential {
        prefix: String::new(),
        config,
    }]
}

/// What a table's `config` says of reaching its store, whoever one is.
pub(super) fn way(config: &HashMap<String, String>) -> HashMap<String, String> {
    let of_way = |key: &str| STORE_KEYS.iter().any(|start| key.starts_with(start)) && !is_of_identity(key);
    let settings = config.iter().filter(|(key, _)| of_way(key));
    settings
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn is_of_identity(key: &str) -> bool {
    IDENTITY_KEYS.iter().any(|start| key.starts_with(start))
}

/// The credentials of a table, and their end.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) credentials: Vec<StorageCredential>,
    /// What they were had with beside them. An answer that has credentials alone does not repeat it.
    pub(super) way: HashMap<String, String>,
    /// From then on they should be had anew; none when they do not end.
    renew_at: Option<DateTime<Utc>>,
    /// They are over; none when nobody says when.
    expire_at: Option<DateTime<Utc>>,
}

impl Held {
    pub(super) fn new(
        credentials: Vec<StorageCredential>,
        way: HashMap<String, String>,
        now: DateTime<Utc>,
    ) -> Self {
        let expire_at = credentials.iter().filter_map(expiry).min();
        let untold = |credential: &StorageCredential| {
            let is_session = SESSION_KEYS
                .iter()
                .any(|key| credential.config.contains_key(*key));
            (is_session && expiry(credential).is_none()).then(|| now + UNTOLD)
        };
        let ends = expire_at.into_iter().chain(credentials.iter().filter_map(untold));
        let renew_at = ends.min().map(|end| end - AHEAD.min((end - now) / 4));
        Self {
            credentials,
            way,
            renew_at,
            expire_at,
        }
    }

    pub(super) fn is_fresh(&self, now: DateTime<Utc>) -> bool {
        self.renew_at.is_none_or(|end| now < end)
    }

    pub(super) fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.expire_at.is_none_or(|end| now < end)
    }
}

fn expiry(credential: &StorageCredential) -> Option<DateTime<Utc>> {
    let ends = credential
        .config
        .iter()
        .filter(|(key, _)| EXPIRY_KEYS.contains(&key.as_str()) || key.starts_with(AZURE_EXPIRY_KEY));
    ends.filter_map(|(_, value)| DateTime::from_timestamp_millis(value.parse().ok()?))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(prefix: &str, config: &[(&str, &str)]) -> StorageCredential {
        StorageCredential {
            prefix: prefix.to_owned(),
            config: config
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let all = [
            credential("gs://b/", &[]),
            credential("gs://b/t/data/", &[]),
            credential("gs://b/t/", &[]),
        ];
        let chosen = |location| credential_for(&all, location).map(|credential| credential.prefix.as_str());
        assert_eq!(chosen("gs://b/t/data/x.parquet"), Some("gs://b/t/data/"));
        assert_eq!(chosen("gs://b/t/metadata/x"), Some("gs://b/t/"));
        assert_eq!(chosen("gs://b/u/x"), Some("gs://b/"));
        assert_eq!(chosen("s3://b/t/x"), None);
    }

    #[test]
    fn a_tables_config_stands_in_for_credentials_and_only_its_stores_part() {
        let config = HashMap::from([
            ("s3.access-key-id".to_owned(), "k".to_owned()),
            ("token".to_owned(), "t".to_owned()),
        ]);
        assert_eq!(
            vended(Vec::new(), config.clone()),
            [credential("", &[("s3.access-key-id", "k")])]
        );
        let own = iceberg_catalog_rest::StorageCredential {
            prefix: "s3://b".to_owned(),
            config: HashMap::from([("s3.secret-access-key".to_owned(), "s".to_owned())]),
        };
        let mut with_region = config.clone();
        with_region.insert("client.region".to_owned(), "here".to_owned());
        assert_eq!(
            vended(vec![own], with_region),
            [credential(
                "s3://b",
                &[("client.region", "here"), ("s3.secret-access-key", "s")]
            )]
        );
        let place = HashMap::from([("s3.endpoint".to_owned(), "http://h".to_owned())]);
        assert!(vended(Vec::new(), place).is_empty());
        assert!(vended(Vec::new(), HashMap::new()).is_empty());
    }

    #[test]
    fn the_earliest_end_counts_and_values_never_show() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let credentials = vec![
            credential("a", &[("gcs.oauth2.token-expires-at", "7200000")]),
            credential(
                "b",
                &[
                    ("adls.sas-token-expires-at-ms.acc", "3600000"),
                    ("adls.sas-token.acc", "s3cret"),
                ],
            ),
        ];
        assert!(!format!("{credentials:?}").contains("s3cret"));
        let held = Held::new(credentials, HashMap::new(), at(0));
        assert!(held.is_fresh(at(3_299_999)) && !held.is_fresh(at(3_300_000)));
        assert!(held.is_valid(at(3_599_999)) && !held.is_valid(at(3_600_000)));
        let short = Held::new(
            vec![credential("a", &[("s3.session-token-expires-at-ms", "40000")])],
            HashMap::new(),
            at(0),
        );
        assert!(short.is_fresh(at(29_999)) && !short.is_fresh(at(30_000)));
        let keys = [("s3.access-key-id", "k"), ("s3.secret-access-key", "s")];
        let lasting = Held::new(vec![credential("a", &keys)], HashMap::new(), at(0));
        assert!(lasting.is_fresh(at(i64::MAX / 2_000_000)));
    }

    #[test]
    fn keys_for_a_session_are_renewed_where_nobody_says_when_they_end() {
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let quarter = 15 * 60_000 * 3 / 4;
        for session in [
            &[("s3.session-token", "t")][..],
            &[("gcs.oauth2.token", "t")],
            &[
                ("s3.session-token", "t"),
                ("s3.session-token-expires-at-ms", "soon"),
            ],
        ] {
            let all = vec![
                credential("a", session),
                credential("b", &[("gcs.oauth2.token-expires-at", "7200000")]),
            ];
            let held = Held::new(all, HashMap::new(), at(0));
            assert!(
                held.is_fresh(at(quarter - 1)) && !held.is_fresh(at(quarter)),
                "{session:?}"
            );
            // A renewal that fails takes nothing away: they may well last.
            assert!(
                held.is_valid(at(7_199_999)) && !held.is_valid(at(7_200_000)),
                "{session:?}"
            );
        }
    }
}
