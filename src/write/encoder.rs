//! The encoder: rows in, what is ready for the store out. Works on the calling thread, waits for nothing.

use std::sync::Arc;

use arrow_array::RecordBatch;

use super::WriteOptions;
use super::fan_out::FanOut;
use super::files::{Files, OpenFile, Output};
use super::partition::Partitioner;
use super::plan::Plan;
use crate::error::Result;

/// Encodes the rows of one table.
pub(super) struct Encoder {
    files: Files,
    layout: Layout,
}

enum Layout {
    /// No partitions: one file after the other.
    Single(Box<Option<OpenFile>>),
    Partitioned(Box<FanOut>),
}

impl Encoder {
    pub(super) fn try_new(plan: Arc<Plan>, options: WriteOptions) -> Result<Self> {
        let layout = if plan.spec.fields().is_empty() {
            Layout::Single(Box::default())
        } else {
            let partitioner = Partitioner::try_new(&plan.spec, &plan.schema)?;
            Layout::Partitioned(Box::new(FanOut::new(partitioner, options)))
        };
        Ok(Self {
            files: Files::new(plan),
            layout,
        })
    }

    /// Takes rows. [`Encoder::work`] does, in pieces, what that may bring about.
    pub(super) fn push(&mut self, rows: RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        match &mut self.layout {
            Layout::Single(slot) => self.files.append(slot, None, &rows),
            Layout::Partitioned(fan_out) => fan_out.push(&mut self.files, rows),
        }
    }

    /// Begins to end all files; [`Encoder::work`] does it.
    pub(super) fn end(&mut self) -> Result<()> {
        match &mut self.layout {
            Layout::Single(slot) => self.files.end(slot.take()),
            Layout::Partitioned(fan_out) => fan_out.begin_end(&mut self.files),
        }
    }

    /// Does some of the work that is left; says whether there is more.
    pub(super) fn work(&mut self) -> Result<bool> {
        match &mut self.layout {
            Layout::Single(_) => Ok(false),
            Layout::Partitioned(fan_out) => fan_out.work(&mut self.files),
        }
    }

    /// What is ready for the store since the last call.
    pub(super) fn take_outputs(&mut self) -> Vec<Output> {
        self.files.take_outputs()
    }
}
