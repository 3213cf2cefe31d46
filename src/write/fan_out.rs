//! Fan-out: rows of many partitions become files, one a partition where memory allows.
//!
//! Rows gather in a stage. When it is full, partitions with many rows in it go on to files of their own, of which a
//! bounded number is open; the rest is put aside as a compressed [`Run`]. At the end the runs are merged by partition,
//! and each partition's rows follow into its file. When the runs fill their share of the memory, that end comes early,
//! and the partitions after it get further files.

use std::collections::HashMap;

use arrow_array::RecordBatch;

use super::WriteOptions;
use super::files::{Files, OpenFile, row_bytes};
use super::partition::{Partition, Partitioner};
use super::run::{PartitionedRow, Run, RunReader, gather};
use crate::error::{Error, ErrorKind, Result};

/// Known partitions are remembered until this many; then the files are ended and numbering begins anew.
const MAX_PARTITIONS: usize = 200_000;
/// A row group with less than this much is not worth closing: it would be all overhead.
const LEAST_ROW_GROUP: usize = 256 << 10;
/// Encoding pauses at this many outputs, or bytes of them, so that the store can follow.
const OUTPUTS: usize = 256;
const OUTPUT_BYTES: usize = 16 << 20;

/// Splits rows by partition.
pub(super) struct FanOut {
    partitioner: Partitioner,
    options: WriteOptions,
    stage: Vec<RecordBatch>,
    /// The partition of every row of the stage.
    numbers: Vec<u32>,
    stage_bytes: usize,
    open: HashMap<u32, OpenFile>,
    runs: Vec<Run>,
    run_bytes: usize,
    /// Counts the stages.
    now: u64,
    ending: Option<Ending>,
}

/// The merge that ends all files.
struct Ending {
    runs: Vec<RunReader>,
    /// What was in the stage, never put aside.
    rows: Vec<RecordBatch>,
    order: Vec<PartitionedRow>,
    from: usize,
}

impl FanOut {
    pub(super) fn new(partitioner: Partitioner, options: WriteOptions) -> Self {
        Self {
            partitioner,
            options,
            stage: Vec::new(),
            numbers: Vec::new(),
            stage_bytes: 0,
            open: HashMap::new(),
            runs: Vec::new(),
            run_bytes: 0,
            now: 0,
            ending: None,
        }
    }

    /// Takes rows. An ending that is under way is brought to its end first.
    pub(super) fn push(&mut self, files: &mut Files, rows: RecordBatch) -> Result<()> {
        while self.end_next_file(files)? {}
        self.numbers.extend(self.partitioner.number_rows(&rows)?);
        self.stage_bytes = self.stage_bytes.saturating_add(row_bytes(&rows));
        self.stage.push(rows);
        if self.stage_bytes >= self.stage_limit() {
            self.empty_stage(files)?;
            if self.run_bytes >= self.options.memory_bytes / 2 || self.partitioner.len() >= MAX_PARTITIONS {
                self.begin_end(files)?;
            }
        }
        Ok(())
    }

    /// Begins to end all files; [`FanOut::work`] does it.
    pub(super) fn begin_end(&mut self, files: &mut Files) -> Result<()> {
        while self.end_next_file(files)? {}
        let (rows, order) = self.take_stage();
        self.run_bytes = 0;
        let runs: Result<Vec<RunReader>> = self.runs.drain(..).map(Run::read).collect();
        self.ending = Some(Ending {
            runs: runs?,
            rows,
            order,
            from: 0,
        });
        Ok(())
    }

    /// Goes on with the ending, until there is enough for the store; says whether there is more to do.
    pub(super) fn work(&mut self, files: &mut Files) -> Result<bool> {
        while files.output_count() < OUTPUTS && files.output_bytes() < OUTPUT_BYTES {
            if !self.end_next_file(files)? {
                return Ok(false);
            }
        }
        Ok(self.ending.is_some())
    }

    /// Ends one file of the ending that is under way; says whether there was one.
    fn end_next_file(&mut self, files: &mut Files) -> Result<bool> {
        let Some(ending) = &mut self.ending else {
            return Ok(false);
        };
        if let Some(number) = ending.next() {
            files.share_dictionaries(self.partitioner.len());
            let mut slot = self.open.remove(&number);
            let partition = known(&self.partitioner, number)?;
            ending.write_partition(number, |rows| files.append(&mut slot, Some(partition), rows))?;
            files.end(slot)?;
        } else if let Some(number) = self.open.keys().next().copied() {
            files.end(self.open.remove(&number))?;
        } else {
            self.ending = None;
            self.partitioner.clear();
        }
        Ok(self.ending.is_some())
    }

    fn stage_limit(&self) -> usize {
        self.options.memory_bytes / 8
    }

    /// The rows of the stage, and their order by partition.
    fn take_stage(&mut self) -> (Vec<RecordBatch>, Vec<PartitionedRow>) {
        self.stage_bytes = 0;
        let rows = std::mem::take(&mut self.stage);
        let places = rows
            .iter()
            .zip(0..)
            .flat_map(|(batch, number)| (0..batch.num_rows()).zip(0..).map(move |(_, row)| (number, row)));
        let numbers = std::mem::take(&mut self.numbers);
        let order = in_order(&numbers, places, self.partitioner.len());
        (rows, order)
    }

