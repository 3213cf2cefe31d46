//! Notes beside the columns: why the record at hand does not fit, where, and which fields no column takes.

use std::collections::BTreeMap;

use super::reject::{Misfit, Reason, RejectKind, cap_name, join_path};

/// The most names of unknown fields that are told apart.
const MAX_UNKNOWN_NAMES: usize = 100;

/// The most that one record's values may take, besides their text. An array of a million `{}` is small as text, and large
/// where its elements are wide.
const MAX_VALUE_BYTES: usize = 64 << 20;

/// The name under which the others are counted.
const OTHER_NAMES: &str = "*";

/// Whether a value fits its column. `Not` is returned once, by the value that [`Notes`] has the misfit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    Not,
}

impl Fit {
    /// What `then` says, if the value fits.
    #[inline]
    pub(super) fn and_then(self, then: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Fits => then(),
            Self::Not => Self::Not,
        }
    }
}

/// What is noted beside the columns while records are read.
#[derive(Default)]
pub(super) struct Notes {
    misfit: Option<Misfit>,
    /// From the leaf to the root.
    steps: Vec<String>,
    unknown: BTreeMap<String, u64>,
    name: String,
    /// The widths of the record's values so far.
    value_bytes: usize,
}

impl Notes {
    /// Notes the misfit of the record.
    #[cold]
    pub(super) fn note(&mut self, misfit: Misfit) -> Fit {
        self.misfit = Some(misfit);
        Fit::Not
    }

    /// Begins a record whose own fields are `width` bytes wide.
    pub(super) fn begin(&mut self, width: usize) {
        self.value_bytes = width;
    }

    /// Counts an element of a list or map; it does not fit when the record's elements are too many for their width.
    #[inline]
    pub(super) fn count_element(&mut self, width: usize) -> Fit {
        self.value_bytes = self.value_bytes.saturating_add(width);
        if self.value_bytes <= MAX_VALUE_BYTES {
            return Fit::Fits;
        }
        self.note(Misfit::new(
            RejectKind::TooLarge,
            format!(
                "the record takes more than {} MiB in the table's columns",
                MAX_VALUE_BYTES >> 20
            ),
        ))
    }

    /// The widths of the record's values, null or not.
    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Adds a field to the path, on the way from the leaf to the root.
    #[cold]
    pub(super) fn step_field(&mut self, name: &str) {
        self.steps.push(format!(".{}", cap_name(name)));
    }

    /// Adds an element to the path, on the way from the leaf to the root.
    #[cold]
    pub(super) fn step_element(&mut self, place: usize) {
        self.steps.push(format!("[{place}]"));
    }

    /// Counts a field that no column takes.
    pub(super) fn count_unknown(&mut self, prefix: &str, name: &str) {
        self.name.clear();
        self.name.push_str(prefix);
        self.name.push_str(cap_name(name));
        if let Some(count) = self.unknown.get_mut(&self.name) {
            *count += 1;
        } else if self.unknown.len() < MAX_UNKNOWN_NAMES {
            self.unknown.insert(self.name.clone(), 1);
        } else {
            *self.unknown.entry(OTHER_NAMES.to_owned()).or_default() += 1;
        }
    }

    /// Takes the path that was noted, and forgets the misfit.
    pub(super) fn take_path(&mut self) -> Option<String> {
        self.misfit = None;
        let path = (!self.steps.is_empty()).then(|| join_path(&self.steps));
        self.steps.clear();
        path
    }

    /// Takes the reason of a record that did not fit.
    pub(super) fn take_reason(&mut self) -> Reason {
        let misfit = self.misfit.take();
        let path = self.take_path();
        let misfit =
            misfit.unwrap_or_else(|| Misfit::new(RejectKind::WrongType, "found a value that does not fit"));
        Reason {
            kind: misfit.kind,
            message: misfit.message,
            path,
        }
    }

    /// Takes the counts of unknown fields.
    pub(super) fn take_unknown(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.unknown)
    }
}
