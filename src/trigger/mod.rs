//! Trigger: what woke us, and what it wants acknowledged.
//!
//! First on the path. Turns a request into a [`Delivery`] and answers it once its [`Ack`] was used.
//! Keeps invariant 1: an answer of success is only ever sent for an [`Ack::ack`].

mod delivery;

pub use delivery::{Ack, Answer, Delivery, DeliveryId, Envelope, Receipt};
