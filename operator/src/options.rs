//! The command line, converted once into what the modules need.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gang::Gang;
use crate::http_api;
use crate::query::build::{Clients, Defaults};
use crate::query::plan::Settings;
use crate::query::policy::{self, Policy};
use crate::shares::{self, Limits};

/// Floe's Kubernetes operator: runs DistributedQuery objects.
#[derive(Debug, Parser)]
#[command(name = "floe-operator", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinition
    Crd,
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Apply the CustomResourceDefinition to the cluster by server-side apply
    InstallCrd {
        /// Take over fields that another manager set
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Image of coordinators and workers for queries that name none
    #[arg(long, env = "FLOE_RUNNER_IMAGE", default_value = concat!("floe-runner:", env!("CARGO_PKG_VERSION")))]
    pub runner_image: String,
    /// When nodes pull that image, for queries that do not say
    #[arg(long, env = "FLOE_RUNNER_IMAGE_PULL_POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub runner_image_pull_policy: Option<String>,
    /// Secrets of the query's namespace with credentials of that image's registry (a,b), for queries that name none
    #[arg(long, env = "FLOE_RUNNER_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    pub runner_image_pull_secrets: Vec<String>,
    /// Namespaces to serve, separated by commas; empty: all
    #[arg(long, env = "FLOE_NAMESPACES", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Work only while holding the lease, for several replicas
    #[arg(long, env = "FLOE_LEADER_ELECT", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    /// Name of the lease
    #[arg(long, default_value = "floe-operator")]
    pub lease_name: String,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "FLOE_METRICS_LISTEN", default_value = "[::]:8080")]
    pub metrics_listen: SocketAddr,
    /// NAME=VALUE, an environment variable of every coordinator and worker; may be repeated
    #[arg(long, value_parser = pair)]
    pub runner_env: Vec<(String, String)>,
    /// Maximum number of queries to reconcile at the same time
    #[arg(long, env = "FLOE_CONCURRENCY", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    #[arg(long, env = "FLOE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,
    /// The operator's own namespace: for its lease, and for the NetworkPolicies that let it in
    #[arg(long, env = "POD_NAMESPACE")]
    pub operator_namespace: Option<String>,
    /// Labels of the operator's pods (a=b,c=d), for the NetworkPolicies
    #[arg(long, env = "FLOE_POD_SELECTOR", value_delimiter = ',', value_parser = pair,
          default_value = "app.kubernetes.io/name=floe,app.kubernetes.io/component=operator")]
    pub pod_selector: Vec<(String, String)>,
    /// Who else may reach coordinators at their HTTP port, for results and progress: JSON, as the `from` of a NetworkPolicy
    #[arg(long, env = "FLOE_CLIENTS_FROM", default_value = "", value_parser = Clients::read)]
    pub clients_from: Clients,
    /// Name of this replica, for the lease and for Events
    #[arg(long, env = "POD_NAME")]
    pub identity: Option<String>,
    /// What queries are allowed, as JSON with the fields of the chart's `policy`; left out, everything
    #[arg(long, env = "FLOE_POLICY", default_value = "", value_parser = policy::read)]
    pub policy: Policy,
    /// How many queries and pods may be at work at once, as JSON with the fields of the chart's `limits`; left out, any number
    #[arg(long, env = "FLOE_LIMITS", default_value = "", value_parser = shares::read)]
    pub limits: Limits,
    /// Work with Kueue: queries with the label kueue.x-k8s.io/queue-name wait for admission
    #[arg(long, env = "FLOE_KUEUE", num_args = 0..=1, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub kueue: bool,
    /// The scheduler that places the pods of a query together or not at all; left out, the cluster's own places each by itself
    #[arg(long, env = "FLOE_GANG", value_enum)]
    pub gang: Option<Gang>,
    /// Seconds that a result without a sink stays when the query names no TTL
    #[arg(long, env = "FLOE_DEFAULT_RESULT_TTL", default_value_t = 600)]
    pub default_result_ttl: u32,
    #[command(flatten)]
    pub http_api: HttpApiArgs,
}

#[derive(Debug, Args)]
pub struct HttpApiArgs {
    /// Where the HTTP API is served; left out, it is not
    #[arg(long, env = "FLOE_HTTP_API_LISTEN")]
    pub http_api_listen: Option<SocketAddr>,
    /// Its certificate chain (PEM); left out, it is served without TLS
    #[arg(long, env = "FLOE_HTTP_API_TLS_CERT", requires = "http_api_tls_key")]
    pub http_api_tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, env = "FLOE_HTTP_API_TLS_KEY", requires = "http_api_tls_cert")]
    pub http_api_tls_key: Option<PathBuf>,
    /// Audiences of the tokens that it takes (a,b); left out, tokens for the API server
    #[arg(long, env = "FLOE_HTTP_API_AUDIENCES", value_delimiter = ',')]
    pub http_api_audiences: Vec<String>,
    /// Requests a second that one caller may make, with twice as many at once
    #[arg(long, env = "FLOE_HTTP_API_REQUESTS_PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub http_api_requests_per_second: u32,
    /// The longest body of a request in bytes
    #[arg(long, env = "FLOE_HTTP_API_MAX_BODY_BYTES", default_value_t = 2 << 20, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub http_api_max_body_bytes: u32,
    /// Results and progress that are streamed at the same time
    #[arg(long, env = "FLOE_HTTP_API_MAX_STREAMS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub http_api_max_streams: u16,
    /// Of these, the streams of one caller
    #[arg(long, env = "FLOE_HTTP_API_MAX_STREAMS_PER_CALLER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub http_api_max_streams_per_caller: u16,
    /// Seconds that one stream may take
    #[arg(long, env = "FLOE_HTTP_API_STREAM_SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub http_api_stream_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Json,
    Text,
}

