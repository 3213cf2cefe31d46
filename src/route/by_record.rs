//! Rules for single records: the tables that want some of a delivery's records, in the order in which they are asked.

use std::borrow::Cow;

use iceberg::TableIdent;

use crate::config::{FieldMatch, TableConfig};

/// The tables that the records of one delivery may go to.
#[derive(Debug)]
pub struct ByRecord<'a> {
    tables: Vec<(TableIdent, Cow<'a, TableConfig>)>,
    /// Conditions in order, each with the place of its table.
    conditions: Vec<(&'a FieldMatch, usize)>,
    /// The place of the table for all others; else why there is none.
    rest: Result<usize, String>,
}

impl<'a> ByRecord<'a> {
    pub(super) fn new() -> Self {
        Self {
            tables: Vec::new(),
            conditions: Vec::new(),
            rest: Err(String::new()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    pub(super) fn add(&mut self, condition: &'a FieldMatch, ident: &TableIdent, table: &'a TableConfig) {
        let place = self.place(ident, Cow::Borrowed(table));
        self.conditions.push((condition, place));
    }

    pub(super) fn or(mut self, ident: &TableIdent, table: Cow<'a, TableConfig>) -> Self {
        self.rest = Ok(self.place(ident, table));
        self
    }

    pub(super) fn or_nowhere(mut self, why: String) -> Self {
        self.rest = Err(why);
        self
    }

    fn place(&mut self, ident: &TableIdent, table: Cow<'a, TableConfig>) -> usize {
        let known = self.tables.iter().position(|(known, _)| known == ident);
        known.unwrap_or_else(|| {
            self.tables.push((ident.clone(), table));
            self.tables.len() - 1
        })
    }

    /// The tables, each once.
    pub fn tables(&self) -> impl Iterator<Item = (&TableIdent, &TableConfig)> {
        self.tables.iter().map(|(ident, table)| (ident, table.as_ref()))
    }

    /// How many tables there are.
    pub fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// The conditions, in order, each with the place of its table.
    pub fn conditions(&self) -> impl Iterator<Item = (&FieldMatch, usize)> {
        self.conditions
            .iter()
            .map(|(condition, place)| (*condition, *place))
    }

    /// The place of the table for records that meet none; the error says why there is none.
    pub fn rest(&self) -> Result<usize, String> {
        self.rest.clone()
    }
}
