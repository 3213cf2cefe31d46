//! BigLake's REST catalog: which one, who pays, and the names that it and BigQuery take.

use iceberg::TableIdent;

use super::key::{Key, Shape, Text};
use super::mapping::Mapping;
use super::rest_catalog::{RestAuth, RestCatalogConfig, address, address_pattern};
use super::route::TableTemplate;

/// Where Google serves every catalog.
const ADDRESS: &str = "https://biglake.googleapis.com/iceberg/v1/restcatalog";

/// How a client asks for credentials of the tables' stores: catalogs in the mode of vended credentials refuse whoever does
/// not, the others take no notice.
const DELEGATION: (&str, &str) = ("X-Iceberg-Access-Delegation", "vended-credentials");

/// What a part of a path at Google is made of.
const PART: &str = r"[A-Za-z0-9][A-Za-z0-9:._-]*";

/// BigQuery's bound for the names of datasets and tables.
const MAX_NAME_LENGTH: usize = 1024;

/// BigQuery keeps its own views under it.
const RESERVED: &str = "INFORMATION_SCHEMA";

const WAREHOUSES: &str = "`bl://projects/PROJECT/catalogs/CATALOG`, `gs://BUCKET`, `bq://projects/PROJECT` or \
                          `bq://projects/PROJECT/locations/LOCATION`";

pub(super) const WAREHOUSE: Key = Key::required(
    "warehouse",
    Shape::Text(&Text {
        accepted: WAREHOUSES,
        pattern: Some(|| {
            format!(
                r"^(?:bl://projects/{PART}/catalogs/{PART}|gs://{PART}|bq://projects/{PART}(?:/locations/{PART})?)$"
            )
        }),
        any_scalar: false,
    }),
    "which catalog: `bl://projects/p/catalogs/c`; `gs://bucket`, the one that is called as its bucket; or \
     `bq://projects/p` and `bq://projects/p/locations/l`, BigQuery's datasets as namespaces",
);
pub(super) const USER_PROJECT: Key = Key::optional(
    "user_project",
    Shape::Text(&Text {
        accepted: "the id of the project that is charged",
        pattern: Some(|| format!("^{PART}$")),
        any_scalar: true,
    }),
    "the project in `warehouse`; required with `gs://`",
    "the project that is charged for the requests (`x-goog-user-project`)",
);
pub(super) const URI: Key = Key::defaulted(
    "uri",
    Shape::Text(&Text {
        accepted: "the address of BigLake, such as `https://biglake.googleapis.com/iceberg/v1/restcatalog`",
        pattern: Some(address_pattern),
        any_scalar: false,
    }),
    || ADDRESS.to_owned(),
    "another address of the service, such as a private endpoint; it gets the process's token",
);

/// The keys beside `type: biglake`.
pub(super) const KEYS: [Key; 3] = [WAREHOUSE, USER_PROJECT, URI];

/// A catalog of BigLake's. Key `catalog` with `type: biglake`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigLakeConfig {
    /// Key `warehouse`, required: which catalog, as Google names it.
    pub warehouse: String,
    /// Key `user_project`, default the project in `warehouse`: the one that is charged, sent as `x-goog-user-project`.
    pub user_project: String,
    /// Key `uri`, default Google's: the address that `/v1/config` follows; without a trailing slash.
    pub uri: String,
}

impl BigLakeConfig {
    /// Reads the keys beside `type`.
    pub(super) fn read(keys: &mut Mapping<'_>) -> Option<Self> {
        let field = keys.key(&WAREHOUSE);
        let warehouse = field.as_ref().and_then(|field| field.parse(check_warehouse));
        let user_project = match keys.key(&USER_PROJECT) {
            Some(key) => key.parse(|text| check_part(text).map(|()| text.to_owned())),
            None => {
                let project = warehouse.as_deref().map(project_of);
                if let (Some(field), Some(None)) = (&field, &project) {
                    field.problem(
                        "a bucket names no project that could be charged; write `user_project: PROJECT` beside it",
                    );
                }
                project.flatten()
            }
        };
        let uri = match keys.key(&URI) {
            Some(key) => key.parse(address),
            None => Some(ADDRESS.to_owned()),
        };
        Some(Self {
            warehouse: warehouse?,
            user_project: user_project?,
            uri: uri?,
        })
    }

    /// The same, as any server that speaks Iceberg's REST protocol is described.
    pub fn as_rest(&self) -> RestCatalogConfig {
        let (name, value) = DELEGATION;
        RestCatalogConfig {
            uri: self.uri.clone(),
            warehouse: Some(self.warehouse.clone()),
            prefix: None,
            auth: RestAuth::Google {
                user_project: Some(self.user_project.clone()),
            },
            headers: [(name.to_owned(), value.into())].into(),
        }
    }
}

