//! The check that a push passes before it is read.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;

use super::keys::Keys;
use super::token::Token;
use crate::clock::Clock;
use crate::config::{PushAuth, SignedPushes};
use crate::error::Result;
use crate::trigger::access::check_page;

/// Who may push.
#[derive(Debug)]
pub enum Pushers {
    /// Anyone: what stands in front of the server lets only the push in.
    Anyone,
    /// Anyone who reaches a loopback address, but for browsers with pages from elsewhere.
    Local,
    /// Whoever shows a token that Google signed.
    Signed(Signed),
}

/// The check of signed pushes.
#[derive(Debug)]
pub struct Signed {
    /// What a token has to say.
    expected: SignedPushes,
    /// What it may be signed with.
    keys: Arc<Keys>,
    clock: Arc<dyn Clock>,
}

impl Pushers {
    /// Who may push as it is configured. Nothing is sent before the first push.
    ///
    /// # Errors
    /// [`Unavailable`](crate::error::ErrorKind::Unavailable) when no client of HTTP can be made, or the system trusts nobody.
    pub fn from_config(auth: &PushAuth, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(match auth {
            PushAuth::Off => Self::Anyone,
            PushAuth::Signed(expected) => Self::Signed(Signed {
                expected: expected.clone(),
                keys: Arc::new(Keys::new(&expected.keys_url, clock.clone())?),
                clock,
            }),
        })
    }

    /// The same of a server that listens on this address.
    pub fn listening_on(self, address: IpAddr) -> Self {
        match self {
            Self::Anyone if address.is_loopback() => Self::Local,
            other => other,
        }
    }

    /// Checks a push by the head of its request. It may wait for keys, for a few seconds at most.
    ///
    /// # Errors
    /// [`Unauthenticated`](crate::error::ErrorKind::Unauthenticated) without a token that Google signed and that is good
    /// now, [`Forbidden`](crate::error::ErrorKind::Forbidden) with one of another account or for another audience,
    /// [`Unavailable`](crate::error::ErrorKind::Unavailable) naming `keys` when it cannot be told.
    pub async fn check(&self, headers: &HeaderMap) -> Result<()> {
        match self {
            Self::Anyone => Ok(()),
            Self::Local => check_page(headers),
            Self::Signed(signed) => signed.check(headers).await,
        }
    }
}

/// Asks for the keys that are published now, as the first push would; gives their number.
///
/// # Errors
/// [`Unavailable`](crate::error::ErrorKind::Unavailable) when there are none to be had.
pub(crate) async fn published_keys(signed: &SignedPushes, clock: Arc<dyn Clock>) -> Result<usize> {
    let keys = Keys::new(&signed.keys_url, clock)?;
    keys.fetch().await.map(|(keys, _age)| keys.len())
}

impl Signed {
    async fn check(&self, headers: &HeaderMap) -> Result<()> {
        let token = Token::of(headers)?;
        let key = self.keys.find(token.key_id()).await?;
        token.claims(&key)?.check(&self.expected, self.clock.now())
    }
}