    /// Hands the stage's rows on: to files, or aside.
    fn empty_stage(&mut self, files: &mut Files) -> Result<()> {
        let stage_bytes = self.stage_bytes;
        let (rows, order) = self.take_stage();
        self.now = self.now.saturating_add(1);
        for of_one in by_partition(&order) {
            if let Some(open) = of_one
                .first()
                .map(|row| row.0)
                .and_then(|number| self.open.get_mut(&number))
            {
                open.last_used = self.now;
            }
        }
        // A partition with at least half its share of a stage is worth an encoder.
        let worth = stage_bytes / self.options.max_open_files.max(1) / 2;
        let mut aside = Vec::new();
        for of_one in by_partition(&order) {
            let Some(number) = of_one.first().map(|row| row.0) else {
                continue;
            };
            let bytes = stage_bytes / order.len().max(1) * of_one.len();
            if self.open.contains_key(&number) || (bytes >= worth && self.make_room(files)?) {
                self.append(files, number, &rows, of_one)?;
            } else {
                aside.extend_from_slice(of_one);
            }
        }
        if !aside.is_empty() {
            let run = Run::try_new(files.plan().arrow_schema.clone(), &rows, &aside)?;
            self.run_bytes = self.run_bytes.saturating_add(run.memory());
            self.runs.push(run);
        }
        Ok(())
    }

    fn append(
        &mut self,
        files: &mut Files,
        number: u32,
        rows: &[RecordBatch],
        order: &[PartitionedRow],
    ) -> Result<()> {
        files.share_dictionaries(self.partitioner.len());
        let mut slot = self.open.remove(&number);
        let partition = known(&self.partitioner, number)?;
        files.append(&mut slot, Some(partition), &gather(rows, order)?)?;
        if let Some(mut open) = slot {
            open.last_used = self.now;
            self.open.insert(number, open);
        }
        self.stay_in_memory(files)
    }

    /// Makes room for one more open file, by ending the one that was idle longest; not one that this stage fills.
    fn make_room(&mut self, files: &mut Files) -> Result<bool> {
        if self.open.len() < self.options.max_open_files {
            return Ok(true);
        }
        let idle = self.open.iter().filter(|(_, open)| open.last_used < self.now);
        let oldest = idle
            .min_by_key(|(_, open)| open.last_used)
            .map(|(number, _)| *number);
        match oldest {
            Some(number) => {
                files.end(self.open.remove(&number))?;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Keeps the open files within their share: closes large row groups, else ends the file that was idle longest.
    fn stay_in_memory(&mut self, files: &mut Files) -> Result<()> {
        let share = self.options.memory_bytes / 2;
        loop {
            let total: usize = self.open.values().map(|open| open.file.memory()).sum();
            if total <= share || self.open.len() <= 1 {
                return Ok(());
            }
            let largest = self
                .open
                .values_mut()
                .max_by_key(|open| open.file.row_group_memory());
            match largest {
                Some(open) if open.file.row_group_memory() >= LEAST_ROW_GROUP.min(share / 16).max(1) => {
                    open.file.close_row_group()?;
                    files.drain(open);
                }
                _ => {
                    let oldest = self.open.iter().min_by_key(|(_, open)| open.last_used);
                    let oldest = oldest.map(|(number, _)| *number);
                    files.end(oldest.and_then(|number| self.open.remove(&number)))?;
                }
            }
        }
    }
}

impl Ending {
    /// The least partition that rows are left of.
    fn next(&self) -> Option<u32> {
        let staged = self.order.get(self.from).map(|row| row.0);
        let aside = self.runs.iter().filter_map(RunReader::partition);
        aside.chain(staged).min()
    }

    /// Hands over the rows of a partition in the order in which they came.
    fn write_partition(
        &mut self,
        number: u32,
        mut each: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        for run in &mut self.runs {
            if run.partition() == Some(number) {
                run.read_partition(&mut each)?;
            }
        }
        self.runs.retain(|run| run.partition().is_some());
        let staged = self.order.get(self.from..).unwrap_or_default();
        let of_one = staged.iter().take_while(|row| row.0 == number).count();
        if let Some(order @ [_, ..]) = staged.get(..of_one) {
            each(&gather(&self.rows, order)?)?;
            self.from = self.from.saturating_add(of_one);
        }
        Ok(())
    }
}

/// Sorts rows by partition; within one they keep the order in which they came. Counts instead of comparing: there are few
/// partitions for many rows.
fn in_order(
    numbers: &[u32],
    places: impl Iterator<Item = (u32, u32)>,
    partition_count: usize,
) -> Vec<PartitionedRow> {
    let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut next = vec![0usize; partition_count.saturating_add(1)];
    for number in numbers {
        if let Some(count) = next.get_mut(index(*number).saturating_add(1)) {
            *count += 1;
        }
    }
    let mut before = 0;
    for start in &mut next {
        before += *start;
        *start = before;
    }
    let mut order = vec![(0, 0, 0); numbers.len()];
    for (number, (batch, row)) in numbers.iter().zip(places) {
        if let Some(at) = next.get_mut(index(*number))
            && let Some(place) = order.get_mut(*at)
        {
            *place = (*number, batch, row);
            *at += 1;
        }
    }
    order
}

fn by_partition(order: &[PartitionedRow]) -> impl Iterator<Item = &[PartitionedRow]> {
    order.chunk_by(|left, right| left.0 == right.0)
}

fn known(partitioner: &Partitioner, number: u32) -> Result<&Partition> {
    partitioner
        .partition(number)
        .ok_or_else(|| Error::new(ErrorKind::Rejected, "A partition was lost while its rows waited."))
}
