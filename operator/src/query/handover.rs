//! Submits a query's job to a coordinator of the context that it borrows: the job of the attempt's Secret, with the
//! plan embedded wherever it is stored, and the context's sizes. Decides nothing; submitting it again is no error.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floe_api::DslSource;
use floe_api::job::Job;
use floe_api::report::{QUERY_TOKEN, RunError};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use reqwest::StatusCode;

use super::error::{ApplyError, AskError};
use super::facts::{Observed, PlanSecrets};
use super::observe::is_owned;
use super::{Context, build, names};
use crate::context::build as context_build;
use crate::context::register::{Lent, Loan};
use crate::poll;

/// Plans may be large.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum bytes to read of a refusal.
const MAX_ANSWER_BYTES: usize = 64 << 10;

type Result<T, E = ApplyError> = std::result::Result<T, E>;

pub async fn submit(context: &Context, observed: &Observed, attempt: u32, ip: &str) -> Result<()> {
    let Loan::Lent(lent) = &observed.loan else {
        return Err(ApplyError::Incomplete("the context is gone"));
    };
    let Some(engine) = &lent.token else {
        return Err(ApplyError::Incomplete("the context's token was not read"));
    };
    let place = Place::new(context, observed);
    let name = names::job_secret(observed.name(), place.uid, attempt);
    let secret = place.secret(&name).await?;
    let Some((mut job, plan, token)) = build::read_first(&secret) else {
        return Err(ApplyError::Incomplete("the attempt's Secret cannot be read"));
    };
    place.bring_plan(&mut job, plan).await?;
    fit(&mut job, lent);
    let body = serde_json::to_vec(&job).map_err(build::BuildError::from)?;
    let lender = observed.query.spec.compute.context_ref.as_ref().map(|lender| lender.name.clone()).unwrap_or_default();
    let url = format!("http://{}/api/v1/queries", poll::at(ip, build::HTTP_PORT));
    let request = context.poller.http().post(url).bearer_auth(engine).header(QUERY_TOKEN, token).timeout(TIMEOUT);
    ask(request.body(body)).await.map_err(|source| ApplyError::Asked { context: lender, source })
}

/// Sets the sizes that the job is planned for to those of the context.
fn fit(job: &mut Job, lent: &Lent) {
    context_build::sizes(&mut job.spec.compute, &lent.compute);
    job.spec.compute.context_ref = None;
    if let Some(python) = &mut job.spec.plan.python {
        let most = context_build::script_memory(&lent.compute);
        let own = python.memory.take().filter(|own| own.milli() < most.milli());
        python.memory = Some(own.unwrap_or(most));
    }
}

async fn ask(request: reqwest::RequestBuilder) -> Result<(), AskError> {
    let mut answer = request.send().await.map_err(|error| AskError::Silent(poll::root(&error)))?;
    let status = answer.status();
    // Conflict: the coordinator has this attempt already.
    if status.is_success() || status == StatusCode::CONFLICT {
        return Ok(());
    }
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            break;
        }
        body.extend_from_slice(&chunk);
    }
    let told = serde_json::from_slice::<RunError>(&body).map(|error| error.message);
    let told = told.unwrap_or_else(|_| format!("it answered {status}"));
    Err(match status {
        StatusCode::TOO_MANY_REQUESTS => AskError::Full(told),
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => AskError::Refused(told),
        _ => AskError::Silent(told),
    })
}

/// Where the query's objects are.
struct Place<'a> {
    context: &'a Context,
    observed: &'a Observed,
    namespace: &'a str,
    uid: &'a str,
}

impl<'a> Place<'a> {
    fn new(context: &'a Context, observed: &'a Observed) -> Self {
        let meta = &observed.query.metadata;
        let (namespace, uid) = (meta.namespace.as_deref().unwrap_or_default(), meta.uid.as_deref().unwrap_or_default());
        Self { context, observed, namespace, uid }
    }

    /// One of the query's own Secrets.
    async fn secret(&self, name: &str) -> Result<Secret> {
        let api: Api<Secret> = Api::namespaced(self.context.client.clone(), self.namespace);
        let found = api.get_opt(name).await.map_err(|source| failed("Secret", name, source))?;
        found
            .filter(|secret| is_owned(secret, self.uid))
            .ok_or(ApplyError::Incomplete("a Secret of the attempt is gone"))
    }

