//! Accepts connections, up to a maximum number, each with timeouts for its head, its TLS handshake and stalled writes.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::Peer;
use super::rest::Rest;
use super::stall::Stall;
use super::{Settings, tls};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 64 << 10;
/// Close a connection whose client reads nothing for this long.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Time allowed for in-flight work at shutdown.
const DRAIN: Duration = Duration::from_secs(10);

pub struct Listener {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
}

impl Listener {
    pub async fn bind(settings: &Settings) -> anyhow::Result<Listener> {
        let tls = match settings.tls.clone() {
            Some((chain, key)) => Some(tls::acceptor(chain, key).await?),
            None => None,
        };
        let at = settings.listen;
        let listener = match TcpListener::bind(at).await {
            // The kernel has no IPv6.
            Err(_) if at.is_ipv6() && at.ip().is_unspecified() => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, at.port())).await?
            }
            bound => bound?,
        };
        Ok(Listener { listener, tls, connections: Arc::new(Semaphore::new(settings.limits.connections)) })
    }

    pub async fn serve(self, router: Router, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        // Dropped at the very end: cuts off whatever connections are left.
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        loop {
            let Ok(room) = Arc::clone(&self.connections).acquire_owned().await else { break };
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (tls, router, stop, cut) = (self.tls.clone(), router.clone(), stop.clone(), cut.clone());
            tracker.spawn(async move {
                let served = accept(stream, tls, router, peer.ip(), stop);
                tokio::select! {
                    served = served => if let Err(error) = served {
                        tracing::debug!(%peer, "a connection ended: {error:#}");
                    },
                    () = cut.cancelled() => {}
                }
                drop(room);
            });
        }
        tracker.close();
        let _ = tokio::time::timeout(DRAIN, tracker.wait()).await;
    }
}

async fn accept(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    peer: IpAddr,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Events are small: with Nagle's algorithm, each could be delayed by 40 ms.
    stream.set_nodelay(true)?;
    match tls {
        None => serve(stream, router, peer, stop).await,
        Some(tls) => {
            let stream = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??;
            serve(stream, router, peer, stop).await
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    peer: IpAddr,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let service = FromPeer { router: TowerToHyperService::new(router), peer: Peer(peer) };
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(Stall::new(stream, WRITE_TIMEOUT)), service)
    );
    tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

/// Tells each request the client's address.
struct FromPeer {
    router: TowerToHyperService<Router>,
    peer: Peer,
}

impl Service<Request<Incoming>> for FromPeer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        // A client that waits for `100 Continue` has not sent the rest yet.
        if request.headers().contains_key(header::EXPECT) {
            return Box::pin(self.router.call(request.map(Body::new)));
        }
        Box::pin(self.router.call(request.map(|body| Body::new(Rest::new(body)))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use axum::http::StatusCode;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_answer_to_half_a_request_is_not_lost() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let listener = Listener { listener, tls: None, connections: Arc::new(Semaphore::new(4)) };
        let router = Router::new().fallback(async || StatusCode::UNAUTHORIZED);
        let stop = CancellationToken::new();
        let serving = tokio::spawn(listener.serve(router, stop.clone()));
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(at).unwrap();
            // Twice on one connection: it stays usable.
            for _ in 0..2 {
                let body = vec![b'x'; 8 << 20];
                write!(stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).unwrap();
                stream.write_all(&body).unwrap();
                let mut head = [0; 12];
                stream.read_exact(&mut head).unwrap();
                assert_eq!(&head, b"HTTP/1.1 401");
                let mut last = [0; 4];
                while &last != b"\r\n\r\n" {
                    last.rotate_left(1);
                    stream.read_exact(&mut last[3..]).unwrap();
                }
            }
        });
        asked.await.unwrap();
        stop.cancel();
        serving.await.unwrap();
    }
}
