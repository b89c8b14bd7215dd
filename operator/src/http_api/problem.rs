//! Refusals and failures as `application/problem+json` (RFC 9457). Every kind has a fixed status and name that clients
//! can act on, and each invalid field is listed.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use floe_api::FieldError;
use schemars::JsonSchema;
use serde::Serialize;

/// What kind of problem it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadRequest,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    TooSlow,
    NameTaken,
    KeyReused,
    NotEnded,
    AlreadyEnded,
    BeingCancelled,
    NoResult,
    NoLogs,
    ResultElsewhere,
    Conflict,
    ResultGone,
    ListExpired,
    TooLarge,
    MediaType,
    Invalid,
    TooManyRequests,
    Internal,
    Coordinator,
    Unavailable,
    Timeout,
}

impl Kind {
    pub const ALL: [Kind; 26] = [
        Kind::BadRequest,
        Kind::Unauthenticated,
        Kind::Forbidden,
        Kind::NotFound,
        Kind::MethodNotAllowed,
        Kind::NotAcceptable,
        Kind::TooSlow,
        Kind::NameTaken,
        Kind::KeyReused,
        Kind::NotEnded,
        Kind::AlreadyEnded,
        Kind::BeingCancelled,
        Kind::NoResult,
        Kind::NoLogs,
        Kind::ResultElsewhere,
        Kind::Conflict,
        Kind::ResultGone,
        Kind::ListExpired,
        Kind::TooLarge,
        Kind::MediaType,
        Kind::Invalid,
        Kind::TooManyRequests,
        Kind::Internal,
        Kind::Coordinator,
        Kind::Unavailable,
        Kind::Timeout,
    ];

    /// Status, name, title.
    fn words(self) -> (u16, &'static str, &'static str) {
        match self {
            Kind::BadRequest => (400, "bad-request", "The request cannot be read"),
            Kind::Unauthenticated => (401, "unauthenticated", "A valid token is needed"),
            Kind::Forbidden => (403, "forbidden", "The caller may not do this"),
            Kind::NotFound => (404, "not-found", "There is nothing of this name"),
            Kind::MethodNotAllowed => (405, "method-not-allowed", "This method has no meaning here"),
            Kind::NotAcceptable => (406, "not-acceptable", "The result has no such format"),
            Kind::TooSlow => (408, "too-slow", "The request did not come in time"),
            Kind::NameTaken => (409, "name-taken", "There is one of this name"),
            Kind::KeyReused => (409, "key-reused", "The idempotency key belongs to another request"),
            Kind::NotEnded => (409, "not-ended", "The query has not ended"),
            Kind::AlreadyEnded => (409, "already-ended", "The query has ended"),
            Kind::BeingCancelled => (409, "being-cancelled", "The query is being cancelled"),
            Kind::NoLogs => (409, "no-logs", "The query has no pods that could be asked for their logs"),
            Kind::NoResult => (409, "no-result", "The query has ended without a result"),
            Kind::ResultElsewhere => (409, "result-elsewhere", "The result is where the query has written it"),
            Kind::Conflict => (409, "conflict", "It was changed at the same time"),
            Kind::ResultGone => (410, "result-gone", "The result is no longer there"),
            Kind::ListExpired => (410, "list-expired", "The list has to begin again"),
            Kind::TooLarge => (413, "too-large", "The request is too large"),
            Kind::MediaType => (415, "media-type", "The body must be JSON"),
            Kind::Invalid => (422, "invalid", "The request is not valid"),
            Kind::TooManyRequests => (429, "too-many-requests", "Too much at once"),
            Kind::Internal => (500, "internal", "A fault of Floe's own"),
            Kind::Coordinator => (502, "coordinator", "The query's coordinator does not answer as it should"),
            Kind::Unavailable => (503, "unavailable", "The cluster does not answer"),
            Kind::Timeout => (504, "timeout", "The answer took too long"),
        }
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.words().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub fn name(self) -> &'static str {
        self.words().1
    }

    pub fn title(self) -> &'static str {
        self.words().2
    }
}

/// A problem as defined by RFC 9457.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
struct Told {
    /// `urn:floe:problem:` followed by the name of the kind.
    r#type: String,
    /// Title of the kind.
    title: String,
    /// HTTP status of the answer.
    status: u16,
    /// What happened this time, and what to do.
    detail: String,
    /// The invalid fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// Location of the result, if the query wrote it to a sink.
    #[serde(skip_serializing_if = "Option::is_none")]
    result_uri: Option<String>,
}

/// An invalid field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// A field of the body (`spec.plan.sql`), a parameter of the query string or path, or a header.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: Kind,
    pub detail: String,
    pub errors: Vec<Fault>,
    pub result_uri: Option<String>,
    pub retry_after_seconds: Option<u64>,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), errors: Vec::new(), result_uri: None, retry_after_seconds: None }
    }

    /// A problem with a single field.
    pub fn field(kind: Kind, field: &str, message: impl Into<String>) -> Problem {
        let message = message.into();
        let errors = vec![Fault { field: field.to_owned(), message: message.clone() }];
        Problem { errors, ..Problem::new(kind, format!("{field}: {message}")) }
    }

    pub fn invalid(faults: Vec<FieldError>) -> Problem {
        let detail = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let errors = faults.into_iter().map(|fault| Fault { field: fault.path, message: fault.message }).collect();
        Problem { errors, ..Problem::new(Kind::Invalid, detail) }
    }

    /// Converts an error of the API server. The caller is allowed to do this, so a refusal is the cluster's own.
    pub fn of_kube(what: &str, error: kube::Error) -> Problem {
        let kube::Error::Api(status) = error else {
            tracing::warn!(%error, "{what}");
            return Problem::new(Kind::Unavailable, format!("{what}: the API server does not answer"));
        };
        let detail = format!("{what}: {}", status.message);
        let kind = match status.code {
            400 => Kind::BadRequest,
            // The caller's rights were checked before: a policy, a quota or the operator's own rights refused it.
            401 | 403 => Kind::Forbidden,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            410 => Kind::ListExpired,
            413 => Kind::TooLarge,
            422 => Kind::Invalid,
            429 => Kind::TooManyRequests,
            _ => Kind::Unavailable,
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let errors = causes.filter(|cause| !cause.field.is_empty());
        let errors = errors.map(|cause| Fault { field: cause.field.clone(), message: cause.message.clone() }).collect();
        let retry_after_seconds = (kind == Kind::TooManyRequests).then_some(1);
        Problem { errors, retry_after_seconds, ..Problem::new(kind, detail) }
    }

    fn told(&self) -> Told {
        Told {
            r#type: format!("urn:floe:problem:{}", self.kind.name()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            errors: self.errors.clone(),
            result_uri: self.result_uri.clone(),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.told()).unwrap_or_default()
    }
}

pub fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<Told>()
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut answer = (self.kind.status(), Json(self.told())).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.kind == Kind::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"floe\""));
        }
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        answer
    }
}