    /// Embeds a plan that is stored in another object: a context's coordinator has nothing mounted.
    async fn bring_plan(&self, job: &mut Job, plan: PlanSecrets) -> Result<()> {
        let Some(dsl) = &mut job.spec.plan.dsl else { return Ok(()) };
        let refers = self.observed.inputs.as_ref().and_then(|inputs| inputs.query.spec.plan.dsl.clone());
        let refers = refers.unwrap_or_default();
        let bytes = if plan.parts > 0 {
            let mut bytes = Vec::new();
            for part in 0..plan.parts {
                let name = names::plan_secret(self.observed.name(), self.uid, plan.attempt, part);
                let mut data = self.secret(&name).await?.data.unwrap_or_default();
                bytes.extend(data.remove(build::PLAN_KEY).unwrap_or_default().0);
            }
            bytes
        } else if let Some(key) = &refers.config_map_key_ref {
            let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), self.namespace);
            let map = api.get_opt(&key.name).await.map_err(|source| failed("ConfigMap", &key.name, source))?;
            let map = map.unwrap_or_default();
            let text = map.data.unwrap_or_default().remove(&key.key).map(String::into_bytes);
            let found = text.or_else(|| map.binary_data.unwrap_or_default().remove(&key.key).map(|bytes| bytes.0));
            found.ok_or(ApplyError::Incomplete("the plan's ConfigMap is gone"))?
        } else if let Some(key) = &refers.secret_key_ref {
            let api: Api<Secret> = Api::namespaced(self.context.client.clone(), self.namespace);
            let secret = api.get_opt(&key.name).await.map_err(|source| failed("Secret", &key.name, source))?;
            let found = secret.unwrap_or_default().data.unwrap_or_default().remove(&key.key).map(|bytes| bytes.0);
            found.ok_or(ApplyError::Incomplete("the plan's Secret is gone"))?
        } else {
            return Ok(());
        };
        *dsl = DslSource { inline: Some(STANDARD.encode(bytes)), ..DslSource::default() };
        Ok(())
    }
}

fn failed(kind: &'static str, name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api { kind, name: name.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::post;

    #[test]
    fn the_job_has_the_sizes_of_the_context() {
        let mut job = Job::new("id", "q", floe_api::DistributedQuerySpec::default());
        job.spec.compute.context_ref = Some(floe_api::NameRef { name: "warm".into() });
        job.spec.plan.python = Some(floe_api::PythonSource { memory: Some("8Gi".into()), ..Default::default() });
        let mut lent = Lent::default();
        lent.compute.memory = "16Gi".into();
        lent.compute.coordinator.memory = "2Gi".into();
        fit(&mut job, &lent);
        assert_eq!((job.spec.compute.memory.as_str(), &job.spec.compute.context_ref), ("16Gi", &None));
        assert_eq!(job.spec.plan.python.unwrap().memory.unwrap().bytes(), Some(1 << 30));
    }

    #[tokio::test]
    async fn answers_of_a_coordinator_are_told_apart() {
        let said = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(0));
        let code = std::sync::Arc::clone(&said);
        let answer = move || {
            let code = code.load(std::sync::atomic::Ordering::Relaxed);
            let body = r#"{"category": "User", "class": "C", "message": "the words"}"#;
            std::future::ready((axum::http::StatusCode::from_u16(code).unwrap(), body))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
        let http = reqwest::Client::new();
        for (code, want) in
            [(202, None), (409, None), (429, Some("Full")), (400, Some("Refused")), (500, Some("Silent"))]
        {
            said.store(code, std::sync::atomic::Ordering::Relaxed);
            let told = ask(http.post(&url)).await.err();
            let kind = told.as_ref().map(|error| match error {
                AskError::Full(_) => "Full",
                AskError::Refused(_) => "Refused",
                AskError::Silent(_) => "Silent",
            });
            assert_eq!(kind, want, "{code}");
            assert!(told.is_none_or(|error| error.to_string().contains("the words")));
        }
    }
}
