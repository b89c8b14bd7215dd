//! The calls of a catalog.

use std::collections::HashSet;
use std::sync::Arc;

use floe_api::suggest;
use floe_wire::error::{QueryError, Result};
use serde_json::{Value, json};

use crate::api::{ConfigAnswer, Create, Loaded, Outcome, Page, TableAnswer};
use crate::error::{self, Said};
use crate::http::{Answer, Fault, Link, Request};
use crate::names;
use crate::options::{CatalogOptions, Properties};
use crate::runtime::wait;

/// Pages of a list.
const PAGES: usize = 10_000;
/// Names that an error lists.
const NAMES: usize = 10;

/// An open catalog. Copies share its connection and token.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    /// `v1/` and what the catalog wants after it.
    root: String,
    separator: String,
    properties: Properties,
}

impl Catalog {
    /// Asks the catalog for its configuration.
    pub fn open(options: &CatalogOptions) -> Result<Self> {
        let options = options.clone();
        options.check(&options.properties)?;
        wait(async move {
            let link = Link::open(&options)?;
            let query = options.warehouse.as_deref().map(|w| format!("?warehouse={}", names::encode(w)));
            let request = Request::get(format!("v1/config{}", query.unwrap_or_default()));
            let answer = link.send(&request).await.map_err(Fault::into_error)?;
            if answer.status != 200 {
                return Err(not_opened(&link, &options, &answer));
            }
            let config: ConfigAnswer = error::parse(&link.name, "its configuration (v1/config)", &answer.body)?;
            let properties = config.merged(&options.properties);
            options.check(&properties)?;
            let value = |key: &str| properties.get(key).map(|value| value.reveal().trim_matches('/').to_owned());
            let root = match value("prefix").filter(|prefix| !prefix.is_empty()) {
                Some(prefix) => format!("v1/{prefix}"),
                None => "v1".to_owned(),
            };
            let separator = value("namespace-separator").filter(|separator| !separator.is_empty());
            let separator = separator.unwrap_or_else(|| names::SEPARATOR.to_owned());
            Ok(Self { inner: Arc::new(Inner { link, root, separator, properties }) })
        })
    }

    pub fn name(&self) -> &str {
        &self.inner.link.name
    }

    /// The namespaces directly below one, or those at the top (`&[]`), each with all its levels, sorted.
    pub fn namespaces(&self, parent: &[String]) -> Result<Vec<Vec<String>>> {
        let (inner, parent) = (self.inner.clone(), parent.to_vec());
        wait(async move { inner.namespaces(&parent).await })
    }

    /// Names of the tables in a namespace, sorted.
    pub fn tables(&self, namespace: &[String]) -> Result<Vec<String>> {
        let (inner, namespace) = (self.inner.clone(), namespace.to_vec());
        wait(async move { inner.tables(&namespace).await })
    }

    /// The table's metadata, and what opens its files.
    pub fn load(&self, namespace: &[String], name: &str) -> Result<Loaded> {
        let (inner, namespace, name) = (self.inner.clone(), namespace.to_vec(), name.to_owned());
        wait(async move { inner.load(&namespace, &name).await })
    }

    pub fn exists(&self, namespace: &[String], name: &str) -> Result<bool> {
        let (inner, namespace, name) = (self.inner.clone(), namespace.to_vec(), name.to_owned());
        wait(async move { inner.exists(&namespace, &name).await })
    }

    /// Makes a namespace; fine if it is there.
    pub fn create_namespace(&self, namespace: &[String]) -> Result<()> {
        let (inner, namespace) = (self.inner.clone(), namespace.to_vec());
        wait(async move { inner.create_namespace(&namespace).await })
    }

    /// Makes a table. `Conflict` if there is one of that name.
    pub fn create(&self, namespace: &[String], name: &str, create: &Create) -> Result<Outcome> {
        let (inner, namespace, name, create) =
            (self.inner.clone(), namespace.to_vec(), name.to_owned(), create.clone());
        wait(async move { inner.create(&namespace, &name, &create).await })
    }

