//! Which subscriptions are pulled: those that the configuration names, or those that are chosen.

use std::collections::BTreeSet;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Router;

const FULL: &str = "projects/P/subscriptions/NAME";

/// Gives the full names of the subscriptions to pull: those that are `chosen`, else all that the configuration names in a
/// table's `from`, in a route or under `sources`, as far as some rule may take their messages.
///
/// A short name is one of `project`.
///
/// # Errors
/// [`ErrorKind::Config`] when there is none, one is short and no project is known, or no rule takes one that is chosen:
/// all of its messages would become dead letters.
pub fn subscriptions(config: &Config, chosen: &[String], project: Option<&str>) -> Result<Vec<String>> {
    let router = Router::new(config);
    let full = |name: &str| full_name(name, project);
    if chosen.is_empty() {
        let named = named(config).into_iter().map(full);
        let named: BTreeSet<String> = named.collect::<Result<_>>()?;
        let taken: Vec<String> = named.into_iter().filter(|name| router.may_take(name)).collect();
        return match taken.is_empty() {
            true => Err(config_error(
                "The configuration names no subscription to pull: name one in a table's `from`, in a route or under \
                 `sources`, or with --subscription.",
            )),
            false => Ok(taken),
        };
    }
    let chosen: BTreeSet<String> = chosen.iter().map(|name| full(name)).collect::<Result<_>>()?;
    match chosen.iter().find(|name| !router.may_take(name)) {
        Some(name) => Err(config_error(
            "No table's `from` and no route takes messages of this subscription, so all of them would become dead \
             letters: name it there first.",
        )
        .with("subscription", name)),
        None => Ok(chosen.into_iter().collect()),
    }
}

/// Every short or full name in the configuration.
pub(crate) fn named(config: &Config) -> BTreeSet<&str> {
    let tables = config.tables.values().flat_map(|table| &table.from);
    let tables = tables.filter_map(|from| from.subscription.as_deref());
    let routes = config.routes.iter();
    let routes = routes.filter_map(|route| route.subscription.as_deref());
    let sources = config.sources.values();
    let sources = sources.flat_map(|source| source.subscriptions.iter().map(String::as_str));
    tables.chain(routes).chain(sources).collect()
}

fn full_name(name: &str, project: Option<&str>) -> Result<String> {
    let parts: Vec<&str> = name.split('/').collect();
    match (parts.as_slice(), project) {
        (["projects", project, "subscriptions", short], _) if !project.is_empty() && !short.is_empty() => {
            Ok(name.to_owned())
        }
        ([short], Some(project)) if !short.is_empty() => {
            Ok(format!("projects/{project}/subscriptions/{short}"))
        }
        ([short], None) if !short.is_empty() => {
            let message = format!(
                "A short name is not enough to pull: say the project with --project or in the environment's \
                 GOOGLE_CLOUD_PROJECT, or write {FULL}."
            );
            Err(config_error(message).with("subscription", name))
        }
        _ => {
            let message = format!("This is not the name of a subscription; write NAME or {FULL}.");
            Err(config_error(message).with("subscription", name))
        }
    }
}

fn config_error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
warehouse: file:///lake/warehouse
catalog: { type: storage }
dead_letters: file:///lake/dead-letters
sources:
  orders: { subscriptions: [orders-push, orders-pull] }
  lost: { subscriptions: [nobody-wants] }
tables:
  shop.orders: { from: [{ subscription: orders-push }, { subscription: orders-pull }, { bucket: 'file:///in' }] }
  shop.more: { from: [{ subscription: projects/p/subscriptions/orders-pull }] }
routes:
  - { subscription: projects/q/subscriptions/cdc, table: 'cdc.{attributes.table}' }
";

    fn chosen(rest: &str, chosen: &[&str], project: Option<&str>) -> Result<Vec<String>> {
        let config = Config::parse("landfast.yaml", rest, &|_name| None)?;
        let chosen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
        subscriptions(&config, &chosen, project)
    }

    #[test]
    fn all_that_are_named_and_taken_are_pulled_once() {
        let names = chosen(RULES, &[], Some("p")).unwrap();
        assert_eq!(
            names,
            [
                "projects/p/subscriptions/orders-pull",
                "projects/p/subscriptions/orders-push",
                "projects/q/subscriptions/cdc"
            ]
        );
    }

    #[test]
    fn chosen_ones_alone_are_pulled() {
        let names = chosen(
            RULES,
            &["orders-pull", "projects/p/subscriptions/orders-pull"],
            Some("p"),
        );
        assert_eq!(names.unwrap(), ["projects/p/subscriptions/orders-pull"]);
        // A full name needs no project, and a short one in the rules stands for that of any.
        let full = "projects/x/subscriptions/orders-pull";
        assert_eq!(chosen(RULES, &[full], None).unwrap(), [full]);
    }

    #[test]
    fn mistakes_say_what_is_missing() {
        let any = RULES.replace("subscription: projects/q/subscriptions/cdc, ", "");
        assert!(chosen(&any, &["anything"], Some("p")).is_ok());
        let none = "
warehouse: file:///lake/warehouse
catalog: { type: storage }
dead_letters: file:///lake/dead-letters
tables: { t.rows: {} }
";
        for (rules, names, project, said) in [
            (RULES, &[][..], None, "--project"),
            (RULES, &["orders-pull"], None, "--project"),
            (RULES, &["nobody-wants"], Some("p"), "No table's `from`"),
            (RULES, &["projects/p/topics/orders"], Some("p"), "not the name"),
            (RULES, &[""], Some("p"), "not the name"),
            (none, &[], Some("p"), "names no subscription"),
        ] {
            let error = chosen(rules, names, project).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(said), "{said}: {error}");
        }
    }
}
