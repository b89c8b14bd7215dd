//! Obtains the coordinator's address: given at the start, or sent later over HTTP by a client with the token. On a
//! cluster, a worker's pod is created before the address is known.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::watch;

use crate::shuffle;
use floe_wire::error::{QueryError, Result};

#[derive(Clone, Debug)]
pub struct Introduction {
    address: Arc<watch::Sender<Option<String>>>,
    token: Arc<str>,
}

impl Introduction {
    /// Without an address, a token is needed to authenticate the client that sends it.
    pub fn new(coordinator: Option<String>, token: &str) -> Result<Introduction> {
        if coordinator.is_none() && token.is_empty() {
            let message = "neither a coordinator's address is given nor a token (FLOE_TOKEN) for who may tell it";
            return Err(QueryError::user("BadSpec", message));
        }
        Ok(Introduction { address: Arc::new(watch::Sender::new(coordinator)), token: token.into() })
    }

    pub fn router(&self) -> Router {
        let this = self.clone();
        let take = move |headers: HeaderMap, body: String| std::future::ready(this.take(&headers, body.trim()));
        Router::new().route("/coordinator", post(take))
    }

    /// Only the first address counts: a worker never changes its coordinator.
    fn take(&self, headers: &HeaderMap, sent: &str) -> StatusCode {
        if !shuffle::bearer(headers).is_some_and(|shown| shuffle::same(shown, &self.token)) {
            return StatusCode::UNAUTHORIZED;
        }
        if sent.parse::<SocketAddr>().is_err() {
            return StatusCode::BAD_REQUEST;
        }
        let mut is_same = false;
        self.address.send_if_modified(|known| {
            let is_new = known.is_none();
            is_same = is_new || known.as_deref() == Some(sent);
            if is_new {
                *known = Some(sent.to_owned());
            }
            is_new
        });
        if is_same { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT }
    }

    /// Waits until the address is known.
    pub async fn address(&self) -> String {
        let mut updates = self.address.subscribe();
        // The sender lives as long as `self`.
        let known = updates.wait_for(Option::is_some).await;
        known.ok().and_then(|known| known.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(token: &str) -> HeaderMap {
        [(axum::http::header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap())].into_iter().collect()
    }

    #[tokio::test]
    async fn the_address_is_taken_once_and_only_with_the_token() {
        let introduction = Introduction::new(None, "secret").unwrap();
        let wait = tokio::time::timeout(std::time::Duration::from_millis(10), introduction.address());
        assert!(wait.await.is_err(), "nobody has told it yet");
        assert_eq!(introduction.take(&HeaderMap::new(), "10.0.0.1:7070"), StatusCode::UNAUTHORIZED);
        assert_eq!(introduction.take(&shown("wrong"), "10.0.0.1:7070"), StatusCode::UNAUTHORIZED);
        assert_eq!(introduction.take(&shown("secret"), "somewhere"), StatusCode::BAD_REQUEST);
        assert_eq!(introduction.take(&shown("secret"), "10.0.0.1:7070"), StatusCode::NO_CONTENT);
        assert_eq!(introduction.take(&shown("secret"), "10.0.0.1:7070"), StatusCode::NO_CONTENT);
        assert_eq!(introduction.take(&shown("secret"), "[fd00::1]:7070"), StatusCode::CONFLICT);
        assert_eq!(introduction.address().await, "10.0.0.1:7070");
        assert!(Introduction::new(None, "").is_err());
    }
}
