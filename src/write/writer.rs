//! The table writer: a stream of rows becomes data files, in bounded memory.

use std::sync::Arc;

use arrow_array::RecordBatch;
use iceberg::spec::DataFile;
use iceberg::table::Table;
use tokio::task::JoinHandle;

use super::WriteOptions;
use super::encoder::Encoder;
use super::plan::Plan;
use super::uploads::Uploads;
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;

/// Writes rows of a table's current schema as data files of its default partition spec.
///
/// Encodes on the blocking threads, one batch at a time, while the caller makes the next one and earlier parts are on
/// their way to the store. No reader sees a file before it is committed; files that never are become orphans, which the
/// sweep removes. Dropping the writer abandons it.
///
/// ```no_run
/// # async fn example(table: &iceberg::table::Table, batches: Vec<arrow_array::RecordBatch>) -> landfast::error::Result<()> {
/// use std::sync::Arc;
/// use landfast::random::Random;
/// use landfast::write::{TableWriter, WriteOptions};
///
/// let random = Arc::new(Random::from_os());
/// let mut writer = TableWriter::try_new(table, &random, WriteOptions::default())?;
/// for rows in batches {
///     writer.write(rows).await?;
/// }
/// let data_files = writer.finish().await?;
/// # Ok(())
/// # }
/// ```
pub struct TableWriter {
    /// Absent while it is at work, and for good after a failure.
    encoder: Option<Encoder>,
    work: Option<JoinHandle<Result<(Encoder, bool)>>>,
    uploads: Uploads,
    /// Set while outputs are between the encoder and the uploads: a call that ends there has lost some.
    is_broken: bool,
}

impl TableWriter {
    /// Makes a writer of a table as it was loaded. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a write property is not usable, [`ErrorKind::TableMismatch`] when this version cannot
    /// compute the table's partitions, [`ErrorKind::Rejected`] for a type that has no Parquet form.
    pub fn try_new(table: &Table, random: &Arc<Random>, options: WriteOptions) -> Result<Self> {
        let plan = Arc::new(Plan::try_new(table.metadata(), random)?);
        Ok(Self {
            encoder: Some(Encoder::try_new(plan, options)?),
            work: None,
            uploads: Uploads::new(table.file_io().clone()),
            is_broken: false,
        })
    }

    /// Takes rows, once the batch before is encoded; waits while the store does not keep up.
    ///
    /// `Ok` promises nothing of these rows. A call that is cancelled ends the writer: it cannot finish any more.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store did not take a file, [`ErrorKind::Rejected`] when rows do not fit the
    /// schema; perhaps those of an earlier call. The writer is over.
    pub async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.settle().await?;
        self.start(move |encoder| encoder.push(rows))
    }

    /// Ends all files and waits for the store: on `Ok` every row is in one of them, and each is durable.
    ///
    /// # Errors
    /// Those of [`TableWriter::write`].
    pub async fn finish(mut self) -> Result<Vec<DataFile>> {
        self.settle().await?;
        self.start(Encoder::end)?;
        self.settle().await?;
        let files = self.uploads.files();
        self.uploads.finish().await?;
        Ok(files)
    }

    /// Gives up what is not finished. Files that were are orphans.
    pub async fn abandon(mut self) {
        if let Some(work) = self.work.take() {
            // Its result has no place to go.
            let _encoder = work.await;
        }
    }

    /// Encodes a whole batch in one go, for [`write_data_files`](super::write_data_files).
    pub(super) async fn write_all(mut self, batches: Vec<RecordBatch>) -> Result<PendingFiles> {
        self.start(move |encoder| {
            for rows in batches {
                encoder.push(rows)?;
            }
            encoder.end()
        })?;
        self.settle().await?;
        Ok(PendingFiles {
            files: self.uploads.files(),
            uploads: self.uploads,
        })
    }

    fn start(&mut self, task: impl FnOnce(&mut Encoder) -> Result<()> + Send + 'static) -> Result<()> {
        let mut encoder = self.encoder.take().ok_or_else(given_up)?;
        self.work = Some(tokio::task::spawn_blocking(move || {
            task(&mut encoder)?;
            let more = encoder.work()?;
            Ok((encoder, more))
        }));
        Ok(())
    }

    /// Waits until the encoder has done all that it was given, and hands what comes of it to the uploads.
    async fn settle(&mut self) -> Result<()> {
        if self.is_broken {
            return Err(given_up());
        }
        while let Some(work) = &mut self.work {
            let ended = work.await;
            self.work = None;
            let (mut encoder, more) = ended.map_err(|error| {
                Error::new(ErrorKind::Unavailable, "The encoder stopped.").with_source(error)
            })??;
            let outputs = encoder.take_outputs();
            self.encoder = Some(encoder);
            if more {
                // The next files are encoded while these are on their way.
                self.start(|_| Ok(()))?;
            }
            self.is_broken = true;
            self.uploads.send(outputs).await?;
            self.is_broken = false;
        }
        Ok(())
    }
}

/// Data files that are encoded, and perhaps still on their way to the store. Dropped, they are given up.
pub struct PendingFiles {
    files: Vec<DataFile>,
    uploads: Uploads,
}

impl PendingFiles {
    /// The files, as a manifest lists them.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Waits until every file is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when the store did not take one.
    pub async fn durable(self) -> Result<Vec<DataFile>> {
        self.uploads.finish().await?;
        Ok(self.files)
    }
}

impl std::fmt::Debug for PendingFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingFiles")
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

fn given_up() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "The writer was given up after a failure or a cancelled call.",
    )
}

impl std::fmt::Debug for TableWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TableWriter").finish_non_exhaustive()
    }
}
