//! Where Pub/Sub is, and who asks it.

use std::time::Duration;

use google_cloud_auth::credentials::{Credentials, anonymous};

use super::{Google, prepare_client};
use crate::config::Env;
use crate::error::{Error, ErrorKind, Result};

/// What every client of Pub/Sub is made with.
pub(crate) struct PubSub {
    /// The emulator's address; none is Google's own.
    pub(crate) endpoint: Option<String>,
    pub(crate) credentials: Credentials,
}

impl PubSub {
    /// Google's, by Application Default Credentials whose token is waited for no longer than `patience`; at `emulator`, a
    /// host and port, the emulator, which asks for none. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when there are no usable credentials, or the system trusts no authority.
    pub(crate) fn at(emulator: Option<&str>, env: Env<'_>, patience: Duration) -> Result<Self> {
        let Some(host) = emulator else {
            prepare_client()?;
            let credentials = Google::from_env(env, None, patience)?.into_credentials();
            return Ok(Self {
                endpoint: None,
                credentials,
            });
        };
        Ok(Self {
            endpoint: Some(address(host)),
            credentials: anonymous::Builder::new().build(),
        })
    }
}

/// Why a client was not made.
pub(crate) fn not_made(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    let message = "Pub/Sub's client cannot be made: give the process credentials (a service account, or \
                   GOOGLE_APPLICATION_CREDENTIALS).";
    Error::new(ErrorKind::Rejected, message).with_source(error)
}

/// The emulator's variable holds a host and port; some write an address.
fn address(host: &str) -> String {
    match host.contains("://") {
        true => host.to_owned(),
        false => format!("http://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emulator_is_named_by_host_or_address() {
        assert_eq!(address("127.0.0.1:8085"), "http://127.0.0.1:8085");
        assert_eq!(address("http://[::1]:8085"), "http://[::1]:8085");
    }
}
