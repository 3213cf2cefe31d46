//! Data files in progress: opened, rolled at the target size, and handed over for the store.

use std::sync::Arc;

use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use iceberg::spec::{DataFile, Struct};
use parquet::file::properties::WriterProperties;

use super::parquet::ParquetFile;
use super::partition::Partition;
use super::plan::Plan;
use crate::error::Result;

/// Rows encoded between two looks at the sizes. More cost nothing, fewer cost time.
const MAX_STEP: usize = 8192;
/// Enough for a column of a few thousand different values.
const LEAST_DICTIONARY: usize = 64 << 10;

/// What is ready for the store.
#[derive(Debug)]
pub(super) enum Output {
    /// Whole parts of a file that goes on.
    Parts {
        file: u64,
        location: String,
        parts: Vec<Bytes>,
    },
    /// The end of a file, which is all of it when it had no parts.
    End {
        file: u64,
        rest: Bytes,
        data_file: Box<DataFile>,
    },
}

/// A file that takes more rows.
pub(super) struct OpenFile {
    number: u64,
    pub(super) file: ParquetFile,
    /// When it last took rows, by the count of its owner.
    pub(super) last_used: u64,
}

/// Opens and ends files, and gathers what they give.
pub(super) struct Files {
    plan: Arc<Plan>,
    outputs: Vec<Output>,
    output_bytes: usize,
    next_number: u64,
    /// For new files: the plan's, but for the dictionaries.
    parquet: WriterProperties,
    dictionary_bytes: usize,
}

impl Files {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        Self {
            outputs: Vec::new(),
            output_bytes: 0,
            next_number: 0,
            parquet: plan.parquet.clone(),
            dictionary_bytes: plan.settings.dictionary_bytes,
            plan,
        }
    }

    /// Lets `count` files share what one may have for a dictionary. Each would build one up to the limit, for values of
    /// which most turn out to be distinct, before it gives up.
    pub(super) fn share_dictionaries(&mut self, count: usize) {
        let whole = self.plan.settings.dictionary_bytes;
        let share = (whole / count.next_power_of_two().max(1)).max(LEAST_DICTIONARY.min(whole));
        if share != self.dictionary_bytes {
            self.dictionary_bytes = share;
            let parquet = self.plan.parquet.clone().into_builder();
            self.parquet = parquet.set_dictionary_page_size_limit(share).build();
        }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is ready for the store since the last call.
    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        self.output_bytes = 0;
        std::mem::take(&mut self.outputs)
    }

    pub(super) fn output_count(&self) -> usize {
        self.outputs.len()
    }

    pub(super) fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// Adds rows to the slot's file, opening one if there is none, and ending it when it has the target size.
    pub(super) fn append(
        &mut self,
        slot: &mut Option<OpenFile>,
        partition: Option<&Partition>,
        rows: &RecordBatch,
    ) -> Result<()> {
        let step = self.step(rows);
        let mut from = 0;
        while from < rows.num_rows() {
            let length = step.min(rows.num_rows().saturating_sub(from));
            if slot.is_none() {
                *slot = Some(self.open(partition)?);
            }
            let Some(open) = slot.as_mut() else { break };
            open.file.write(&self.plan, &rows.slice(from, length))?;
            self.drain(open);
            if open.file.is_full(&self.plan) {
                self.end(slot.take())?;
            }
            from = from.saturating_add(length);
        }
        Ok(())
    }

    /// Hands over the whole parts of a file.
    pub(super) fn drain(&mut self, open: &mut OpenFile) {
        let parts = open.file.take_parts();
        self.hand_over(open.number, open.file.location(), parts);
    }

    /// Ends a file, if there is one.
    pub(super) fn end(&mut self, slot: Option<OpenFile>) -> Result<()> {
        let Some(open) = slot else { return Ok(()) };
        let location = open.file.location().to_owned();
        let (parts, rest, data_file) = open.file.finish(&self.plan)?;
        self.hand_over(open.number, &location, parts);
        self.output_bytes = self.output_bytes.saturating_add(rest.len());
        self.outputs.push(Output::End {
            file: open.number,
            rest,
            data_file: Box::new(data_file),
        });
        Ok(())
    }

    fn hand_over(&mut self, file: u64, location: &str, parts: Vec<Bytes>) {
        if parts.is_empty() {
            return;
        }
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        self.output_bytes = self.output_bytes.saturating_add(bytes);
        self.outputs.push(Output::Parts {
            file,
            location: location.to_owned(),
            parts,
        });
    }

    fn open(&mut self, partition: Option<&Partition>) -> Result<OpenFile> {
        let (folder, values) = match partition {
            Some(partition) => (partition.folder.as_str(), partition.values.clone()),
            None => ("", Struct::empty()),
        };
        let number = self.next_number;
        self.next_number = number.saturating_add(1);
        Ok(OpenFile {
            number,
            file: ParquetFile::try_new(
                &self.plan,
                self.parquet.clone(),
                self.plan.location(folder),
                values,
            )?,
            last_used: 0,
        })
    }

    /// How many rows are encoded at once: few enough to meet the sizes that are asked for.
    fn step(&self, rows: &RecordBatch) -> usize {
        let target = usize::try_from(self.plan.settings.target_bytes).unwrap_or(usize::MAX);
        let wanted = self.plan.settings.row_group_bytes.min(target) / 4;
        let per_row = (row_bytes(rows) / rows.num_rows().max(1)).max(1);
        (wanted / per_row).clamp(1, MAX_STEP)
    }
}

/// Bytes of the rows of a batch, without what its buffers hold of other rows.
pub(super) fn row_bytes(rows: &RecordBatch) -> usize {
    let columns = rows.columns().iter();
    columns
        .map(|column| {
            let data = column.to_data();
            data.get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}
