//! Whom the environment names, in the order of Google's own tools: read here once for every client of the process.
//!
//! A file is read when it is named and again whenever credentials are made of it, so one that is renewed on the disk counts.
//! No error quotes what is in it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use google_cloud_auth::credentials::service_account::{self, AccessSpecifier};
use google_cloud_auth::credentials::{Credentials, external_account, impersonated, mds, user_account};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::config::Env;
use crate::error::{Error, ErrorKind, Result};

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A key of a service account, as a file and as its text.
const KEY_PATH: &str = "GOOGLE_SERVICE_ACCOUNT_PATH";
const KEY_TEXT: &str = "GOOGLE_SERVICE_ACCOUNT_KEY";
/// Application Default Credentials: any kind of file.
const DEFAULT_PATH: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Charged for the requests, where nothing else says who is.
const QUOTA_PROJECT: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";

/// Where `gcloud auth application-default login` puts it, below a variable's folder.
const LOGIN: (&str, &str) = if cfg!(windows) {
    ("APPDATA", "gcloud/application_default_credentials.json")
} else {
    ("HOME", ".config/gcloud/application_default_credentials.json")
};

const WAY_OUT: &str = "write a service account's key as Google gives it, as JSON that is not quoted again, in one of \
                       GOOGLE_SERVICE_ACCOUNT_PATH and GOOGLE_SERVICE_ACCOUNT_KEY, or name by GOOGLE_APPLICATION_CREDENTIALS \
                       a file that is such a key, a user's login, or an impersonated or federated identity";

/// What says who the process is.
enum Source {
    File {
        named: &'static str,
        path: PathBuf,
    },
    Text(SecretString),
    /// The metadata server tells.
    Machine,
}

/// Who the process is to Google.
pub(crate) struct Identity {
    source: Source,
    quota_project: Option<String>,
}

impl Identity {
    /// Finds what the environment names, and checks what can be checked without asking anybody.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the variable, the rule and what would be right.
    pub(crate) fn from_env(env: Env<'_>) -> Result<Self> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let file = |named, path: String| Source::File {
            named,
            path: path.into(),
        };
        let source = match (set(KEY_PATH), set(KEY_TEXT)) {
            (Some(_), Some(_)) => {
                let both = format!("{KEY_PATH} and {KEY_TEXT}");
                return Err(unusable(
                    &both,
                    "they are both set, and each names a key; unset one",
                ));
            }
            (Some(path), None) => file(KEY_PATH, path),
            (None, Some(text)) => Source::Text(text.into()),
            (None, None) => match set(DEFAULT_PATH) {
                Some(path) => file(DEFAULT_PATH, path),
                None => login(&set).unwrap_or(Source::Machine),
            },
        };
        let identity = Self {
            source,
            quota_project: set(QUOTA_PROJECT),
        };
        identity.json()?;
        Ok(identity)
    }

    /// Makes credentials that renew themselves on the current runtime; `user_project` is charged for the requests, else what
    /// the environment or the file says. They ask for a token at once.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when the file cannot be used now.
    pub(super) fn credentials(&self, user_project: Option<&str>) -> Result<Credentials> {
        let json = self.json()?;
        let project = user_project.or(self.quota_project.as_deref());
        macro_rules! built {
            ($builder:expr) => {{
                let builder = $builder;
                let builder = project.into_iter().fold(builder, |builder, project| {
                    builder.with_quota_project_id(project)
                });
                builder.build()
            }};
        }
        let Some(json) = json else {
            let built = built!(mds::Builder::default().with_scopes([SCOPE]));
            return built.map_err(|_not_shown| self.refused("the metadata server's client cannot be made"));
        };
        let built = match kind(&json) {
            "service_account" => {
                let scopes = AccessSpecifier::from_scopes([SCOPE]);
                built!(service_account::Builder::new(json).with_access_specifier(scopes))
            }
            "authorized_user" => built!(user_account::Builder::new(json).with_scopes([SCOPE])),
            "impersonated_service_account" => built!(impersonated::Builder::new(json).with_scopes([SCOPE])),
            _ => built!(external_account::Builder::new(json).with_scopes([SCOPE])),
        };
        // The builder's error may quote what it stumbled over.
        built.map_err(|_not_shown| self.refused(WAY_OUT))
    }

    /// The credentials file, checked as far as that goes; none where the metadata server tells.
    fn json(&self) -> Result<Option<Value>> {
        let text = match &self.source {
            Source::Machine => return Ok(None),
            Source::Text(text) => text.expose_secret().to_owned(),
            Source::File { path, .. } => {
                std::fs::read_to_string(path).map_err(|error| self.unread(&error))?
            }
        };
        let json: Value = serde_json::from_str(&text).map_err(|_not_shown| self.refused(WAY_OUT))?;
        match kind(&json) {
            "service_account" if !has_key(&json) => Err(self.refused(WAY_OUT)),
            "service_account" | "authorized_user" | "impersonated_service_account" | "external_account" => {
                Ok(Some(json))
            }
            _ => Err(self.refused(WAY_OUT)),
        }
    }

    fn named(&self) -> String {
        match &self.source {
            Source::Text(_) => KEY_TEXT.to_owned(),
            Source::Machine => "the metadata server".to_owned(),
            Source::File { named, path } => format!("{named} ({})", path.display()),
        }
    }

    fn unread(&self, error: &io::Error) -> Error {
        self.refused(&format!("the file cannot be read ({})", error.kind()))
    }

    fn refused(&self, why: &str) -> Error {
        unusable(&self.named(), why)
    }
}

/// Shows where it is from, and nothing of it.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.named()).finish()
    }
}

/// A user's login, where there is one.
fn login(set: &impl Fn(&str) -> Option<String>) -> Option<Source> {
    let (folder, file) = LOGIN;
    let path = PathBuf::from(set(folder)?).join(file);
    path.exists().then_some(Source::File {
        named: "the login of `gcloud auth application-default login`",
        path,
    })
}

fn kind(json: &Value) -> &str {
    json.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a service account's key has what a token is signed with.
fn has_key(json: &Value) -> bool {
    let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(text("private_key").as_bytes());
    !text("client_email").is_empty() && key.is_ok_and(|key| any_supported_type(&key).is_ok())
}

fn unusable(named: &str, why: &str) -> Error {
    let message = format!("Google's credentials cannot be had from {named}: {why}.");
    Error::new(ErrorKind::Config, message)
}
