//! `floe crd`: the CustomResourceDefinition, for `kubectl apply -f -`.

use std::process::ExitCode;

use crate::error::Failure;
use crate::print;

pub fn run() -> Result<ExitCode, Failure> {
    print::out(floe_api::schema::crd_yaml().trim_end());
    Ok(ExitCode::SUCCESS)
}
