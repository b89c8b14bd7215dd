//! The rows of a query without a sink. The coordinator sends them in the requested format, and they are passed through
//! to the caller as fast as it reads: nothing is buffered. Rows are not parsed; a page of JSON only gets a frame.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt as _};
use kube::api::DynamicObject;
use serde_json::json;

use super::call::Call;
use super::limits::Slot;
use super::problem::{Kind, Problem};
use super::{Api, coordinator, object, view};

const TOTAL: HeaderName = HeaderName::from_static("floe-rows-total");
/// Default number of rows per page of JSON.
const PAGE_ROWS: u64 = 1000;
pub const MAX_PAGE_ROWS: u64 = 100_000;

/// The values of the parameter `format`.
pub const FORMATS: &[&str] = &["json", "ndjson", "csv", "parquet", "arrow"];

/// The format of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    Csv,
    Parquet,
    Arrow,
}

impl Format {
    const ALL: [Format; 5] = [Format::Json, Format::Ndjson, Format::Csv, Format::Parquet, Format::Arrow];

    fn word(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
        }
    }

    /// The coordinator's name for the format.
    fn asked(self) -> &'static str {
        match self {
            Format::Arrow => "stream",
            Format::Json | Format::Ndjson | Format::Csv | Format::Parquet => self.word(),
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Ndjson => "application/x-ndjson",
            Format::Csv => "text/csv",
            Format::Parquet => "application/vnd.apache.parquet",
            Format::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// The parameter decides; else the first known type of `Accept`; else JSON.
    fn choose(word: Option<&str>, accept: Option<&str>) -> Result<Format, Problem> {
        if let Some(word) = word {
            let found = Format::ALL.into_iter().find(|format| format.word() == word);
            return found.ok_or_else(|| Problem::field(Kind::BadRequest, "format", "is not known"));
        }
        let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else { return Ok(Format::Json) };
        let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
        for kind in kinds {
            match kind {
                "*/*" | "application/*" => return Ok(Format::Json),
                "text/*" => return Ok(Format::Csv),
                kind => {
                    let fits = |format: &Format| format.content_type().eq_ignore_ascii_case(kind);
                    if let Some(format) = Format::ALL.into_iter().find(fits) {
                        return Ok(format);
                    }
                }
            }
        }
        let all: Vec<&str> = Format::ALL.iter().map(|format| format.content_type()).collect();
        Err(Problem::field(Kind::NotAcceptable, "Accept", format!("the formats are {}", all.join(", "))))
    }
}

/// Which rows are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    format: Format,
    offset: u64,
    /// None: to the end.
    limit: Option<u64>,
}

impl Page {
    fn new(format: Format, offset: Option<u64>, limit: Option<u64>) -> Result<Page, Problem> {
        let offset = offset.unwrap_or(0);
        if format != Format::Json {
            return Ok(Page { format, offset, limit });
        }
        let limit = limit.unwrap_or(PAGE_ROWS);
        if limit > MAX_PAGE_ROWS {
            let how =
                format!("may be {MAX_PAGE_ROWS} at most as json: take ndjson, csv, parquet or arrow for more at once");
            return Err(Problem::field(Kind::Invalid, "limit", how));
        }
        Ok(Page { format, offset, limit: Some(limit) })
    }

    /// The URL of the next page, if the result has more rows.
    fn next(&self, path: &str, total: Option<u64>) -> Option<String> {
        let (limit, total) = (self.limit?, total?);
        let offset = self.offset.saturating_add(limit);
        (offset < total).then(|| format!("{path}?format={}&offset={offset}&limit={limit}", self.format.word()))
    }

    /// What is written before and after the rows.
    fn frame(&self, path: &str, total: Option<u64>) -> (Option<Bytes>, Option<Bytes>) {
        if self.format != Format::Json {
            return (None, None);
        }
        let mut head = json!({"offset": self.offset});
        if let Some(total) = total {
            head["total"] = total.into();
        }
        if let Some(next) = self.next(path, total) {
            head["next"] = next.into();
        }
        let head = head.to_string();
        let open = format!("{},\"rows\":", head.strip_suffix('}').unwrap_or(&head));
        (Some(Bytes::from(open)), Some(Bytes::from_static(b"}\n")))
    }
}

