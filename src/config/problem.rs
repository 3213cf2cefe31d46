//! What is wrong with a configuration: every broken rule with its place in the file.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// A place in a file. Lines and columns start at 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
}

/// One broken rule: where, which key, and what would be accepted.
///
/// The message shows values as they are written in the file, never what `${NAME}` expanded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The name of the file, as it was given.
    pub file: String,
    /// The place in the file; none when the file could not be read.
    pub position: Option<Position>,
    /// The dotted path of the key, such as `tables.shop.orders.batch`; empty for the whole file.
    pub key: String,
    /// The rule broken and what would be accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{}:{}", position.line, position.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Every broken rule that one pass over a configuration found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Orders the problems by their place; problems of the same place keep their order.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.position);
        Self(problems)
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        Self::new(ErrorKind::Config, problems.to_string()).with_source(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, key: &str) -> Problem {
        Problem {
            file: "landfast.yaml".to_owned(),
            position: Some(Position { line, column: 5 }),
            key: key.to_owned(),
            message: "unknown key".to_owned(),
        }
    }

    #[test]
    fn error_lists_every_problem_once_in_the_order_of_the_file() {
        let error = Error::from(Problems::new(vec![problem(9, "b"), problem(2, "a")]));
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(
            error.report(),
            "landfast.yaml:2:5: a: unknown key\nlandfast.yaml:9:5: b: unknown key"
        );
    }
}
