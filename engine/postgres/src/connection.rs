//! One connection: opened within a limit, used by one reader, and ended on the server, too, when it is given up.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{CancelToken, Client, SimpleQueryMessage};

use crate::error::{is_busy, of};
use crate::options::Source;
use crate::tls::Tls;
use floe_wire::error::{QueryError, Result};

/// For as long a server that has no connection to spare is asked again.
const BUSY: Duration = Duration::from_secs(30);
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Connection {
    pub(crate) client: Client,
    driver: JoinHandle<()>,
    cancel: CancelToken,
    tls: Tls,
    runtime: Handle,
    /// A statement may be at work on the server.
    pub(crate) busy: bool,
    pub(crate) database: String,
}

/// Lets the server look whether its client is still there while it works on a statement: a process that is killed cannot
/// cancel its own.
const WATCH_CLIENT: &str =
    "SELECT set_config(name, '2s', false) FROM pg_settings WHERE name = 'client_connection_check_interval'";

impl Connection {
    pub async fn open(source: &Source) -> Result<Connection> {
        let database = source.database();
        let doing = format!("connecting to {database}");
        let until = Instant::now() + BUSY;
        let mut pause = Duration::from_millis(200);
        // The client's own limit is for the network alone: a server that accepts and then says nothing has one here.
        let limit = source.config.get_connect_timeout().copied().unwrap_or(BUSY) * 2;
        let (client, connection) = loop {
            match timeout(limit, source.config.connect(source.tls.clone())).await {
                Ok(Ok(opened)) => break opened,
                Ok(Err(error)) if is_busy(&error) && Instant::now() + pause < until => sleep(pause).await,
                Ok(Err(error)) => return Err(of(&error, &doing)),
                Err(_) => return Err(QueryError::io(format!("{doing}: no answer within {} s", limit.as_secs()))),
            }
            pause = (pause * 2).min(Duration::from_secs(3));
        };
        let cancel = client.cancel_token();
        // What it ends with reaches whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let mut connection = Connection {
            client,
            driver,
            cancel,
            tls: source.tls.clone(),
            runtime: Handle::current(),
            busy: false,
            database,
        };
        // Servers before 14 do not have it, and some systems cannot do it: there, what was begun is ended by its end.
        let _ = connection.texts(WATCH_CLIENT, &doing).await;
        Ok(connection)
    }

    /// Statements without rows.
    pub(crate) async fn run(&mut self, sql: &str, doing: &str) -> Result<()> {
        self.busy = true;
        let done = self.client.batch_execute(sql).await;
        self.busy = false;
        done.map_err(|error| of(&error, &self.doing(doing)))
    }

    /// One column of text, whatever its type: `None` for nulls.
    pub(crate) async fn texts(&mut self, sql: &str, doing: &str) -> Result<Vec<Option<String>>> {
        self.busy = true;
        let answer = self.client.simple_query(sql).await;
        self.busy = false;
        let answer = answer.map_err(|error| of(&error, &self.doing(doing)))?;
        Ok(answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
                _ => None,
            })
            .collect())
    }

    pub(crate) async fn rows<T: FromSqlOwned>(
        &mut self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        doing: &str,
    ) -> Result<Vec<Vec<T>>> {
        self.busy = true;
        let rows = self.client.query(sql, parameters).await;
        self.busy = false;
        let failed = |error| of(&error, &self.doing(doing));
        let rows = rows.map_err(failed)?;
        rows.iter().map(|row| (0..row.len()).map(|at| row.try_get(at).map_err(failed)).collect()).collect()
    }

    pub(crate) fn doing(&self, doing: &str) -> String {
        format!("{doing} ({})", self.database)
    }

    /// Ends what the server is doing for this connection.
    pub async fn cancel(&self) -> Result<()> {
        let asked = timeout(CANCEL_TIMEOUT, self.cancel.cancel_query(self.tls.clone())).await;
        match asked {
            Ok(done) => done.map_err(|error| of(&error, &self.doing("cancelling a query"))),
            Err(_) => Err(QueryError::io(self.doing("cancelling a query: no answer"))),
        }
    }
}

/// Closing a socket does not stop a server that is sorting; so a statement at work is cancelled first.
impl Drop for Connection {
    fn drop(&mut self) {
        let driver = self.driver.abort_handle();
        if !self.busy {
            // The driver says goodbye once it sees that its client is gone.
            return;
        }
        let (cancel, tls) = (self.cancel.clone(), self.tls.clone());
        self.runtime.spawn(async move {
            let _ = timeout(CANCEL_TIMEOUT, cancel.cancel_query(tls)).await;
            driver.abort();
        });
    }
}
