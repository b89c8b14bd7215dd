//! `floe submit` and `floe apply`: create queries on a cluster from files or options. The only right needed to create
//! is that on DistributedQuery objects.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::args::cluster::{SubmitArgs, SubmitOutput};
use crate::cluster::Cluster;
use crate::commands::watch::{self, Shown};
use crate::error::Failure;
use crate::{block_on, make, print, program};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Fails if a query of that name exists.
    Create,
    /// Server-side apply: changes an existing query.
    Apply,
}

pub fn run(args: SubmitArgs, way: Way) -> Result<ExitCode, Failure> {
    // Check all queries before creating the first one.
    let queries = make::queries(&args, way == Way::Create)?;
    block_on(async {
        let mut code = 0;
        for mut query in queries {
            // As with kubectl: the option, else the object, else the kubeconfig's context.
            let mut at = args.cluster.clone();
            at.namespace = at.namespace.or_else(|| query["metadata"]["namespace"].as_str().map(str::to_owned));
            let cluster = Cluster::connect(&at).await?;
            query["metadata"]["namespace"] = cluster.namespace.clone().into();
            let (object, word) = match way {
                Way::Create => (cluster.create(&query).await?, "created"),
                Way::Apply => cluster.apply(&query, args.force_conflicts).await?,
            };
            let name = object.metadata.name.clone().unwrap_or_default();
            print::err(format_args!("query {name} {word} in namespace {}", cluster.namespace));
            if args.output == SubmitOutput::Name {
                print::out(&name);
            }
            if args.wait {
                let shown = match args.output {
                    SubmitOutput::Table => Shown::Words,
                    SubmitOutput::Json => Shown::End,
                    SubmitOutput::Name => Shown::Progress,
                };
                let ended = watch::follow(&cluster, &name, args.timeout, shown).await?;
                code = if code == 0 { ended } else { code };
                if ended == watch::INTERRUPTED {
                    break;
                }
                continue;
            }
            match args.output {
                SubmitOutput::Json => print::out(made(&name, &cluster.namespace, word, &object.metadata.uid)),
                SubmitOutput::Table => {
                    let (program, again) = (program::name(), at.again());
                    print::err(format_args!("  `{program} watch {name}{again}` shows its progress"));
                }
                SubmitOutput::Name => {}
            }
        }
        Ok(ExitCode::from(code))
    })
}

fn made(name: &str, namespace: &str, word: &str, uid: &Option<String>) -> Value {
    json!({"name": name, "namespace": namespace, "uid": uid, "outcome": word})
}
