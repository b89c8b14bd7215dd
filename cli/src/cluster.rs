//! Connects to the cluster of the user's kubeconfig, and reads and writes queries as objects. The operator runs them;
//! nothing here starts a process. `refused` explains what the API server refuses.

use std::time::Duration;

use floe_api::{ComputeContext, DistributedQuery};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::Value;

use crate::args::cluster::ClusterArgs;
use crate::error::Failure;
use crate::refused::Refused;

/// Timeout of a single request.
const ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(10);
/// Page size of lists.
const PAGE: u32 = 500;
/// Field manager for server-side apply.
const MANAGER: &str = "floe";

pub struct Cluster {
    pub client: Client,
    pub namespace: String,
    /// The options that selected the cluster, for messages.
    pub args: ClusterArgs,
    pub refused: Refused,
}

impl Cluster {
    pub async fn connect(args: &ClusterArgs) -> Result<Cluster, Failure> {
        let mut config = config(args).await?;
        config.connect_timeout = Some(CONNECT);
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let refused = Refused { url: config.cluster_url.to_string() };
        let client = Client::try_from(config).map_err(|error| refused.tell("cannot reach the cluster", &error))?;
        Ok(Cluster { client, namespace, args: args.clone(), refused })
    }

    pub fn queries(&self) -> Api<DistributedQuery> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Queries as the server stores them, including fields that this release does not know.
    pub fn objects(&self, all_namespaces: bool) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<DistributedQuery>(&());
        match all_namespaces {
            true => Api::all_with(self.client.clone(), &kind),
            false => Api::namespaced_with(self.client.clone(), &self.namespace, &kind),
        }
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for an answer up to a timeout, and explains what went wrong.
    pub async fn ask<T>(&self, what: &str, answer: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(answer) => answer.map_err(|error| self.refused.tell(what, &error)),
            Err(_) => Err(self.refused.silent(what, ANSWER)),
        }
    }

    /// Returns the query; fails if there is none of that name.
    pub async fn get(&self, name: &str) -> Result<DistributedQuery, Failure> {
        let found = self.ask(&format!("cannot read query {name}"), self.queries().get_opt(name)).await?;
        found.ok_or_else(|| self.missing(name))
    }

    pub async fn object(&self, name: &str) -> Result<DynamicObject, Failure> {
        let found = self.ask(&format!("cannot read query {name}"), self.objects(false).get_opt(name)).await?;
        found.ok_or_else(|| self.missing(name))
    }

    pub fn missing(&self, name: &str) -> Failure {
        let (program, again) = (crate::program::name(), self.args.again());
        Failure::Missing(format!(
            "there is no query {name} in namespace {}: `{program} get{again}` lists those that are there",
            self.namespace
        ))
    }

    pub async fn list(&self, all_namespaces: bool, selector: Option<&str>) -> Result<Vec<DynamicObject>, Failure> {
        self.pages("cannot list queries", self.objects(all_namespaces), selector).await
    }

    fn contexts(&self, all_namespaces: bool) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<ComputeContext>(&());
        match all_namespaces {
            true => Api::all_with(self.client.clone(), &kind),
            false => Api::namespaced_with(self.client.clone(), &self.namespace, &kind),
        }
    }

    pub async fn list_contexts(
        &self,
        all_namespaces: bool,
        selector: Option<&str>,
    ) -> Result<Vec<DynamicObject>, Failure> {
        self.pages("cannot list contexts", self.contexts(all_namespaces), selector).await
    }

    /// Returns the context; fails if there is none of that name.
    pub async fn context(&self, name: &str) -> Result<DynamicObject, Failure> {
        let found = self.ask(&format!("cannot read context {name}"), self.contexts(false).get_opt(name)).await?;
        found.ok_or_else(|| {
            let (program, again) = (crate::program::name(), self.args.again());
            Failure::Missing(format!(
                "there is no context {name} in namespace {}: `{program} contexts{again}` lists those that are there",
                self.namespace
            ))
        })
    }

    async fn pages(
        &self,
        what: &str,
        api: Api<DynamicObject>,
        selector: Option<&str>,
    ) -> Result<Vec<DynamicObject>, Failure> {
        let mut page = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default().limit(PAGE) };
        let mut all = Vec::new();
        loop {
            let list = self.ask(what, api.list(&page)).await?;
            all.extend(list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(all),
            }
        }
    }

    /// Creates the query as written; the server fills in defaults.
    pub async fn create(&self, query: &Value) -> Result<DynamicObject, Failure> {
        let name = name_in(query);
        let object: DynamicObject = serde_json::from_value(query.clone())
            .map_err(|error| Failure::Internal(format!("query {name} is no object: {error}")))?;
        let (objects, how) = (self.objects(false), PostParams::default());
        let what = format!("cannot create query {name} in namespace {}", self.namespace);
        match tokio::time::timeout(ANSWER, objects.create(&how, &object)).await {
            Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {
                let (program, again) = (crate::program::name(), self.args.again());
                Err(Failure::Usage(format!(
                    "{what}: there is one of that name already. To do: give --name another one, or `{program} delete \
                     {name}{again}` first, or `{program} apply` to change what may change"
                )))
            }
            Ok(answer) => answer.map_err(|error| self.refused.tell(&what, &error)),
            Err(_) => Err(self.refused.silent(&what, ANSWER)),
        }
    }

    /// Server-side apply; returns in a word what it did.
    pub async fn apply(&self, query: &Value, force: bool) -> Result<(DynamicObject, &'static str), Failure> {
        let name = name_in(query);
        let what = format!("cannot apply query {name} in namespace {}", self.namespace);
        let before = self.ask(&what, self.objects(false).get_metadata_opt(&name)).await?;
        let mut how = PatchParams::apply(MANAGER);
        how.force = force;
        let applied = self.ask(&what, self.objects(false).patch(&name, &how, &Patch::Apply(query))).await?;
        // Not the resource version: the operator may have written the status in between.
        let written = |meta: &ObjectMeta| (meta.generation, meta.labels.clone(), meta.annotations.clone());
        let word = match before {
            None => "created",
            Some(before) if written(&before.metadata) == written(&applied.metadata) => "unchanged",
            Some(_) => "configured",
        };
        Ok((applied, word))
    }

    /// Sets fields of the spec.
    pub async fn set(&self, name: &str, spec: Value) -> Result<DistributedQuery, Failure> {
        let patch = Patch::Merge(serde_json::json!({"spec": spec}));
        let (queries, how, what) = (self.queries(), PatchParams::default(), format!("cannot change query {name}"));
        match tokio::time::timeout(ANSWER, queries.patch(name, &how, &patch)).await {
            Ok(Err(kube::Error::Api(status))) if names_object(&status, name) => Err(self.missing(name)),
            Ok(answer) => answer.map_err(|error| self.refused.tell(&what, &error)),
            Err(_) => Err(self.refused.silent(&what, ANSWER)),
        }
    }

    /// Returns whether it existed.
    pub async fn delete(&self, name: &str) -> Result<bool, Failure> {
        let (queries, how) = (self.queries(), DeleteParams::background());
        match tokio::time::timeout(ANSWER, queries.delete(name, &how)).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(kube::Error::Api(status))) if names_object(&status, name) => Ok(false),
            Ok(Err(error)) => Err(self.refused.tell(&format!("cannot delete query {name}"), &error)),
            Err(_) => Err(self.refused.silent(&format!("cannot delete query {name}"), ANSWER)),
        }
    }
}

async fn config(args: &ClusterArgs) -> Result<Config, Failure> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &args.kubeconfig {
        let unusable = |error: &dyn std::fmt::Display| {
            Failure::Usage(format!("--kubeconfig {} cannot be used: {error}", path.display()))
        };
        let read = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
        return Config::from_custom_kubeconfig(read, &options).await.map_err(|error| unusable(&error));
    }
    if args.context.is_some() {
        return Config::from_kubeconfig(&options)
            .await
            .map_err(|error| Failure::Usage(format!("the kubeconfig cannot be used: {error}")));
    }
    Config::infer().await.map_err(|error| {
        Failure::Usage(format!(
            "no cluster is configured: {error}. To do: set KUBECONFIG or --kubeconfig; `{} run` needs no cluster",
            crate::program::name()
        ))
    })
}

/// Whether a 404 is about the object of this name, and not about an unknown kind or URL.
fn names_object(status: &kube::core::Status, name: &str) -> bool {
    status.is_not_found() && status.details.as_ref().is_some_and(|details| details.name == name)
}

fn name_in(query: &Value) -> String {
    let metadata = &query["metadata"];
    let name = metadata["name"].as_str().or(metadata["generateName"].as_str());
    name.unwrap_or_default().to_owned()
}
