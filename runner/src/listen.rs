//! Listens on an address. `[::]` accepts IPv4 and IPv6, and falls back to `0.0.0.0` where the kernel has no IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() => {
            let other = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            // If that fails, too, the first error is the more helpful one.
            TcpListener::bind(other).await.map_err(|_| error)
        }
        bound => bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_reach_a_listener_of_all_addresses() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        if TcpListener::bind("[::1]:0").await.is_ok() {
            tokio::net::TcpStream::connect(("::1", port)).await.unwrap();
        }
        let taken = listen(SocketAddr::from(([127, 0, 0, 1], port))).await;
        assert!(taken.is_err(), "no other address is taken in the place of one that is asked for");
    }
}
