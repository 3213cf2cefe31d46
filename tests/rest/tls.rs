//! The same server behind TLS.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use libtest_mimic::Trial;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::World;
use super::serve::configuration;
use crate::support::proxy::Identity;
use crate::support::server::landfast;
use crate::support::tables::{create, orders};
use crate::support::{Stop, TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![server_is_verified_by_the_systems_authorities]
}

async fn server_is_verified_by_the_systems_authorities() -> TestResult {
    let world = World::new().await?;
    create(&world.catalog().await?, &orders()).await?;
    world.proxy.ask(Identity::Google("g00gle"));
    let folder = tempfile::tempdir()?;
    let url = behind_tls(&world.proxy.url(), folder.path()).await?;
    let certificate = folder.path().join("server.crt");
    // Google's client has a TLS of its own: both must agree on who does the cryptography.
    for (auth, distrust) in [
        ("type: bearer, token: g00gle", "gives no connection"),
        ("type: google", "install ca-certificates"),
    ] {
        let config = configuration(&world, &folder, &format!("auth: {{ {auth} }}"))?;
        let text = fs::read_to_string(&config)?;
        fs::write(&config, text.replace(&world.proxy.url(), &url))?;
        for (authorities, code) in [(certificate.clone(), 0), (folder.path().join("none"), 1)] {
            let mut show = landfast(["show", "--config", &config, "shop.orders"]);
            // Where the system keeps them, as OpenSSL is told.
            show.env("SSL_CERT_FILE", authorities)
                .env("SSL_CERT_DIR", folder.path().join("none"))
                .env("GCE_METADATA_HOST", world.proxy.url().replace("http://", ""))
                .env("HOME", folder.path())
                .env_remove("GOOGLE_APPLICATION_CREDENTIALS");
            let output = tokio::task::block_in_place(|| show.output())?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{stderr}");
            assert!(!stderr.contains("panicked"), "{stderr}");
            assert_eq!(stderr.contains(distrust), code == 1, "{stderr}");
        }
    }
    Ok(())
}

/// Puts TLS before a server. Gives the address; the certificate, its own authority, is `server.crt` in the folder.
pub async fn behind_tls(server: &str, folder: &Path) -> TestResult<String> {
    let (certificate, key) = (folder.join("server.crt"), folder.join("server.key"));
    let request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
                   -addext basicConstraints=critical,CA:FALSE";
    let made = Command::new("openssl")
        .args(request.split_whitespace())
        .args([Path::new("-keyout"), &key, Path::new("-out"), &certificate])
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return Err(Stop::Ignored("a certificate takes openssl".to_owned()));
    }
    let chain = vec![CertificateDer::from_pem_file(certificate)?];
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}", listener.local_addr()?);
    let server = server.replace("http://", "");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut server = TcpStream::connect(server).await?;
                copy_bidirectional(&mut client, &mut server).await
            });
        }
    });
    Ok(url)
}
