//! A catalog behind HTTP: where it is, who we are to it, and what every request carries.

use std::collections::BTreeMap;

use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::key::{Key, Keys, Others, Shape, Text, Words};
use super::mapping::Mapping;
use super::quantity::any_case;
use super::reader::Field;

/// What Java's client asks for when nobody says.
const DEFAULT_SCOPE: &str = "catalog";

/// What the client sets itself.
const OWN_HEADERS: [&str; 5] = [
    "accept-encoding",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
];

/// What an address begins with, before `://`.
const SCHEMES: [&str; 2] = ["http", "https"];

/// What ends a host's name; URLs of HTTP take both alike.
const SLASHES: [char; 2] = ['/', '\\'];

pub(super) const URI: Key = Key::required(
    "uri",
    Shape::Text(&Text {
        accepted: "the catalog's address, such as `https://catalog.example.com/api/catalog`",
        pattern: Some(address_pattern),
        any_scalar: false,
    }),
    "the address that `/v1/config` follows: `https://catalog.example.com/api/catalog`. No user and no query in it",
);
pub(super) const WAREHOUSE: Key = Key::optional(
    "warehouse",
    Shape::Text(&Text {
        accepted: "the name that the server knows the warehouse by",
        pattern: Some(any_text),
        any_scalar: true,
    }),
    "none",
    "which of the server's warehouses, in the server's own words",
);
pub(super) const PREFIX: Key = Key::optional(
    "prefix",
    Shape::Text(&Text {
        accepted: "the path that the server wants after `/v1/`",
        pattern: Some(prefix_pattern),
        any_scalar: true,
    }),
    "what the server says",
    "the path between `/v1/` and `/namespaces`, used as it is, slashes included. What the server overrides wins",
);
pub(super) const AUTH: Key = Key::optional(
    "auth",
    Shape::Map(&AUTH_KEYS),
    "`{type: none}`",
    "who landfast is to the server",
);
pub(super) const HEADERS: Key = Key::optional(
    "headers",
    Shape::Map(&HEADER_KEYS),
    "none",
    "headers of every request to the catalog, such as `{X-Team: ingest}`. `X-Iceberg-Access-Delegation: vended-credentials` \
     asks the server for credentials of each table's store. Their values are never printed",
);

pub(super) const TYPE: Key = Key::required(
    "type",
    Shape::Word(&Words {
        words: &[
            (NONE, "nobody in particular"),
            (BEARER, "whoever has a token, which somebody else keeps fresh"),
            (
                OAUTH2,
                "a client of the client credentials grant (its tokens are renewed a minute before their end, and once \
                 when one is refused)",
            ),
            (
                GOOGLE,
                "Application Default Credentials (Cloud Run's service account, `GOOGLE_APPLICATION_CREDENTIALS`, or \
                 `gcloud auth application-default login`), for BigLake",
            ),
        ],
        later: &["sigv4"],
    }),
    "who landfast is to the server",
);
pub(super) const TOKEN: Key = Key::required(
    "token",
    Shape::Text(&Text {
        accepted: "`token: \"${CATALOG_TOKEN}\"`: a token of visible ASCII characters",
        pattern: Some(visible_pattern),
        any_scalar: true,
    }),
    "`\"${CATALOG_TOKEN}\"`, of visible ASCII characters; nobody renews it; never printed",
);
pub(super) const CREDENTIAL: Key = Key::required(
    "credential",
    Shape::Text(&Text {
        accepted: "`credential: \"${CLIENT_ID}:${CLIENT_SECRET}\"`",
        pattern: Some(visible_pattern),
        any_scalar: true,
    }),
    "`\"${CLIENT_ID}:${CLIENT_SECRET}\"`, or the secret alone where the server wants no id; never printed",
);
pub(super) const SCOPE: Key = Key::defaulted(
    "scope",
    Shape::Text(&Text {
        accepted: "scopes separated by spaces, such as `PRINCIPAL_ROLE:ALL`",
        pattern: Some(any_text),
        any_scalar: true,
    }),
    || DEFAULT_SCOPE.to_owned(),
    "the scopes to ask for, separated by spaces",
);
pub(super) const OAUTH2_SERVER_URI: Key = Key::optional(
    "oauth2_server_uri",
    Shape::Text(&Text {
        accepted: "the address that tokens are had from, such as `https://login.example.com/oauth2/token`",
        pattern: Some(address_pattern),
        any_scalar: false,
    }),
    "`v1/oauth/tokens` of the catalog",
    "the address that tokens are had from",
);
pub(super) const USER_PROJECT: Key = Key::optional(
    "user_project",
    Shape::Text(&Text {
        accepted: "the id of the project that is charged",
        pattern: Some(any_text),
        any_scalar: true,
    }),
    "none",
    "the project that is charged (`x-goog-user-project`)",
);

/// The keys beside `type: rest`.
pub(super) const KEYS: [Key; 5] = [URI, WAREHOUSE, PREFIX, AUTH, HEADERS];