    /// Changes a table, in one step, if it is as required. Requirements and updates are those of Iceberg's REST protocol.
    pub fn commit(
        &self,
        namespace: &[String],
        name: &str,
        requirements: &[Value],
        updates: &[Value],
    ) -> Result<Outcome> {
        let (inner, namespace, name) = (self.inner.clone(), namespace.to_vec(), name.to_owned());
        let body = json!({
            "identifier": {"namespace": namespace, "name": name},
            "requirements": requirements,
            "updates": updates,
        });
        wait(async move { inner.commit(&namespace, &name, &body).await })
    }
}

/// Why there is no configuration.
fn not_opened(link: &Link, options: &CatalogOptions, answer: &Answer) -> QueryError {
    if answer.status != 404 && answer.status != 400 {
        return error::refused(&link.name, &link.credentials, &format!("{}", link.base), answer);
    }
    let advice = match (&options.warehouse, options.uri.trim_end_matches('/').ends_with("/v1")) {
        (_, true) => "write its uri without /v1 at the end",
        (Some(_), _) => "check its uri (it ends before /v1) and warehouse",
        (None, _) => "check its uri (it ends before /v1); it may want a warehouse",
    };
    let said = Said::of(&answer.body).with_status(answer.status);
    QueryError::user(
        "CatalogError",
        format!("catalog {}: {} has no configuration (v1/config): {said}; {advice}", link.name, link.base),
    )
}

impl Inner {
    async fn ask(&self, request: &Request) -> Result<Answer> {
        self.link.send(request).await.map_err(Fault::into_error)
    }

    fn refused(&self, what: &str, answer: &Answer) -> QueryError {
        error::refused(&self.link.name, &self.link.credentials, what, answer)
    }

    fn user(&self, class: &str, message: String) -> QueryError {
        QueryError::user(class, format!("catalog {}: {message}", self.link.name))
    }

    fn namespace_path(&self, namespace: &[String]) -> Result<String> {
        if namespace.is_empty() {
            return Err(self.user("BadName", "a table is named with its namespace: namespace.name".into()));
        }
        namespace.iter().try_for_each(|level| self.check_name(level))?;
        Ok(format!("{}/namespaces/{}", self.root, names::namespace(namespace, &self.separator)))
    }

    fn table_path(&self, namespace: &[String], name: &str) -> Result<String> {
        self.check_name(name)?;
        Ok(format!("{}/tables/{}", self.namespace_path(namespace)?, names::encode(name)))
    }

    /// As a segment of a path these would mean another one.
    fn check_name(&self, name: &str) -> Result<()> {
        match name {
            "" | "." | ".." => Err(self.user("BadName", format!("\"{name}\" is no name of a namespace or table"))),
            _ => Ok(()),
        }
    }

    /// All pages of a list; the answer that is no success, if one is not.
    async fn pages(&self, path: &str, what: &str) -> Result<Result<Vec<Page>, Answer>> {
        let (mut pages, mut seen) = (Vec::new(), HashSet::new());
        let mut at = path.to_owned();
        loop {
            let answer = self.ask(&Request::get(at)).await?;
            if answer.status != 200 {
                return Ok(Err(answer));
            }
            let mut page: Page = error::parse(&self.link.name, what, &answer.body)?;
            let next = page.next_page_token.take().filter(|token| !token.is_empty());
            pages.push(page);
            let Some(token) = next else { return Ok(Ok(pages)) };
            let joint = if path.contains('?') { '&' } else { '?' };
            at = format!("{path}{joint}pageToken={}", names::encode(&token));
            if !seen.insert(token) || pages.len() >= PAGES {
                return Err(self.user("BadCatalog", format!("{what}: the list does not end")));
            }
        }
    }

