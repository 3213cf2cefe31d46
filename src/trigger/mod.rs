//! Trigger: what woke us, and what it wants acknowledged.
//!
//! First on the path. Turns a request into a [`Delivery`] and answers it once its [`Ack`] was used; takes the files of
//! landing folders and moves them once they landed.
//! Keeps invariant 1 (an answer of success is only ever sent for an [`Ack::ack`]) and invariant 4 (nothing is read
//! into memory that the [`Limits`] have no room for).

mod connections;
mod delivery;
mod http;
mod landing;
mod limits;
mod problem;
mod push;
mod records;

pub use connections::Connections;
pub use delivery::{Ack, Answer, Delivery, DeliveryId, Envelope, PartOf, Receipt};
pub use http::{Access, Intake, Server, router};
pub use landing::Landing;
pub use limits::{Held, Limits};
pub use push::Push;
