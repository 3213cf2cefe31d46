//! Pulling: messages of Pub/Sub subscriptions by streaming pull, as deliveries of the same pipeline as the pushes.
//!
//! A message is acknowledged after its commit and given back otherwise. Google's client keeps it leased in between. What
//! there is no room for stays with the client and, past its own bounds, with Pub/Sub (invariant 4).

mod client;
mod names;
mod puller;

pub use client::Pulls;
pub(crate) use client::admin;
pub(crate) use names::named;
pub use names::subscriptions;
