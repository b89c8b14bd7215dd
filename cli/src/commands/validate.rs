//! `floe validate`: checks queries without planning or running them.

use std::process::ExitCode;

use serde_json::json;

use crate::args::{Output, ValidateArgs};
use crate::error::Failure;
use crate::{print, query};

pub fn run(args: ValidateArgs) -> Result<ExitCode, Failure> {
    let mut code = 0;
    for file in &args.files {
        let result = query::load(file, &args.query);
        match (&result, args.output) {
            (Ok(_), Output::Table) => print::out(format_args!("{}: ok", file.display())),
            (Ok(_), Output::Json) => print::out(json!({"file": file.display().to_string(), "valid": true})),
            (Err(failure), Output::Table) => failure.print(),
            (Err(failure), Output::Json) => {
                let faults: Vec<_> = match failure {
                    Failure::Spec { faults, .. } => {
                        faults.iter().map(|f| json!({"path": f.path, "message": f.message})).collect()
                    }
                    other => vec![json!({"path": "", "message": other.to_string()})],
                };
                print::out(json!({"file": file.display().to_string(), "valid": false, "errors": faults}));
            }
        }
        if let Err(failure) = result {
            code = failure.code();
        }
    }
    Ok(ExitCode::from(code))
}
