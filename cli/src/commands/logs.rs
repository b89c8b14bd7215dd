//! `floe logs`: what the coordinator and the workers of a query log, together and in order, each line with the pod and the
//! stage that it tells of.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use floe_api::DistributedQuery;
use floe_api::logline::{Line, Source};
use futures::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Output;
use crate::args::cluster::{LogRole, LogsArgs};
use crate::cluster::Cluster;
use crate::commands::watch::INTERRUPTED;
use crate::error::Failure;
use crate::follow::has_ended;
use crate::{block_on, print};

/// The container of the runner; a pod template may add others.
const CONTAINER: &str = "floe";
/// How often to look for new pods.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A query that has ended has logged everything once nothing has come for this long.
const QUIET: Duration = Duration::from_secs(3);
/// Timeout for reading a pod's log without following it.
const WHOLE: Duration = Duration::from_secs(60);
/// Capacity of the queue of lines to be printed.
const QUEUE: usize = 4096;

pub fn run(args: LogsArgs) -> Result<ExitCode, Failure> {
    block_on(async {
        let cluster = Cluster::connect(&args.cluster).await?;
        let query = cluster.get(&args.name).await?;
        if !args.follow {
            once(&cluster, &query, &args).await?;
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            followed = follow(&cluster, &args) => followed.map(|()| ExitCode::SUCCESS),
            // Waited for from the beginning: a signal that comes between two lines is not lost.
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

/// The pods that are wanted and whose container has begun.
async fn pods(cluster: &Cluster, args: &LogsArgs) -> Result<Vec<(String, Source)>, Failure> {
    let what = format!("cannot list the pods of query {}", args.name);
    let selector = ListParams::default().labels(&format!("floe.dev/query={}", args.name));
    let pods = cluster.ask(&what, cluster.pods().list(&selector)).await?;
    let wanted = |source: &Source| match (args.role, args.worker) {
        (_, Some(number)) => source.worker() == Some(number),
        (Some(LogRole::Coordinator), None) => source.worker().is_none(),
        (Some(LogRole::Worker), None) => source.worker().is_some(),
        (None, None) => true,
    };
    let begun = pods.items.iter().filter(|pod| has_begun(pod)).filter_map(|pod| {
        let source = Source::of_labels(pod.metadata.labels.as_ref()?)?;
        Some((pod.metadata.name.clone()?, source))
    });
    let mut all: Vec<_> = begun.filter(|(_, source)| wanted(source)).collect();
    all.sort_by_key(|(_, source)| *source);
    Ok(all)
}

fn has_begun(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = statuses.filter(|status| status.name == CONTAINER).filter_map(|status| status.state.as_ref());
    states.any(|state| state.running.is_some() || state.terminated.is_some())
}

fn params(args: &LogsArgs) -> LogParams {
    LogParams {
        container: Some(CONTAINER.to_owned()),
        follow: args.follow,
        tail_lines: args.tail.map(i64::from),
        since_seconds: args.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        // By the kubelet, so that lines of all pods can be put in order.
        timestamps: true,
        ..LogParams::default()
    }
}

/// What is there now, in the order of its time.
async fn once(cluster: &Cluster, query: &DistributedQuery, args: &LogsArgs) -> Result<(), Failure> {
    let pods = pods(cluster, args).await?;
    if pods.is_empty() {
        return Err(Failure::Missing(none(query, args)));
    }
    let mut lines = Vec::new();
    for (pod, source) in pods {
        let what = format!("cannot read the log of pod {pod}");
        let (api, params) = (cluster.pods(), params(args));
        let read = tokio::time::timeout(WHOLE, api.logs(&pod, &params));
        match read.await {
            Err(_) => return Err(cluster.refused.silent(&what, WHOLE)),
            // The pod was deleted meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.is_not_found() => {}
            Ok(Err(error)) => return Err(cluster.refused.tell(&what, &error)),
            Ok(Ok(text)) => lines.extend(text.lines().map(|line| Line::read(&pod, source, line))),
        }
    }
    lines.sort_by(|a, b| a.time.cmp(&b.time));
    lines.iter().for_each(|line| show(line, args));
    Ok(())
}

fn none(query: &DistributedQuery, args: &LogsArgs) -> String {
    let name = &args.name;
    let any = args.role.is_some() || args.worker.is_some();
    if let Some(context) = &query.spec.compute.context_ref {
        let uid = query.metadata.uid.as_deref().unwrap_or_default();
        return format!(
            "query {name} has no pods of its own: it runs on context {0}, whose pods log for all its queries. To do: `kubectl logs \
             -l floe.dev/context={0} --prefix --tail=-1 | grep {uid}`",
            context.name
        );
    }
    match has_ended(query) {
        true => format!(
            "query {name} has ended and its pods are gone, their logs with them. To do: spec.keepFailedPodsSeconds keeps those \
             of a query that fails; a log collector of the cluster may have them all"
        ),
        false if any => format!("query {name} has no such pod with a log now"),
        false => format!("no pod of query {name} has started yet: -f waits for them"),
    }
}

/// Prints what comes until the query has ended and its pods have.
async fn follow(cluster: &Cluster, args: &LogsArgs) -> Result<(), Failure> {
    let (sender, mut receiver) = mpsc::channel::<Line>(QUEUE);
    let mut readers = JoinSet::new();
    let mut known = BTreeSet::new();
    let mut look_at = Instant::now();
    let mut heard_at = Instant::now();
    let mut is_over = false;
    loop {
        tokio::select! {
            Some(line) = receiver.recv() => {
                show(&line, args);
                heard_at = Instant::now();
            }
            Some(_) = readers.join_next(), if !readers.is_empty() => {}
            () = tokio::time::sleep_until(look_at) => {
                look_at = Instant::now() + LOOK_AGAIN;
                // A query that was deleted has ended, too.
                is_over = match cluster.get(&args.name).await {
                    Ok(query) => has_ended(&query),
                    Err(Failure::Missing(_)) => true,
                    Err(failure) => return Err(failure),
                };
                for (pod, source) in pods(cluster, args).await? {
                    if known.insert(pod.clone()) {
                        readers.spawn(read(cluster.pods(), pod, source, params(args), sender.clone()));
                    }
                }
            }
        }
        // The coordinator of a result without a sink stays, and says nothing any more.
        let is_quiet = readers.is_empty() || heard_at.elapsed() > QUIET;
        if is_over && is_quiet && receiver.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Sends the lines of a pod until its log ends. A pod that goes away is no failure.
async fn read(api: kube::Api<Pod>, pod: String, source: Source, params: LogParams, to: mpsc::Sender<Line>) {
    let Ok(log) = api.log_stream(&pod, &params).await else { return };
    let mut lines = log.lines();
    while let Some(Ok(line)) = lines.next().await {
        if to.send(Line::read(&pod, source, &line)).await.is_err() {
            return;
        }
    }
}

fn show(line: &Line, args: &LogsArgs) {
    if args.stage.is_some_and(|stage| line.stage != Some(stage)) {
        return;
    }
    match args.output {
        Output::Table => print::out(line.text()),
        Output::Json => print::out(line.json()),
    }
}
