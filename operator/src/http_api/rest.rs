//! Reads the rest of a request that was answered before all of it had arrived.
//!
//! Closing a connection with unread bytes resets it, and the answer may be lost: a client that sends a large plan with
//! an expired token would see a broken connection instead of the 401, and `kubectl port-forward` would end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::runtime::Handle;

/// Cut off larger bodies: such a sender does not look for an answer.
const MAX_BYTES: usize = 16 << 20;
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request. If it is dropped before its end, the rest is read and discarded.
pub struct Rest<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> {
    body: Option<B>,
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Rest<B> {
    pub fn new(body: B) -> Self {
        Self { body: Some(body) }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> HttpBody for Rest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin + Send + 'static> Drop for Rest<B> {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (left, Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(READ_TIMEOUT, discard(body)));
        }
    }
}

async fn discard<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let mut read = 0;
    while read < MAX_BYTES {
        match std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
            Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}
