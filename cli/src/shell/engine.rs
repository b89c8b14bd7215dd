//! Runs the statements of a shell: on a warm engine of this process (`local`) or a warm context (`remote`).

use floe_api::report::{Category, Outcome, RunError};
use serde_json::Value;
use tokio::signal::unix::Signal;

use super::local::Local;
use super::progress::Progress;
use super::remote::Remote;
use crate::error::Failure;
use crate::warm::Refused;

/// How a statement ended that returned no rows.
#[derive(Debug)]
pub enum Ended {
    Query(RunError),
    Failure(Failure),
}

impl Ended {
    pub fn category(&self) -> Category {
        match self {
            Ended::Query(error) => error.category,
            Ended::Failure(failure) => failure.category(),
        }
    }

    pub fn cancelled() -> Ended {
        let message = "the query was cancelled".to_owned();
        Ended::Query(RunError { category: Category::Cancelled, class: "Cancelled".to_owned(), message })
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Ended::Failure(failure)
    }
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Query(error) => Ended::Query(error),
            Refused::Failure(failure) => Ended::Failure(failure),
        }
    }
}

/// A statement that has run, and whose rows can be read until it is forgotten.
pub struct Done {
    /// The id of a local query, or the name of one on a cluster.
    pub id: String,
    pub outcome: Outcome,
}

pub enum Engine {
    Local(Box<Local>),
    Remote(Box<Remote>),
}

impl Engine {
    /// Refuses a query that could not run whatever its text is.
    pub fn check(&self, query: Value) -> Result<(), Failure> {
        match self {
            Engine::Local(local) => local.prepared(query).map(drop),
            Engine::Remote(remote) => remote.check(query),
        }
    }

    /// Prepares for queries like this one.
    pub async fn start(&mut self, query: Value) -> Result<(), Failure> {
        match self {
            Engine::Local(local) => local.start(query).await,
            Engine::Remote(remote) => remote.start().await,
        }
    }

    /// Runs a query to its end. An interrupt cancels it.
    pub async fn run(&mut self, query: Value, progress: &mut Progress, interrupt: &mut Signal) -> Result<Done, Ended> {
        match self {
            Engine::Local(local) => local.run(query, progress, interrupt).await,
            Engine::Remote(remote) => remote.run(query, progress, interrupt).await,
        }
    }

    /// The first rows of a result as lines of JSON.
    pub async fn lines(&self, done: &Done, rows: u64) -> Result<String, Ended> {
        match self {
            Engine::Local(local) => local.rows(&done.id, "ndjson", rows).await,
            Engine::Remote(remote) => remote.lines(&done.id, rows).await,
        }
    }

    /// Prints the first rows of a result as a table.
    pub async fn print_table(&self, done: &Done, rows: u64) -> Result<(), Ended> {
        match self {
            Engine::Local(local) => {
                let table = local.rows(&done.id, "table", rows).await?;
                crate::print::out(table.trim_end());
                Ok(())
            }
            Engine::Remote(remote) => remote.print_table(done, rows).await,
        }
    }

    /// Cancels the query of a `run` that nobody waits for any more.
    pub async fn abandon(&mut self) {
        match self {
            Engine::Local(local) => local.abandon().await,
            Engine::Remote(remote) => remote.abandon().await,
        }
    }

    /// Releases a query and its rows.
    pub async fn forget(&self, id: &str) {
        match self {
            Engine::Local(local) => local.forget(id).await,
            Engine::Remote(remote) => remote.forget(id).await,
        }
    }

    pub async fn close(self) {
        match self {
            Engine::Local(local) => local.close().await,
            Engine::Remote(_) => {}
        }
    }
}
