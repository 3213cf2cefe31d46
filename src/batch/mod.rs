//! Batch: deliveries of one table wait for each other, and are answered together by one commit (group commit).
//!
//! Per table two tasks: the *writer* takes deliveries in, decodes them as they come and decides when the batch is due;
//! the *committer* writes and commits one batch while the next fills, and takes along what has arrived when an attempt
//! has to be repeated. Both belong to the process, not to a request: a request that goes away only drops its answer.

mod answers;
mod by_record;
mod commit_log;
mod committer;
mod decoding;
mod division;
mod flight;
mod gauge;
pub(crate) mod opening;
mod part;
mod shared;
mod whole;
mod writer;
mod writers;

pub use by_record::accept_by_record;
pub(crate) use division::has_other_content;
pub use shared::Shared;
pub use whole::keep_whole;
pub use writers::Writers;