pub async fn read(api: Arc<Api>, call: Call) -> Result<Response, Problem> {
    let accept = call.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::choose(call.params.text("format"), accept)?;
    let page = Page::new(format, call.params.number("offset"), call.params.number("limit"))?;
    let query = object::get(&api.client, &call.allowed).await?;
    readable(call.allowed.name(), &query)?;
    let slot = api.streams.take(&call.allowed.user().name).map_err(|why| {
        let mut problem = Problem::new(Kind::TooManyRequests, why);
        problem.retry_after_seconds = Some(5);
        problem
    })?;
    let coordinator = coordinator::reach(&api.client, &call.allowed, &query).await?;
    let answer = api.coordinators.result(&coordinator, format.asked(), page.offset, page.limit).await?;
    let total = query.data["status"]["rows"].as_u64();
    let (before, after) = page.frame(&call.path, total);
    let through = Through { rows: Box::pin(answer.bytes_stream()), before, after, is_over: false, _slot: slot };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(total) = total {
        headers.insert(TOTAL, HeaderValue::from(total));
    }
    if let Some(next) = page.next(&call.path, total).and_then(|next| format!("<{next}>; rel=\"next\"").parse().ok()) {
        headers.insert(header::LINK, next);
    }
    Ok((headers, Body::from_stream(through.stream(api.settings.limits.stream))).into_response())
}

