//! What to do about a refusal: the permission or role that is missing, for each place and in one place.

use std::error::Error as StdError;
use std::io;

use crate::config::{
    BigQueryConfig, CatalogConfig, DatabaseTarget, Location, RestAuth, RestCatalogConfig, Scheme,
};
use crate::error::{Error, ErrorKind};

/// What a probe does in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Create,
    Read,
    List,
    Delete,
}

/// Where something was refused.
#[derive(Debug)]
pub(super) enum Place<'a> {
    Store(&'a Location, Step),
    /// The catalog, and the warehouse that its tables lie in.
    Catalog(&'a CatalogConfig, &'a Location),
    /// Where tables are published to.
    BigQuery(&'a BigQueryConfig),
    /// A topic, by its full name.
    Topic(&'a str),
}

/// Why something was refused, as far as its error tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// We are known and may not.
    Forbidden,
    /// We are not known.
    Nobody,
    /// What it was to be done to is not there.
    Absent,
    Other,
}

impl Place<'_> {
    /// What to do, in one sentence.
    pub(super) fn remedy(&self, error: &Error) -> String {
        if error.kind() == ErrorKind::Config {
            return "Mend the configuration, or the environment's variables, as the message says.".to_owned();
        }
        if let Some(remedy) = turned_off(&error.report()) {
            return remedy;
        }
        let refusal = Refusal::of(error);
        match self {
            Self::Store(location, step) => in_store(location, *step, refusal),
            Self::Catalog(_, warehouse) if is_of_store(error) => in_store(warehouse, Step::Open, refusal),
            Self::Catalog(CatalogConfig::Rest(rest), _) => in_rest(rest, refusal),
            Self::Catalog(CatalogConfig::BigLake(lake), _) => in_rest(&lake.as_rest(), refusal),
            Self::Catalog(CatalogConfig::Sql(sql), _) => in_database(sql.uri.target(), refusal),
            Self::Catalog(CatalogConfig::Storage | CatalogConfig::Memory, warehouse) => {
                in_store(warehouse, Step::Open, refusal)
            }
            Self::BigQuery(to) => in_bigquery(to, refusal, error),
            Self::Topic(topic) => at_topic(topic, refusal),
        }
    }
}

fn in_store(location: &Location, step: Step, refusal: Refusal) -> String {
    let bucket = location.bucket();
    match (location.scheme(), refusal) {
        (Scheme::Gcs, Refusal::Forbidden) => {
            let permission = match step {
                Step::Open => "its permissions are storage.objects.create, get, list and delete",
                Step::Create => "storage.objects.create is missing",
                Step::Read => "storage.objects.get is missing",
                Step::List => "storage.objects.list is missing",
                Step::Delete => "storage.objects.delete is missing",
            };
            format!("Give the service's account roles/storage.objectUser on the bucket {bucket} ({permission}).")
        }
        (Scheme::S3, Refusal::Forbidden) => {
            let (action, of) = match step {
                Step::Open => ("s3:GetObject, s3:PutObject and s3:DeleteObject", "/*"),
                Step::Create => ("s3:PutObject", "/*"),
                Step::Read => ("s3:GetObject", "/*"),
                Step::List => ("s3:ListBucket", ""),
                Step::Delete => ("s3:DeleteObject", "/*"),
            };
            format!("Allow {action} on arn:aws:s3:::{bucket}{of}.")
        }
        (Scheme::File | Scheme::Memory, Refusal::Forbidden) => folder_remedy(&[location]),
        (Scheme::Gcs | Scheme::S3, Refusal::Nobody) => {
            "Say who the process is to the store: docs/object-stores.md has the variables.".to_owned()
        }
        (Scheme::Gcs | Scheme::S3, Refusal::Absent) => {
            format!("Make the bucket {bucket}, or name another: landfast makes none.")
        }
        (Scheme::Gcs | Scheme::S3, _) => {
            "See that the store is reached from here, and that the process has credentials for it: docs/object-stores.md."
                .to_owned()
        }
        (Scheme::File | Scheme::Memory, _) => {
            format!("See that {} is a folder with room, and mounted.", location.path())
        }
    }
}

