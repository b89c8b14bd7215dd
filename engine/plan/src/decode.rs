//! Decodes the bytes of `LazyFrame.serialize()` of every accepted version. What the engine's decoder cannot read, SQL and
//! functions of a newer release, is resolved by that release and put in (`sql::inside`).

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lake::stand_ins::StandIns;
use crate::sql::inside::What;
use crate::versions::Client;
use crate::{
    Loaded, StorageOptions, blobs, functions, join_where, lake, msgpack, python, refuse, rewrite, sql, versions,
    warnings,
};
use floe_polars::{contain_panics, on_big_stack};
use floe_wire::error::Result;

/// SQL arithmetic, which Polars 2.1 resolves by the types of its operands.
const SQL_FUNCTION: &str = "Sql";
/// Limit of functions of a newer release that are found one by one.
const MAX_NEWER: usize = 16;

/// Decodes the bytes of `LazyFrame.serialize()` of any accepted client version.
pub fn decode(bytes: &[u8], storage: &StorageOptions) -> Result<Loaded> {
    decode_at(bytes, storage, None)
}

/// Like `decode`; resolves local relative paths in the plan against `base`. SQL in the plan is refused.
pub fn decode_at(bytes: &[u8], storage: &StorageOptions, base: Option<&Path>) -> Result<Loaded> {
    decode_with(bytes, storage, base, None)
}

/// Like `decode_at`; resolves the SQL that Polars 2.x keeps in a plan with this Python. Recursive tables are refused.
pub fn decode_with(
    bytes: &[u8],
    storage: &StorageOptions,
    base: Option<&Path>,
    python: Option<&python::Choice>,
) -> Result<Loaded> {
    decode_open(bytes, storage, base, python)?.without_recursion()
}

/// Like `decode_with`; leaves recursive tables in `recursions` for the caller to compute.
pub fn decode_open(
    bytes: &[u8],
    storage: &StorageOptions,
    base: Option<&Path>,
    python: Option<&python::Choice>,
) -> Result<Loaded> {
    let (client, document) = versions::split(bytes)?;
    let python = python.filter(|_| client >= Client::V2_0);
    // SQL is resolved by Polars 2.1, which reads the nodes of its own plans only.
    let newer = python.is_some() && client == Client::V2_1;
    let mut functions = if newer { vec![SQL_FUNCTION.to_owned()] } else { vec![] };
    let source = Source { client, storage, base, unknown: Mutex::new(None) };
    loop {
        let decoded = source.decode(document, python, &functions);
        match source.unknown().take() {
            // The decoder names the first function that it does not know.
            Some(name) if decoded.is_err() && newer && functions.len() < MAX_NEWER && !functions.contains(&name) => {
                functions.push(name);
            }
            _ => return decoded,
        }
    }
}

struct Source<'a> {
    client: Client,
    storage: &'a StorageOptions,
    base: Option<&'a Path>,
    /// The function that the decoder did not know.
    unknown: Mutex<Option<String>>,
}

