//! The keys that signed pushes are checked with.

use std::sync::Arc;

use tokio::time::timeout;

use super::report::{Found, Gathered, too_slow};
use super::{PROBE, line};
use crate::clock::SystemClock;
use crate::config::{PushAuth, ServerConfig};
use crate::trigger::published_keys;

/// Fetches them as the first push would.
pub(super) async fn probe(server: &ServerConfig) -> Gathered {
    match &server.push_auth {
        None => {
            let found = Found::warned(
                "server.push_auth is not set: `serve` will not start",
                "Set it, or run `pull` alone with this configuration.",
            );
            line("push keys", "server.push_auth", async { found })
                .await
                .into()
        }
        Some(PushAuth::Off) => Gathered::default(),
        Some(PushAuth::Signed(signed)) => {
            let fetching = async {
                let fetched = timeout(PROBE, published_keys(signed, Arc::new(SystemClock))).await;
                match fetched.unwrap_or_else(|_elapsed| Err(too_slow(PROBE))) {
                    Ok(count) => Found::passed(format!("fetched {count} keys")),
                    Err(error) => Found::failed(
                        error.report(),
                        "Let the service reach the address: without the keys every push is answered 503.",
                    ),
                }
            };
            line("push keys", &signed.keys_url, fetching).await.into()
        }
    }
}