/// Checks whether there are rows to read; says why if not.
fn readable(name: &str, query: &DynamicObject) -> Result<(), Problem> {
    let status = &query.data["status"];
    let written = status["resultUri"].as_str().or(query.data["spec"]["sink"]["uri"].as_str());
    match view::phase(query) {
        "Succeeded" => match written {
            None => Ok(()),
            Some(uri) => {
                let detail = format!("query {name} has written its result to {uri}: read it there");
                let result_uri = Some(uri.to_owned());
                Err(Problem { result_uri, ..Problem::new(Kind::ResultElsewhere, detail) })
            }
        },
        phase @ ("Failed" | "Cancelled") => {
            let why = status["message"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
            Err(Problem::new(Kind::NoResult, format!("query {name} has ended without a result ({phase}){why}")))
        }
        phase => Err(Problem::new(
            Kind::NotEnded,
            format!("query {name} has not ended ({phase}): its address with /progress tells when it has"),
        )),
    }
}

/// A result that is being passed through.
struct Through<S> {
    before: Option<Bytes>,
    rows: Pin<Box<S>>,
    after: Option<Bytes>,
    is_over: bool,
    _slot: Slot,
}

impl<S: Stream<Item = reqwest::Result<Bytes>> + Send + 'static> Through<S> {
    /// Never passes off a partial result as a whole one: if one side breaks off or takes too long, so does the other.
    fn stream(self, most: Duration) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let until = tokio::time::Instant::now() + most;
        futures::stream::unfold(self, move |mut through| async move {
            if through.is_over {
                return None;
            }
            if let Some(before) = through.before.take() {
                return Some((Ok(before), through));
            }
            let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "the result takes too long"));
            let next = tokio::time::timeout_at(until, through.rows.next()).await;
            let piece = match next {
                Ok(Some(Ok(rows))) => return Some((Ok(rows), through)),
                Ok(Some(Err(error))) => {
                    tracing::warn!(%error, "a result broke off");
                    Err(io::Error::other("the result broke off"))
                }
                Err(_) => late(),
                Ok(None) => Ok(through.after.take()?),
            };
            through.is_over = true;
            Some((piece, through))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_api::limits::Slots;

    #[test]
    fn the_parameter_decides_and_then_what_is_accepted() {
        let choose = |word, accept| Format::choose(word, accept).map_err(|problem| problem.kind);
        assert_eq!(choose(None, None), Ok(Format::Json));
        assert_eq!(choose(None, Some("*/*")), Ok(Format::Json));
        assert_eq!(choose(Some("csv"), Some("application/json")), Ok(Format::Csv));
        assert_eq!(choose(None, Some("text/html, text/csv;q=0.9, */*;q=0.1")), Ok(Format::Csv));
        assert_eq!(choose(None, Some("application/vnd.apache.arrow.stream")), Ok(Format::Arrow));
        assert_eq!(choose(None, Some("text/html")), Err(Kind::NotAcceptable));
        for word in FORMATS {
            assert_eq!(Format::choose(Some(word), None).unwrap().word(), *word);
        }
        assert_eq!(FORMATS.len(), Format::ALL.len());
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let page = |offset, limit| Page::new(Format::Json, offset, limit).unwrap();
        assert_eq!(page(None, None), Page { format: Format::Json, offset: 0, limit: Some(PAGE_ROWS) });
        assert_eq!(page(None, None).next("/r", Some(1001)).unwrap(), "/r?format=json&offset=1000&limit=1000");
        assert_eq!(page(Some(1000), None).next("/r", Some(1001)), None);
        assert_eq!(page(Some(u64::MAX), Some(5)).next("/r", Some(u64::MAX)), None);
        assert_eq!(page(None, Some(5)).next("/r", None), None, "without a total nobody knows");
        let all = Page::new(Format::Parquet, None, None).unwrap();
        assert_eq!((all.limit, all.next("/r", Some(10))), (None, None));
        let problem = Page::new(Format::Json, None, Some(MAX_PAGE_ROWS + 1)).unwrap_err();
        assert_eq!(problem.errors[0].field, "limit");
        Page::new(Format::Ndjson, None, Some(MAX_PAGE_ROWS + 1)).unwrap();
    }

    fn query(spec: serde_json::Value, status: serde_json::Value) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
            "metadata": {"name": "q"}, "spec": spec, "status": status}))
        .unwrap()
    }

    #[test]
    fn only_a_query_that_kept_its_rows_is_read() {
        let sink = json!({"sink": {"uri": "s3://b/x/"}});
        for (spec, status, kind) in [
            (json!({}), json!({}), Kind::NotEnded),
            (sink.clone(), json!({"phase": "Running"}), Kind::NotEnded),
            (json!({}), json!({"phase": "Failed", "message": "no column x"}), Kind::NoResult),
            (json!({}), json!({"phase": "Cancelled"}), Kind::NoResult),
            (sink, json!({"phase": "Succeeded"}), Kind::ResultElsewhere),
            (json!({}), json!({"phase": "Succeeded", "resultUri": "s3://b/y/"}), Kind::ResultElsewhere),
        ] {
            let problem = readable("q", &query(spec, status)).unwrap_err();
            assert_eq!(problem.kind, kind);
            assert_eq!(problem.result_uri.is_some(), kind == Kind::ResultElsewhere);
        }
        readable("q", &query(json!({}), json!({"phase": "Succeeded"}))).unwrap();
    }

    async fn through(pieces: Vec<reqwest::Result<Bytes>>, page: Page) -> Vec<io::Result<Bytes>> {
        let (before, after) = page.frame("/r", Some(9));
        let slot = Slots::new(1, 1).take("ann").unwrap();
        let rows = Box::pin(futures::stream::iter(pieces));
        Through { before, rows, after, is_over: false, _slot: slot }.stream(Duration::from_secs(5)).collect().await
    }

    #[tokio::test]
    async fn a_page_of_json_is_framed_and_a_broken_one_never_ends_well() {
        let page = Page::new(Format::Json, Some(3), Some(2)).unwrap();
        let pieces = || vec![Ok(Bytes::from("[{\"a\":1}")), Ok(Bytes::from(",{\"a\":2}]"))];
        let whole: Vec<u8> =
            through(pieces(), page).await.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        let told: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(
            told,
            json!({"offset": 3, "total": 9, "next": "/r?format=json&offset=5&limit=2", "rows": [{"a": 1}, {"a": 2}]})
        );
        let broken =
            reqwest::Client::builder().no_proxy().build().unwrap().get("http://127.0.0.1:1/").send().await.unwrap_err();
        let mut half = pieces();
        half[1] = Err(broken);
        let half = through(half, page).await;
        assert!(half.last().unwrap().is_err() && half.len() == 3, "{half:?}");
    }

    #[tokio::test]
    async fn a_result_that_takes_too_long_breaks_off() {
        let slot = Slots::new(1, 1).take("ann").unwrap();
        let rows = Box::pin(futures::stream::pending::<reqwest::Result<Bytes>>());
        let through = Through { before: None, rows, after: None, is_over: false, _slot: slot };
        let pieces: Vec<_> = through.stream(Duration::from_millis(30)).collect().await;
        assert!(pieces.len() == 1 && pieces[0].as_ref().unwrap_err().kind() == io::ErrorKind::TimedOut);
    }
}
