//! The operations on queries.

use super::{Answer, Body, Content, Method, Operation, PAGE, Takes};
use crate::http_api::auth::{Act, Resource};
use crate::http_api::change::Change;
use crate::http_api::params::{Form, Param};
use crate::http_api::problem::Kind;
use crate::http_api::{logs, progress, queries, result, submission, view};

const QUERIES: &str = "/api/v1/namespaces/{namespace}/queries";
const QUERY: &str = "/api/v1/namespaces/{namespace}/queries/{name}";

pub static OPERATIONS: &[Operation] = &[
    Operation {
        id: "listQueries",
        method: Method::Get,
        path: QUERIES,
        summary: "List queries",
        about: "Queries of a namespace, by name. Needs `list` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::List,
        params: PAGE,
        takes: None,
        gives: &[Answer { status: 200, about: "A page of queries", content: Content::Json(Body::of::<view::Page>()) }],
        problems: &[Kind::ListExpired, Kind::Invalid],
        handler: |api, call| Box::pin(queries::list(api, call)),
    },
    Operation {
        id: "submitQuery",
        method: Method::Post,
        path: QUERIES,
        summary: "Submit a query",
        about: "Creates a query: SQL (`spec.plan.sql`), a Python script (`spec.plan.python`) or a serialized plan \
            (`spec.plan.dsl`). With an `Idempotency-Key` the same request can be sent again: it creates one query, and gives that \
            one each time. Needs `create` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Create,
        params: &[],
        takes: Some(Takes { body: Body::of::<submission::Submission>(), is_keyed: true }),
        gives: &[
            Answer { status: 201, about: "The query is created", content: Content::Json(Body::of::<view::Query>()) },
            Answer {
                status: 200,
                about: "The same request has created it before",
                content: Content::Json(Body::of::<view::Query>()),
            },
        ],
        problems: &[
            Kind::TooSlow,
            Kind::NameTaken,
            Kind::KeyReused,
            Kind::Conflict,
            Kind::TooLarge,
            Kind::MediaType,
            Kind::Invalid,
        ],
        handler: |api, call| Box::pin(queries::submit(api, call)),
    },
    Operation {
        id: "getQuery",
        method: Method::Get,
        path: QUERY,
        summary: "Show a query",
        about: "A query with its spec and its status. Needs `get` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Get,
        params: &[],
        takes: None,
        gives: &[Answer { status: 200, about: "The query", content: Content::Json(Body::of::<view::Query>()) }],
        problems: &[],
        handler: |api, call| Box::pin(queries::show(api, call)),
    },
    Operation {
        id: "deleteQuery",
        method: Method::Delete,
        path: QUERY,
        summary: "Delete a query",
        about: "Deletes a query, with its pods and its result without a sink. It is gone when what it left outside the cluster \
            is. Needs `delete` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Delete,
        params: &[],
        takes: None,
        gives: &[Answer { status: 202, about: "The query is going", content: Content::Nothing }],
        problems: &[Kind::Conflict],
        handler: |api, call| Box::pin(queries::delete(api, call)),
    },
    Operation {
        id: "cancelQuery",
        method: Method::Post,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/cancel",
        summary: "Cancel a query",
        about: "Stops a query for good; it stays and can be looked at. Needs `patch` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Change,
        params: &[],
        takes: None,
        gives: &[
            Answer {
                status: 202,
                about: "The query is being cancelled",
                content: Content::Json(Body::of::<view::Query>()),
            },
            Answer {
                status: 200,
                about: "It has been cancelled before",
                content: Content::Json(Body::of::<view::Query>()),
            },
        ],
        problems: &[Kind::AlreadyEnded, Kind::Conflict, Kind::Invalid],
        handler: |api, call| Box::pin(queries::change(api, call, Change::Cancel)),
    },
    Operation {
        id: "suspendQuery",
        method: Method::Post,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/suspend",
        summary: "Suspend a query",
        about: "Ends what a query does: its pods go, and it begins anew when it is resumed. Needs `patch` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Change,
        params: &[],
        takes: None,
        gives: &[
            Answer {
                status: 202,
                about: "The query is being suspended",
                content: Content::Json(Body::of::<view::Query>()),
            },
            Answer { status: 200, about: "It is suspended already", content: Content::Json(Body::of::<view::Query>()) },
        ],
        problems: &[Kind::AlreadyEnded, Kind::BeingCancelled, Kind::Conflict, Kind::Invalid],
        handler: |api, call| Box::pin(queries::change(api, call, Change::Suspend)),
    },
    Operation {
        id: "resumeQuery",
        method: Method::Post,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/resume",
        summary: "Resume a query",
        about: "Has a query that is suspended begin anew. Needs `patch` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Change,
        params: &[],
        takes: None,
        gives: &[
            Answer { status: 202, about: "The query is resumed", content: Content::Json(Body::of::<view::Query>()) },
            Answer { status: 200, about: "It is not suspended", content: Content::Json(Body::of::<view::Query>()) },
        ],
        problems: &[Kind::AlreadyEnded, Kind::BeingCancelled, Kind::Conflict, Kind::Invalid],
        handler: |api, call| Box::pin(queries::change(api, call, Change::Resume)),
    },
    Operation {
        id: "followQuery",
        method: Method::Get,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/progress",
        summary: "Follow a query",
        about: "Server-sent events: `status` at every change, `end` with the last status, `deleted` if the query goes, `problem` if \
            nothing more can be told; the data is JSON (`Progress`, `Deleted` or `Problem`). After `end`, `deleted` and `problem` the stream \
            is over. Needs `get` on `distributedqueries`.",
        resource: Resource::Queries,
        act: Act::Get,
        params: &[],
        takes: None,
        gives: &[Answer { status: 200, about: "Events until the query has ended", content: Content::Events }],
        problems: &[],
        handler: |api, call| Box::pin(progress::follow(api, call)),
    },
    Operation {
        id: "readResult",
        method: Method::Get,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/result",
        summary: "Read a result",
        about: "The rows of a query without a sink, whole or by pages. `Floe-Rows-Total` tells how many the result has, `Link` the \
            next page. Needs `get` on `distributedqueries/result`.",
        resource: Resource::Queries,
        act: Act::Read,
        params: &[
            Param {
                name: "format",
                about: "How the rows are given. Left out, as `Accept` says, or json.",
                form: Form::Choice(result::FORMATS),
            },
            Param {
                name: "offset",
                about: "So many rows are left out before.",
                form: Form::Int { least: 0, most: i64::MAX as u64 },
            },
            Param {
                name: "limit",
                about: "So many rows at most. Left out, 1000 as json, which takes 100000 at most, else all.",
                form: Form::Int { least: 1, most: i64::MAX as u64 },
            },
        ],
        takes: None,
        gives: &[Answer { status: 200, about: "Rows", content: Content::Rows }],
        problems: &[
            Kind::NotAcceptable,
            Kind::NotEnded,
            Kind::NoResult,
            Kind::ResultElsewhere,
            Kind::ResultGone,
            Kind::Invalid,
            Kind::Coordinator,
        ],
        handler: |api, call| Box::pin(result::read(api, call)),
    },
    Operation {
        id: "readLogs",
        method: Method::Get,
        path: "/api/v1/namespaces/{namespace}/queries/{name}/logs",
        summary: "Read logs",
        about: "What the coordinator and the workers of a query have logged, in the order of time: the last lines of each pod, of all \
            together 1 MiB at most. `Floe-Log-Complete` is false if anything was left out for that. Of the pods of a context, which log for \
            all their queries, only the lines that name the query. Needs `get` on `distributedqueries`, and on `pods/log` for the whole namespace.",
        resource: Resource::Queries,
        act: Act::Get,
        params: LOGS,
        takes: None,
        gives: &[Answer { status: 200, about: "Lines", content: Content::Logs }],
        problems: &[Kind::NoLogs, Kind::Invalid],
        handler: |api, call| Box::pin(logs::read(api, call)),
    },
];

/// The parameters of logs.
pub const LOGS: &[Param] = &[
    Param {
        name: "format",
        about: "json: what the processes have written, line by line. text: for people. Left out, json.",
        form: Form::Choice(logs::FORMATS),
    },
    Param {
        name: "role",
        about: "Only the coordinator's lines, or only the workers'.",
        form: Form::Choice(logs::ROLES),
    },
    Param {
        name: "worker",
        about: "Only lines of this worker, by its number; without `role`.",
        form: Form::Int { least: 0, most: u32::MAX as u64 },
    },
    Param {
        name: "stage",
        about: "Only lines that say they are of this stage.",
        form: Form::Int { least: 0, most: u32::MAX as u64 },
    },
    Param {
        name: "tail",
        about: "The last lines of each pod, so many: 1000 if it is left out.",
        form: Form::Int { least: 1, most: logs::MOST_TAIL },
    },
    Param {
        name: "since",
        about: "Only lines that are not older than so many seconds.",
        form: Form::Int { least: 1, most: 31_536_000 },
    },
];
