//! `ScheduledQuery`: creates queries from a template at the times of a cron line, as a CronJob creates Jobs.
//!
//! `cron` parses the line, `calendar` computes its times in a time zone, `render` makes the query of a time. All pure.

pub mod calendar;
pub mod cron;
pub mod render;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DistributedQuerySpec, schema};

/// Label of every query of a schedule: the schedule's name.
pub const LABEL_SCHEDULE: &str = "floe.dev/scheduled-query";
/// Annotation of every query of a schedule: the time that it was created for (RFC 3339).
pub const SCHEDULED_AT: &str = "floe.dev/scheduled-at";
/// A query's name is the schedule's plus nine characters, and is part of its pods' names.
pub const MAX_NAME_CHARS: usize = 41;

/// Creates queries from a template at the times of a cron line.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "floe.dev",
    version = "v1alpha1",
    kind = "ScheduledQuery",
    plural = "scheduledqueries",
    singular = "scheduledquery",
    shortname = "sq",
    category = "all",
    namespaced,
    status = "ScheduledQueryStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Queries that are made of a template at the times of a cron line, as a CronJob makes Jobs.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule", description = "When queries are made"),
    printcolumn(name = "Timezone", type_ = "string", json_path = ".spec.timeZone", description = "The time zone of the schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend", description = "Whether no queries are made"),
    printcolumn(name = "Active", type_ = "integer", json_path = ".status.activeQueries", description = "Queries that have not ended"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastScheduleTime", description = "Time since the last query was due"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", description = "When the next query is due"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since the schedule was created"),
    printcolumn(name = "Succeeded", type_ = "date", json_path = ".status.lastSuccessfulTime", priority = 1, description = "Time since a query last succeeded"),
    printcolumn(name = "Missed", type_ = "integer", json_path = ".status.missedTimes", priority = 1, description = "Times that passed without a query"),
    validation = Rule::new("self.metadata.name.size() <= 41 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name names queries: write at most 41 lower-case letters, digits and -, beginning with a letter"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.schedule.matches('^(@(yearly|annually|monthly|weekly|daily|midnight|hourly)|[^@ ][^ ]*( +[^ ]+){4})$')").message("spec.schedule must have five fields (minute hour day month weekday), such as \"30 2 * * *\", or be one of @hourly, @daily, @weekly, @monthly and @yearly; the time zone is spec.timeZone"),
    validation = Rule::new("self.timeZone.matches('^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$') && self.timeZone != 'Local'").message("spec.timeZone must be the name of a time zone, such as Europe/Berlin or Etc/UTC"),
    validation = Rule::new("self.concurrencyPolicy != 'Replace' || self.catchUp != 'All'").message("spec.catchUp: All would start missed queries to stop them at once by spec.concurrencyPolicy: Replace: write catchUp: Latest"),
    validation = Rule::new("!has(self.queryTemplate.spec.cancel) || !self.queryTemplate.spec.cancel").message("spec.queryTemplate.spec.cancel would stop every query at once: leave it out; spec.suspend stops the schedule"),
)]
pub struct ScheduledQuerySpec {
    /// When to create queries: minute, hour, day of the month, month and day of the week (`30 2 * * MON-FRI`), or one
    /// of @hourly, @daily (@midnight), @weekly, @monthly and @yearly (@annually). If day of the month and day of the
    /// week are both restricted, either may match.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// Time zone of `schedule`, an IANA name. When clocks change, a schedule with fixed hours has each of its times
    /// once, and one for every hour follows elapsed time.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// What to do if a query is due while another one has not ended. Forbid: the new one waits. Replace: the other one
    /// is deleted. Allow: both run.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// What to do about times that passed without a query: while the operator was down or the schedule was suspended,
    /// while another query ran, or while a query was refused. Latest: create a query for the last of them. All: create
    /// one for each, the oldest first, at most the last 100. None: create none for times older than
    /// `startingDeadlineSeconds` (60 if unset).
    #[serde(default)]
    pub catch_up: CatchUp,
    /// Create no query for a time that is older than this. If unset, `catchUp` alone decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub starting_deadline_seconds: Option<u32>,
    /// Create no queries. Existing ones continue. Times that pass meanwhile count as missed.
    #[serde(default)]
    pub suspend: bool,
    /// Number of succeeded queries to keep; older ones are deleted.
    #[serde(default = "three")]
    #[schemars(range(max = 1000))]
    pub successful_queries_history_limit: u32,
    /// Number of failed and cancelled queries to keep; older ones are deleted.
    #[serde(default = "one")]
    #[schemars(range(max = 1000))]
    pub failed_queries_history_limit: u32,
    /// Typed parameters of the queries by name, in addition to `queryTemplate.spec.params`. Their values may contain
    /// templates such as `{{ .scheduledDate }}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub params: BTreeMap<String, ParamSpec>,
    /// The template of the queries.
    pub query_template: QueryTemplate,
}

fn utc() -> String {
    "Etc/UTC".to_owned()
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}

impl Default for ScheduledQuerySpec {
    fn default() -> Self {
        Self {
            schedule: String::new(),
            time_zone: utc(),
            concurrency_policy: ConcurrencyPolicy::default(),
            catch_up: CatchUp::default(),
            starting_deadline_seconds: None,
            suspend: false,
            successful_queries_history_limit: three(),
            failed_queries_history_limit: one(),
            params: BTreeMap::new(),
            query_template: QueryTemplate::default(),
        }
    }
}

/// What to do if a query is due while another one has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// The new one waits until the other one has ended.
    // Unlike a CronJob's default: two runs of one template usually write to the same sink, and each takes many pods.
    #[default]
    Forbid,
    /// The others are deleted.
    Replace,
    /// Both run.
    Allow,
}

/// What to do about times that passed without a query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CatchUp {
    /// Create a query for the last of them.
    #[default]
    Latest,
    /// Create one for each of the last 100, the oldest first.
    All,
    /// Create none.
    None,
}

/// The value of a parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParamSpec {
    /// Type of the value. A date (`2026-03-01`) and a datetime (RFC 3339) are passed to the query as text.
    #[serde(default, rename = "type")]
    pub kind: ParamType,
    /// The value, or a text with templates.
    #[schemars(schema_with = "schema::any_scalar")]
    pub value: serde_json::Value,
}

/// Types of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ParamType {
    #[default]
    String,
    Int,
    Float,
    Bool,
    Date,
    Datetime,
}

/// A query without its name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueryTemplate {
    /// Labels and annotations of the queries.
    #[serde(default)]
    pub metadata: TemplateMeta,
    /// The spec of the queries. Texts in `params`, values of `labels`, and `sink.uri` may contain templates.
    pub spec: DistributedQuerySpec,
}

/// Labels and annotations of every query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMeta {
    /// Labels of the queries; values may have templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the queries; values may have templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// The state of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledQueryStatus {
    /// Accepted, and QueryCreated (whether the last query that was due could be made), each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Queries that have not ended, at most 50.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub active: Vec<ActiveQuery>,
    /// Number of queries that have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_queries: Option<u32>,
    /// The latest time for which a query was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When a query last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful_time: Option<Time>,
    /// The next time of the schedule. Unset while it is suspended or invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// The time whose query waits for another one to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_time: Option<Time>,
    /// Number of times that passed without a query; of a long gap at most 100 are counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_times: Option<u32>,
    /// All times up to this one have a query or get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_until: Option<Time>,
    /// The schedule and time zone that this status describes: after a change, earlier times are not caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_schedule: Option<String>,
}

/// A query that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveQuery {
    /// The name of the query.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The time that it was created for.
    pub scheduled_at: Time,
}
