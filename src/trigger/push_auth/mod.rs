//! Who may push: told from the head of a request, before anything of its body is read.
//!
//! Pub/Sub signs each push of a subscription that has a service account: it sends a token of Google's, a JWT that names
//! the account and the audience, signed (RS256) with one of the keys that Google publishes.
//!
//! Signatures are checked by `jsonwebtoken` over aws-lc, which the clients of the object stores bring already. Google's own
//! verifier (`google-cloud-auth`, `idtoken::verifier`) stands on the same crate and does not fit a server: requests that
//! come while it asks for keys are refused, each unknown key id makes it ask again, no answer of Google's has a deadline
//! or says how long keys are good, and its time is not an argument. So when keys are asked for, what a token must say and
//! by which clock is decided here.

mod keys;
mod pushers;
mod token;

pub use pushers::Pushers;
pub(crate) use pushers::published_keys;
