//! The files of one write on their way to the store: small ones by one put, large ones part by part.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use iceberg::io::FileIO;
use iceberg::spec::DataFile;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};

use super::files::Output;
use crate::error::{Error, ErrorKind, Result};

/// Bytes on their way at one time, in units of [`UNIT`]; also the number of small files at one time.
const UNITS: usize = 32;
const UNIT: usize = 1 << 20;

/// A piece of a large file.
enum Piece {
    Part(Bytes, OwnedSemaphorePermit),
    End(Bytes),
}

/// Uploads in the background. Dropped, it gives up all that is not finished.
pub(super) struct Uploads {
    io: FileIO,
    room: Arc<Semaphore>,
    large: HashMap<u64, mpsc::UnboundedSender<Piece>>,
    tasks: JoinSet<Result<()>>,
    /// The files whose ends were handed in, by number.
    files: Vec<(u64, DataFile)>,
}

impl Uploads {
    pub(super) fn new(io: FileIO) -> Self {
        Self {
            io,
            room: Arc::new(Semaphore::new(UNITS)),
            large: HashMap::new(),
            tasks: JoinSet::new(),
            files: Vec::new(),
        }
    }

    /// Starts to send what the encoder gave; waits while too much is on its way.
    pub(super) async fn send(&mut self, outputs: Vec<Output>) -> Result<()> {
        for output in outputs {
            match output {
                Output::Parts {
                    file,
                    location,
                    parts,
                } => {
                    for part in parts {
                        self.send_part(file, &location, part).await?;
                    }
                }
                Output::End {
                    file,
                    rest,
                    data_file,
                } => {
                    match self.large.remove(&file) {
                        // A send to a task that failed: joining it says why.
                        Some(pieces) => drop(pieces.send(Piece::End(rest))),
                        None => self.put(data_file.file_path(), rest).await?,
                    }
                    self.files.push((file, *data_file));
                }
            }
        }
        while let Some(ended) = self.tasks.try_join_next() {
            joined(ended)?;
        }
        Ok(())
    }

    /// The files that were handed in, in the order in which they were begun. They may still be on their way.
    pub(super) fn files(&mut self) -> Vec<DataFile> {
        let mut files = std::mem::take(&mut self.files);
        files.sort_by_key(|(number, _)| *number);
        files.into_iter().map(|(_, file)| file).collect()
    }

    /// Waits until every file is durable.
    pub(super) async fn finish(mut self) -> Result<()> {
        self.large.clear();
        while let Some(ended) = self.tasks.join_next().await {
            joined(ended)?;
        }
        Ok(())
    }

    async fn put(&mut self, location: &str, bytes: Bytes) -> Result<()> {
        let permit = self.room(bytes.len()).await?;
        let (io, location) = (self.io.clone(), location.to_owned());
        self.tasks.spawn(async move {
            let put = async { io.new_output(&location)?.write(bytes).await };
            put.await.map_err(|error| unavailable(&location, error))?;
            drop(permit);
            Ok(())
        });
        Ok(())
    }

    async fn send_part(&mut self, file: u64, location: &str, part: Bytes) -> Result<()> {
        let permit = self.room(part.len()).await?;
        let pieces = match self.large.get(&file) {
            Some(pieces) => pieces,
            None => {
                // Bounded by the permits that travel with the parts.
                let (sender, pieces) = mpsc::unbounded_channel();
                let (io, location) = (self.io.clone(), location.to_owned());
                self.tasks.spawn(async move {
                    let sent = send_pieces(&io, &location, pieces).await;
                    match sent.map_err(|error| unavailable(&location, error))? {
                        true => Ok(()),
                        false => Err(Error::new(ErrorKind::Unavailable, "The file was abandoned.")),
                    }
                });
                self.large.entry(file).or_insert(sender)
            }
        };
        // A send to a task that failed: joining it says why.
        let _task_gone = pieces.send(Piece::Part(part, permit));
        Ok(())
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(UNIT).clamp(1, UNITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = self.room.clone().acquire_many_owned(units).await;
        permit.map_err(|closed| Error::new(ErrorKind::Unavailable, "The uploads ended.").with_source(closed))
    }
}

/// Sends a large file; `false` when its end never came.
async fn send_pieces(
    io: &FileIO,
    location: &str,
    mut pieces: mpsc::UnboundedReceiver<Piece>,
) -> iceberg::Result<bool> {
    let mut writer = io.new_output(location)?.writer().await?;
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Part(part, permit) => {
                writer.write(part).await?;
                drop(permit);
            }
            Piece::End(rest) => {
                writer.write(rest).await?;
                writer.close().await?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn joined(ended: Result<Result<()>, JoinError>) -> Result<()> {
    ended.map_err(|error| Error::new(ErrorKind::Unavailable, "An upload stopped.").with_source(error))?
}

fn unavailable(location: &str, error: iceberg::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "The data file cannot be written.")
        .with("location", location)
        .with_source(error)
}
