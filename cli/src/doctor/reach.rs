//! Checks whether the cluster answers, whose credentials these are, and whether its clock agrees with this machine's.

use std::time::Duration;

use http::header::DATE;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::Api;
use kube::api::PostParams;
use kube::client::Body;

use super::Check;
use crate::cluster::Cluster;

const ANSWER: Duration = Duration::from_secs(30);
/// The oldest Kubernetes that Floe runs on.
const OLDEST_MINOR: u32 = 29;
/// Tolerance: HTTP dates have whole seconds, and the answer takes time.
const CLOCK_OK_SECONDS: f64 = 3.0;
/// Object stores reject signatures that are off by some minutes; tokens and certificates fail sooner.
const CLOCK_FAIL_SECONDS: f64 = 60.0;

pub async fn checks(cluster: &Cluster) -> Vec<Check> {
    let url = &cluster.refused.url;
    let (info, skew) = match version(cluster).await {
        Ok(answer) => answer,
        Err(why) => {
            let to_do =
                "check the kubeconfig (--context, --kubeconfig), the way to the cluster, and that you are logged in";
            return vec![Check::fail("cluster", why, to_do)];
        }
    };
    let mut checks = vec![kubernetes(url, &info), clock(skew)];
    checks.extend(identity(cluster).await);
    checks
}

/// The server's version, and by how much this machine's clock is ahead.
async fn version(cluster: &Cluster) -> Result<(Info, Option<f64>), String> {
    let request = http::Request::get("/version").body(Body::empty()).map_err(|error| error.to_string())?;
    let asked = Timestamp::now();
    let what = "the cluster cannot be asked for its version";
    let answer = match tokio::time::timeout(ANSWER, cluster.client.send(request)).await {
        Err(_) => return Err(cluster.refused.silent(what, ANSWER).to_string()),
        Ok(Err(error)) => return Err(cluster.refused.tell(what, &error).to_string()),
        Ok(Ok(answer)) => answer,
    };
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok()).and_then(parse_date);
    let heard = Timestamp::now();
    let status = answer.status();
    let body = tokio::time::timeout(ANSWER, answer.into_body().collect()).await;
    let body = body.map_err(|_| "the cluster's answer does not come".to_owned())?.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!("the cluster at {} answers {status}", cluster.refused.url));
    }
    let info = serde_json::from_slice(&body.to_bytes())
        .map_err(|error| format!("what answers at {} is no Kubernetes: {error}", cluster.refused.url))?;
    // Halfway between request and answer, and halfway through the second of the date.
    let here = asked + (heard.duration_since(asked) / 2);
    let skew = date.map(|date| here.duration_since(date).as_secs_f64() - 0.5);
    Ok((info, skew))
}

fn parse_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}

fn kubernetes(url: &str, info: &Info) -> Check {
    let minor: u32 = info.minor.trim_end_matches('+').parse().unwrap_or(0);
    let said = format!("{url} answers, Kubernetes {}", info.git_version.trim_start_matches('v'));
    match info.major == "1" && minor >= OLDEST_MINOR {
        true => Check::ok("cluster", said),
        false => Check::warn(
            "cluster",
            said,
            format!("Floe needs Kubernetes 1.{OLDEST_MINOR} or newer: upgrade the cluster"),
        ),
    }
}

fn clock(skew: Option<f64>) -> Check {
    let Some(skew) = skew else { return Check::unknown("clock", "the cluster does not tell its time") };
    let apart = format!("{:.0} s {} the cluster's", skew.abs(), if skew > 0.0 { "ahead of" } else { "behind" });
    let to_do =
        "set the clocks by NTP: tokens, certificates and signed requests to stores are refused when they are apart";
    match skew.abs() {
        off if off <= CLOCK_OK_SECONDS => Check::ok("clock", "this machine's and the cluster's agree"),
        off if off <= CLOCK_FAIL_SECONDS => Check::warn("clock", format!("this machine's is {apart}"), to_do),
        _ => Check::fail("clock", format!("this machine's is {apart}"), to_do),
    }
}

async fn identity(cluster: &Cluster) -> Option<Check> {
    let api: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    let what = "the cluster does not say who you are";
    let review = cluster.ask(what, api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
    match review {
        Ok(review) => {
            let user = review.status?.user_info?.username?;
            Some(Check::ok("user", format!("{user}, namespace {}", cluster.namespace)))
        }
        Err(failure @ crate::error::Failure::Denied(_)) => {
            Some(Check::fail("user", failure.to_string(), "log in again, or choose other credentials by --context"))
        }
        // Older clusters do not serve it.
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn clocks_that_are_apart_are_told() {
        for (skew, state) in [
            (Some(0.4), State::Ok),
            (Some(-2.9), State::Ok),
            (Some(12.0), State::Warn),
            (Some(-400.0), State::Fail),
            (None, State::Unknown),
        ] {
            assert_eq!(clock(skew).state, state, "{skew:?}");
        }
        assert!(clock(Some(-400.0)).message.contains("400 s behind"));
        let date = parse_date("Sun, 29 Nov 2026 07:25:58 GMT").unwrap();
        assert_eq!(date.to_string(), "2026-11-29T07:25:58Z");
    }

    #[test]
    fn old_clusters_are_told() {
        let info = |minor: &str| Info {
            major: "1".into(),
            minor: minor.into(),
            git_version: format!("v1.{minor}.0"),
            ..Info::default()
        };
        assert_eq!(kubernetes("u", &info("34")).state, State::Ok);
        assert_eq!(kubernetes("u", &info("29+")).state, State::Ok);
        assert_eq!(kubernetes("u", &info("28")).state, State::Warn);
    }
}