impl Source<'_> {
    fn unknown(&self) -> MutexGuard<'_, Option<String>> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decodes a document; nodes with these functions are resolved by the release that wrote them.
    fn decode(&self, document: &[u8], python: Option<&python::Choice>, newer: &[String]) -> Result<Loaded> {
        let Some(python) = python else { return self.decode_set_aside(document, None) };
        let mut aside = vec![];
        let mut rest = vec![];
        on_big_stack(|| {
            let mut tree = parsed(document)?;
            sql::inside::set_aside(&mut tree, newer, &mut aside)?;
            if !aside.is_empty() {
                tree.write(&mut rest);
            }
            Ok(())
        })?;
        match aside.is_empty() {
            true => self.decode_set_aside(document, None),
            false => self.decode_set_aside(&rest, Some((python, &aside))),
        }
    }

    fn decode_set_aside(
        &self,
        document: &[u8],
        aside: Option<(&python::Choice, &[sql::inside::Aside])>,
    ) -> Result<Loaded> {
        let Source { client, storage, base, .. } = *self;
        on_big_stack(|| {
            let Adapted { bytes, warnings, renamed, functions, tables } = adapt(client, document, storage, base)?;
            // Functions keep their numbers whichever node of the document is decoded as the root.
            let placed = RefCell::new(HashSet::new());
            let decode = |bytes: &[u8], functions: &functions::Carried, tables: &StandIns| {
                let plan = contain_panics("decoding the plan", || {
                    floe_codec::decode_dsl(bytes).map_err(|e| {
                        let message = e.to_string();
                        *self.unknown() = refuse::unknown_variant(&message).map(str::to_owned);
                        refuse::undecodable(client, &message)
                    })
                })?;
                let plan = tables.put_in(plan)?;
                match functions.is_empty() {
                    true => Ok(plan),
                    false => functions::put_in(plan, functions, &mut placed.borrow_mut()),
                }
            };
            let plan = decode(&bytes, &functions, &tables)?;
            let mut loaded = Loaded { warnings, renamed, ..Loaded::of(plan) };
            if let Some((python, aside)) = aside {
                let of_key = |key: &[u8]| {
                    let document = sql::inside::with_root(document, key)?;
                    let Adapted { bytes, functions, tables, .. } = adapt(client, &document, storage, base)?;
                    decode(&bytes, &functions, &tables)
                };
                let texts = RefCell::new(vec![]);
                let time = sql::Time::of_a_plan();
                let resolve = |what: &What, tables| {
                    let text = match what {
                        What::Node(node) => return sql::newer(node, tables, client, python, &time),
                        What::Text(text) => text,
                    };
                    let mut text = sql::over(text, tables, storage, base.unwrap_or(Path::new("/")), python, &time)?;
                    let plan = std::mem::take(&mut text.plan);
                    texts.borrow_mut().push(text);
                    Ok(plan)
                };
                let mut back = sql::inside::PutBack {
                    aside,
                    decode: &of_key,
                    resolve: &resolve,
                    done: Default::default(),
                    open: vec![],
                };
                loaded.plan = back.whole(loaded.plan)?;
                for text in texts.into_inner() {
                    loaded.recursions.extend(text.recursions);
                    loaded.warnings.extend(text.warnings);
                    loaded.renamed.extend(text.renamed);
                }
            }
            functions::check_placed(&functions, &placed.borrow())?;
            loaded.plan = join_where::replace(loaded.plan, client)?;
            Ok(loaded)
        })
    }
}

pub fn parsed(document: &[u8]) -> Result<msgpack::Node<'_>> {
    msgpack::parse(document).map_err(|e| refuse::bad_plan(format!("the plan is damaged: {e}")))
}

/// A document that Polars' decoder accepts, and what was changed to get there.
pub struct Adapted {
    pub bytes: Vec<u8>,
    warnings: Vec<String>,
    renamed: Vec<(String, String)>,
    functions: functions::Carried,
    tables: StandIns,
}

pub fn adapt(
    client: versions::Client,
    document: &[u8],
    storage: &StorageOptions,
    base: Option<&Path>,
) -> Result<Adapted> {
    let mut tree = parsed(document)?;
    if ["root", "dsl_plans", "dataframes"].iter().any(|key| tree.get(key).is_none()) {
        return Err(refuse::bad_plan("the plan is damaged: its document has no root, plan nodes and frames"));
    }
    let tables = StandIns::open(lake::datasets::take(&mut tree)?, storage, base.unwrap_or(Path::new("/")))?;
    let functions = functions::carry(&mut tree, client, functions::settings().allowed)?;
    refuse::check(&tree)?;
    blobs::check(&tree)?;
    let mut ctx = rewrite::Context { client, storage, base, warnings: vec![], renamed: vec![] };
    if client >= versions::Client::V2_0 {
        ctx.warnings = warnings::of_version_2(&tree);
    }
    rewrite::rewrite(&mut tree, &mut ctx)?;
    let mut out = Vec::with_capacity(versions::HEADER_LEN + document.len() + 256);
    versions::engine_header(&mut out);
    tree.write(&mut out);
    Ok(Adapted { bytes: out, warnings: ctx.warnings, renamed: ctx.renamed, functions, tables })
}
