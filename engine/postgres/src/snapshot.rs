//! One state of the database for all parts. Whoever plans holds the transaction open; every reader begins one of its own
//! that sees the same.

use crate::connection::Connection;
use crate::literal::text;
use crate::options::Source;
use crate::sql::From;
use floe_wire::error::{QueryError, Result};

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What text forms must not depend on. `LOCAL`, since behind a pooler a session is not one's own.
const SETTINGS: &str = "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'iso_8601'; \
    SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL xmloption = 'content'";

pub struct Snapshot {
    pub connection: Connection,
    pub id: String,
}

impl Snapshot {
    pub async fn export(source: &Source) -> Result<Snapshot> {
        let mut connection = Connection::open(source).await?;
        connection.run(&format!("{BEGIN}; {SETTINGS}"), "beginning a transaction").await?;
        // It waits for as long as the query takes.
        connection.run("SET LOCAL idle_in_transaction_session_timeout = 0", "beginning a transaction").await?;
        let id = connection.texts("SELECT pg_catalog.pg_export_snapshot()", "exporting a snapshot").await?;
        let id = id.into_iter().next().flatten();
        let id = id.ok_or_else(|| QueryError::internal("exporting a snapshot: the database gave no name"))?;
        Ok(Snapshot { connection, id })
    }

    /// Until the transaction ends, nothing moves the rows of the table to other places (`CLUSTER`, `VACUUM FULL`) or
    /// removes them outside of snapshots (`TRUNCATE`).
    pub async fn hold(&mut self, table: &From) -> Result<()> {
        match table {
            From::Query(_) => Ok(()),
            From::Table { .. } => {
                let sql = format!("LOCK TABLE {} IN ACCESS SHARE MODE", table.sql());
                self.connection.run(&sql, "locking the table against being rewritten").await
            }
        }
    }

    /// Begins something that may fail without ending the transaction, and with it the snapshot.
    pub(crate) async fn step(&mut self) -> Result<()> {
        self.connection.run("SAVEPOINT floe_step", "beginning a step of a transaction").await
    }

    /// Ends it.
    pub(crate) async fn stepped<T>(&mut self, done: Result<T>) -> Result<T> {
        if done.is_err() {
            // Whatever this says, the first error is the one to tell.
            let back = "ROLLBACK TO SAVEPOINT floe_step; RELEASE SAVEPOINT floe_step";
            drop(self.connection.run(back, "going back to the beginning of a step").await);
            return done;
        }
        self.connection.run("RELEASE SAVEPOINT floe_step", "ending a step of a transaction").await?;
        done
    }

    /// Fails if the transaction is gone, with it the snapshot.
    pub async fn check(&mut self) -> Result<()> {
        self.connection.run("SELECT 1", "holding a snapshot").await
    }
}

/// A connection in a transaction that sees `snapshot`, or one state of its own.
pub(crate) async fn within(source: &Source, snapshot: Option<&str>) -> Result<Connection> {
    let mut connection = Connection::open(source).await?;
    // The snapshot has to come before anything that looks at data.
    let seen = snapshot.map(|id| format!("; SET TRANSACTION SNAPSHOT {}", text(id))).unwrap_or_default();
    connection.run(&format!("{BEGIN}{seen}; {SETTINGS}"), "taking over a snapshot").await?;
    Ok(connection)
}
