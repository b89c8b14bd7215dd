//! `floe crd`: the CustomResourceDefinition, for `kubectl apply -f -`.

use std::process::ExitCode;

use crate::error::Failure;

pub fn run() -> Result<ExitCode, Failure> {
    print!("{}", floe_api::schema::crd_yaml());
    Ok(ExitCode::SUCCESS)
}