    async fn namespaces(&self, parent: &[String]) -> Result<Vec<Vec<String>>> {
        let mut path = format!("{}/namespaces", self.root);
        let what = match parent.is_empty() {
            true => "its namespaces".to_owned(),
            false => format!("namespaces in {}", names::dotted(parent)),
        };
        if !parent.is_empty() {
            parent.iter().try_for_each(|level| self.check_name(level))?;
            path = format!("{path}?parent={}", names::namespace(parent, &self.separator));
        }
        let pages = match self.pages(&path, &what).await? {
            Ok(pages) => pages,
            Err(answer) if answer.status == 404 && !parent.is_empty() => {
                return Err(self.no_namespace(parent, &what).await);
            }
            Err(answer) => return Err(self.refused(&what, &answer)),
        };
        let mut all: Vec<Vec<String>> = pages.into_iter().flat_map(|page| page.namespaces).collect();
        all.sort();
        Ok(all)
    }

    async fn tables(&self, namespace: &[String]) -> Result<Vec<String>> {
        let what = format!("tables in {}", names::dotted(namespace));
        match self.pages(&format!("{}/tables", self.namespace_path(namespace)?), &what).await? {
            Ok(pages) => {
                let mut all: Vec<String> =
                    pages.into_iter().flat_map(|page| page.identifiers).map(|table| table.name).collect();
                all.sort();
                Ok(all)
            }
            Err(answer) if answer.status == 404 => Err(self.no_namespace(namespace, &what).await),
            Err(answer) => Err(self.refused(&what, &answer)),
        }
    }

    async fn load(&self, namespace: &[String], name: &str) -> Result<Loaded> {
        let mut request = Request::get(format!("{}?snapshots=all", self.table_path(namespace, name)?));
        request.delegate = true;
        let answer = self.ask(&request).await?;
        let what = format!("table {}", names::table(namespace, name));
        match answer.status {
            200 => self.loaded(&what, &answer),
            404 => Err(self.no_table(namespace, name).await),
            _ => Err(self.refused(&what, &answer)),
        }
    }

    fn loaded(&self, what: &str, answer: &Answer) -> Result<Loaded> {
        let table: TableAnswer<'_> = error::parse(&self.link.name, what, &answer.body)?;
        table.loaded(format!("catalog {}: {what}", self.link.name), &self.properties)
    }

    async fn exists(&self, namespace: &[String], name: &str) -> Result<bool> {
        let path = self.table_path(namespace, name)?;
        let mut answer = self.ask(&Request::head(path.as_str())).await?;
        // Not every server answers HEAD.
        if matches!(answer.status, 400 | 405 | 501) {
            answer = self.ask(&Request::get(path)).await?;
        }
        match answer.status {
            200 | 204 => Ok(true),
            404 => Ok(false),
            _ => Err(self.refused(&format!("table {}", names::table(namespace, name)), &answer)),
        }
    }

    async fn create_namespace(&self, namespace: &[String]) -> Result<()> {
        namespace.iter().try_for_each(|level| self.check_name(level))?;
        let what = format!("namespace {}", names::dotted(namespace));
        let body = json!({"namespace": namespace, "properties": {}});
        let answer = self.ask(&Request::post(format!("{}/namespaces", self.root), &body)).await?;
        match answer.status {
            200 | 409 => Ok(()),
            _ => Err(self.refused(&what, &answer)),
        }
    }

    async fn create(&self, namespace: &[String], name: &str, create: &Create) -> Result<Outcome> {
        self.check_name(name)?;
        let what = format!("table {}", names::table(namespace, name));
        let request = Request::post(format!("{}/tables", self.namespace_path(namespace)?), &create.body(name));
        match self.change(&what, request).await? {
            Changed::Ended(outcome) => Ok(outcome),
            Changed::NotFound => Err(self.no_namespace(namespace, &what).await),
        }
    }

