//! `floe crd`: the CustomResourceDefinitions, for `kubectl apply -f -`.

use std::process::ExitCode;

use crate::error::Failure;
use crate::print;

pub fn run() -> Result<ExitCode, Failure> {
    print::out(format_args!("{}\n---", floe_api::schema::crd_yaml().trim_end()));
    print::out(format_args!("{}\n---", floe_api::schema::context_crd_yaml().trim_end()));
    print::out(floe_api::schema::schedule_crd_yaml().trim_end());
    Ok(ExitCode::SUCCESS)
}
