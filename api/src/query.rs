//! `DistributedQuery`, the one object a user writes: a plan, its data, what it runs on, and where the result goes.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    CatalogSpec, ComputeSpec, DistributedQueryStatus, ExecutionSpec, PlanSource, SinkSpec, StorageSpec, TableSpec,
    schema,
};

/// One Polars query over many pods: the plan, the tables it reads, what it runs on, and where the result goes.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "floe.dev",
    version = "v1alpha1",
    kind = "DistributedQuery",
    plural = "distributedqueries",
    singular = "distributedquery",
    shortname = "dq",
    category = "all",
    namespaced,
    status = "DistributedQueryStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "One Polars query run over many pods: a plan, the tables it reads, the pods it runs on, and where its result goes.",
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the query is: Pending, Starting, Planning, Running, Committing, Succeeded, Failed, Cancelled or Suspended"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Share of the tasks that are done"),
    printcolumn(name = "Workers", type_ = "string", json_path = ".status.workers.summary", description = "Workers ready / wanted"),
    printcolumn(name = "Stages", type_ = "string", json_path = ".status.stagesSummary", description = "Stages done / planned"),
    printcolumn(name = "Rows", type_ = "integer", json_path = ".status.rows", description = "Rows of the result"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the query was created"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", priority = 1, description = "Time from creation to end"),
    printcolumn(name = "Waited", type_ = "string", json_path = ".status.waited", priority = 1, description = "Time from creation to start"),
    printcolumn(name = "Shuffled", type_ = "integer", json_path = ".status.bytesShuffled", priority = 1, description = "Bytes that went from worker to worker"),
    printcolumn(name = "Attempt", type_ = "integer", json_path = ".status.attempt", priority = 1, description = "Which try at the whole query this is"),
    printcolumn(name = "Result", type_ = "string", json_path = ".status.resultUri", priority = 1, description = "Where the result is"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1, description = "Why the query is in this phase"),
    validation = Rule::new("self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name names pods: write at most 50 lower-case letters, digits and -, beginning with a letter"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.startedAt) || (self.spec.plan == oldSelf.spec.plan && has(self.spec.tables) == has(oldSelf.spec.tables) && (!has(self.spec.tables) || self.spec.tables == oldSelf.spec.tables) && has(self.spec.sink) == has(oldSelf.spec.sink) && (!has(self.spec.sink) || self.spec.sink == oldSelf.spec.sink))").message("plan, tables and sink cannot change once the query has started: delete it and create a new one"),
    validation = Rule::new("!has(self.spec.after) || self.spec.after.all(a, a.query != self.metadata.name)").message("spec.after names the query itself: it would wait for ever"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.startedAt) || (has(self.spec.views) == has(oldSelf.spec.views) && (!has(self.spec.views) || self.spec.views == oldSelf.spec.views))").message("views cannot change once the query has started: delete it and create a new one"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.plan.dsl) || !has(self.tables) || self.tables.size() == 0").message("a dsl plan names its own sources: leave tables out, or give plan.python or plan.sql"),
    validation = Rule::new("!has(self.views) || self.views.size() == 0 || has(self.plan.sql)").message("views are for SQL: leave them out, or give plan.sql"),
    validation = Rule::new("!has(self.views) || !has(self.tables) || self.views.all(v, !(v in self.tables))").message("a view must not have the name of a table"),
    validation = Rule::new("!has(self.tables) || self.tables.all(t, !has(self.tables[t].storage) || (has(self.storages) && self.tables[t].storage in self.storages))").message("a table's storage must be the name of one of spec.storages"),
    validation = Rule::new("!has(self.sink) || !has(self.sink.storage) || (has(self.storages) && self.sink.storage in self.storages)").message("sink.storage must be the name of one of spec.storages"),
    validation = Rule::new("!has(self.tables) || self.tables.all(t, !has(self.tables[t].catalog) || (has(self.catalogs) && self.tables[t].catalog in self.catalogs))").message("a table's catalog must be the name of one of spec.catalogs"),
    validation = Rule::new("!has(self.sink) || !has(self.sink.catalog) || (has(self.catalogs) && self.sink.catalog in self.catalogs)").message("sink.catalog must be the name of one of spec.catalogs"),
    validation = Rule::new("!has(self.execution.shuffle.storage) || (has(self.storages) && self.execution.shuffle.storage in self.storages)").message("execution.shuffle.storage must be the name of one of spec.storages"),
    validation = Rule::new("!has(self.plan.dsl) || !has(self.plan.dsl.storage) || (has(self.storages) && self.plan.dsl.storage in self.storages)").message("plan.dsl.storage must be the name of one of spec.storages"),
    validation = Rule::new("!(has(self.suspend) && self.suspend && has(self.cancel) && self.cancel)").message("suspend and cancel exclude each other: set one of them to false"),
    validation = Rule::new("has(self.managedBy) == has(oldSelf.managedBy) && (!has(self.managedBy) || self.managedBy == oldSelf.managedBy)").message("managedBy can be neither added nor changed nor taken away: delete the query and create a new one"),
    validation = Rule::new("has(self.compute.contextRef) == has(oldSelf.compute.contextRef) && (!has(self.compute.contextRef) || self.compute.contextRef == oldSelf.compute.contextRef)").message("compute.contextRef can be neither added nor changed nor taken away: delete the query and create a new one"),
)]
pub struct DistributedQuerySpec {
    /// What to run: exactly one of `dsl`, `sql` and `python`.
    pub plan: PlanSource,
    /// Values of parameters by name: `params` in a Python script, `$name` in SQL. Any JSON value. Changes after the
    /// start have no effect.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::any_map")]
    pub params: BTreeMap<String, serde_json::Value>,
    /// The tables that a Python script (`scan("name")`) or SQL reads, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 256))]
    pub tables: BTreeMap<String, TableSpec>,
    /// Views for SQL by name: the text of a query over tables and other views. A query uses them as it does tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::views")]
    pub views: BTreeMap<String, String>,
    /// Endpoint, options and credentials of every URI that names no other storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// Further storages by name, for queries over several clouds or accounts: a table, plan, sink or shuffle selects
    /// one with its `storage` field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 100))]
    pub storages: BTreeMap<String, StorageSpec>,
    /// Catalogs of tables by name. A table or sink selects one with its `catalog` field; SQL and scripts name every table
    /// of a catalog as `catalog.namespace.name`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub catalogs: BTreeMap<String, CatalogSpec>,
    /// What the query runs on: how many workers, how large, and everything about their pods.
    #[serde(default)]
    pub compute: ComputeSpec,
    /// How the plan is cut into stages and moved through them.
    #[serde(default)]
    pub execution: ExecutionSpec,
    /// Where the result is written. If unset, the coordinator keeps the result until its TTL, and the client reads it
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkSpec>,
    /// Queries of the namespace that must end first. Until then the query has no pods; it fails if one of them does not
    /// end as required. Can be changed until the query has started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub after: Vec<AfterSpec>,
    /// Suspend the query: while true it has no pods. Setting it on a running query removes its pods; the query starts
    /// again when it is resumed.
    #[serde(default)]
    pub suspend: bool,
    /// Cancel the query for good. Its pods and all unfinished output are removed; the phase becomes Cancelled.
    #[serde(default)]
    pub cancel: bool,
    /// Fail the query if it has not finished this many seconds after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<u32>,
    /// Fail the query if its coordinator and workers are not ready after this many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub starting_deadline_seconds: Option<u32>,
    /// How often to restart the whole query after infrastructure failures (a lost coordinator, an evicted pod). A fault
    /// of the query itself is never retried.
    #[serde(default = "default_backoff_limit")]
    #[schemars(range(max = 100))]
    pub backoff_limit: u32,
    /// Delete the query this long after it finished, by outcome. If unset, it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds_after_finished: Option<TtlSpec>,
    /// Keep the pods of a failed query this many seconds, so that their logs can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_failed_pods_seconds: Option<u32>,
    /// Priority among queries that share workers (`floe-runner serve`, contexts): higher runs first. For a query's own
    /// pods use `compute.priorityClassName`.
    #[serde(default)]
    pub priority: i32,
    /// Labels of the query in its traces and its coordinator's logs (team, pipeline, run).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// The controller that decides when the query starts, such as `kueue.x-k8s.io/multikueue`; Floe's operator then
    /// ignores the query. Can only be set when the query is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub managed_by: Option<String>,
}

fn default_backoff_limit() -> u32 {
    2
}

/// A query that must end first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AfterSpec {
    /// Name of a `DistributedQuery` in the namespace. If it does not exist yet, wait for it.
    #[schemars(length(min = 1, max = 50))]
    pub query: String,
    /// How it must end.
    #[serde(default)]
    pub condition: AfterCondition,
}

/// How the other query must end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AfterCondition {
    /// It succeeds.
    #[default]
    Succeeded,
    /// It succeeds, fails or is cancelled.
    Ended,
}

/// How long to keep a finished query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TtlSpec {
    /// Seconds to keep a succeeded query. If unset, it is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<u32>,
    /// Seconds to keep a failed or cancelled query. If unset, it is kept until it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
}

impl DistributedQuerySpec {
    /// The storage that a URI uses: the named one, or the default one. `None` if it is not described.
    pub fn storage_named(&self, name: Option<&str>) -> Option<&StorageSpec> {
        match name {
            Some(name) => self.storages.get(name),
            None => self.storage.as_ref(),
        }
    }
}
