//! Landing: files that are put into a folder become commits, one each, and are moved away.
//!
//! The trigger of files, as the HTTP server is that of messages. Moving a file out of the folder is its ack: to `landed`
//! only after its commit (invariant 1), to the dead letters with the reason when it is refused (invariant 3). Files are
//! loaded one at a time, so that memory is that of one load (invariant 4).

mod folder;
mod lander;
mod place;
mod reports;
mod watched;

#[cfg(test)]
mod tests;

pub use lander::Landing;