    async fn commit(&self, namespace: &[String], name: &str, body: &Value) -> Result<Outcome> {
        let what = format!("table {}", names::table(namespace, name));
        match self.change(&what, Request::post(self.table_path(namespace, name)?, body)).await? {
            Changed::Ended(outcome) => Ok(outcome),
            Changed::NotFound => Err(self.no_table(namespace, name).await),
        }
    }

    async fn change(&self, what: &str, mut request: Request) -> Result<Changed> {
        request.delegate = true;
        let told = |error: QueryError| Outcome::Unknown(error.message);
        let answer = match self.link.send(&request).await {
            Ok(answer) => answer,
            Err(Fault::NotDone(error)) => return Err(error),
            Err(Fault::Unknown(error)) => return Ok(Changed::Ended(told(error))),
        };
        let said = Said::of(&answer.body).with_status(answer.status);
        let named = format!("catalog {}: {what}: {said}", self.link.name);
        Ok(Changed::Ended(match answer.status {
            // A success that cannot be read is one, but of what is not known.
            200 => self.loaded(what, &answer).map_or_else(told, |loaded| Outcome::Done(Box::new(loaded))),
            // The conflict may be with the first sending of the same change.
            409 if answer.was_sent => Outcome::Unknown(named),
            409 => Outcome::Conflict(named),
            404 if !answer.was_sent => return Ok(Changed::NotFound),
            500 | 502..=504 => Outcome::Unknown(named),
            _ => return Err(self.refused(what, &answer)),
        }))
    }

    /// Says which tables there are. What cannot be listed is left out.
    async fn no_table(&self, namespace: &[String], name: &str) -> QueryError {
        let whole = names::table(namespace, name);
        let tables = match self.tables(namespace).await {
            Ok(tables) => tables,
            Err(error) if error.class == NO_NAMESPACE => return error,
            Err(_) => return self.user(NO_TABLE, format!("there is no table {whole}")),
        };
        let meant = suggest::nearest(name, tables.iter().map(String::as_str));
        let advice = match meant {
            Some(meant) => format!("did you mean {}?", names::table(namespace, meant)),
            None => format!("{} has {}", names::dotted(namespace), listed(&tables, "no tables")),
        };
        self.user(NO_TABLE, format!("there is no table {whole}; {advice}"))
    }

    /// The same of a namespace: names those beside it.
    async fn no_namespace(&self, namespace: &[String], what: &str) -> QueryError {
        let whole = names::dotted(namespace);
        let (last, parent) = namespace.split_last().map_or(("", &[][..]), |(last, parent)| (last.as_str(), parent));
        // Without its own advice on a parent that is missing, too.
        let path = match parent.is_empty() {
            true => format!("{}/namespaces", self.root),
            false => format!("{}/namespaces?parent={}", self.root, names::namespace(parent, &self.separator)),
        };
        let Ok(Ok(pages)) = self.pages(&path, what).await else {
            return self.user(NO_NAMESPACE, format!("there is no namespace {whole}"));
        };
        let beside: Vec<Vec<String>> = pages.into_iter().flat_map(|page| page.namespaces).collect();
        let mut lasts: Vec<String> = beside.iter().filter_map(|one| one.last().cloned()).collect();
        lasts.sort();
        let advice = match suggest::nearest(last, lasts.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {}?", names::table(parent, meant)),
            None if parent.is_empty() => format!("it has {}", listed(&lasts, "none")),
            None => format!("{} has {}", names::dotted(parent), listed(&lasts, "none")),
        };
        self.user(NO_NAMESPACE, format!("there is no namespace {whole}; {advice}"))
    }
}

const NO_TABLE: &str = "TableNotFound";
const NO_NAMESPACE: &str = "NamespaceNotFound";

enum Changed {
    Ended(Outcome),
    NotFound,
}

fn listed(names: &[String], none: &str) -> String {
    match names.len() {
        0 => none.to_owned(),
        n if n > NAMES => format!("{} and {} more", names[..NAMES].join(", "), n - NAMES),
        _ => names.join(", "),
    }
}
