//! `floe explain`: the stages of a query. For a file, the runner plans them without running; for a query on a cluster,
//! they are those that its coordinator planned.

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use floe_api::DistributedQuery;
use floe_api::report::Category;

use crate::args::{ExplainArgs, ExplainFormat};
use crate::cluster::Cluster;
use crate::coordinator::Coordinator;
use crate::error::Failure;
use crate::{block_on, human, print, process, program, query, svg};

pub fn run(args: ExplainArgs) -> Result<ExitCode, Failure> {
    match on_cluster(&args) {
        Some(name) => block_on(of_cluster(name, &args)),
        None => of_file(&args),
    }
}

/// The name of a query, if the argument is one. A file of that name has precedence, unless a cluster is named as well.
fn on_cluster(args: &ExplainArgs) -> Option<String> {
    let file = args.file.as_ref()?;
    let name = file.to_str()?;
    let is_name = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    let is_meant = !args.cluster.again().is_empty() || !file.exists();
    (is_name && is_meant).then(|| name.to_owned())
}

fn of_file(args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let (_, loaded) = query::load_all(&args.file, &args.query).remove(0);
    let prepared = query::prepare(loaded?, &args.query)?;
    let runner = process::find_runner()?;
    super::setup::before(&runner, [&prepared.job])?;
    let failed = |e| Failure::io("cannot write the job", e);
    // Private to the user and removed when dropped: it may hold credentials.
    let mut job = tempfile::NamedTempFile::new().map_err(failed)?;
    let text =
        serde_json::to_vec(&prepared.job).map_err(|e| Failure::Internal(format!("the job cannot be written: {e}")))?;
    job.write_all(&text).map_err(failed)?;
    job.flush().map_err(failed)?;
    let is_drawn = args.format == ExplainFormat::Svg;
    let format = if is_drawn { ExplainFormat::Json } else { args.format };
    let output = Command::new(&runner)
        .arg("explain")
        .arg("--job")
        .arg(job.path())
        .arg("--format")
        .arg(format.as_str())
        .envs(prepared.env.iter().map(|(name, value)| (name.as_str(), value.reveal())))
        .stdout(if is_drawn { Stdio::piped() } else { Stdio::inherit() })
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Failure::io(format!("cannot start {}", runner.display()), e))?;
    if is_drawn && output.status.success() {
        print::out(drawn(&String::from_utf8_lossy(&output.stdout))?);
    }
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or_else(|| Category::Internal.exit_code())))
}

fn drawn(json: &str) -> Result<String, Failure> {
    svg::draw(json).map_err(|error| Failure::Internal(format!("the plan cannot be drawn: {error}")))
}

async fn of_cluster(name: String, args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let cluster = Cluster::connect(&args.cluster).await?;
    let found = cluster.get(&name).await?;
    let mut coordinator = match Coordinator::reach(&cluster, &found).await {
        Ok(coordinator) => coordinator,
        // The part of the plan that is in the status outlives the coordinator.
        Err(Failure::Missing(_)) if args.format == ExplainFormat::Text && stages(&found).is_some() => {
            print::out(stages(&found).unwrap_or_default().trim_end());
            print::err("note: the coordinator is gone, and with it what each stage does in detail");
            return Ok(ExitCode::SUCCESS);
        }
        Err(Failure::Missing(why)) => {
            return Err(Failure::Missing(format!(
                "{why}. To do: the plan is with the coordinator; `{} explain FILE` plans the query's file anew",
                program::name()
            )));
        }
        Err(failure) => return Err(failure),
    };
    let text = match args.format {
        ExplainFormat::Text => coordinator.text("/plan").await?,
        ExplainFormat::Dot | ExplainFormat::Mermaid | ExplainFormat::Json => {
            coordinator.text(&format!("/graph?format={}", args.format.as_str())).await?
        }
        ExplainFormat::Svg => drawn(&coordinator.text("/graph?format=json").await?)?,
    };
    print::out(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

/// Formats what a status contains of the plan.
fn stages(query: &DistributedQuery) -> Option<String> {
    let status = query.status.as_ref().filter(|status| !status.stages.is_empty())?;
    let mut lines: Vec<String> = Vec::new();
    for stage in &status.stages {
        lines.push(format!("stage {}: {}", stage.id, stage.label));
        lines.push(format!(
            "  -> {}, {}, {}",
            human::plural(stage.tasks_total, "task"),
            human::plural(stage.rows, "row"),
            human::bytes(stage.bytes)
        ));
    }
    if !status.single_worker.is_empty() {
        lines.push("on one worker:".to_owned());
        lines.extend(status.single_worker.iter().map(|n| format!("  {} (stage {}): {}", n.node, n.stage, n.reason)));
    }
    Some(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command as Typed};

    #[test]
    fn a_name_is_a_query_on_a_cluster_and_anything_else_a_file() {
        let meant = |line: &[&str]| match Args::try_parse_from(["floe", "explain"].iter().chain(line)).unwrap().command
        {
            Typed::Explain(args) => on_cluster(&args),
            other => panic!("{other:?}"),
        };
        assert_eq!(meant(&["q-3"]), Some("q-3".to_owned()));
        for file in ["q.yaml", "./q", "Q", "3q", "-"] {
            assert_eq!(meant(&[file]), None, "{file}");
        }
        // `src` is a directory of the package, where tests run.
        assert_eq!(meant(&["src"]), None);
        assert_eq!(meant(&["src", "-n", "a"]), Some("src".to_owned()));
    }

    #[test]
    fn what_the_status_keeps_of_a_plan_is_shown() {
        let query: DistributedQuery = serde_json::from_value(serde_json::json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"},
            "spec": {"plan": {"sql": "x"}}, "status": {
                "stages": [{"id": 0, "label": "scan t", "state": "done", "tasksDone": 2, "tasksTotal": 2, "rows": 5, "bytes": 10}],
                "singleWorker": [{"stage": 0, "node": "SORT", "reason": "keeps order"}]}}))
        .unwrap();
        assert_eq!(
            stages(&query).unwrap(),
            "stage 0: scan t\n  -> 2 tasks, 5 rows, 10 B\non one worker:\n  SORT (stage 0): keeps order"
        );
    }
}
