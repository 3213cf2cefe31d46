//! What the server and the configuration agreed on at the start, and the addresses that follow from it.

use std::collections::HashMap;

use iceberg::table::Table;
use iceberg::{NamespaceIdent, TableIdent};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::wire::ConfigResponse;
use crate::config::{RestCatalogConfig, address, check_prefix};
use crate::error::{Error, ErrorKind, Result};

/// What RFC 3986 leaves as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Between the levels of a namespace: the unit separator, as it stands in a path.
const SEPARATOR: &str = "%1F";

const CREDENTIALS_ENDPOINT: &str = "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}/credentials";

/// How Nessie says what it is, and where a table's metadata says of which of its commits it is.
const NESSIE: &str = "nessie.is-nessie-catalog";
const NESSIE_COMMIT: &str = "nessie.commit.id";

/// Between the ref and the warehouse in Nessie's prefix, as it stands in a path.
const BAR: &str = "%7C";

/// The terms of one server.
#[derive(Debug)]
pub(super) struct Terms {
    /// The address before `/v1`.
    uri: String,
    /// The path between `/v1/` and `/namespaces`, or nothing.
    prefix: String,
    separator: String,
    /// Whether the server takes `Idempotency-Key` on commits.
    pub(super) has_idempotency: bool,
    /// Whether vended credentials are had anew without the whole table.
    pub(super) has_credentials_endpoint: bool,
    /// Whether the server is Nessie. It checks neither that there is no snapshot yet nor the sequence number: a stale commit
    /// would take the place of another. But it takes a commit onto a state that is named, and refuses it where the table
    /// is in another by now: a fence without the others' gaps.
    pub(super) is_nessie: bool,
}

impl Terms {
    /// The address of the configuration call.
    pub(super) fn config_url(config: &RestCatalogConfig) -> String {
        match &config.warehouse {
            None => format!("{}/v1/config", config.uri),
            Some(warehouse) => format!("{}/v1/config?warehouse={}", config.uri, encode(warehouse)),
        }
    }

    /// What the server overrides wins, then what the configuration says, then the server's defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for an address or a prefix that cannot be used.
    pub(super) fn agree(config: &RestCatalogConfig, response: ConfigResponse) -> Result<Self> {
        let defaults = response.defaults.unwrap_or_default();
        let overrides = response.overrides.unwrap_or_default();
        let any = |key: &str| overrides.get(key).or_else(|| defaults.get(key));
        let unusable = |key: &str, reason: String| {
            let message = format!("The catalog's server gives a `{key}` that cannot be used: {reason}.");
            Error::new(ErrorKind::Rejected, message).with("uri", &config.uri)
        };
        let uri = match overrides.get("uri") {
            Some(uri) => {
                let uri = address(uri).map_err(|reason| unusable("uri", reason))?;
                if is_plain(&uri) && !is_plain(&config.uri) {
                    let reason = "it leaves https:// for http://, where tokens travel unencrypted";
                    return Err(unusable("uri", reason.to_owned()));
                }
                uri
            }
            None => config.uri.clone(),
        };
        let prefix = chosen("prefix", &overrides, config.prefix.as_ref(), &defaults)
            .filter(|prefix| !prefix.is_empty())
            .unwrap_or_default();
        if !prefix.is_empty() {
            check_prefix(prefix).map_err(|reason| unusable("prefix", reason))?;
        }
        let endpoints = response.endpoints.unwrap_or_default();
        Ok(Self {
            uri,
            // No path holds it as it is, though some write it.
            prefix: prefix.trim_matches('/').replace('|', BAR),
            is_nessie: any(NESSIE).is_some_and(|value| value == "true"),
            separator: any("namespace-separator")
                .map_or(SEPARATOR, String::as_str)
                .to_owned(),
            // The specification has it beside the maps; some servers put it into them.
            has_idempotency: response.idempotency_key_lifetime.is_some()
                || any("idempotency-key-lifetime").is_some(),
            has_credentials_endpoint: endpoints.iter().any(|endpoint| endpoint == CREDENTIALS_ENDPOINT),
        })
    }

    /// The address before `/v1` of everything but the configuration.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// The address of all namespaces.
    pub(super) fn namespaces(&self) -> String {
        self.namespaces_at(&self.prefix)
    }

    fn namespaces_at(&self, prefix: &str) -> String {
        let uri = &self.uri;
        match prefix {
            "" => format!("{uri}/v1/namespaces"),
            prefix => format!("{uri}/v1/{prefix}/namespaces"),
        }
    }

