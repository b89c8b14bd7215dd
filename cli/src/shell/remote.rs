//! A warm context on a cluster as the engine of a shell: each statement is a DistributedQuery that borrows it, and is
//! deleted once its rows are shown.

use std::path::PathBuf;

use floe_api::report::{Category, Outcome, RunError, StageProgress, StageSummary};
use floe_api::{DistributedQueryStatus, FieldError, Phase};
use serde_json::{Value, json};
use tokio::signal::unix::Signal;

use super::engine::{Done, Ended};
use super::progress::Progress;
use super::session::refuse;
use crate::args::ShellArgs;
use crate::args::cluster::MakeArgs;
use crate::cluster::Cluster;
use crate::commands::result::print_table;
use crate::coordinator::Coordinator;
use crate::error::Failure;
use crate::query::object_at;
use crate::{follow, make, print, process, program};

pub struct Remote {
    cluster: Cluster,
    context: String,
    runner: PathBuf,
    /// The running query.
    running: Option<String>,
}

impl Remote {
    pub async fn new(args: &ShellArgs, context: &str) -> Result<Remote, Failure> {
        if let Some(directory) = args.directories.first() {
            return Err(Failure::Usage(format!(
                "{}: a context on a cluster reads no files of this machine: name tables in a store, --table NAME=URI",
                directory.display()
            )));
        }
        // Check this before any request: without the runner there is no table.
        let runner = process::find_runner()?;
        let cluster = Cluster::connect(&args.cluster).await?;
        Ok(Remote { cluster, context: context.to_owned(), runner, running: None })
    }

    /// Turns a query into one of the shell's, which borrows the context.
    pub fn borrow(query: &mut Value, context: &str, storage: Option<&str>) -> Result<(), FieldError> {
        query["metadata"] = json!({"generateName": "shell-", "labels": {"floe.dev/client": "shell"}});
        let storage = storage.map(str::to_owned);
        make::overlay(query, &MakeArgs { on: Some(context.to_owned()), storage, ..MakeArgs::default() })
    }

    pub fn check(&self, query: Value) -> Result<(), Failure> {
        floe_api::from_value(query).map(drop).map_err(refuse)
    }

    /// Fails if the context does not exist; its workers start with the first query.
    pub async fn start(&self) -> Result<(), Failure> {
        self.cluster.context(&self.context).await.map(drop)
    }

    pub async fn run(
        &mut self,
        mut query: Value,
        progress: &mut Progress,
        interrupt: &mut Signal,
    ) -> Result<Done, Ended> {
        self.check(query.clone())?;
        let metadata = object_at(&mut query, &["metadata"]).map_err(|fault| refuse(vec![fault]))?;
        metadata.insert("namespace".into(), self.cluster.namespace.clone().into());
        let made = self.cluster.create(&query).await?;
        let name = made.metadata.name.unwrap_or_default();
        self.running = Some(name.clone());
        let tell = |query: &floe_api::DistributedQuery| {
            if let Some(status) = &query.status {
                stages(status).iter().for_each(|stage| progress.stage(stage));
            }
        };
        let ended = tokio::select! {
            ended = follow::follow(&self.cluster, &name, tell) => ended.map_err(Ended::from),
            _ = interrupt.recv() => Err(Ended::cancelled()),
        };
        self.running = None;
        let outcome = ended.and_then(|query| outcome(query.status.unwrap_or_default()));
        match outcome {
            Ok(outcome) => Ok(Done { id: name, outcome }),
            Err(ended) => {
                self.forget(&name).await;
                Err(ended)
            }
        }
    }

    async fn coordinator(&self, name: &str) -> Result<Coordinator, Failure> {
        let query = self.cluster.get(name).await?;
        Coordinator::reach(&self.cluster, &query).await
    }

    pub async fn lines(&self, name: &str, rows: u64) -> Result<String, Ended> {
        let mut coordinator = self.coordinator(name).await?;
        Ok(coordinator.text(&format!("/result?format=ndjson&rows={rows}")).await?)
    }