const AUTH_KEYS: Keys = Keys {
    title: "auth",
    accepted: "a mapping such as `{type: bearer, token: \"${CATALOG_TOKEN}\"}`",
    keys: &[&[TYPE]],
    variants: &[
        (BEARER, &[TOKEN]),
        (OAUTH2, &[CREDENTIAL, SCOPE, OAUTH2_SERVER_URI]),
        (GOOGLE, &[USER_PROJECT]),
    ],
    ..Keys::NONE
};

const HEADER_KEYS: Keys = Keys {
    title: "headers",
    accepted: "a mapping such as `{X-Iceberg-Access-Delegation: vended-credentials}`",
    others: Some(Others {
        pattern: Some(|| format!(r"^(?!(?:{})$)[!#$%&'*+.^_`|~0-9A-Za-z-]+$", any_case(OWN_HEADERS))),
        shape: Shape::Text(&Text {
            accepted: "text of one line",
            pattern: Some(|| r"^[^\x00-\x08\x0a-\x1f\x7f]*$".to_owned()),
            any_scalar: true,
        }),
    }),
    ..Keys::NONE
};

const NONE: &str = "none";
const BEARER: &str = "bearer";
const OAUTH2: &str = "oauth2";
const GOOGLE: &str = "google";

/// A catalog that speaks Iceberg's REST protocol. Key `catalog` with `type: rest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestCatalogConfig {
    /// Key `uri`, required: the address that `/v1/config` follows; without a trailing slash.
    pub uri: String,
    /// Key `warehouse`, default none: which of the server's warehouses, in the server's own words.
    pub warehouse: Option<String>,
    /// Key `prefix`, default what the server says: the path between `/v1/` and `/namespaces`, used as it is.
    pub prefix: Option<String>,
    /// Key `auth`, default `{type: none}`: who we are to the server.
    pub auth: RestAuth,
    /// Key `headers`, default none: what every request to the catalog carries; never printed.
    pub headers: BTreeMap<String, Secret>,
}

/// Who we are to the server. Key `auth`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestAuth {
    /// `type: none`: nobody in particular.
    None,
    /// `type: bearer`: a token that somebody else keeps fresh.
    Bearer {
        /// Key `token`, required; never printed.
        token: Secret,
    },
    /// `type: oauth2`: tokens by the client credentials grant.
    OAuth2(OAuth2Config),
    /// `type: google`: Google's Application Default Credentials.
    Google {
        /// Key `user_project`, default none: the project that is charged, sent as `x-goog-user-project`.
        user_project: Option<String>,
    },
}

/// The client credentials grant. Key `auth` with `type: oauth2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuth2Config {
    /// Key `credential`, required: `id:secret`, or the secret alone where the server wants no id; never printed.
    pub credential: Secret,
    /// Key `scope`, default `catalog`: the scopes to ask for, separated by spaces.
    pub scope: String,
    /// Key `oauth2_server_uri`, default `v1/oauth/tokens` of the catalog: where tokens are had.
    pub oauth2_server_uri: Option<String>,
}

/// A text that never shows.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The text itself.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

/// Compares in time that depends on the texts: for configurations, not for callers.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

impl RestAuth {
    /// The word of the key `type`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => NONE,
            Self::Bearer { .. } => BEARER,
            Self::OAuth2(_) => OAUTH2,
            Self::Google { .. } => GOOGLE,
        }
    }
}

impl RestCatalogConfig {
    /// Reads the keys beside `type`.
    pub(super) fn read(keys: &mut Mapping<'_>) -> Option<Self> {
        let uri = keys.key(&URI).and_then(|field| field.parse(address));
        let warehouse = keys.key(&WAREHOUSE).map(|field| field.name());
        let prefix = keys
            .key(&PREFIX)
            .map(|field| field.parse(|text| check_prefix(text).map(|()| text.trim_matches('/').to_owned())));
        let auth = match keys.key(&AUTH) {
            None => Some(RestAuth::None),
            Some(field) => read_auth(&field),
        };
        let headers = match keys.key(&HEADERS) {
            None => Some(BTreeMap::new()),
            Some(field) => read_headers(&field, auth.as_ref()),
        };
        Some(Self {
            uri: uri?,
            warehouse: flatten(warehouse)?,
            prefix: flatten(prefix)?,
            auth: auth?,
            headers: headers?,
        })
    }
}

