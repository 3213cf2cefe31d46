//! Connections that ask for nothing do not stay, and too many of them keep nobody out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures::future::try_join_all;
use landfast::trigger::Connections;
use libtest_mimic::Trial;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{TestResult, trials};

pub fn tests() -> Vec<Trial> {
    trials![
        connections_without_a_request_are_closed,
        idle_connections_are_closed,
        idle_connections_make_room_for_new_ones,
        request_in_work_is_answered_when_the_server_stops,
    ]
}

const LONG: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(4);
/// For what ought to come at once.
const WITHIN: Duration = Duration::from_secs(30);

const ROOMY: Connections = Connections {
    most: 100,
    first_head: LONG,
    idle: LONG,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const HELD: &[u8] = b"GET /held HTTP/1.1\r\nhost: h\r\n\r\n";

struct Server {
    address: SocketAddr,
    /// Told when `/held` is asked for.
    asked: Arc<Notify>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// Serves `here` at `/`; at `/held`, once it is let.
async fn serve(connections: Connections) -> TestResult<(Server, watch::Sender<bool>)> {
    let (hold, held) = watch::channel(true);
    let asked = Arc::new(Notify::new());
    let notified = asked.clone();
    let late = move || {
        let mut held = held.clone();
        notified.notify_one();
        async move {
            let _let_go = held.wait_for(|held| !held).await;
            "here"
        }
    };
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/held", get(late));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(connections.serve(listener, router, stopped));
    let server = Server {
        address,
        asked,
        stop,
        serving,
    };
    Ok((server, hold))
}

async fn send(server: &Server, bytes: &[u8]) -> TestResult<TcpStream> {
    let mut stream = TcpStream::connect(server.address).await?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

async fn answered(stream: &mut TcpStream) -> TestResult {
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        let read = timeout(WITHIN, stream.read_buf(&mut answer)).await??;
        assert!(read > 0, "closed after {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Nothing more comes, and that soon.
async fn closed(stream: &mut TcpStream) -> TestResult {
    let mut rest = Vec::new();
    match timeout(WITHIN, stream.read_to_end(&mut rest)).await? {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn connections_without_a_request_are_closed() -> TestResult {
    let (server, _hold) = serve(Connections {
        first_head: SOON,
        ..ROOMY
    })
    .await?;
    let mut asked = send(&server, REQUEST).await?;
    answered(&mut asked).await?;
    // The second may yet become HTTP/2.
    let begun = [&b""[..], b"PRI * HT", b"GET / HTT", b"GET / HTTP/1.1\r\nhost: "];
    let begun = begun.map(|begun| send(&server, begun));
    for stream in &mut try_join_all(begun).await? {
        closed(stream).await?;
    }
    // It is older than those.
    asked.write_all(REQUEST).await?;
    answered(&mut asked).await
}

async fn idle_connections_are_closed() -> TestResult {
    let (server, _hold) = serve(Connections { idle: SOON, ..ROOMY }).await?;
    let mut asked = send(&server, REQUEST).await?;
    answered(&mut asked).await?;
    closed(&mut asked).await
}

async fn idle_connections_make_room_for_new_ones() -> TestResult {
    let (server, hold) = serve(Connections { most: 3, ..ROOMY }).await?;
    let mut busy = send(&server, HELD).await?;
    timeout(WITHIN, server.asked.notified()).await?;
    let (mut asked, mut silent) = (send(&server, REQUEST).await?, send(&server, b"").await?);
    answered(&mut asked).await?;
    let mut late = send(&server, REQUEST).await?;
    answered(&mut late).await?;
    closed(&mut asked).await?;
    closed(&mut silent).await?;
    hold.send_replace(false);
    answered(&mut busy).await
}

async fn request_in_work_is_answered_when_the_server_stops() -> TestResult {
    let (server, hold) = serve(ROOMY).await?;
    let mut idle = send(&server, REQUEST).await?;
    answered(&mut idle).await?;
    let mut busy = send(&server, HELD).await?;
    timeout(WITHIN, server.asked.notified()).await?;
    server.stop.send_replace(true);
    closed(&mut idle).await?;
    assert!(!server.serving.is_finished());
    hold.send_replace(false);
    answered(&mut busy).await?;
    timeout(WITHIN, server.serving).await??;
    assert!(TcpStream::connect(server.address).await.is_err());
    Ok(())
}