    pub async fn print_table(&self, done: &Done, rows: u64) -> Result<(), Ended> {
        let mut coordinator = self.coordinator(&done.id).await?;
        // The process that makes the table reports a failure itself.
        print_table(&mut coordinator, &self.runner, rows, done.outcome.rows).await?;
        Ok(())
    }

    /// Deletes the query of a `run` that nobody waits for any more.
    pub async fn abandon(&mut self) {
        if let Some(name) = self.running.take() {
            self.forget(&name).await;
        }
    }

    /// Deletes the query; the operator cancels what still runs.
    pub async fn forget(&self, name: &str) {
        if let Err(failure) = self.cluster.delete(name).await {
            let (program, again) = (program::name(), self.cluster.args.again());
            print::err(format_args!("warning: {failure}; `{program} delete {name}{again}` removes the query"));
        }
    }
}

fn stages(status: &DistributedQueryStatus) -> Vec<StageProgress> {
    let stage = |stage: &floe_api::StageStatus| StageProgress {
        id: stage.id,
        state: stage.state,
        tasks_done: stage.tasks_done,
        tasks_total: stage.tasks_total,
        rows: stage.rows,
        bytes: stage.bytes,
        attempts: stage.attempts.unwrap_or_default(),
        elapsed_ms: stage.elapsed_ms.unwrap_or_default(),
    };
    status.stages.iter().map(stage).collect()
}

/// Converts the end of a query from its status to an engine's outcome.
fn outcome(status: DistributedQueryStatus) -> Result<Outcome, Ended> {
    match status.phase {
        Some(Phase::Succeeded) => {
            let stages = status.stages.iter();
            let stages = stages.map(|stage| StageSummary { id: stage.id, rows: stage.rows, ..StageSummary::default() });
            Ok(Outcome {
                rows: status.rows.unwrap_or_default(),
                duration_ms: status.duration_ms.unwrap_or_default(),
                sink_uri: status.result_uri.clone(),
                stages: stages.collect(),
                warnings: status.warnings.clone(),
                ..Outcome::default()
            })
        }
        Some(Phase::Cancelled) => Err(Ended::cancelled()),
        _ => Err(Ended::Query(RunError {
            category: Category::User,
            class: status.reason.unwrap_or_else(|| "Failed".to_owned()),
            message: status.message.unwrap_or_else(|| "the query failed".to_owned()),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::sql_query;

    #[test]
    fn a_status_is_told_as_an_engine_tells_its_end() {
        let status = |text: &str| serde_json::from_str::<DistributedQueryStatus>(text).unwrap();
        let done = outcome(status(
            r#"{"phase": "Succeeded", "rows": 7, "warnings": ["slow"],
                "stages": [{"id": 0, "label": "scan", "state": "done", "tasksDone": 2, "tasksTotal": 2}]}"#,
        ));
        let done = done.unwrap();
        assert_eq!((done.rows, done.stages.len(), done.warnings), (7, 1, vec!["slow".to_owned()]));
        let failed = outcome(status(r#"{"phase": "Failed", "reason": "BadPlan", "message": "no column x"}"#));
        let Err(Ended::Query(error)) = failed else { panic!("{failed:?}") };
        assert_eq!((error.class.as_str(), error.message.as_str()), ("BadPlan", "no column x"));
        assert_eq!(outcome(status(r#"{"phase": "Cancelled"}"#)).unwrap_err().category(), Category::Cancelled);
    }

    #[test]
    fn queries_borrow_the_context() {
        let mut query = sql_query("SELECT 1").unwrap();
        Remote::borrow(&mut query, "warm", Some("lake")).unwrap();
        let query = floe_api::from_value(query).unwrap();
        assert_eq!(query.spec.compute.context_ref.map(|context| context.name).as_deref(), Some("warm"));
        assert_eq!(
            query.spec.storage.and_then(|storage| storage.secret_ref).map(|secret| secret.name).as_deref(),
            Some("lake")
        );
        assert_eq!(query.metadata.generate_name.as_deref(), Some("shell-"));
    }
}
