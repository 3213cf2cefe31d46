//! Expansion of `${NAME}` in values, after the YAML is parsed: a variable can fill a value, never add structure.

/// Looks a name up in an environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads a variable of the process environment; one that is not Unicode counts as not set.
///
/// The only place that reads it: everything else takes the lookup as an argument.
#[expect(
    clippy::disallowed_methods,
    reason = "the one reader of the process environment"
)]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Expands `${NAME}` and `${NAME:-default}` (also used when the variable is empty); `$${` stands for `${`.
///
/// Answers the text and whether a variable stood in it. Defaults are taken as they are, without further expansion.
///
/// # Errors
/// A sentence that names the variable, never a value.
pub(super) fn expand(text: &str, env: Env<'_>) -> Result<(String, bool), String> {
    let mut expanded = String::with_capacity(text.len());
    let mut any = false;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(at);
        expanded.push_str(before);
        if let Some(after) = from_dollar.strip_prefix("$${") {
            expanded.push_str("${");
            rest = after;
        } else if let Some(after) = from_dollar.strip_prefix("${") {
            let (inside, after) = after
                .split_once('}')
                .ok_or("`${` has no closing `}`; write `${NAME}`, or `$${` for the text `${`")?;
            expanded.push_str(&lookup(inside, env)?);
            any = true;
            rest = after;
        } else {
            expanded.push('$');
            rest = from_dollar.strip_prefix('$').unwrap_or_default();
        }
    }
    expanded.push_str(rest);
    Ok((expanded, any))
}

fn lookup(inside: &str, env: Env<'_>) -> Result<String, String> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        // What stands between the braces may be a piece of a secret, so it is not shown.
        return Err("`${…}` does not name a variable; write `${NAME}` or `${NAME:-default}` with letters, digits and \
                    `_`, or `$${` for the text `${`"
            .to_owned());
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!(
            "the default of `${{{name}}}` holds another variable; defaults are plain text"
        ));
    }
    match (env(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set; set it, or give a default: `${{{name}:-default}}`"
        )),
    }
}

/// The text that expands to this one.
pub(super) fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}: [1]".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes_expand() {
        for (text, expected, any) in [
            ("plain $5 $$ $", "plain $5 $$ $", false),
            ("a-${HOST}-b", "a-db-b", true),
            ("${NONE:-x:-y}", "x:-y", true),
            ("${NONE:-}", "", true),
            ("${EMPTY:-d}${EMPTY}", "d", true),
            ("$${HOST}", "${HOST}", false),
            ("$$${HOST}", "$${HOST}", false),
            ("${TRICK}", "${HOST}: [1]", true),
        ] {
            assert_eq!(expand(text, &env), Ok((expected.to_owned(), any)), "{text}");
        }
    }

    #[test]
    fn errors_name_the_variable() {
        for (text, word) in [
            ("${NONE}", "`NONE` is not set"),
            ("${HOST", "no closing"),
            ("${}", "does not name"),
            ("${1A}", "does not name"),
            ("${A B}", "does not name"),
            ("${A:-${HOST}}", "holds another variable"),
        ] {
            let error = expand(text, &env).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_expands_to_itself(text in "[${}a]{0,12}") {
            prop_assert_eq!(expand(&escape(&text), &env), Ok((text, false)));
        }
    }
}