    /// The address that a commit on `base` is sent to: the table's, at Nessie as of the state that `base` is.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] where the state is not named, or a name cannot stand in a path.
    pub(super) fn commits(&self, base: &Table) -> Result<String> {
        let table = self.table(base.identifier())?;
        if !self.is_nessie {
            return Ok(table);
        }
        let Some(state) = base.metadata().properties().get(NESSIE_COMMIT) else {
            let message = "Nessie does not say of which of its commits the table is, so nothing fences ours.";
            return Err(Error::new(ErrorKind::Rejected, message).with("property", NESSIE_COMMIT));
        };
        let at = self.namespaces_at(&self.prefix_at(state));
        Ok(table.replacen(&self.namespaces(), &at, 1))
    }

    /// Nessie's prefix, `REF` or `REF|WAREHOUSE`, with a state of the ref.
    fn prefix_at(&self, state: &str) -> String {
        let bar = self.prefix.to_ascii_uppercase().find(BAR);
        let (reference, warehouse) = self.prefix.split_at(bar.unwrap_or(self.prefix.len()));
        format!("{reference}%40{}{warehouse}", encode(state))
    }

    /// The address of a namespace.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] for a level that a path cannot hold.
    pub(super) fn namespace(&self, namespace: &NamespaceIdent) -> Result<String> {
        let levels = namespace.as_ref().iter().map(|level| segment(level));
        let levels: Vec<String> = levels.collect::<Result<_>>()?;
        Ok(format!(
            "{}/{}",
            self.namespaces(),
            levels.join(self.separator.as_str())
        ))
    }

    /// The address of the tables of a namespace.
    pub(super) fn tables(&self, namespace: &NamespaceIdent) -> Result<String> {
        Ok(format!("{}/tables", self.namespace(namespace)?))
    }

    /// The address of one page of the tables of a namespace; the first has the empty token.
    pub(super) fn tables_page(&self, namespace: &NamespaceIdent, token: &str) -> Result<String> {
        Ok(format!("{}?pageToken={}", self.tables(namespace)?, encode(token)))
    }

    /// The address of a table.
    pub(super) fn table(&self, table: &TableIdent) -> Result<String> {
        Ok(format!(
            "{}/{}",
            self.tables(table.namespace())?,
            segment(table.name())?
        ))
    }
}

fn chosen<'a>(
    key: &str,
    overrides: &'a HashMap<String, String>,
    own: Option<&'a String>,
    defaults: &'a HashMap<String, String>,
) -> Option<&'a str> {
    let chosen = overrides.get(key).or(own).or_else(|| defaults.get(key));
    chosen.map(String::as_str)
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A name as one part of a path. Dots alone would be taken for the folder itself or its parent, encoded or not.
fn segment(name: &str) -> Result<String> {
    match name {
        "" | "." | ".." => Err(Error::new(
            ErrorKind::Rejected,
            "A name that is empty or of dots alone cannot stand in an address; choose another.",
        )
        .with("name", format!("`{name}`"))),
        _ => Ok(encode(name)),
    }
}

/// Whether what goes to an address is not encrypted on its way.
fn is_plain(uri: &str) -> bool {
    uri.get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("http://"))
}

