//! One transaction of one database for all that a query reads from it: it exported the snapshot that every reader takes
//! over, and is asked for what there is. Blocks.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::describe::{Described, describe, expected};
use crate::options::{Source, What};
use crate::runtime::wait;
use crate::snapshot::Snapshot;
use crate::split::{Part, split};
use crate::sql::Select;
use floe_wire::error::Result;

/// The readers' snapshot lasts as long as this.
pub struct Session {
    snapshot: Arc<Mutex<Snapshot>>,
    id: String,
    database: String,
}

const NEVER: &dyn Fn() -> bool = &|| false;

impl Session {
    pub fn open(source: &Source) -> Result<Session> {
        let (database, source) = (source.database(), source.clone());
        let snapshot = wait(async move { Snapshot::export(&source).await }, NEVER)?;
        let id = snapshot.id.clone();
        Ok(Session { snapshot: Arc::new(Mutex::new(snapshot)), id, database })
    }

    /// The name under which the snapshot was exported.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What a table or query has; holds the table against being rewritten.
    pub fn describe(&self, what: &What) -> Result<Described> {
        let (snapshot, what) = (self.snapshot.clone(), what.clone());
        let work = async move {
            let mut snapshot = snapshot.lock().await;
            snapshot.step().await?;
            let done = async {
                let described = describe(&mut snapshot.connection, &what).await?;
                snapshot.hold(&described.from).await?;
                Ok(described)
            };
            let done = done.await;
            snapshot.stepped(done).await
        };
        wait(work, NEVER)
    }

    pub fn split(&self, source: &Source, described: &Described, wanted: usize) -> Result<Vec<Part>> {
        let (snapshot, source, described) = (self.snapshot.clone(), source.clone(), described.clone());
        let work = async move {
            let mut snapshot = snapshot.lock().await;
            snapshot.step().await?;
            let done = split(&mut snapshot, &source, &described, wanted).await;
            snapshot.stepped(done).await
        };
        wait(work, NEVER)
    }

    /// The rows that the database's planner expects of a statement, and the bytes of each.
    pub fn expected(&self, select: &Select) -> Result<(u64, u64)> {
        let (snapshot, sql) = (self.snapshot.clone(), select.sql.clone());
        let work = async move {
            let mut snapshot = snapshot.lock().await;
            snapshot.step().await?;
            let done = expected(&mut snapshot.connection, &sql).await;
            snapshot.stepped(done).await
        };
        wait(work, NEVER)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({})", self.database)
    }
}