/// What to do where Google says that an API is turned off, which it answers with 403, as where a role is missing. Its words name
/// the API and the project by the address of the console's page:
/// `… it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/NAME/overview?project=P then …`
pub(super) fn turned_off(told: &str) -> Option<String> {
    let (_, page) = told.split_once("it is disabled. Enable it by visiting ")?;
    let (_, page) = page.split_once("/apis/api/")?;
    let (api, project) = page.split_once("/overview?project=")?;
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || ".-:".contains(letter);
    // Something follows it, or it was cut.
    let (project, _) = project.split_once(|letter| !is_of_name(letter))?;
    let is_named = !project.is_empty() && !api.is_empty() && api.chars().all(is_of_name);
    is_named.then(|| {
        format!("Turn the API on, and wait some minutes: gcloud services enable {api} --project={project}")
    })
}

/// What folders of this machine want.
pub(super) fn folder_remedy(folders: &[&Location]) -> String {
    let folders: Vec<&str> = folders.iter().map(|folder| folder.path()).collect();
    format!(
        "Let the process's user write to {}, and mount it writable.",
        folders.join(" and ")
    )
}

fn in_rest(rest: &RestCatalogConfig, refusal: Refusal) -> String {
    match (&rest.auth, refusal) {
        (RestAuth::Google { user_project }, Refusal::Forbidden) => {
            let charged = match user_project {
                Some(project) => {
                    format!(", and roles/serviceusage.serviceUsageConsumer on the project {project}")
                }
                None => String::new(),
            };
            format!("Give the service's account roles/biglake.editor on the catalog's project{charged}.")
        }
        (_, Refusal::Forbidden) => format!(
            "Let whom `catalog.auth` names make and drop namespaces and tables, load them and commit to them at {}.",
            rest.uri
        ),
        (_, Refusal::Nobody) => format!("Give `catalog.auth` what {} takes.", rest.uri),
        (_, Refusal::Absent) => {
            "See `catalog.uri`, `catalog.prefix` and `catalog.warehouse`: the server does not know them."
                .to_owned()
        }
        (_, Refusal::Other) => format!("See that {} is reached from here and well.", rest.uri),
    }
}

fn in_bigquery(to: &BigQueryConfig, refusal: Refusal, error: &Error) -> String {
    let (dataset, connection) = (format!("{}.{}", to.project, to.dataset), to.connection_id());
    match (refusal, error.context("needs")) {
        (Refusal::Forbidden, Some(needs)) => format!(
            "Give the service's account {needs}: roles/bigquery.dataEditor on {dataset} has what tables need, \
             roles/bigquery.connectionAdmin on {connection} what the connection needs. And let the connection's account read \
             the bucket (roles/storage.objectViewer)."
        ),
        (Refusal::Nobody, _) => {
            "Say who the process is to Google: a service account, or GOOGLE_APPLICATION_CREDENTIALS."
                .to_owned()
        }
        _ if error.kind() == ErrorKind::Rejected => format!(
            "See what BigQuery says. Is there the connection {connection}, in the location of {dataset} and of the bucket, and \
             may its account read the bucket (roles/storage.objectViewer)?"
        ),
        _ => format!("See that BigQuery is reached from here, at {}.", to.endpoint),
    }
}

fn at_topic(topic: &str, refusal: Refusal) -> String {
    match refusal {
        Refusal::Forbidden => format!(
            "Give the service's account roles/pubsub.publisher on the topic {topic} (pubsub.topics.publish is missing)."
        ),
        Refusal::Nobody => {
            "Say who the process is to Google: a service account, or GOOGLE_APPLICATION_CREDENTIALS."
                .to_owned()
        }
        Refusal::Absent => format!("Make the topic {topic}, or name another at `dead_letters.topic`."),
        Refusal::Other => "See that Pub/Sub is reached from here.".to_owned(),
    }
}

