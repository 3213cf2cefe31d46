//! What a process on Google Cloud asks of the network before it is ready: nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use libtest_mimic::Trial;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::support::lake::Lake;
use crate::support::push::Push;
use crate::support::server::{Server, landfast};
use crate::support::signing::{ACCOUNT, AUDIENCE};
use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![nothing_is_asked_of_the_network_before_the_first_delivery]
}

/// Where Google would be: takes connections, counts them, and closes them.
struct Nobody {
    address: String,
    calls: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl Nobody {
    async fn start() -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let serving = tokio::spawn(async move {
            while let Ok((call, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                drop(call);
            }
        });
        Ok(Self {
            address,
            calls,
            serving: serving.abort_handle(),
        })
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Nobody {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn nothing_is_asked_of_the_network_before_the_first_delivery() -> TestResult {
    let signed = format!("{{ audience: \"{AUDIENCE}\", service_accounts: [{ACCOUNT}] }}");
    for auth in [signed.as_str(), "off"] {
        let (nobody, lake) = (Nobody::start().await?, Lake::new()?);
        let config = lake.write_config(&format!(
            "warehouse: gs://lake/warehouse\ncatalog: {{ type: storage }}\ndead_letters: gs://lake/letters\nserver: {{ \
             listen: \"127.0.0.1:0\", push_auth: {auth}, ack_deadline: 12s }}\ntables:\n  shop.orders: {{ from: [{{ \
             subscription: orders }}, {{ bucket: landing }}], schema: [{{ name: id, type: long }}] }}\n"
        ))?;
        let mut command = landfast(["serve", "--config"]);
        let proxy = format!("http://{}", nobody.address);
        command
            .arg(config)
            .env("HOME", lake.path())
            .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env("GCE_METADATA_HOST", &nobody.address)
            .env("HTTPS_PROXY", &proxy)
            .env("ALL_PROXY", &proxy);
        let server = Server::start(command).await?;
        assert_eq!(server.pusher().get("/health/ready").await?.0, 200);
        assert_eq!(nobody.calls(), 0, "{auth}");
        // Who is asked then is there to be asked.
        let push = Push::json("orders", 1, &json!({ "id": 1 }));
        let pusher = match auth {
            "off" => server.pusher(),
            _ => server
                .pusher()
                .bearing("eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.c2ln"),
        };
        assert_eq!(pusher.push(&push).await, 503, "{auth}");
        assert!(nobody.calls() > 0, "{auth}");
    }
    Ok(())
}
