//! A server of HTTP whose answers are the caller's, and who may close the connection instead.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

pub type Answer = Response<Full<Bytes>>;

/// The number of the connection that a request came by, among its extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection(pub usize);

/// Why there is no answer: the connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed")]
pub struct Broken;

/// Answers every request until it is dropped, and every connection with it.
pub async fn serve<T, A>(listener: TcpListener, inner: Arc<T>, answer: fn(Arc<T>, Request<Incoming>) -> A)
where
    T: Send + Sync + 'static,
    A: Future<Output = Result<Answer, Broken>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let inner = inner.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Connection(number));
            answer(inner.clone(), request)
        });
        let http = hyper::server::conn::http1::Builder::new();
        connections.spawn(async move {
            // A client that goes, or a connection that is closed on purpose.
            let _ended = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
