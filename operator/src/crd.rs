//! The CustomResourceDefinition: printed, or applied to the cluster by an upgrade.

use std::io::Write;

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};

use crate::query::names::MANAGER;

pub fn print() -> anyhow::Result<()> {
    std::io::stdout().write_all(floe_api::schema::crd_yaml().as_bytes()).context("cannot print")
}

pub async fn install(force: bool) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no cluster")?;
    let crd = floe_api::crd();
    let name = crd.name_any();
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let params = PatchParams { force, ..PatchParams::apply(MANAGER) };
    api.patch(&name, &params, &Patch::Apply(&crd)).await.with_context(|| format!("cannot apply {name}"))?;
    let mut out = std::io::stdout();
    writeln!(out, "customresourcedefinition {name} applied").context("cannot print")
}
