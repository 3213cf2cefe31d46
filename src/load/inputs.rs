//! What the arguments of a load name: files, folders, patterns, standard input.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::Input;
use crate::error::{Error, ErrorKind, Result};

/// What some arguments name, in order.
#[derive(Debug, Default)]
pub struct Named {
    /// The inputs, each once; or the argument that names none, and why.
    pub inputs: Vec<Result<Input, (String, Error)>>,
    /// Names that came again for a file that is among the inputs already.
    pub repeated: Vec<String>,
}

/// Finds what the arguments name: `-` is standard input, a folder every file directly in it, by name. What does not
/// exist and has `*`, `?` or `[` is a pattern, for a shell that did not expand it; it stands for what it matches, by
/// name. Hidden files are left out of both.
pub fn named(arguments: &[PathBuf]) -> Named {
    let mut named = Named::default();
    let mut seen = HashSet::new();
    for argument in arguments {
        let name = argument.display().to_string();
        match expanded(argument) {
            Ok(inputs) => {
                for input in inputs {
                    if seen.insert(identity(&input)) {
                        named.inputs.push(Ok(input));
                    } else {
                        named.repeated.push(input.name());
                    }
                }
            }
            Err(error) => named.inputs.push(Err((name, error))),
        }
    }
    named
}

/// What is the same for two names of one file.
fn identity(input: &Input) -> Option<PathBuf> {
    match input {
        Input::Stdin => None,
        Input::File(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
    }
}

fn expanded(argument: &Path) -> Result<Vec<Input>> {
    if argument.as_os_str() == "-" {
        return Ok(vec![Input::Stdin]);
    }
    let paths = match argument.to_str() {
        Some(text) if !argument.exists() && text.contains(['*', '?', '[']) => matching(text)?,
        _ => vec![argument.to_path_buf()],
    };
    let mut inputs = Vec::new();
    for path in paths {
        if path.is_dir() {
            inputs.extend(folder(&path)?.into_iter().map(Input::File));
        } else {
            inputs.push(Input::File(path));
        }
    }
    Ok(inputs)
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>> {
    let wrong = |rule: &str| Error::new(ErrorKind::NotFound, rule).with("pattern", pattern);
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        require_literal_separator: true,
        ..Default::default()
    };
    let paths = glob::glob_with(pattern, options).map_err(|error| {
        wrong("This is neither a file nor a pattern; `*`, `?`, `[a-z]` and `**/` are known.")
            .with_source(error)
    })?;
    let paths: Result<Vec<PathBuf>, _> = paths.collect();
    let paths = paths.map_err(|error| wrong("A folder of the pattern cannot be read.").with_source(error))?;
    if paths.is_empty() {
        return Err(wrong("No file has this name or matches it as a pattern."));
    }
    Ok(paths)
}

fn folder(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let unreadable = |error: std::io::Error| {
        Error::new(ErrorKind::Unavailable, "The folder cannot be read.")
            .with("folder", folder.display())
            .with_source(error)
    };
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        // Of a link, what it leads to.
        if !hidden && entry.path().is_file() {
            files.insert(entry.path());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn arguments_name_each_file_once_and_in_order() {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in [
            "b.json",
            "a.json",
            ".hidden.json",
            "c.txt",
            "in/d.json",
            "x[1].json",
        ] {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), "").unwrap();
        }
        let arguments = [
            "c.txt",
            "*.json",
            "x[1].json",
            "in",
            "?.json",
            "none*",
            "***",
            "a.json",
        ];
        let found = named(&arguments.map(path));
        let short = |name: String| name.rsplit('/').next().unwrap().to_owned();
        let names: Vec<_> = found
            .inputs
            .iter()
            .map(|input| match input {
                Ok(input) => short(input.name()),
                Err((name, error)) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    assert!(error.to_string().contains("pattern"), "{error}");
                    format!("no {}", short(name.clone()))
                }
            })
            .collect();
        assert_eq!(
            names,
            [
                "c.txt",
                "a.json",
                "b.json",
                "x[1].json",
                "d.json",
                "no none*",
                "no ***"
            ]
        );
        let repeated: Vec<_> = found.repeated.into_iter().map(short).collect();
        assert_eq!(repeated, ["x[1].json", "a.json", "b.json", "a.json"]);
        let stdin = named(&["-", "-"].map(PathBuf::from));
        assert_eq!((stdin.inputs.len(), stdin.repeated), (1, vec!["-".to_owned()]));
    }
}