fn check_warehouse(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let parts: Vec<&str> = rest.split('/').collect();
    let inner = match (scheme, parts.as_slice()) {
        ("gs", [bucket]) => vec![*bucket],
        ("bl", ["projects", project, "catalogs", catalog]) => vec![*project, *catalog],
        ("bq", ["projects", project]) => vec![*project],
        ("bq", ["projects", project, "locations", location]) => vec![*project, *location],
        _ => return Err(format!("`{text}` names no catalog of BigLake")),
    };
    inner.into_iter().try_for_each(check_part)?;
    Ok(text.to_owned())
}

fn check_part(text: &str) -> Result<(), String> {
    let known = |c: char| c.is_ascii_alphanumeric() || ":._-".contains(c);
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins && text.chars().all(known) {
        true => Ok(()),
        false => Err(format!("`{text}` is no id that Google gives")),
    }
}

/// The project in `projects/PROJECT/...`; a bucket tells of none.
fn project_of(warehouse: &str) -> Option<String> {
    let (_, rest) = warehouse.split_once("://projects/")?;
    rest.split('/').next().map(str::to_owned)
}

/// Checks a table's name against what BigLake takes and BigQuery shows: `project.catalog.namespace.table`. The reason says the
/// rule and the way out.
pub(crate) fn check_ident(table: &TableIdent) -> Result<(), String> {
    let levels = table.namespace().as_ref();
    let levels = levels.iter().map(String::as_str).chain([table.name()]);
    check_levels(&levels.collect::<Vec<_>>())
}

/// The same of a name with placeholders, as far as it is known: what stands for them has no dots.
pub(super) fn check_template(template: &TableTemplate) -> Result<(), String> {
    check_levels(&template.shape().split('.').collect::<Vec<_>>())
}

/// Checks a namespace alone.
pub(crate) fn check_namespace(levels: &[String]) -> Result<(), String> {
    let levels: Vec<&str> = levels.iter().map(String::as_str).chain(["t"]).collect();
    check_levels(&levels)
}

fn check_levels(levels: &[&str]) -> Result<(), String> {
    let name = levels.join(".");
    let [namespace, table] = levels else {
        let flat = levels
            .split_last()
            .map(|(table, above)| (above.join("_"), *table));
        let (above, table) = flat.unwrap_or_default();
        return Err(format!(
            "`{name}` lies in a namespace of more than one level, and BigLake has single levels only; write \
             `{above}.{table}`"
        ));
    };
    let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !namespace.chars().all(known) || namespace.eq_ignore_ascii_case(RESERVED) {
        return Err(format!(
            "the namespace `{namespace}` is no name of a dataset, as which BigQuery shows it; write letters, digits and `_`, \
             and not `{RESERVED}`"
        ));
    }
    match namespace.len().max(table.len()) {
        0..=MAX_NAME_LENGTH => Ok(()),
        _ => Err(format!(
            "a name at BigLake has at most {MAX_NAME_LENGTH} characters; write a shorter one"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warehouses_of_each_kind_are_told_apart() {
        for (text, project) in [
            ("bl://projects/acme-1/catalogs/lake", Some("acme-1")),
            ("bq://projects/acme-1", Some("acme-1")),
            (
                "bq://projects/example.com:acme/locations/us",
                Some("example.com:acme"),
            ),
            ("gs://acme-lake", None),
        ] {
            assert_eq!(check_warehouse(text).unwrap(), text);
            assert_eq!(project_of(text).as_deref(), project, "{text}");
        }
        for text in [
            "acme",
            "gs://acme/folder",
            "gs://",
            "bl://projects/p",
            "bl://projects/p/catalogs/",
            "bl://projects/p/catalogs/c/d",
            "bq://projects/p/catalogs/c",
            "bl://projects/p/catalogs/..",
            "s3://acme",
        ] {
            assert!(check_warehouse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_are_what_bigquery_shows() {
        let long = "x".repeat(MAX_NAME_LENGTH + 1);
        let of = |levels: &[&str]| check_ident(&TableIdent::from_strs(levels).unwrap());
        of(&["shop", "orders-2"]).unwrap();
        for (levels, told) in [
            (&["a", "b", "orders"][..], "write `a_b.orders`"),
            (&["my-shop", "orders"], "the namespace `my-shop`"),
            (&["information_schema", "orders"], "not `INFORMATION_SCHEMA`"),
            (&["shop", &long], "at most 1024"),
        ] {
            let reason = of(levels).unwrap_err();
            assert!(reason.contains(told), "{reason}");
        }
        for (template, told) in [
            ("cdc.{attributes.table}", None),
            ("cdc_{subscription}.{attributes.a}-x", None),
            (
                "cdc.{attributes.db}.{attributes.table}",
                Some("more than one level"),
            ),
            ("cdc-{attributes.db}.t", Some("no name of a dataset")),
        ] {
            let reason = check_template(&TableTemplate::parse(template).unwrap()).err();
            assert_eq!(reason.is_some(), told.is_some(), "{template}");
            assert!(reason.unwrap_or_default().contains(told.unwrap_or_default()));
        }
    }
}