impl RunArgs {
    pub fn defaults(&self) -> Defaults {
        let mut runner_env = self.runner_env.clone();
        if !self.policy.allows_functions() {
            runner_env.push(("FLOE_PYTHON_FUNCTIONS".into(), "deny".into()));
        }
        Defaults {
            runner_image: self.runner_image.clone(),
            pull_policy: self.runner_image_pull_policy.clone(),
            pull_secrets: self.runner_image_pull_secrets.iter().filter(|name| !name.is_empty()).cloned().collect(),
            runner_env,
            operator_namespace: self.operator_namespace.clone().filter(|name| !name.is_empty()),
            operator_labels: self.pod_selector.iter().cloned().collect::<BTreeMap<_, _>>(),
            clients: self.clients_from.clone(),
            gang: self.gang,
        }
    }

    pub fn settings(&self) -> Settings {
        Settings { result_ttl: Duration::from_secs(self.default_result_ttl.into()), policy: self.policy.clone() }
    }

    /// The settings of the HTTP API, if it is enabled.
    pub fn http_api(&self) -> Option<http_api::Settings> {
        let args = &self.http_api;
        let tls = args.http_api_tls_cert.clone().zip(args.http_api_tls_key.clone());
        let named = |names: &[String]| names.iter().filter(|name| !name.is_empty()).cloned().collect();
        let streams = usize::from(args.http_api_max_streams);
        Some(http_api::Settings {
            listen: args.http_api_listen?,
            tls,
            audiences: named(&args.http_api_audiences),
            namespaces: self.scopes().into_iter().flatten().collect(),
            limits: http_api::Limits {
                requests_per_second: args.http_api_requests_per_second,
                body_bytes: args.http_api_max_body_bytes as usize,
                streams,
                streams_of_caller: usize::from(args.http_api_max_streams_per_caller),
                stream: Duration::from_secs(args.http_api_stream_seconds.into()),
                // Besides the streams, leave room for requests that are answered at once.
                connections: streams + 256,
            },
        })
    }

    /// The namespaces to serve; `None` stands for all.
    pub fn scopes(&self) -> Vec<Option<String>> {
        let mut named: Vec<String> =
            self.namespaces.iter().map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        named.sort();
        named.dedup();
        if named.is_empty() { vec![None] } else { named.into_iter().map(Some).collect() }
    }

    pub fn identity(&self) -> String {
        self.identity.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| {
            let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "floe-operator".to_owned());
            format!("{host}-{:08x}", rand::random::<u32>())
        })
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let cli = Cli::try_parse_from([
            "floe-operator",
            "--namespaces",
            "b,a,,a",
            "--runner-env",
            "OTEL_X=a=b",
            "--leader-elect",
            "--operator-namespace",
            "ops",
        ])
        .unwrap();
        assert_eq!(cli.run.scopes(), [Some("a".to_owned()), Some("b".to_owned())]);
        assert_eq!(cli.run.runner_env, [("OTEL_X".to_owned(), "a=b".to_owned())]);
        assert!(cli.run.leader_elect);
        assert_eq!(cli.run.defaults().operator_labels.len(), 2);
        let plain = Cli::try_parse_from(["floe-operator", "--leader-elect=false", "--namespaces", ""]).unwrap();
        assert_eq!(plain.run.scopes(), [None]);
        assert!(matches!(Cli::try_parse_from(["floe-operator", "crd"]).unwrap().command, Some(Command::Crd)));
        assert!(Cli::try_parse_from(["floe-operator", "--runner-env", "x"]).is_err());
        assert!(Cli::try_parse_from(["floe-operator", "--clients-from", "[{}]"]).is_err());
        assert!(Cli::try_parse_from(["floe-operator", "--limits", r#"{"maxPods": 0}"#]).is_err());
        assert!(plain.run.limits.are_none() && !plain.run.kueue);
        assert_eq!(plain.run.defaults().gang, None);
        let gang = Cli::try_parse_from(["floe-operator", "--gang", "yunikorn"]).unwrap().run.defaults().gang;
        assert_eq!(gang, Some(Gang::Yunikorn));
        assert!(Cli::try_parse_from(["floe-operator", "--gang", "slurm"]).is_err());
        assert!(plain.run.http_api().is_none());
        let served =
            ["floe-operator", "--http-api-listen", "[::]:8090", "--http-api-audiences", "floe,", "--namespaces", "a"];
        let served = Cli::try_parse_from(served).unwrap().run.http_api().unwrap();
        assert_eq!((served.audiences, served.namespaces, served.tls), (vec!["floe".into()], vec!["a".into()], None));
        let keyless = ["floe-operator", "--http-api-listen", "[::]:8090", "--http-api-tls-cert", "tls.crt"];
        assert!(Cli::try_parse_from(keyless).is_err(), "a certificate needs its key");
    }
}
