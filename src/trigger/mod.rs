//! Trigger: what woke us, and what it wants acknowledged.
//!
//! First on the path. Turns a request or a pulled message into a [`Delivery`] and answers it once its [`Ack`] was used;
//! takes the objects of landing buckets, and the files of landing folders, which it moves once they landed.
//! Keeps invariant 1 (an answer of success is only ever sent for an [`Ack::ack`]) and invariant 4 (nothing is read
//! into memory that the [`Limits`] have no room for).

mod access;
mod answer;
mod connections;
mod delivery;
mod event;
mod forwarded;
mod http;
mod landing;
mod limits;
mod objects;
mod page;
mod problem;
mod pull;
mod push;
mod push_auth;
mod records;

pub use access::Access;
pub use answer::{Ack, Answer, Receipt};
pub use connections::Connections;
pub use delivery::{Delivery, DeliveryId, Envelope, PartOf};
pub use event::ObjectEvent;
pub(crate) use forwarded::is_forwarded;
pub use http::{Intake, Server, probes, router};
pub use landing::Landing;
pub use limits::{Held, Limits};
pub use objects::Objects;
pub use page::Page;
pub use pull::{Pulls, subscriptions};
pub(crate) use pull::{admin as subscription_admin, named as named_subscriptions};
pub use push::Push;
pub use push_auth::Pushers;
pub(crate) use push_auth::published_keys;