/// Of these addresses the first to which tokens would travel unencrypted out of this machine.
pub(super) fn plain_text<'a>(mut addresses: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    addresses.find(|uri| {
        let host = uri.get(7..).unwrap_or_default();
        let local = ["127.", "localhost", "[::1]"];
        is_plain(uri) && !local.iter().any(|start| host.starts_with(start))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RestAuth;

    fn config(prefix: Option<&str>) -> RestCatalogConfig {
        RestCatalogConfig {
            uri: "https://h/api".to_owned(),
            warehouse: Some("bl://projects/p/catalogs/c".to_owned()),
            prefix: prefix.map(str::to_owned),
            auth: RestAuth::None,
            headers: Default::default(),
        }
    }

    fn agreed(prefix: Option<&str>, response: &str) -> Result<Terms> {
        Terms::agree(&config(prefix), serde_json::from_str(response).unwrap())
    }

    #[test]
    fn warehouse_is_encoded_once() {
        assert_eq!(
            Terms::config_url(&config(None)),
            "https://h/api/v1/config?warehouse=bl%3A%2F%2Fprojects%2Fp%2Fcatalogs%2Fc"
        );
    }

    #[test]
    fn the_servers_override_wins_over_our_prefix_and_ours_over_its_default() {
        let (ours, both) = (
            Some("ours"),
            r#"{"defaults":{"prefix":"d"},"overrides":{"prefix":"o"}}"#,
        );
        for (prefix, response, path) in [
            (None, "{}", "https://h/api/v1/namespaces"),
            (ours, "{}", "https://h/api/v1/ours/namespaces"),
            (
                ours,
                r#"{"defaults":{"prefix":"d"}}"#,
                "https://h/api/v1/ours/namespaces",
            ),
            (
                None,
                r#"{"defaults":{"prefix":"d"}}"#,
                "https://h/api/v1/d/namespaces",
            ),
            (ours, both, "https://h/api/v1/o/namespaces"),
            (
                None,
                r#"{"overrides":{"prefix":"projects/1/catalogs/c","uri":"https://other/"}}"#,
                "https://other/v1/projects/1/catalogs/c/namespaces",
            ),
            (
                None,
                r#"{"overrides":{"prefix":"main%7Cw"}}"#,
                "https://h/api/v1/main%7Cw/namespaces",
            ),
            (Some("main|w"), "{}", "https://h/api/v1/main%7Cw/namespaces"),
        ] {
            assert_eq!(agreed(prefix, response).unwrap().namespaces(), path);
        }
        for response in [
            r#"{"overrides":{"prefix":"a/../b"}}"#,
            r#"{"overrides":{"uri":"https://u:p@h"}}"#,
            r#"{"overrides":{"uri":"HTTP://h/api"}}"#,
        ] {
            assert_eq!(agreed(None, response).unwrap_err().kind(), ErrorKind::Rejected);
        }
    }

    #[test]
    fn addresses_without_tls_are_told_but_those_of_this_machine() {
        for (uri, told) in [
            ("https://h", false),
            ("http://127.0.0.1:8181", false),
            ("http://localhost/api", false),
            ("http://[::1]:1", false),
            ("http://h/api", true),
            ("HTTP://h", true),
        ] {
            let addresses = ["https://first", uri].into_iter();
            assert_eq!(plain_text(addresses), told.then_some(uri), "{uri}");
        }
    }

    #[test]
    fn nessies_prefix_names_the_state_that_a_commit_is_for() {
        for (prefix, path) in [
            ("main%7Cw", "main%40c0ffee%7Cw"),
            ("main%7cw", "main%40c0ffee%7cw"),
            ("a%2Fb|w", "a%2Fb%40c0ffee%7Cw"),
            ("main", "main%40c0ffee"),
        ] {
            let response = r#"{"overrides":{"nessie.is-nessie-catalog":"true"}}"#;
            let terms = agreed(Some(prefix), response).unwrap();
            assert!(terms.is_nessie);
            assert_eq!(terms.prefix_at("c0ffee"), path);
        }
        assert!(!agreed(None, "{}").unwrap().is_nessie);
    }

    #[test]
    fn names_are_encoded_and_levels_kept_apart() {
        let terms = agreed(None, "{}").unwrap();
        let at = |levels: &[&str]| terms.table(&TableIdent::from_strs(levels).unwrap());
        assert_eq!(
            at(&["a", "b/c", "é t+"]).unwrap(),
            "https://h/api/v1/namespaces/a%1Fb%2Fc/tables/%C3%A9%20t%2B"
        );
        assert!(at(&["a", ".."]).is_err());
        assert!(at(&[".", "t"]).is_err());
        let dotted = agreed(None, r#"{"defaults":{"namespace-separator":"%2E"}}"#).unwrap();
        let namespace = NamespaceIdent::from_strs(["a", "b"]).unwrap();
        assert_eq!(
            dotted.tables_page(&namespace, "x=").unwrap(),
            "https://h/api/v1/namespaces/a%2Eb/tables?pageToken=x%3D"
        );
    }

    #[test]
    fn idempotency_is_found_where_servers_put_it() {
        for response in [
            r#"{"idempotency-key-lifetime":"PT30M"}"#,
            r#"{"defaults":{"idempotency-key-lifetime":"PT30M"}}"#,
            r#"{"overrides":{"idempotency-key-lifetime":"PT30M"}}"#,
        ] {
            assert!(agreed(None, response).unwrap().has_idempotency);
        }
        let none = agreed(None, r#"{"endpoints":["GET /v1/{prefix}/namespaces"]}"#).unwrap();
        assert!(!none.has_idempotency && !none.has_credentials_endpoint);
    }
}
