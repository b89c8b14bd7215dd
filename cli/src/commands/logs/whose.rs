//! Whose lines `floe logs` prints, and which pods have them: the query's own, or those of the context that it runs on, which log for
//! all their queries. Pure.

use floe_api::DistributedQuery;
use floe_api::logline;
use jiff::{SignedDuration, Timestamp};
use kube::api::LogParams;

use super::CONTAINER;
use crate::args::cluster::LogsArgs;
use crate::follow::has_ended;

/// How far the clock of a node may be behind that of the API server.
const CLOCKS: SignedDuration = SignedDuration::from_secs(10);

pub struct Whose {
    /// In words, for messages.
    pub words: String,
    /// Labels of the pods.
    pub selector: String,
    /// Where the pods serve other queries, too: the query's UID, by which its lines are known, and since when there can be some.
    about: Option<(String, Option<Timestamp>)>,
    /// Why there may be no pods.
    absence: Absence,
}

enum Absence {
    NotStarted,
    Ended,
    NoContext,
}

impl Whose {
    pub fn query(query: &DistributedQuery) -> Whose {
        let name = query.metadata.name.as_deref().unwrap_or_default();
        let Some(context) = &query.spec.compute.context_ref else {
            let absence = if has_ended(query) { Absence::Ended } else { Absence::NotStarted };
            return Whose {
                words: format!("query {name}"),
                selector: format!("floe.dev/query={name}"),
                about: None,
                absence,
            };
        };
        let created = query.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let since = created.and_then(|at| at.checked_sub(CLOCKS).ok());
        Whose {
            words: format!("query {name} on context {}", context.name),
            selector: format!("floe.dev/context={}", context.name),
            about: Some((query.metadata.uid.clone().unwrap_or_default(), since)),
            absence: Absence::NoContext,
        }
    }

    pub fn context(name: &str) -> Whose {
        let (words, selector) = (format!("context {name}"), format!("floe.dev/context={name}"));
        Whose { words, selector, about: None, absence: Absence::NoContext }
    }

    /// Whether a line of these pods is one of those that are wanted.
    pub fn wants(&self, line: &str) -> bool {
        self.about.as_ref().is_none_or(|(uid, _)| logline::is_of(line, uid))
    }

    /// What to ask the kubelet for.
    pub fn params(&self, args: &LogsArgs) -> LogParams {
        let tail = args.tail.map(i64::from);
        let mut params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow: args.follow,
            tail_lines: tail,
            since_seconds: args.since.map(|since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
            // By the kubelet, so that lines of all pods can be put in order.
            timestamps: true,
            ..LogParams::default()
        };
        if let Some((_, since)) = &self.about {
            params.since_time = since.filter(|_| args.since.is_none());
            // The last lines of the pod may all be other queries'.
            params.tail_lines = tail.filter(|_| args.follow);
        }
        params
    }

    /// The last lines, where the kubelet was asked for more.
    pub fn last<T>(&self, mut lines: Vec<T>, args: &LogsArgs) -> Vec<T> {
        if let (Some(_), Some(tail)) = (&self.about, args.tail) {
            lines.drain(..lines.len().saturating_sub(tail as usize));
        }
        lines
    }

    /// Why no pod has a log.
    pub fn none(&self, args: &LogsArgs) -> String {
        let words = &self.words;
        if args.role.is_some() || args.worker.is_some() {
            return format!("{words} has no such pod with a log now");
        }
        match self.absence {
            Absence::NotStarted => format!("no pod of {words} has started yet: -f waits for them"),
            Absence::Ended => format!(
                "{words} has ended and its pods are gone, their logs with them. To do: spec.keepFailedPodsSeconds keeps those \
                 of a query that fails; a log collector of the cluster may have them all"
            ),
            Absence::NoContext => format!("{words} has no pods now: -f waits for them"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        logs: LogsArgs,
    }

    fn args(words: &[&str]) -> LogsArgs {
        Cli::try_parse_from(std::iter::once(&"logs").chain(words)).unwrap().logs
    }

    fn query(compute: serde_json::Value, phase: &str) -> Whose {
        let query: DistributedQuery = serde_json::from_value(json!({
            "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": "q", "uid": "6f3a-2c", "creationTimestamp": "2026-01-01T00:01:00Z"},
            "spec": {"plan": {"sql": "x"}, "compute": compute}, "status": {"phase": phase},
        }))
        .unwrap();
        Whose::query(&query)
    }

    #[test]
    fn a_query_with_pods_of_its_own_has_all_that_they_log() {
        let own = query(json!({}), "Running");
        assert_eq!(own.selector, "floe.dev/query=q");
        assert!(own.wants("anything"));
        let params = own.params(&args(&["q", "--tail", "5", "--since", "60s"]));
        assert_eq!((params.tail_lines, params.since_seconds, params.since_time), (Some(5), Some(60), None));
        assert_eq!(own.last(vec![1, 2, 3], &args(&["q", "--tail", "2"])), [1, 2, 3], "the kubelet has cut it");
        assert!(own.none(&args(&["q"])).contains("-f waits"));
        assert!(query(json!({}), "Failed").none(&args(&["q"])).contains("keepFailedPodsSeconds"));
        assert!(query(json!({}), "Failed").none(&args(&["q", "--worker", "7"])).contains("no such pod"));
    }

    #[test]
    fn a_query_on_a_context_has_the_lines_that_name_it() {
        let lent = query(json!({"contextRef": {"name": "warm"}}), "Running");
        assert_eq!((lent.words.as_str(), lent.selector.as_str()), ("query q on context warm", "floe.dev/context=warm"));
        assert!(lent.wants(r#"{"level":"INFO","span":{"query":"6f3a-2c-1-first-9"}}"#));
        assert!(!lent.wants(r#"{"level":"INFO","span":{"query":"77aa-2c"}}"#));
        let params = lent.params(&args(&["q", "--tail", "2"]));
        assert_eq!(params.tail_lines, None, "the last lines of a pod may all be of others");
        assert_eq!(params.since_time.unwrap().to_string(), "2026-01-01T00:00:50Z");
        assert_eq!(lent.last(vec![1, 2, 3], &args(&["q", "--tail", "2"])), [2, 3]);
        assert_eq!(lent.params(&args(&["q", "--since", "60s"])).since_time, None, "one of them may be given");
        assert!(lent.none(&args(&["q"])).contains("context warm has no pods"));
    }

    #[test]
    fn a_context_has_the_lines_of_all_its_queries() {
        let args = args(&["--on", "warm"]);
        let all = Whose::context(args.on.as_deref().unwrap());
        assert!(args.name.is_none() && all.selector == "floe.dev/context=warm" && all.wants("anything"));
        assert!(Cli::try_parse_from(["logs", "q", "--on", "warm"]).is_err());
        assert!(Cli::try_parse_from(["logs"]).is_err());
    }
}