fn in_database(target: &DatabaseTarget, refusal: Refusal) -> String {
    match (target, refusal) {
        (DatabaseTarget::Sqlite(file), _) => format!(
            "Let the process's user write to the file {} and its folder.",
            file.display()
        ),
        (DatabaseTarget::Postgres(_), Refusal::Forbidden) => {
            "Grant the user of `catalog.uri` SELECT, INSERT, UPDATE and DELETE on iceberg_tables and \
             iceberg_namespace_properties; where these are missing, CREATE on their schema."
                .to_owned()
        }
        (DatabaseTarget::Postgres(_), Refusal::Nobody) => {
            "Mend the user or the password of `catalog.uri`, or let them in at the server.".to_owned()
        }
        (DatabaseTarget::Postgres(_), _) => {
            "See that the database of `catalog.uri` is there, and reached from here.".to_owned()
        }
    }
}

/// Whether a store refused, and not what names the tables.
fn is_of_store(error: &Error) -> bool {
    causes(error).any(|cause| cause.is::<object_store::Error>())
}

impl Refusal {
    fn of(error: &Error) -> Self {
        causes(error)
            .map(Self::told_by)
            .find(|refusal| *refusal != Self::Other)
            .unwrap_or(Self::Other)
    }

    fn told_by(cause: &(dyn StdError + 'static)) -> Self {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return match error.context("status").or_else(|| error.context("code")) {
                Some("401" | "419" | "UNAUTHENTICATED") => Self::Nobody,
                Some("403" | "PERMISSION_DENIED") => Self::Forbidden,
                Some("404" | "NOT_FOUND") => Self::Absent,
                _ => Self::Other,
            };
        }
        if let Some(error) = cause.downcast_ref::<object_store::Error>() {
            return match error {
                object_store::Error::PermissionDenied { .. } => Self::Forbidden,
                object_store::Error::Unauthenticated { .. } => Self::Nobody,
                object_store::Error::NotFound { .. } => Self::Absent,
                _ => Self::in_words(&error.to_string()),
            };
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Forbidden,
                _ => Self::Other,
            };
        }
        match cause.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Database(error)) => Self::in_sql(&error.code().unwrap_or_default()),
            _ => Self::Other,
        }
    }

    /// The client tells the status of a refused listing in words only.
    fn in_words(text: &str) -> Self {
        match text {
            text if text.contains("status code: 403") => Self::Forbidden,
            text if text.contains("status code: 401") => Self::Nobody,
            text if text.contains("status code: 404") => Self::Absent,
            _ => Self::Other,
        }
    }

    /// PostgreSQL's codes: insufficient_privilege and read_only_sql_transaction, then those of a refused login.
    fn in_sql(code: &str) -> Self {
        match code {
            "42501" | "25006" => Self::Forbidden,
            "28000" | "28P01" => Self::Nobody,
            _ => Self::Other,
        }
    }
}

/// The error and what caused it.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error: &&(dyn StdError + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_that_is_off_is_named() {
        let told = |api: &str| {
            format!(
                "The catalog's server gives no configuration. (status: 403, server: BigLake API has not been used in project 123 \
                 before or it is disabled. Enable it by visiting https://console.developers.google.com/apis/api/{api}/overview?project=123 \
                 then retry. If you enabled this API recently, wait a few minutes.)"
            )
        };
        let remedy = turned_off(&told("biglake.googleapis.com"));
        let wanted = "Turn the API on, and wait some minutes: gcloud services enable biglake.googleapis.com --project=123";
        assert_eq!(remedy.as_deref(), Some(wanted));
        let cut = told("biglake.googleapis.com");
        let (cut, _) = cut.split_once(" then retry").unwrap();
        assert_eq!(turned_off(cut), None);
        assert_eq!(turned_off(&told("a; rm -rf /")), None);
        assert_eq!(
            turned_off("it is disabled. Enable it by visiting /apis/api/"),
            None
        );
        assert_eq!(turned_off("Caller lacks permission."), None);
    }
}
