//! Rows of one part as they come. Nothing is read ahead of what is asked for but what the socket holds, so a reader that is
//! slow slows the database down; a reader that is dropped ends the statement there.

use std::pin::Pin;

use futures::StreamExt as _;
use tokio_postgres::CopyOutStream;

use crate::columns::Batch;
use crate::connection::Connection;
use crate::copy::Decoder;
use crate::error::of;
use crate::options::Source;
use crate::snapshot::within;
use crate::sql::Select;
use floe_wire::error::Result;

/// How much one batch has.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub rows: usize,
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { rows: 100_000, bytes: 32 << 20 }
    }
}

pub struct Reading {
    // Dropped before the connection, which then cancels what is still at work.
    stream: Pin<Box<CopyOutStream>>,
    connection: Connection,
    decoder: Decoder,
    limits: Limits,
    done: bool,
}

impl Reading {
    pub async fn open(source: &Source, snapshot: Option<&str>, select: &Select, limits: Limits) -> Result<Reading> {
        let mut connection = within(source, snapshot).await?;
        connection.busy = true;
        let copy = format!("COPY ({}) TO STDOUT (FORMAT binary)", select.sql);
        let stream =
            connection.client.copy_out(&copy).await.map_err(|error| of(&error, &connection.doing("reading")))?;
        Ok(Reading { stream: Box::pin(stream), connection, decoder: Decoder::new(select), limits, done: false })
    }

    /// None after the last row.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        while !self.done {
            match self.stream.next().await {
                Some(piece) => {
                    self.decoder.push(&piece.map_err(|error| of(&error, &self.connection.doing("reading")))?)?;
                    if self.decoder.rows() >= self.limits.rows || self.decoder.bytes() >= self.limits.bytes {
                        return self.decoder.take().map(Some);
                    }
                }
                None => {
                    self.decoder.finish()?;
                    self.done = true;
                    self.connection.busy = false;
                }
            }
        }
        if self.decoder.rows() == 0 {
            return Ok(None);
        }
        self.decoder.take().map(Some)
    }

    /// From the next batch on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    pub async fn cancel(&self) -> Result<()> {
        self.connection.cancel().await
    }
}