/// Absent is none; written and wrong is nothing at all.
fn flatten<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// Checks an address and takes the slash off its end. The reason shows nothing of it, as it may hold a password.
pub(crate) fn address(text: &str) -> Result<String, String> {
    // What comes after the scheme is judged as written: the parser forgives more than a pattern can tell.
    Url::parse(text).map_err(|error| format!("the text is not a URL ({error})"))?;
    let rest = text
        .split_once("://")
        .filter(|(scheme, _)| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)))
        .map(|(_, rest)| rest.trim_start_matches(SLASHES))
        .ok_or("the address is neither `http://` nor `https://`")?;
    if text.contains(['?', '#']) {
        return Err("the address has a `?` or a `#`, which paths cannot follow".to_owned());
    }
    if rest.split(SLASHES).next().is_some_and(|host| host.contains('@')) {
        return Err("the address names a user; who we are goes into `auth`".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The same as a regular expression.
pub(super) fn address_pattern() -> String {
    format!(r"^(?:{})://[/\\]*[^@/\\?#]+(?:[/\\][^?#]*)?$", any_case(SCHEMES))
}

/// Checks a prefix, which goes into paths as it is.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), String> {
    let stray = |c: char| c.is_control() || c.is_whitespace() || "?#\\".contains(c);
    let inner = prefix.trim_matches('/');
    if inner.is_empty() {
        return Err("the prefix is empty".to_owned());
    }
    if inner.split('/').any(|part| matches!(part, "" | "." | "..")) || inner.contains(stray) {
        return Err("the prefix has an empty or dotted part, a space, or one of `?`, `#`, `\\`".to_owned());
    }
    Ok(())
}

/// The same as a regular expression, but for spaces beyond ASCII.
fn prefix_pattern() -> String {
    let part = r"(?!\.{1,2}(?:/|$))[^/?#\\\x00-\x20\x7f]+";
    format!("^/*{part}(?:/{part})*/*$")
}

fn any_text() -> String {
    r"^[\s\S]+$".to_owned()
}

fn visible_pattern() -> String {
    "^[!-~]+$".to_owned()
}

fn read_auth(field: &Field<'_>) -> Option<RestAuth> {
    let mut keys = field.mapping()?;
    let word = keys.key(&TYPE).and_then(|field| field.word());
    if let Some(word) = word {
        keys.choose(word);
    }
    let auth = match word {
        Some(NONE) => Some(RestAuth::None),
        Some(BEARER) => keys
            .key(&TOKEN)
            .and_then(|field| field.parse(visible))
            .map(|token| RestAuth::Bearer { token }),
        Some(OAUTH2) => read_oauth2(&mut keys).map(RestAuth::OAuth2),
        Some(GOOGLE) => {
            let project = keys.key(&USER_PROJECT).map(|field| field.name());
            flatten(project).map(|user_project| RestAuth::Google { user_project })
        }
        _ => None,
    };
    keys.finish();
    auth
}

fn read_oauth2(keys: &mut Mapping<'_>) -> Option<OAuth2Config> {
    let credential = keys.key(&CREDENTIAL).and_then(|field| field.parse(visible));
    let scope = match keys.key(&SCOPE) {
        None => Some(DEFAULT_SCOPE.to_owned()),
        Some(field) => field.name(),
    };
    let server = keys.key(&OAUTH2_SERVER_URI).map(|field| field.parse(address));
    Some(OAuth2Config {
        credential: credential?,
        scope: scope?,
        oauth2_server_uri: flatten(server)?,
    })
}

/// The reason shows nothing of the value, as it may be written in the file.
fn visible(text: &str) -> Result<Secret, String> {
    let visible = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    visible
        .then(|| text.into())
        .ok_or_else(|| "the text is empty or holds other characters than visible ASCII".to_owned())
}

fn read_headers(field: &Field<'_>, auth: Option<&RestAuth>) -> Option<BTreeMap<String, Secret>> {
    let mut headers = Some(BTreeMap::new());
    for (name, value) in field.entries()? {
        let key = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            value.key_problem("the key is not the name of a header");
        } else if OWN_HEADERS.contains(&key.as_str()) {
            value.key_problem(format!("`{name}` is set by landfast; remove the key"));
        } else if key == "authorization" && !matches!(auth, None | Some(RestAuth::None)) {
            value.key_problem("`auth` sets this header; remove the key, or write `auth: {type: none}`");
        } else if let Some(text) = value.parse(|text| {
            HeaderValue::from_str(text).map_err(|_| "the text cannot be a header's".to_owned())?;
            Ok(Secret::from(text))
        }) {
            headers = headers.map(|mut headers| {
                headers.insert(name.to_owned(), text);
                headers
            });
            continue;
        }
        headers = None;
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_slash_and_passwords_are_refused_unseen() {
        for (text, kept) in [
            ("https://h/api/catalog/", "https://h/api/catalog"),
            ("http://127.0.0.1:8181", "http://127.0.0.1:8181"),
            ("HTTPS://h/a@b", "HTTPS://h/a@b"),
        ] {
            assert_eq!(address(text).unwrap(), kept);
        }
        for (text, word) in [
            ("catalog.example.com", "not a URL"),
            ("s3://bucket", "neither"),
            ("http:host", "neither"),
            (" https://h", "neither"),
            ("https://@h", "names a user"),
            ("https://u:s3cret@h/", "names a user"),
            ("https://h/?token=s3cret", "`?`"),
        ] {
            let reason = address(text).unwrap_err();
            assert!(reason.contains(word) && !reason.contains("s3cret"), "{reason}");
        }
    }

    #[test]
    fn prefixes_may_have_slashes_and_no_dots() {
        for prefix in [
            "projects/1/catalogs/c",
            "main%7Cwarehouse",
            "ws",
            "catalogs/bl%3A%2F%2Fx",
        ] {
            check_prefix(prefix).unwrap();
        }
        for prefix in ["", "/", "a//b", "a/../b", "a?b", "a b", "a#b"] {
            assert!(check_prefix(prefix).is_err(), "{prefix}");
        }
    }
}
