//! What Google's clients need of the process, and who it is to Google.

mod identity;
mod project;
mod pubsub;
mod token;

use rustls::crypto::ring;

pub(crate) use project::project_of_machine;
pub(crate) use pubsub::{PubSub, not_made};
pub(crate) use token::Google;

use crate::error::{Error, ErrorKind, Result};

/// Where Google's clients look for an emulator of Pub/Sub.
pub const EMULATOR: &str = "PUBSUB_EMULATOR_HOST";
/// Where Google's clients look for the project.
pub const PROJECT: &str = "GOOGLE_CLOUD_PROJECT";

/// Makes sure that a client of Google's can be made.
///
/// # Errors
/// [`ErrorKind::Rejected`] when the system trusts nobody.
pub(crate) fn prepare_client() -> Result<()> {
    // Google's clients panic where the system has no authorities, as in an image of the binary alone.
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        let message = "The system has no certificate authorities, and Google's client needs them: install \
                       ca-certificates, or set SSL_CERT_FILE.";
        return Err(Error::new(ErrorKind::Rejected, message));
    }
    // They leave the cryptography to the process, and panic without any. An error says that it is chosen already.
    let _chosen_before = ring::default_provider().install_default();
    Ok(())
}
