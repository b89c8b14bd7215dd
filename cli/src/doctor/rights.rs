//! What the user may do, by command, according to the cluster (SelfSubjectAccessReview). Submitting needs rights on
//! DistributedQuery objects alone.

use futures::StreamExt as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::Check;
use crate::cluster::Cluster;

const ASKED_AT_ONCE: usize = 8;

/// A verb on a resource, with its API group and subresource.
type Right = (&'static str, &'static str, &'static str, &'static str);

/// Commands, the rights they need, and whether Floe is useless without them. docs/cli.md repeats this.
pub const NEEDED: [(&str, bool, &[Right]); 8] = [
    ("submit", true, &[("create", "floe.dev", "distributedqueries", "")]),
    (
        "get, watch",
        true,
        &[
            ("get", "floe.dev", "distributedqueries", ""),
            ("list", "floe.dev", "distributedqueries", ""),
            ("watch", "floe.dev", "distributedqueries", ""),
        ],
    ),
    ("contexts", false, &[("get", "floe.dev", "computecontexts", ""), ("list", "floe.dev", "computecontexts", "")]),
    (
        "apply, cancel, suspend, resume",
        false,
        &[("get", "floe.dev", "distributedqueries", ""), ("patch", "floe.dev", "distributedqueries", "")],
    ),
    ("delete", false, &[("delete", "floe.dev", "distributedqueries", "")]),
    ("logs", false, &[("list", "", "pods", ""), ("get", "", "pods", "log")]),
    (
        "result, explain NAME",
        false,
        &[
            ("get", "", "pods", ""),
            ("get", "", "secrets", ""),
            ("get", "", "pods", "portforward"),
            ("create", "", "pods", "portforward"),
        ],
    ),
    ("doctor", false, &[("get", "", "secrets", "")]),
];

pub async fn checks(cluster: &Cluster) -> Vec<Check> {
    let mut all: Vec<Right> = NEEDED.iter().flat_map(|(_, _, rights)| rights.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let asked = futures::stream::iter(all).map(|right| async move { (right, may(cluster, right).await) });
    let answers: Vec<(Right, Result<bool, String>)> = asked.buffered(ASKED_AT_ONCE).collect().await;
    if let Some(why) = answers.iter().find_map(|(_, answer)| answer.as_ref().err()) {
        return vec![Check::unknown("rights", why.clone())];
    }
    let lacking: Vec<Right> =
        answers.iter().filter(|(_, answer)| *answer != Ok(true)).map(|(right, _)| *right).collect();
    judge(&lacking, &cluster.namespace)
}

fn judge(lacking: &[Right], namespace: &str) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut allowed = Vec::new();
    for (commands, is_needed, rights) in NEEDED {
        let missing: Vec<String> = rights.iter().filter(|right| lacking.contains(right)).map(words).collect();
        if missing.is_empty() {
            allowed.push(commands);
            continue;
        }
        let message =
            format!("`{commands}` cannot be used in namespace {namespace}: you may not {}", missing.join(", "));
        let to_do = "ask an administrator for it; the cluster's role \"edit\" has all of these where the chart's rbac.aggregate is on";
        checks.push(match is_needed {
            true => Check::fail("rights", message, to_do),
            false => Check::warn("rights", message, to_do),
        });
    }
    if !allowed.is_empty() {
        checks.insert(0, Check::ok("rights", format!("for {}", allowed.join("; "))));
    }
    checks
}

fn words((verb, _, resource, subresource): &Right) -> String {
    match *subresource {
        "" => format!("{verb} {resource}"),
        sub => format!("{verb} {resource}/{sub}"),
    }
}

async fn may(cluster: &Cluster, (verb, group, resource, subresource): Right) -> Result<bool, String> {
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(cluster.namespace.clone()),
                verb: some(verb),
                group: some(group),
                resource: some(resource),
                subresource: some(subresource),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let asked =
        cluster.ask("the cluster does not say what you may do", api.create(&PostParams::default(), &review)).await;
    asked.map(|answer| answer.status.is_some_and(|status| status.allowed)).map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_is_missing_is_told_by_command() {
        assert_eq!(judge(&[], "a").len(), 1);
        let checks = judge(&[("get", "", "secrets", ""), ("create", "floe.dev", "distributedqueries", "")], "a");
        let states: Vec<State> = checks.iter().map(|check| check.state).collect();
        assert_eq!(states, [State::Ok, State::Fail, State::Warn, State::Warn], "{checks:?}");
        assert!(
            checks[1].message.contains("`submit` cannot be used in namespace a: you may not create distributedqueries")
        );
        assert!(checks[2].message.contains("`result, explain NAME`"), "{checks:?}");
    }

    #[test]
    fn every_command_and_right_is_documented() {
        let page = include_str!("../../../docs/cli.md");
        for (commands, _, rights) in NEEDED {
            let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&format!("| `{commands}` |"))).collect();
            let words: Vec<String> = rights.iter().map(words).collect();
            let is_told = rows.iter().any(|row| words.iter().all(|right| row.contains(right)));
            assert!(is_told, "docs/cli.md has no row of `{commands}` with {words:?}: {rows:?}");
        }
    }
}
