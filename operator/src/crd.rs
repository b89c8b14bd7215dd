//! Prints the CustomResourceDefinitions, or applies them to the cluster during an upgrade.

use std::io::Write;

use anyhow::Context as _;
use floe_api::schema;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::query::names::MANAGER;

pub fn print() -> anyhow::Result<()> {
    let all = [schema::crd_yaml(), schema::context_crd_yaml(), schema::schedule_crd_yaml()].join("---\n");
    std::io::stdout().write_all(all.as_bytes()).context("cannot print")
}

pub async fn install(force: bool) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no cluster")?;
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
    for crd in [floe_api::crd(), floe_api::context_crd(), floe_api::schedule_crd()] {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd)).await.with_context(|| format!("cannot apply {name}"))?;
        writeln!(std::io::stdout(), "customresourcedefinition {name} applied").context("cannot print")?;
    }
    Ok(())
}
