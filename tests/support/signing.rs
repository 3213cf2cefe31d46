//! Google's part in a signed push: keys of the tests' own, tokens signed with them, and the server that publishes them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
    UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::TestResult;
use super::http::{Answer, Broken, serve};

/// What the tokens of these tests are for, and whose they are.
pub const AUDIENCE: &str = "https://ingest.example/";
pub const ACCOUNT: &str = "push@p-test.iam.gserviceaccount.com";

/// An RSA key, made for the test.
#[derive(Debug)]
pub struct SigningKey {
    id: String,
    pair: KeyPair,
}

impl SigningKey {
    /// A new one under an id.
    pub fn new(id: &str) -> TestResult<Self> {
        Ok(Self {
            id: id.to_owned(),
            pair: KeyPair::generate(KeySize::Rsa2048)?,
        })
    }

    /// Its public half as Google publishes it.
    pub fn published(&self) -> Value {
        let public = self.pair.public_key();
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id,
            "n": base64url(public.modulus().big_endian_without_leading_zero()),
            "e": base64url(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// Its public half as DER, for who takes it for a secret.
    pub fn public_der(&self) -> TestResult<Vec<u8>> {
        Ok(self.pair.public_key().as_der()?.as_ref().to_vec())
    }

    /// Its private half, as a service account's key holds it.
    pub fn private_pem(&self) -> TestResult<String> {
        let der: Pkcs8V1Der<'static> = self.pair.as_der()?;
        let text = STANDARD.encode(der.as_ref());
        Ok(format!(
            "-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n"
        ))
    }

    /// The claims of a token that this key has signed.
    pub fn read(&self, token: &str) -> TestResult<Value> {
        let (signed, signature) = token.rsplit_once('.').ok_or("no token")?;
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.pair.public_key().as_ref());
        public.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature)?)?;
        let (_, claims) = signed.split_once('.').ok_or("no token")?;
        Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?)
    }

    /// A token as Google signs it.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header(), claims)
    }

    /// The head of such a token.
    pub fn header(&self) -> Value {
        json!({ "alg": "RS256", "kid": self.id, "typ": "JWT" })
    }

    /// A token with another head; signed as that says if it is an algorithm of RSA's.
    pub fn token_of(&self, header: &Value, claims: &Value) -> String {
        let encoding: &'static dyn RsaEncoding = match header["alg"].as_str() {
            Some("RS512") => &RSA_PKCS1_SHA512,
            _ => &RSA_PKCS1_SHA256,
        };
        token(header, claims, |signed| {
            let mut signature = vec![0; self.pair.public_modulus_len()];
            let random = SystemRandom::new();
            self.pair
                .sign(encoding, &random, signed, &mut signature)
                .expect("the key signs");
            signature
        })
    }
}

/// A token whose signature the caller makes of what is signed.
pub fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| base64url(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = base64url(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// What a token of Pub/Sub's says that was issued at a time, for an hour.
pub fn claims(issued: DateTime<Utc>) -> Value {
    json!({
        "iss": "https://accounts.google.com", "aud": AUDIENCE, "azp": "113774264463038321964",
        "sub": "113774264463038321964", "email": ACCOUNT, "email_verified": true,
        "iat": issued.timestamp(), "exp": issued.timestamp() + 3600,
    })
}

/// The claims with some of them replaced; `null` takes one away.
pub fn with(mut claims: Value, others: Value) -> Value {
    let (Some(claimed), Value::Object(others)) = (claims.as_object_mut(), others) else {
        return claims;
    };
    for (name, value) in others {
        match value {
            Value::Null => drop(claimed.remove(&name)),
            value => drop(claimed.insert(name, value)),
        }
    }
    claims
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How the server answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Of the answer; 0: the connection is closed without one.
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

/// Publishes keys on a port of 127.0.0.1, and counts who asks. It is gone when it is dropped.
#[derive(Debug)]
pub struct KeyServer {
    shared: Arc<Shared>,
    host: String,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    reply: Mutex<Reply>,
    asked: AtomicUsize,
    /// Whether answers wait.
    held: watch::Sender<bool>,
}

impl KeyServer {
    /// Publishes keys that are good for an hour.
    pub async fn start(keys: &[&SigningKey]) -> TestResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let host = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared {
            reply: Mutex::new(published(keys, "public, max-age=3600, must-revalidate")),
            asked: AtomicUsize::new(0),
            held: watch::Sender::new(false),
        });
        let serving = tokio::spawn(serve(listener, shared.clone(), answer));
        Ok(Self {
            shared,
            host,
            serving,
        })
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Where the keys are.
    pub fn url(&self) -> String {
        format!("http://{}/oauth2/v3/certs", self.host)
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Answers so from now on.
    pub fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().expect("not poisoned") = reply;
    }

    /// Closes connections from now on.
    pub fn fail(&self) {
        self.reply(Reply {
            status: 0,
            headers: Vec::new(),
            body: String::new(),
        });
    }

    /// Publishes these keys from now on.
    pub fn publish(&self, keys: &[&SigningKey], cache_control: &str) {
        self.reply(published(keys, cache_control));
    }

    /// Keeps answers back, or lets them go.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The answer that publishes keys.
pub fn published(keys: &[&SigningKey], cache_control: &str) -> Reply {
    let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
    Reply {
        status: 200,
        headers: vec![("cache-control", cache_control.to_owned())],
        body: json!({ "keys": keys }).to_string(),
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Broken> {
    shared.asked.fetch_add(1, Ordering::SeqCst);
    let mut held = shared.held.subscribe();
    held.wait_for(|held| !held).await.map_err(|_gone| Broken)?;
    let reply = shared.reply.lock().expect("not poisoned").clone();
    if reply.status == 0 {
        return Err(Broken);
    }
    let is_place = request.uri().path() == "/oauth2/v3/certs";
    let status = if is_place { reply.status } else { 404 };
    let headers = reply.headers.into_iter();
    let response = headers.fold(Response::builder().status(status), |response, (name, value)| {
        response.header(name, value)
    });
    response.body(Full::from(reply.body)).map_err(|_not_one| Broken)
}
